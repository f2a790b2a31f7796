"""A loop of numpy.linalg.svd in fp32 over a safetensors file."""

import sys

import numpy as np
from safetensors.numpy import load_file

for tensor in load_file(sys.argv[1]).values():
    if tensor.ndim == 2:
        np.linalg.svd(tensor, compute_uv=False)

"""A loop of torch.linalg.svdvals in fp32 over a safetensors file."""

import sys

import torch
from safetensors import safe_open

with safe_open(sys.argv[1], "pt") as file:
    for name in file.keys():  # noqa: SIM118 - safe_open is no mapping
        tensor = file.get_tensor(name)
        if tensor.ndim == 2:
            torch.linalg.svdvals(tensor.float())

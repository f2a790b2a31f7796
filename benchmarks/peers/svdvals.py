"""A loop of torch.linalg.svdvals in fp32 over a safetensors file, or those of a run directory."""

import sys
from pathlib import Path

import torch
from safetensors import safe_open

path = Path(sys.argv[1])
for snapshot in sorted(path.rglob("*.safetensors")) if path.is_dir() else [path]:
    with safe_open(snapshot, "pt") as file:
        for name in file.keys():  # noqa: SIM118 - safe_open is no mapping
            tensor = file.get_tensor(name)
            if tensor.ndim == 2:
                torch.linalg.svdvals(tensor.float())

"""Every product of a LoRA adapter formed in fp32, then torch.linalg.svdvals."""

import json
import sys
from pathlib import Path

import torch
from safetensors import safe_open

directory = Path(sys.argv[1])
config = json.loads((directory / "adapter_config.json").read_text())
scale = config["lora_alpha"] / config["r"]
with safe_open(directory / "adapter_model.safetensors", "pt") as file:
    for name in file.keys():  # noqa: SIM118 - safe_open is no mapping
        if ".lora_A." in name:
            right = file.get_tensor(name).float()
            left = file.get_tensor(name.replace(".lora_A.", ".lora_B.")).float()
            torch.linalg.svdvals(scale * (left @ right))

"""Whether PyTorch has the device that was asked for, before anything is made for it."""

from __future__ import annotations

from rankscope.errors import UsageError


def check_device(device: str) -> None:
    """Refuse a device that tensors cannot be put on.

    Raises:
        UsageError: PyTorch does not know its name, does not find it, or it holds no numbers (meta).
    """
    import torch

    try:
        asked = torch.device(device)
    except RuntimeError as error:
        raise UsageError(
            f"device is {device}, and PyTorch has none of that name: choose cpu or cuda"
        ) from error
    if asked.type == "cuda":
        # Asked and not tried: a tensor there would hold some hundred megabytes for good.
        count = torch.cuda.device_count()
        if (asked.index or 0) < count:
            return
        found = f"{count} of them" if count else "no CUDA device"
        raise UsageError(
            f"device is {device}, and PyTorch {torch.__version__} finds {found}: choose cpu,"
            " or install its build for CUDA and the driver"
        )
    if asked.type == "meta":
        raise UsageError(f"device is {device}, whose tensors hold no numbers: choose cpu or cuda")
    try:
        torch.zeros(1, device=device)
    # A build without the device says so in any of these.
    except (RuntimeError, AssertionError, ImportError) as error:
        raise UsageError(
            f"device is {device}, and PyTorch {torch.__version__} finds no such device: choose cpu "
            "or cuda"
        ) from error

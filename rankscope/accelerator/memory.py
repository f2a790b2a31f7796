"""Whether a device has run out of memory: what PyTorch and the libraries below it say then."""

from __future__ import annotations

import torch

# cuBLAS and cuSOLVER take workspaces of their own, past PyTorch's allocator.
SIGNS = (
    "out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUSOLVER_STATUS_ALLOC_FAILED",
    "can't allocate memory",  # of the host
)


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory was lacking."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in SIGNS)

"""Spectra on a GPU: which card, one process a card, matrices that stream to it.

`choosing` and `placing` are what a plan needs and import no PyTorch; all others import it, and are
themselves imported in the process that measures. Each runs on the host's tensors as on a card's.
"""

from __future__ import annotations

from rankscope.accelerator.choosing import check_device, devices_for
from rankscope.accelerator.placing import device_executor

__all__ = ["check_device", "device_executor", "devices_for"]

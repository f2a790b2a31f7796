"""The safetensors reader against the safetensors library."""

from __future__ import annotations

from pathlib import Path

import safetensors.numpy

from rankscope.checkpoints.safetensors import SafetensorsReader
from tests.contracts.reader import Arrays, ReaderContract


class TestContract(ReaderContract):
    reader = SafetensorsReader()
    suffix = ".safetensors"

    def write(self, path: Path, arrays: Arrays) -> None:
        safetensors.numpy.save_file(arrays, path)

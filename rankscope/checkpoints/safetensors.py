"""safetensors files of weights."""

from __future__ import annotations

from pathlib import PurePath

from rankscope.checkpoints.safetensors_header import checkpoint_of, plausible, read_header
from rankscope.files import opened
from rankscope.records import Checkpoint


class SafetensorsReader:
    """Reads single `.safetensors` files."""

    name = "safetensors"
    suffixes = (".safetensors",)
    isolated = False

    def recognises(self, head: bytes) -> bool:
        """A plausible length, then the brace that must open the header."""
        return plausible(head)

    def open(self, path: PurePath) -> Checkpoint:
        """Open and check the whole header; reads no tensor."""
        return opened(path, lambda file: checkpoint_of(file, *read_header(file)))

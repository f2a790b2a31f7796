"""What stands beside the weights of a model and says how to read them: config.json and its like.

A model without these files is measured as it is stored.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import PurePath
from typing import Any

from rankscope.checkpoints.strictjson import parse_strict
from rankscope.jsonobject import read_limited
from rankscope.presence import stands

CONFIG = "config.json"
ADAPTER_CONFIG = "adapter_config.json"
QUANTIZE_CONFIG = "quantize_config.json"

# The largest published ones, with a quantisation entry for every module, have a few megabytes.
MAX_CONFIG_BYTES = 20_000_000


class ModelFiles:
    """The descriptions in one directory; each is read at most once, when it is asked for.

    Attributes:
        directory: where they lie; None for weights in memory, which come without any.
    """

    def __init__(self, directory: PurePath | None) -> None:
        self.directory = directory

    @cached_property
    def config(self) -> dict[str, Any]:
        """config.json; empty where there is none. Raises `InputRejected` when it is no JSON."""
        return self._object(CONFIG)

    @cached_property
    def adapter(self) -> dict[str, Any]:
        """adapter_config.json of PEFT; likewise."""
        return self._object(ADAPTER_CONFIG)

    @cached_property
    def quantisation(self) -> dict[str, Any]:
        """How the weights are quantised: config.json's section, or AutoGPTQ's quantize_config.json.

        Empty where neither is there.
        """
        section = self.config.get("quantization_config")
        return section if isinstance(section, dict) else self._object(QUANTIZE_CONFIG)

    @property
    def paths(self) -> tuple[str, ...]:
        """Where they lie, or would."""
        if self.directory is None:
            return ()
        names = CONFIG, ADAPTER_CONFIG, QUANTIZE_CONFIG
        return tuple(str(self.directory / name) for name in names)

    def _object(self, name: str) -> dict[str, Any]:
        if self.directory is None:
            return {}
        path = self.directory / name
        # What is there and no file, a link into nothing, would have said how to read the weights.
        if not stands(path):
            return {}
        document = parse_strict(path, read_limited(path, MAX_CONFIG_BYTES), name)
        # Anybody may call a file config.json; what is no object says nothing of a model.
        return document if isinstance(document, dict) else {}

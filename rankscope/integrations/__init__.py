"""Hooks into training loops that are not ours, and sinks that show spectra while they train.

One file a library, imported by nobody but who wants it; each says which extra it needs:

    from rankscope.integrations.pytorch import Recorder
    from rankscope.integrations.transformers import RankScopeCallback
    from rankscope.integrations.lightning import RankScopeCallback
    from rankscope.integrations.tensorboard import TensorBoardSink
    from rankscope.integrations.wandb import WandbSink

A hook copies snapshots out, and that is all that happens in the training process: a sink is fed by
a process beside it. What is here loads on first use. docs/hooks.md shows each in use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rankscope.integrations.following import Follower
    from rankscope.integrations.readings import MatrixReading, SnapshotReading
    from rankscope.integrations.sinks import Sink, export

__all__ = ["Follower", "MatrixReading", "Sink", "SnapshotReading", "export"]

_HOMES = {
    "Follower": "following",
    "MatrixReading": "readings",
    "Sink": "sinks",
    "SnapshotReading": "readings",
    "export": "sinks",
}


def __getattr__(name: str) -> object:
    import importlib

    if name in _HOMES:
        return getattr(importlib.import_module(f"rankscope.integrations.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'rankscope.integrations' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__

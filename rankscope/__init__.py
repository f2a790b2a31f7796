"""RankScope: how many directions the weights of a neural network really use.

    import rankscope

    table = rankscope.analyze("model.safetensors")   # or a run, a mapping, a torch module
    print(table)
    table.to_pandas()

Names load on first use, so that `import rankscope` costs nothing and imports no NumPy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rankscope.version import __version__

if TYPE_CHECKING:
    from rankscope import metrics, snapshots
    from rankscope.api import Analysis, analyze, export_spectra, spectrum
    from rankscope.certifying import Proof, certify
    from rankscope.checkpoints import open_checkpoint
    from rankscope.comparing import Diff, diff
    from rankscope.errors import InputRejected, OutputFailed, RankScopeError, UsageError
    from rankscope.how import How
    from rankscope.inputcounts import matrix_records
    from rankscope.matrices import Selection
    from rankscope.places import RemotePath, WholePath
    from rankscope.plotting import plot
    from rankscope.records import Reading, Spectrum
    from rankscope.release import (
        Check,
        baseline,
        check,
        check_headers,
        update_baseline,
        write_baseline,
    )
    from rankscope.remote.hub import revisions
    from rankscope.reporting import report, report_diff
    from rankscope.snapshots import SnapshotWriter
    from rankscope.training import Given

__all__ = [
    "Analysis",
    "Check",
    "Diff",
    "Given",
    "How",
    "InputRejected",
    "OutputFailed",
    "Proof",
    "RankScopeError",
    "Reading",
    "RemotePath",
    "Selection",
    "SnapshotWriter",
    "Spectrum",
    "UsageError",
    "WholePath",
    "__version__",
    "analyze",
    "baseline",
    "certify",
    "check",
    "check_headers",
    "diff",
    "export_spectra",
    "matrix_records",
    "metrics",
    "open_checkpoint",
    "plot",
    "report",
    "report_diff",
    "revisions",
    "snapshots",
    "spectrum",
    "update_baseline",
    "write_baseline",
]

_HOMES = {
    "Analysis": "api",
    "Check": "release",
    "Diff": "comparing",
    "Given": "training",
    "How": "how",
    "InputRejected": "errors",
    "OutputFailed": "errors",
    "Proof": "certifying",
    "RankScopeError": "errors",
    "Reading": "records",
    "RemotePath": "places",
    "Selection": "matrices",
    "SnapshotWriter": "snapshots",
    "Spectrum": "records",
    "UsageError": "errors",
    "WholePath": "places",
    "analyze": "api",
    "baseline": "release",
    "certify": "certifying",
    "check": "release",
    "check_headers": "release",
    "diff": "comparing",
    "export_spectra": "api",
    "matrix_records": "inputcounts",
    "open_checkpoint": "checkpoints",
    "plot": "plotting",
    "report": "reporting",
    "report_diff": "reporting",
    "revisions": "remote.hub",
    "spectrum": "api",
    "update_baseline": "release",
    "write_baseline": "release",
}


def __getattr__(name: str) -> object:
    import importlib

    if name in ("metrics", "snapshots"):
        return importlib.import_module(f"rankscope.{name}")
    if name in _HOMES:
        return getattr(importlib.import_module(f"rankscope.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'rankscope' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__

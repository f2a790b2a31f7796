"""Documents of every kind, and how a row of a frame is compared with one of theirs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

import rankscope
from rankscope.bounds.setting import Setting
from rankscope.bounds.table import BoundQuestion, bound_table
from rankscope.how import How
from rankscope.inventory import take_inventory
from rankscope.overview import overview
from rankscope.series import discover
from rankscope.snapshots import LogRecord
from rankscope.store import SpectrumStore
from tests.rundirs import Array, Recipe, ask, diagonal, write_run
from tests.views import gateverdicts
from tests.views.test_views import HOSTILE, sweep_table, table

Document = dict[str, Any]

RNG = np.random.default_rng(5)


def model(*names: str) -> rankscope.Analysis:
    """Readings of every kind: defined, undefined, infinite; and what cannot be measured."""
    arrays: dict[str, Array] = {
        "full": RNG.normal(size=(6, 4)),
        "zero": np.zeros((3, 3)),
        "thin": np.diag([1.0, 0.0]),
        "nan": np.full((2, 2), np.nan),
        "bias": np.ones(4),
        **{name: np.eye(2) for name in names},
    }
    return rankscope.analyze(arrays, eps=[0.1, 0.01])


def run(path: Path, recipe: Recipe | None = None, **options: Any) -> rankscope.Analysis:
    """A run with a log, one of its snapshots without a loss."""
    snapshots = {
        step: {"a.weight": diagonal([4.0, 3.0, 2.0 / (1 + step)]), "b": np.eye(3) * (1 + step)}
        for step in (0, 1, 5)
    }
    logs = {
        0: LogRecord(0, 0.1, 0.5, batch_size=2, train_loss=1.5, train_accuracy=0.1),
        5: LogRecord(epoch=2.5, test_loss=2, test_accuracy=1),
    }
    return ask(write_run(path, snapshots, recipe, logs), **options)


def sweep(path: Path) -> rankscope.Analysis:
    """Four runs of two batch sizes, whose spectra cross."""
    for index, batch in enumerate((1, 1, 4, 4)):
        sigma = [4.0, 3.0, 2.0, 1.0] if batch > 1 else [5.0, 4.0, 1.0, 0.5]
        write_run(path / str(index), {9: {"a": diagonal(sigma)}}, Recipe(batch=batch, seed=index))
    return ask(path)


def changed(path: Path) -> rankscope.Diff:
    """Two models of which one matrix moved, one is nearly equal, one cannot be measured."""
    before = {"a": RNG.normal(size=(5, 4)), "b": np.eye(3), "n": np.eye(2), "gone": np.eye(2)}
    after = {"a": diagonal([1.0, 0, 0, 0], rows=5), "b": np.eye(3), "n": np.full((2, 2), np.inf)}
    path.mkdir()
    for name, arrays in (("A", before), ("B", after)):
        safetensors.numpy.save_file(arrays, path / f"{name}.safetensors")
    how = How(store=False, workers=1)
    return rankscope.diff(path / "A.safetensors", path / "B.safetensors", delta=True, how=how)


def documents(path: Path) -> Mapping[str, Document]:
    """Every kind of document that has rows."""
    made = run(path / "series").to_document()
    return {
        "model": model().to_document(),
        "hostile": model(*HOSTILE.values()).to_document(),
        "nothing": rankscope.analyze({"bias": np.ones(3)}).to_document(),
        "run": made,
        "no bound": run(path / "calm", Recipe(weight_decay=0.0)).to_document(),
        "a run as a file has it": json.loads(json.dumps(made)),
        "sweep": sweep(path / "sweep").to_document(),
        "made up": sweep_table("net", varied=True).to_document(),
        "version 0.1": table("a", "b", steps=2).to_document(),
        "hostile runs": sweep_table(HOSTILE["surrogate"]).to_document(),
        "inspection": inspected(path / "series"),
        "diff": changed(path / "diff").to_document(),
        "certificate": rankscope.certify(path / "series").to_document(),
        "check": failing(),
        "bound": bound_table(BoundQuestion(Setting(width=100), batch=(1, 8))).to_document(),
    }


def inspected(path: Path) -> Document:
    """From headers alone."""
    series = [discover(path)]
    nothing = [SpectrumStore(None, 0)]
    return overview(take_inventory(series, rankscope.Selection(), nothing), 1).to_document()


def failing() -> Document:
    """Findings about numbers, words and shapes."""
    found = (
        gateverdicts.finding(),
        gateverdicts.nonfinite("n"),
        gateverdicts.note("s", "reshaped", before=[2, 3], after=[3, 3]),
        gateverdicts.note(),
    )
    lacking = ({"name": "n", "reason": "holds NaN"},)
    return gateverdicts.verdict(*found, lacking=lacking).to_document()


def parts(document: Document) -> list[str]:
    """The keys under which a document has rows."""
    return [k for k, v in document.items() if isinstance(v, list) and v and isinstance(v[0], dict)]


def clean(value: Any) -> Any:
    """A JSON value with what UTF-8 does not hold escaped."""
    if isinstance(value, dict):
        return {clean(key): clean(one) for key, one in value.items()}
    if isinstance(value, list):
        return [clean(one) for one in value]
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    return value


def same(row: Mapping[str, Any], expected: Mapping[str, Any], where: str) -> None:
    """Every value of a row of a frame is that of the document; what the row lacks is None."""
    expected = clean(dict(expected))
    assert expected.keys() <= row.keys(), where
    for key, found in row.items():
        value = expected.get(key)
        assert clean(found) == value, f"{where}, {key}"
        if value is not None:
            assert isinstance(found, bool) == isinstance(value, bool), f"{where}, {key}"

"""Imports only go down: the layers as data, and what may not be imported at all.

path -> checkpoint -> tensors -> matrices -> spectra -> metrics -> table -> views
"""

from __future__ import annotations

import ast
import inspect
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import rankscope
from rankscope import figures, metrics, snapshots
from rankscope.checkpoints import READERS
from rankscope.cli.app import app
from rankscope.metrics import METRICS

ROOT = Path(__file__).parents[1]

# Lowest first. A module may import from layers below its own; from its own, only within its
# package. Names are of modules and packages directly below `rankscope`.
LAYERS: tuple[tuple[str, ...], ...] = (
    (
        "blas",
        "dtypes",
        "errors",
        "palette",
        "places",
        "records",
        "rolewords",
        "stepnames",
        "text",
        "tying",
        "version",
    ),
    ("extras", "provenance", "roles"),
    ("remote",),
    ("bounds", "executors", "files", "identities", "presence", "writing"),
    ("cluster", "jsonobject"),
    ("checkpoints", "rates"),
    ("matrices", "runlog", "runrecord", "series", "solvedmatrix", "storagerate", "storedmatrix"),
    ("products",),
    ("combination", "contentkey", "grouping", "resolution", "solvers", "storefile", "training"),
    ("accelerator", "metrics", "store"),
    ("plan", "question", "resolving", "rows", "walk"),
    ("answering", "layerkinds", "pairing", "sweeps", "trajectory"),
    ("how", "worker"),
    ("inventory", "tasks"),
    ("engines",),
    ("measure",),
    ("taskcosts",),
    ("prediction",),
    ("certificates", "history", "overview"),
    ("table",),
    ("tabulation",),
    ("gate",),
    ("differences",),
    ("frames", "scene"),
    ("parquet",),
    ("views",),
    ("figures", "pages"),
    ("asking", "showing", "spectra"),
    ("api",),
    ("certifying", "comparing", "live", "overheads", "release"),
    ("calibration", "plotting", "reporting", "textplot"),
    ("planning",),
    ("cli", "pytest_plugin"),
    ("__main__", "rankscope"),  # `rankscope` is rankscope/__init__.py, which hands names out
)

# What a training loop calls stands beside the flow: it writes what the flow reads. Lowest first,
# with all that each may import; nothing of the flow imports any of it.
WRITER: dict[str, frozenset[str]] = {
    "hostcopy": frozenset({"dtypes", "errors", "records", "tying"}),
    "devicecopy": frozenset({"dtypes", "hostcopy", "records", "tying"}),
    "snapshotfiles": frozenset({"checkpoints", "errors", "records", "writing"}),
    "inputcounts": frozenset({"checkpoints", "errors", "matrices", "records", "runrecord"}),
    "snapshotspectra": frozenset(
        {
            "checkpoints",
            "contentkey",
            "hostcopy",
            "matrices",
            "products",
            "records",
            "resolving",
            "snapshotfiles",
            "solvers",
            "store",
            "text",
        }
    ),
    "snapshots": frozenset(
        {
            "checkpoints",
            "devicecopy",
            "errors",
            "hostcopy",
            "records",
            "runlog",
            "runrecord",
            "snapshotfiles",
            "snapshotspectra",
            "writing",
        }
    ),
    # Hooks write a run; sinks are told of it by a process that analyses it as anybody does.
    "integrations": frozenset(
        {
            "api",
            "blas",
            "errors",
            "extras",
            "how",
            "inputcounts",
            "live",
            "matrices",
            "measure",
            "question",
            "records",
            "rows",
            "runlog",
            "runrecord",
            "series",
            "snapshots",
            "stepnames",
            "table",
            "text",
            "tying",
            "writing",
        }
    ),
}

HEIGHT = {name: height for height, names in enumerate(LAYERS) for name in names}

Sources = Mapping[str, str]  # from a module's full name to its text


def sources(package: str) -> dict[str, str]:
    found = {}
    for file in sorted((ROOT / package).rglob("*.py")):
        parts = file.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = file.read_text("utf-8")
    return found


def imports(text: str, known: Sources) -> Iterator[tuple[int, str, str | None]]:
    """Line, module and name of every import, wherever it stands; name None for a whole module."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name, None
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            for alias in node.names:
                inside = f"{module}.{alias.name}"
                yield node.lineno, *((inside, None) if inside in known else (module, alias.name))


def top(module: str) -> str:
    """`rankscope.views.csv` -> `views`; the package itself -> `rankscope`."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else parts[0]


def wrong_directions(modules: Sources) -> list[str]:
    """Every import within rankscope that goes up or sideways, each as one line."""
    found = []
    for module, text in modules.items():
        for line, target, _ in imports(text, modules):
            reason = why_wrong(module, target)
            if reason:
                found.append(f"{module}, line {line}: imports {target}: {reason}")
    return found


def why_wrong(module: str, target: str) -> str | None:
    """The reason why a module of rankscope may not import this, or None."""
    package, other, root = top(module), top(target), target.partition(".")[0]
    reason = None
    if target.startswith("."):
        reason = "relative; write the whole name"
    elif root in ("trainers", "tests", "benchmarks"):
        reason = "the library stands below these"
    elif root == "rankscope" and package != other:
        reason = why_not_below(package, other)
    elif target == f"rankscope.{package}" != module:
        reason = "a member of a package may not import the package"
    return reason


def why_not_below(package: str, other: str) -> str | None:
    """The reason why `other` does not stand below `package`, or None when it does."""
    reason = None
    unplaced = next((name for name in (package, other) if name not in {*HEIGHT, *WRITER}), None)
    if unplaced:
        reason = f"{unplaced} stands in no layer; give it a place in LAYERS"
    elif package in WRITER:
        if other not in WRITER[package]:
            reason = f"{package} may import {', '.join(sorted(WRITER[package]))}"
    elif other in WRITER:
        if package != "rankscope":
            reason = "only a training loop imports the writer"
    elif HEIGHT[other] >= HEIGHT[package]:
        way = "sideways" if HEIGHT[other] == HEIGHT[package] else "up"
        reason = f"{way}: {other} is in layer {HEIGHT[other]}, {package} in layer {HEIGHT[package]}"
    return reason


def defines(text: str, *names: str) -> bool:
    """Whether a module defines a function of one of these names, or ending so after a `*`."""
    functions = [node.name for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)]
    return any(
        function.endswith(name[1:]) if name.startswith("*") else function == name
        for function in functions
        for name in names
    )


def plugins(modules: Sources) -> dict[str, set[str]]:
    """The modules of each plug-in folder that define a plug-in; its other modules are helpers."""

    def defining(folder: str, *names: str) -> set[str]:
        return {m for m, text in modules.items() if top(m) == folder and defines(text, *names)}

    commands = [command.callback for command in app.registered_commands]
    return {
        "checkpoints": {type(reader).__module__ for reader in READERS},
        "metrics": {metric.function.__module__ for metric in METRICS},
        "solvers": defining("solvers", "*_spectrum"),
        "views": defining("views", "render", "report"),
        "figures": defining("figures", "*_figure"),
        "cli": {callback.__module__ for callback in commands if callback},
    }


def wrong_siblings(modules: Sources, folders: Mapping[str, set[str]]) -> list[str]:
    """Plug-ins that import another plug-in of their folder."""
    return [
        f"{module}, line {line}: imports {target}, another plug-in of {folder}/; "
        "move what they share into a helper"
        for folder, members in folders.items()
        for module in sorted(members)
        for line, target, _ in imports(modules[module], modules)
        if target in members and target != module
    ]


def wrong_names(modules: Sources) -> list[str]:
    """What a driver imports from rankscope that is not public."""
    known = sources("rankscope")
    public: dict[str, set[str]] = {
        "rankscope": set(rankscope.__all__),
        "rankscope.figures": set(figures.__all__),
        "rankscope.metrics": set(metrics.__all__),
        "rankscope.snapshots": set(snapshots.__all__),
    }
    found = []
    for module, text in modules.items():
        for line, target, name in imports(text, known):
            if target.split(".")[0] != "rankscope":
                continue
            # A public name may also be taken from the module that it lives in.
            allowed = public["rankscope"] | public.get(target, set())
            if name not in allowed and not (name is None and target in public):
                found.append(f"{module}, line {line}: {name or target} is not public")
    return found


def test_imports_only_go_down() -> None:
    assert not (found := wrong_directions(sources("rankscope"))), "\n".join(found)


def test_every_module_has_a_place_and_every_place_a_module() -> None:
    there = {top(module) for module in sources("rankscope")}
    assert there == {*HEIGHT, *WRITER}
    assert len(HEIGHT) == sum(map(len, LAYERS))


def test_plugins_do_not_import_each_other() -> None:
    modules = sources("rankscope")
    folders = plugins(modules)
    assert all(len(members) > 1 for members in folders.values()), folders
    assert not (found := wrong_siblings(modules, folders)), "\n".join(found)


def test_trainers_import_public_names_only() -> None:
    assert not (found := wrong_names(sources("trainers"))), "\n".join(found)


class TestTheChecksThemselves:
    """On sources made wrong on purpose, beside the real ones."""

    @pytest.mark.parametrize(
        ("module", "text", "message"),
        [
            ("matrices", "from rankscope.table import Table", "up: table is in layer"),
            ("matrices", "import rankscope.views.csv", "up: views is in layer"),
            ("matrices", "def f():\n    from rankscope import api", "up: api is in layer"),
            ("matrices", "from rankscope import analyze", "up: rankscope is in layer"),
            ("matrices", "import rankscope", "up: rankscope is in layer"),
            ("matrices", "from rankscope.series import discover", "sideways: series is in"),
            ("matrices", "from . import table", "relative; write the whole name"),
            ("matrices", "from .table import Table", "relative; write the whole name"),
            ("matrices", "import trainers.digits", "the library stands below these"),
            ("matrices", "if TYPE_CHECKING:\n    from rankscope.table import Table", "up: table"),
            ("newcomer", "from rankscope.table import Table", "newcomer stands in no layer"),
            ("views.csv", "from rankscope.views import VIEWS", "may not import the package"),
            ("table", "from rankscope.snapshots import SnapshotWriter", "only a training loop"),
            (
                "snapshots",
                "from rankscope.table import Table",
                "snapshots may import checkpoints, devicecopy, errors, ",
            ),
        ],
    )
    def test_a_wrong_direction_is_found(self, module: str, text: str, message: str) -> None:
        name = f"rankscope.{module}"
        modules = {**sources("rankscope"), name: text}
        (found,) = set(wrong_directions(modules)) - set(wrong_directions(sources("rankscope")))
        assert found.startswith(f"{name}, line ")
        assert message in found

    @pytest.mark.parametrize(
        ("module", "sibling"),
        [
            ("checkpoints.npz", "checkpoints.npy"),
            ("metrics.norms", "metrics.ratios"),
            ("solvers.gram", "solvers.direct"),
            ("views.inspection", "views.analysis"),
            ("figures.rank", "figures.bound"),
            ("cli.analyze", "cli.inspect"),
        ],
    )
    def test_a_sibling_is_found(self, module: str, sibling: str) -> None:
        modules = sources("rankscope")
        folders = plugins(modules)
        before = set(wrong_siblings(modules, folders))
        modules[f"rankscope.{module}"] += f"\nfrom rankscope.{sibling} import anything\n"
        (found,) = set(wrong_siblings(modules, folders)) - before
        assert f"imports rankscope.{sibling}, another plug-in of" in found

    @pytest.mark.parametrize(
        ("text", "name"),
        [
            ("from rankscope.table import Table", "Table"),
            ("from rankscope import plan", "rankscope.plan"),
            ("import rankscope.store", "rankscope.store"),
            ("from rankscope.snapshots import deque", "deque"),
        ],
    )
    def test_a_private_name_is_found(self, text: str, name: str) -> None:
        assert wrong_names({"trainers.x": text}) == [f"trainers.x, line 1: {name} is not public"]

    @pytest.mark.parametrize(
        "text",
        [
            "import rankscope",
            "from rankscope import SnapshotWriter, analyze",
            "from rankscope.errors import UsageError",
            "from rankscope.snapshots import Hyperparameters, RunRecord",
        ],
    )
    def test_public_names_are_not(self, text: str) -> None:
        assert wrong_names({"trainers.x": text}) == []


class TestPublicNames:
    @pytest.mark.parametrize("name", rankscope.__all__)
    def test_is_there_and_described(self, name: str) -> None:
        value = getattr(rankscope, name)
        assert name in dir(rankscope)
        assert isinstance(value, str) or inspect.getdoc(value)

    def test_others_are_not(self) -> None:
        with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
            _ = rankscope.nothing


def imported(code: str, *arguments: str) -> set[str]:
    """The top-level names of what a child process has imported when the code is done."""
    end = "\nimport sys\nprint('\\nLOADED', *{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", code + end, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    return set(done.stdout.rpartition("LOADED ")[2].split())


COMMAND = """
import sys
from rankscope.cli.app import main
sys.argv[0] = "rankscope"
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
"""


class TestCost:
    """What an import or a command loads: heavy libraries wait until somebody needs them."""

    @pytest.mark.parametrize(
        ("code", "without"),
        [
            ("import rankscope", {"numpy", "torch", "scipy", "typer", "rich", "h5py", "loky"}),
            ("import rankscope.checkpoints", {"numpy", "torch", "scipy", "h5py", "ml_dtypes"}),
            ("import rankscope.series, rankscope.matrices", {"numpy", "torch", "scipy", "h5py"}),
            ("import rankscope.api", {"torch", "scipy", "h5py", "pandas", "typer", "matplotlib"}),
            ("import rankscope.figures", {"torch", "scipy", "pandas", "typer", "matplotlib"}),
            ("import rankscope.palette", {"numpy", "matplotlib"}),
            ("import rankscope.snapshots", {"torch", "scipy", "h5py", "rich", "typer"}),
            ("import rankscope.cli.app", {"numpy", "torch", "scipy", "h5py"}),
        ],
    )
    def test_of_an_import(self, code: str, without: set[str]) -> None:
        assert imported(code) & without == set()

    def test_the_probe_sees_what_is_loaded(self) -> None:
        assert "numpy" in imported("import rankscope; rankscope.analyze")

    def test_of_help(self) -> None:
        assert (
            imported(COMMAND, "--help") & {"numpy", "torch", "scipy", "h5py", "matplotlib"} == set()
        )

    @pytest.mark.parametrize("command", ["analyze", "inspect"])
    def test_of_measuring_safetensors(self, tmp_path: Path, command: str) -> None:
        save_file({"w": np.eye(8)}, tmp_path / "m.safetensors")
        loaded = imported(COMMAND, command, str(tmp_path / "m.safetensors"))
        assert "numpy" in loaded or command == "inspect"
        assert loaded & {"torch", "scipy", "h5py", "pandas", "safetensors"} == set()

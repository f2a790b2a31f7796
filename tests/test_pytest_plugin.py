"""The pytest plugin: what a test that uses it passes on, and what its failure shows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

# Loaded before pytester takes away again what a run in this process has loaded.
import ml_dtypes  # noqa: F401
import pytest
import safetensors.numpy  # noqa: F401
import scipy.linalg  # noqa: F401

import rankscope.release
import rankscope.views.gatewords  # noqa: F401
from rankscope import pytest_plugin
from rankscope.pytest_plugin import message
from tests.gatemodels import LOST, save_models
from tests.views.gateverdicts import HOSTILE, finding, hostile, verdict
from tests.views.test_views import acting

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parent.parent
STRICT = ("-p", "no:cacheprovider", "-W", "error")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    save_models(folder)
    return folder


@pytest.fixture
def place(pytester: pytest.Pytester, models: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a test folder, in which the baseline lies, and models beside it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(pytester.path / "cache"))
    # The module itself, and not once more by the entry point of an installed one.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    tests = pytester.mkdir("released")
    (tests / "ranks.json").write_bytes((models / "ranks.json").read_bytes())
    for name in ("good.safetensors", "bad.safetensors"):
        (pytester.path / name).symlink_to(models / name)
    return tests


def write(place: Path, *lines: str) -> None:
    body = "".join(f"    {line}\n" for line in lines)
    (place / "test_release.py").write_text(f"def test_release(rankscope):\n{body}")


def ended_in(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    """A run of pytest in this process, with this module as its plugin."""
    return pytester.runpytest_inprocess(*STRICT, *arguments, plugins=[pytest_plugin])


def test_a_model_that_passes(pytester: pytest.Pytester, place: Path) -> None:
    write(
        place,
        "verdict = rankscope.check('good.safetensors', baseline='ranks.json')",
        "assert verdict.unchanged == 8",
        "found = rankscope.analyze('good.safetensors', metrics='rank')",
        "assert found.matrices[0]['rank'] == 24",
    )
    ended_in(pytester, "released").assert_outcomes(passed=1)


def test_a_failure_shows_the_layer(pytester: pytest.Pytester, place: Path) -> None:
    write(place, "rankscope.check('bad.safetensors', baseline='ranks.json')")
    ended = ended_in(pytester, "released")
    ended.assert_outcomes(failed=1)
    ended.stdout.fnmatch_lines(
        [
            ">*rankscope.check('bad.safetensors', baseline='ranks.json')",
            "E*bad.safetensors against released/ranks.json: fails: 1 of 8 matrices breaks a rule",
            f"E*{LOST}: effective_rank fell from *; rank fell from 24 to 16 (-33.3%)*",
            "E*`pytest --rankscope-update` accepts the new state",
            "released/test_release.py:2: Failed",
        ]
    )
    ended.stdout.no_fnmatch_line("*pytest_plugin.py*")  # the test's own line is what matters


def test_rules_without_a_baseline(pytester: pytest.Pytester, place: Path) -> None:
    write(
        place,
        "import numpy",
        "rules = ['rank >= 0.5 * min(shape) for w']",
        "rankscope.check({'w': numpy.eye(4)}, rules=rules[0])",
        "rankscope.check({'w': numpy.diag([1.0, 0, 0, 0])}, rules=rules)",
    )
    ended = ended_in(pytester, "released")
    ended.assert_outcomes(failed=1)
    ended.stdout.fnmatch_lines(["E*  w: rank is 1, below 2 (rule: rank >= 0.5 ? min(shape))"])


def test_no_baseline_tells_how_to_write_one(pytester: pytest.Pytester, place: Path) -> None:
    write(place, "rankscope.check('good.safetensors', baseline='new.json')")
    ended = ended_in(pytester, "released")
    ended.assert_outcomes(failed=1)
    ended.stdout.fnmatch_lines(["E*there is no baseline *new.json: `pytest --rankscope-update`*"])


def test_update_writes_and_says_so(pytester: pytest.Pytester, place: Path) -> None:
    old = json.loads((place / "ranks.json").read_text())
    del old["matrices"]["model.layers.0.q_proj.weight"]
    old["question"]["metrics"] = ["rank"]
    old["matrices"] = {
        name: {key: row[key] for key in row if not key.endswith(("_rank", "_norm"))}
        for name, row in old["matrices"].items()
    }
    (place / "ranks.json").write_text(json.dumps(old))
    write(place, "rankscope.check('bad.safetensors', baseline='ranks.json')")
    ended = ended_in(pytester, "released", "--rankscope-update")
    ended.assert_outcomes(passed=1)
    ended.stdout.fnmatch_lines(["rankscope: wrote released/ranks.json"])
    new = json.loads((place / "ranks.json").read_text())
    assert new["question"] == old["question"]
    assert new["matrices"][LOST]["rank"] == 16
    assert len(new["matrices"]) == 8
    ended = ended_in(pytester, "released")
    ended.assert_outcomes(passed=1)
    ended.stdout.no_fnmatch_line("*rankscope: wrote*")


def test_update_writes_baselines_of_weights_in_memory(
    pytester: pytest.Pytester, place: Path
) -> None:
    write(place, "import numpy", "rankscope.check({'w': numpy.eye(4)}, baseline='new.json')")
    ended_in(pytester, "released", "--rankscope-update").assert_outcomes(passed=1)
    assert json.loads((place / "new.json").read_text())["matrices"]["w"]["rank"] == 4
    ended_in(pytester, "released").assert_outcomes(passed=1)


def test_update_excuses_no_rule_on_the_model_itself(pytester: pytest.Pytester, place: Path) -> None:
    write(
        place,
        "rules = ['rank >= 0.9 * min(shape)']",
        "rankscope.check('bad.safetensors', baseline='ranks.json', rules=rules)",
    )
    ended = ended_in(pytester, "released", "--rankscope-update")
    ended.assert_outcomes(failed=1)


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        ("check('none.safetensors', 'ranks.json')", "none.safetensors: no such file*"),
        ("check('cut.safetensors', 'ranks.json')", "cut.safetensors: *"),
        ("check('good.safetensors', rules='rank <')", "rule 'rank <' is not understood, *"),
        ("check('good.safetensors', rules='rank >= 1 for x')", "rule for 'x' matches no matrix*"),
        ("check('good.safetensors', 'broken.json')", "*broken.json: *"),
        ("analyze('none.safetensors')", "none.safetensors: no such file*"),
        ("analyze('good.safetensors', metrics='rnk')", "metric 'rnk' is not known; *"),
    ],
)
@pytest.mark.parametrize("options", [(), ("--rankscope-update",)])
def test_what_is_refused_is_a_failure_of_one_line(
    pytester: pytest.Pytester, place: Path, call: str, reason: str, options: tuple[str, ...]
) -> None:
    (pytester.path / "cut.safetensors").write_bytes(b"\x10")
    (place / "broken.json").write_text("{")
    write(place, f"rankscope.{call}")
    ended = ended_in(pytester, "released", *options)
    ended.assert_outcomes(failed=1)
    told = [line for line in ended.outlines if line.startswith("E ")]
    assert len(told) == 1
    ended.stdout.fnmatch_lines(
        [f">*rankscope.{call}", f"E*Failed: {reason}", "released/test_release.py:2: Failed"]
    )
    ended.stdout.no_fnmatch_line("*pytest_plugin.py*")
    ended.stdout.no_fnmatch_line("*During handling*")


@pytest.mark.parametrize("case", HOSTILE)
def test_nothing_in_a_name_acts(case: str) -> None:
    text = message(hostile(HOSTILE[case]))
    assert not acting(text)
    assert len(text.splitlines()) == len(message(hostile("plain")).splitlines())


def test_the_worst_ten_are_shown() -> None:
    lines = message(verdict(*(finding(f"w{i}") for i in range(30)))).splitlines()
    assert lines[1].startswith("  w0: rank fell from 8 to 4")
    assert lines[11:] == ["  and 20 more", "`pytest --rankscope-update` accepts the new state"]
    assert len(lines) == 13


LOADED = """
import sys
import pytest
before = set(sys.modules)
import rankscope.pytest_plugin
print(*sorted(name for name in set(sys.modules) - before))
"""


def test_it_is_light_to_load() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", LOADED],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert ended.stdout.split() == ["rankscope", "rankscope.pytest_plugin", "rankscope.version"]


def test_pytest_finds_it_by_its_entry_point(
    pytester: pytest.Pytester, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = (ROOT / "pyproject.toml").read_text().partition("entry-points.pytest11]\n")[2]
    name, _, module = points.splitlines()[0].replace('"', "").partition(" = ")
    info = pytester.mkdir("installed.dist-info")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: installed\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[pytest11]\n{name} = {module}\n")
    (info / "RECORD").write_text("")
    monkeypatch.delenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(pytester.path), str(ROOT)]))
    write(place, "rankscope.check('good.safetensors', baseline='ranks.json')")
    ended = pytester.runpytest_subprocess("-W", "error", "released", timeout=60)
    ended.assert_outcomes(passed=1)

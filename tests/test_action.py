"""The GitHub Action: its steps run as a runner runs them, and nothing in its inputs is a script."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
import yaml

from tests.gatemodels import LOST, save_models

ROOT = Path(__file__).parent.parent
ACTION: dict[str, Any] = yaml.safe_load((ROOT / "action.yml").read_text("utf-8"))
INSTALL, CHECK = ACTION["runs"]["steps"]

HOSTILE = (
    "a b",
    "it's",
    'say "x"',
    "$(touch pwned)",
    "`touch pwned`",
    "x; touch pwned",
    "-rf",
    "*",
    "a\nexit-code=0",
    "${{ github.token }}",
    "\\",
)


@dataclass(frozen=True)
class Ended:
    code: int
    log: str
    outputs: dict[str, str]
    summary: str
    path: str


@dataclass(frozen=True)
class Runner:
    """As much of a runner as a step sees: expressions resolved, files to write to, bash."""

    place: Path

    def __call__(self, step: dict[str, Any], *programs: Path, **inputs: str) -> Ended:
        given = {name: one.get("default", "") for name, one in ACTION["inputs"].items()}
        context = {f"inputs.{name}": text for name, text in {**given, **inputs}.items()}
        context |= {"github.action_path": str(ROOT), "runner.temp": str(self.place / "temp")}
        script = self.place / "script.sh"
        script.write_text(resolved(step["run"], context))
        files = {name: self.place / name for name in ("OUTPUT", "STEP_SUMMARY", "PATH")}
        for file in files.values():
            file.write_text("")
        (self.place / "temp").mkdir(exist_ok=True)
        environment = {
            **{f"GITHUB_{name}": str(file) for name, file in files.items()},
            **{name: resolved(text, context) for name, text in step["env"].items()},
            "PATH": os.pathsep.join([*map(str, programs), os.environ["PATH"]]),
            "PYTHONPATH": str(ROOT),
            "XDG_CACHE_HOME": str(self.place / "cache"),
        }
        ended = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(script)],
            cwd=self.place / "work",
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        written = (line.partition("=") for line in files["OUTPUT"].read_text().splitlines())
        return Ended(
            ended.returncode,
            ended.stdout + ended.stderr,
            {key: value for key, _, value in written},
            files["STEP_SUMMARY"].read_text(),
            files["PATH"].read_text(),
        )


def resolved(text: str, context: dict[str, str]) -> str:
    """Expressions replaced once, as text: what they hold is not looked at again."""
    return re.sub(r"\$\{\{\s*(\S+?)\s*\}\}", lambda found: context[found[1]], text)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    save_models(folder)
    return folder


@pytest.fixture
def runner(tmp_path: Path, models: Path) -> Runner:
    (tmp_path / "work").mkdir()
    for file in models.iterdir():
        (tmp_path / "work" / file.name).symlink_to(file)
    return Runner(tmp_path)


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """`rankscope` as it stands in this tree."""
    folder = tmp_path / "programs"
    folder.mkdir()
    program = folder / "rankscope"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m rankscope "$@"\n')
    program.chmod(0o755)
    return folder


def test_is_an_action() -> None:
    arguments = ["--builtin-schema", "vendor.github-actions", str(ROOT / "action.yml")]
    command = [sys.executable, "-m", "check_jsonschema", *arguments]
    subprocess.run(command, check=True, capture_output=True, timeout=60)


def test_no_input_is_pasted_into_a_script() -> None:
    for step in ACTION["runs"]["steps"]:
        assert "${{" not in step["run"]
        assert step["shell"] == "bash"
    used = set(re.findall(r"inputs\.([\w-]+)", (ROOT / "action.yml").read_text("utf-8")))
    assert used == set(ACTION["inputs"])


def test_a_model_that_passes(runner: Runner, programs: Path) -> None:
    ended = runner(CHECK, programs, model="good.safetensors", baseline="ranks.json")
    assert ended.code == 0, ended.log
    assert ended.outputs == {"exit-code": "0", "junit": "rankscope-junit.xml"}
    assert "passes: 8 matrices, all unchanged" in ended.summary
    assert "::error" not in ended.log


def test_a_model_that_fails(runner: Runner, programs: Path) -> None:
    ended = runner(CHECK, programs, model="bad.safetensors", baseline="ranks.json")
    assert ended.code == 1, ended.log
    assert ended.outputs["exit-code"] == "1"
    assert ended.summary.startswith("### fails: 1 of 8 matrices breaks a rule")
    assert f"\n::error title={LOST}::" in ended.log
    suite = ET.parse(runner.place / "work" / ended.outputs["junit"]).getroot()
    assert suite.get("failures") == "1"


def test_rules_and_options_are_one_a_line(runner: Runner, programs: Path) -> None:
    rules = "rank: any\r\n\n  numerical_rank: any  \neffective_rank: drop <= 50%\n"
    given = {"model": "bad.safetensors", "baseline": "ranks.json"}
    ended = runner(CHECK, programs, **given, rules=rules, args="--no-store\n--workers\n1\n")
    assert ended.code == 0, ended.log
    ended = runner(CHECK, programs, **given, rules="effective_rank: drop <= 50%")
    assert ended.code == 1
    ended = runner(CHECK, programs, **given, rules="rank falls")
    assert ended.code == 2
    assert "rule 'rank falls' is not understood" in ended.log


def test_without_a_baseline(runner: Runner, programs: Path) -> None:
    rule = "rank >= 0.9 * min(shape)"
    ended = runner(CHECK, programs, model="bad.safetensors", rules=rule)
    assert ended.code == 1
    assert runner(CHECK, programs, model="good.safetensors", rules=rule).code == 0


def test_what_is_not_there_is_an_error(runner: Runner, programs: Path) -> None:
    (runner.place / "work" / "rankscope-junit.xml").write_text("an old one")
    ended = runner(CHECK, programs, model="none.safetensors", baseline="ranks.json")
    assert ended.code == 3
    assert ended.outputs == {"exit-code": "3", "junit": "rankscope-junit.xml"}
    assert ended.summary == ""
    assert "::error title=none.safetensors::none.safetensors: no such file" in ended.log
    suite = ET.parse(runner.place / "work" / "rankscope-junit.xml").getroot()
    assert suite.get("errors") == "1"  # and no old one


def test_wrong_usage_leaves_no_old_file(runner: Runner, programs: Path) -> None:
    (runner.place / "work" / "rankscope-junit.xml").write_text("an old one")
    ended = runner(CHECK, programs, model="good.safetensors", rules="rank falls")
    assert (ended.code, ended.outputs) == (2, {"exit-code": "2"})


def test_no_junit_where_none_is_asked_for(runner: Runner, programs: Path) -> None:
    before = {path.name for path in (runner.place / "work").iterdir()}
    given = {"model": "bad.safetensors", "baseline": "ranks.json", "junit": ""}
    ended = runner(CHECK, programs, **given)
    assert (ended.code, ended.outputs) == (1, {"exit-code": "1"}), ended.log
    assert ended.summary.startswith("### fails: 1 of 8 matrices breaks a rule")
    assert {path.name for path in (runner.place / "work").iterdir()} == before


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("name", ["model", "baseline", "rules", "args", "junit"])
def test_inputs_stay_one_word_each(runner: Runner, tmp_path: Path, name: str, text: str) -> None:
    stub = stub_program(tmp_path, "rankscope")
    ended = runner(CHECK, stub.parent, **{"model": "m", name: text})
    assert not list(runner.place.rglob("pwned"))
    assert ended.outputs["exit-code"] == "7"
    assert ended.code == 7
    words = (stub.parent / "words").read_bytes().decode().split("\0")[:-1]
    lines = text.split("\n") if name in ("rules", "args") else [text]
    shown = [text.replace("\n", "")] if name == "junit" else lines
    assert all(line in words for line in shown)
    assert words[-2] == "--"


@pytest.mark.parametrize("package", ["", *HOSTILE])
def test_installs_one_thing_into_a_place_of_its_own(
    runner: Runner, tmp_path: Path, package: str
) -> None:
    stub = stub_program(tmp_path, "python3", code=0)
    place = runner.place / "temp" / "rankscope-venv"
    (place / "bin").mkdir(parents=True)
    (place / "bin" / "python").symlink_to(stub)
    ended = runner(INSTALL, stub.parent, package=package)
    assert ended.code == 0, ended.log
    words = (place / "bin" / "words").read_bytes().decode().split("\0")[:-1]
    options = ["--quiet", "--disable-pip-version-check", "--"]
    assert words == ["-m", "pip", "install", *options, package or str(ROOT)]
    assert (stub.parent / "words").read_bytes().decode().split("\0")[:-1] == [
        *("-m", "venv", str(place))
    ]
    assert ended.path == f"{place}/bin\n"
    assert not list(runner.place.rglob("pwned"))


def stub_program(tmp_path: Path, name: str, code: int = 7) -> Path:
    """A program that writes the words it was called with beside itself."""
    folder = tmp_path / "stubs"
    folder.mkdir()
    program = folder / name
    program.write_text(f'#!/bin/sh\nprintf "%s\\0" "$@" > "$(dirname "$0")/words"\nexit {code}\n')
    program.chmod(0o755)
    return program

"""The gate's settings in a project."""

from __future__ import annotations

from pathlib import Path

import pytest

from rankscope.errors import InputRejected, UsageError
from rankscope.gate.configuration import (
    Configuration,
    find_configuration,
    read_configuration,
)
from rankscope.matrices import Selection

SETTINGS = """
baseline = "ci/ranks.json"
rules = ["rank: drop <= 2%", "effective_rank: drop <= 5% for *mlp*"]
exclude = ["*embed*"]
eps = 0.01
norm = "spectral"
"""


def expected(path: Path) -> Configuration:
    return Configuration(
        path,
        path.parent / "ci/ranks.json",
        ("rank: drop <= 2%", "effective_rank: drop <= 5% for *mlp*"),
        Selection((), ("*embed*",)),
        (0.01,),
        "spectral",
    )


def test_in_pyproject(tmp_path: Path) -> None:
    path = tmp_path / "pyproject.toml"
    path.write_text('[project]\nname = "x"\n[tool.rankscope.check]\n' + SETTINGS)
    assert find_configuration(tmp_path) == expected(path)


@pytest.mark.parametrize("head", ["", "[check]\n", "[tool.rankscope.check]\n"])
def test_in_a_file_of_its_own(tmp_path: Path, head: str) -> None:
    path = tmp_path / "rankscope.toml"
    path.write_text(head + SETTINGS)
    assert find_configuration(tmp_path) == expected(path)
    assert read_configuration(path) == expected(path)


def test_the_nearest_upwards(tmp_path: Path) -> None:
    (tmp_path / "rankscope.toml").write_text(SETTINGS)
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    (tmp_path / "a" / "pyproject.toml").write_text("[tool.other]\n")  # says nothing of us
    assert find_configuration(inner) == expected(tmp_path / "rankscope.toml")
    (inner / "rankscope.toml").write_text('rules = ["added: none"]\n')
    assert find_configuration(inner).rules == ("added: none",)


def test_its_own_file_before_the_shared_one(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.rankscope.check]\neps = 0.5\n")
    (tmp_path / "rankscope.toml").write_text("eps = 0.25\n")
    assert find_configuration(tmp_path).eps == (0.25,)


def test_nothing_said(tmp_path: Path) -> None:
    (tmp_path / "rankscope.toml").write_text("")
    assert find_configuration(tmp_path) == Configuration(tmp_path / "rankscope.toml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("baselin = 'x'", "baselin is not known; did you mean baseline"),
        ("zzz = 1", "zzz is not known; there are baseline, rules"),
        ("baseline = 3", "baseline is 3, expected a path"),
        ("rules = 'rank: drop <= 1'", "expected a list of strings"),
        ("rules = [1]", "expected a list of strings"),
        ("exclude = ['a', 2]", "expected a list of strings"),
        ("eps = 'small'", "expected a number"),
        ("eps = []", "expected a number"),
        ("eps = [true]", "expected a number"),
        ("norm = 'max'", "expected one of frobenius, spectral, none"),
        ("check = 3", "check is no table"),
    ],
)
def test_what_is_wrong_is_told(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "rankscope.toml").write_text(text + "\n")
    with pytest.raises(UsageError, match=message) as caught:
        find_configuration(tmp_path)
    assert str(tmp_path / "rankscope.toml") in str(caught.value)


@pytest.mark.parametrize("data", [b"= 3", b"\xff\xfe", b"a = " + b"[" * 100_000])
def test_what_is_no_toml_is_rejected(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "rankscope.toml").write_bytes(data)
    with pytest.raises(InputRejected, match="is not TOML"):
        find_configuration(tmp_path)


def test_a_named_file_must_say_something(tmp_path: Path) -> None:
    path = tmp_path / "pyproject.toml"
    path.write_text("[project]\n")
    with pytest.raises(InputRejected, match=r"has no \[tool.rankscope.check\]"):
        read_configuration(path)
    with pytest.raises(InputRejected, match="No such file"):
        read_configuration(tmp_path / "nothing.toml")

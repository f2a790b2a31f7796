"""What an import of the hooks loads, and what it says where a library is not installed."""

from __future__ import annotations

import importlib
import sys

import pytest

import rankscope.integrations
from rankscope.errors import UsageError
from tests.test_imports import imported

HEAVY = {"numpy", "torch", "transformers", "lightning", "pytorch_lightning", "tensorboard", "wandb"}


@pytest.mark.parametrize(
    ("module", "loads"),
    [
        ("", set()),
        (".pytorch", set()),
        (".readings", {"numpy"}),
        (".tensorboard", {"numpy"}),
        (".wandb", {"numpy"}),
    ],
)
def test_an_import_loads_what_it_needs(module: str, loads: set[str]) -> None:
    assert imported(f"import rankscope.integrations{module}") & HEAVY == loads


@pytest.mark.parametrize("name", rankscope.integrations.__all__)
def test_every_name_is_there_and_described(name: str) -> None:
    assert name in dir(rankscope.integrations)
    assert getattr(rankscope.integrations, name).__doc__


def test_others_are_not() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = rankscope.integrations.nothing


@pytest.mark.parametrize(
    ("module", "libraries", "extra"),
    [
        ("pytorch", ["torch"], "train"),
        ("transformers", ["transformers"], "transformers"),
        ("lightning", ["lightning", "pytorch_lightning"], "lightning"),
        ("tensorboard", ["tensorboard"], "tensorboard"),
        ("tensorboard", ["torch"], "tensorboard"),
        ("wandb", ["wandb"], "wandb"),
    ],
)
def test_a_missing_library_is_named_with_the_extra(
    module: str, libraries: list[str], extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"rankscope.integrations.{module}"
    monkeypatch.delitem(sys.modules, name, raising=False)
    for library in libraries:
        monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(UsageError) as caught:
        importlib.import_module(name)
    assert f"needs {libraries[0]}, which is not installed" in str(caught.value)
    assert str(caught.value).endswith(f"pip install 'rankscope[{extra}]'")

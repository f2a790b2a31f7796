"""Names are equal if and only if the choices are; a command makes the run it was made of."""

from __future__ import annotations

import argparse
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankscope.errors import UsageError
from trainers import images
from trainers.imageargs import Args
from trainers.recipes.naming import command, named, parsed
from trainers.recipes.p1 import FIGURES

PLACES = {"out", "data_dir", "device"}

# Two values of each field, so that a field that is added to Args has to be added here.
OTHER: dict[str, tuple[Any, Any]] = {
    "out": (Path("here"), Path("-there=x y")),
    "arch": ("vgg16", "mlp-bn-2-8"),
    "data": ("digits", "svhn"),
    "data_dir": (None, Path("data")),
    "limit": (None, 700),
    "augment": (True, False),
    "leaky_relu": (False, True),
    "batch_size": (16, 8),
    "mu": (0.1, 1e-05),
    "weight_decay": (0.0, 0.1 + 0.2),
    "momentum": (0.5, 0.9),
    "nesterov": (False, True),
    "lr_factor": (None, 0.2),
    "epochs": (500, 20),
    "snapshots": (500, 3),
    "burst": (1, 4),
    "every": (None, 5),
    "steps": ((), (1, 20)),
    "save": ("weights", "both"),
    "seed": (0, 11),
    "device": ("cuda", "cuda:1"),
    "precision": ("fp32", "bf16"),
    "channels_last": (False, True),
    "graph": ("none", "compile"),
}
ARGS = st.fixed_dictionaries({name: st.sampled_from(pair) for name, pair in OTHER.items()}).map(
    lambda chosen: Args(**chosen)
)


def choices(args: Args) -> tuple[Any, ...]:
    ignored = {*PLACES, "snapshots"} if args.every else PLACES
    return tuple(getattr(args, part.name) for part in fields(args) if part.name not in ignored)


def test_every_field_is_here() -> None:
    assert set(OTHER) == {part.name for part in fields(Args)}


@pytest.mark.parametrize("name", OTHER)
def test_a_name_tells_each_choice(name: str) -> None:
    first, second = (
        Args(**{**{key: pair[0] for key, pair in OTHER.items()}, name: value})
        for value in OTHER[name]
    )
    assert (named(first).out == named(second).out) == (name in PLACES)


@given(ARGS, ARGS)
def test_names_are_equal_if_and_only_if_choices_are(first: Args, second: Args) -> None:
    assert (named(first).out == named(second).out) == (choices(first) == choices(second))
    assert named(first) == replace(first, out=named(first).out)


def test_no_two_runs_of_all_figures_collide() -> None:
    runs = [args for recipe in FIGURES for panel in recipe.panels for args in panel.runs]
    assert len({args.out for args in runs}) == len({choices(args) for args in runs}) > 200


def test_a_name_reads_well() -> None:
    args = Args(
        Path(), arch="resnet18", data="cifar10", augment=True, mu=0.5, weight_decay=5e-4, epochs=500
    )
    args = replace(args, every=1, save="spectra")
    assert named(args).out == Path("resnet18-cifar10-B16-mu0.5-wd0.0005-e500-s0")
    departed = replace(args, augment=False, lr_factor=0.2, leaky_relu=True, mu=1.0)
    assert named(departed).out.name == (
        "resnet18-cifar10-B16-mu1-wd0.0005-e500-s0-no-augment-leaky-relu-lr-factor0.2"
    )


@pytest.mark.parametrize("arch", ["../up", "a/b"])
def test_what_cannot_be_a_directory_is_refused(arch: str) -> None:
    with pytest.raises(UsageError, match="cannot be the name of a directory"):
        named(Args(Path(), arch=arch))


@given(ARGS)
def test_a_command_makes_the_run_it_was_made_of(args: Args) -> None:
    parser = argparse.ArgumentParser()
    images.add_arguments(parser)
    assert images.from_options(parser.parse_args(command(args))) == args
    assert parsed(command(args)) == args


def test_a_mistake_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="unrecognized arguments: --mmu=3"):
        parsed(["--out=x", "--mmu=3"])
    with pytest.raises(UsageError, match="invalid int value"):
        parsed(["--out=x", "--epochs=many"])

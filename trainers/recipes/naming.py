"""A run's name, made of its choices, and the command that runs it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import NoReturn

from rankscope.errors import UsageError
from trainers import imageargs
from trainers.imageargs import Args

# Where a run takes place does not make it another run.
PLACES = ("out", "data_dir", "device")

# Choices that every name tells, with the letters before them.
TOLD = {
    "arch": "",
    "data": "",
    "batch_size": "B",
    "mu": "mu",
    "weight_decay": "wd",
    "epochs": "e",
    "seed": "s",
}

# What the others usually are in a recipe; a name tells what is not so.
USUAL = {"augment": True, "every": 1, "snapshots": None, "save": "spectra"}

SHORT_OPTIONS = {"batch_size": "B"}

# What is not the same in capitals.
NETWORKS = {"resnet18": "ResNet-18", "vgg16": "VGG-16", "vit": "the ViT"}


def named(args: Args) -> Args:
    """The same run, `out` being the name of its directory.

    Two runs have the same name if and only if they have the same choices; `snapshots` is none
    where `every` takes its place.

    Raises:
        UsageError: a choice does not fit into a file's name.
    """
    told = [f"{letters}{_text(getattr(args, name))}" for name, letters in TOLD.items()]
    rest = [part.name for part in fields(args) if part.name not in {*TOLD, *PLACES}]
    rest.remove("snapshots" if args.every else "every")  # which of the two plays a part
    unusual = [name for name in rest if getattr(args, name) != USUAL.get(name, getattr(Args, name))]
    name = "-".join([*told, *(_unusual(name, getattr(args, name)) for name in unusual)])
    if Path(name).name != name:
        raise UsageError(f"{name}: cannot be the name of a directory")
    return replace(args, out=Path(name))


def _unusual(name: str, value: object) -> str:
    words = name.replace("_", "-")
    if isinstance(value, bool):
        return words if value else f"no-{words}"
    if isinstance(value, str):
        return f"{words}-{value}"
    return f"{words}{_text(value)}"


def _text(value: object) -> str:
    """A value as in a name; different values differ in it.

    >>> [_text(value) for value in (0.5, 1.0, 1e-05, 16, (1, 20))]
    ['0.5', '1', '1e-05', '16', '1+20']
    """
    if isinstance(value, tuple):
        return "+".join(map(_text, value))
    return repr(value).removesuffix(".0") if isinstance(value, float) else str(value)


def option(name: str) -> str:
    """The option of `python -m trainers classify` for a field of Args."""
    return "--" + SHORT_OPTIONS.get(name, name.replace("_", "-"))


def command(args: Args) -> list[str]:
    """The arguments of `python -m trainers classify` that make this run."""
    words = []
    for part in fields(args):
        value = getattr(args, part.name)
        if isinstance(value, bool):
            words += [option(part.name)] if value else []
        elif isinstance(value, tuple):
            words.append(f"{option(part.name)}={','.join(map(str, value))}")
        elif value is not None:
            words.append(f"{option(part.name)}={value}")
    return words


def network(arch: str) -> str:
    """A network's name as a title has it.

    >>> [network(arch) for arch in ("resnet18", "vit", "mlp-bn-10-100")]
    ['ResNet-18', 'the ViT', 'MLP-BN-10-100']
    """
    return NETWORKS.get(arch, arch.upper())


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message)


def parsed(words: Sequence[str]) -> Args:
    """The run that `python -m trainers classify` makes of these arguments.

    Raises:
        UsageError: it would refuse them.
    """
    parser = _Parser(add_help=False, allow_abbrev=False)
    imageargs.add_arguments(parser)
    return imageargs.from_options(parser.parse_args(words))

"""A recipe otherwise than printed: smaller, on other data, or as P1's authors' code has it."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields, replace

from rankscope.errors import UsageError
from trainers.imageargs import FACTOR, FACTORS, Args
from trainers.recipes.building import titled
from trainers.recipes.datasets import size_of
from trainers.recipes.naming import command, named, network, option, parsed
from trainers.recipes.records import Panel, Recipe

# Where the code of P1's authors departs from the print, as their list of runs and their plots say.
CODE_LR_FACTOR = 0.2
CODE_EPS = {"P1-F4": (0.05,)}  # 0.04 in some of its panels
CODE_LEAKY_RELU = ("P1-F1", "P1-F2", "P1-F14")

# The least of which P1's three drops of the learning rate fall into different epochs.
LEAST_EPOCHS = 8
# Four updates an epoch with P1's largest batch.
LEAST_IMAGES = 4 * 128
# Ours: below it every rank is near full.
LEAST_WIDTH = 16

WIDTH = re.compile(r"(?<=-)[0-9]+$")

# A recipe's own options say these, or each run has its own.
NOT_SET = ("out", "data", "data_dir", "seed", "device")


@dataclass(frozen=True, slots=True)
class Changes:
    """What to change.

    Attributes:
        data: another data set for every run.
        scale: the share of the epochs, of the training images and of an MLP's width that is kept.
        as_code: as P1's authors' code has it: learning rate times 0.2 at each drop, nothing
            augmented; in some figures another eps, or leaky ReLUs.
        lr_factor: by which the learning rate drops.
        augment: False to leave the images as they are but standardised.
        leaky_relu: in place of ReLUs.
        eps: thresholds of the rank; they concern the figure only.
        seeds: how many runs of each, with seeds from 0.
        settings: options of `classify` for every run: `precision=bf16`.
        device: cpu, cuda, or as PyTorch calls it.
    """

    data: str | None = None
    scale: float = 1.0
    as_code: bool = False
    lr_factor: float | None = None
    augment: bool = True
    leaky_relu: bool = False
    eps: tuple[float, ...] | None = None
    seeds: int = 1
    settings: tuple[str, ...] = ()
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.data is not None:
            size_of(self.data)
        if not 0 < self.scale <= 1:
            raise UsageError(f"scale is {self.scale}, expected a number above 0, at most 1")
        if self.seeds < 1:
            raise UsageError(f"seeds is {self.seeds}, expected at least 1")
        for eps in self.eps or ():
            if not 0 < eps < float("inf"):
                raise UsageError(f"eps is {eps}, expected a number above 0")


def changed(recipe: Recipe, changes: Changes) -> Recipe:
    """The recipe with the changes made; every run's name says them.

    Panels that differed in the data set alone become one on other data.

    Raises:
        UsageError: a setting that `classify` would refuse, or that the recipe varies; leaky ReLUs
            for a network that has no ReLU.
    """
    changes = as_code(recipe, changes) if changes.as_code else changes
    refuse(changes.settings, {*NOT_SET, *differing(recipe)})
    eps = changes.eps or recipe.eps
    panels: dict[tuple[Args, ...], Panel] = {}
    for panel in recipe.panels:
        new = changed_panel(panel, changes)
        panels.setdefault(new.runs, new)
    title = ", ".join([retitled(recipe, changes), *spoken(changes)])
    return replace(recipe, title=title, panels=tuple(panels.values()), eps=eps)


def retitled(recipe: Recipe, changes: Changes) -> str:
    """The title with the network that is trained in place of the recipe's own."""
    before = recipe.runs[0]
    after = changed_run(before, changes)
    return recipe.title.replace(network(before.arch), network(after.arch))


def differing(recipe: Recipe) -> set[str]:
    """The fields in which the runs of a recipe differ."""
    names = (part.name for part in fields(Args))
    return {name for name in names if len({getattr(run, name) for run in recipe.runs}) > 1}


def refuse(settings: tuple[str, ...], names: set[str]) -> None:
    """Refuse settings of fields that a recipe sets by itself."""
    flags = {option(name) for name in names}
    for setting in settings:
        flag = f"--{setting.partition('=')[0]}"
        if flag == "--":  # which ends the options of a command line
            raise UsageError(f"--set {setting!r}: names no option of `classify`")
        if flag in flags:
            raise UsageError(f"--set {setting}: the recipe itself sets or varies {flag}")


def as_code(recipe: Recipe, changes: Changes) -> Changes:
    """What is to be changed for a recipe to be as P1's authors' code; what is chosen stays."""
    return replace(
        changes,
        lr_factor=CODE_LR_FACTOR if changes.lr_factor is None else changes.lr_factor,
        augment=False,
        leaky_relu=changes.leaky_relu or recipe.name in CODE_LEAKY_RELU,
        eps=changes.eps or CODE_EPS.get(recipe.name),
    )


def spoken(changes: Changes) -> list[str]:
    """The changes that concern training, as a figure's title must tell them."""
    said = {
        f"on {changes.data}": changes.data is not None,
        f"scale {changes.scale:g}": changes.scale < 1,
        f"learning rate times {changes.lr_factor} at each drop": changes.lr_factor is not None,
        "not augmented": not changes.augment,
        "leaky ReLU": changes.leaky_relu,
        # The network stands in the title itself.
        **{words: not words.startswith("arch=") for words in changes.settings},
    }
    return [words for words, holds in said.items() if holds]


def changed_panel(panel: Panel, changes: Changes) -> Panel:
    """A panel with the changes made to each run."""
    runs = []
    for args in panel.runs:
        run = changed_run(args, changes)
        runs += [named(replace(run, seed=seed)) for seed in range(changes.seeds)]
    title = titled(runs[0], panel.told) if panel.told else panel.title
    return replace(panel, title=title, runs=tuple(runs))


def changed_run(args: Args, changes: Changes) -> Args:
    """A run with the changes made, under its former name."""
    if changes.leaky_relu and args.arch == "vit":
        raise UsageError("vit has GELUs: leave out --leaky-relu")
    factor = args.lr_factor if changes.lr_factor is None else changes.lr_factor
    if factor == FACTORS.get(args.arch, FACTOR):
        factor = None
    run = replace(
        args,
        data=changes.data or args.data,
        augment=args.augment and changes.augment,
        leaky_relu=args.leaky_relu or changes.leaky_relu,
        lr_factor=factor,
        device=changes.device,
    )
    run = run if changes.scale == 1 else scaled(run, changes.scale)
    return with_settings(run, changes.settings) if changes.settings else run


def scaled(args: Args, scale: float) -> Args:
    """A run with a share of the epochs, of the images and of the width of an MLP or RES.

    Batch size, learning rate, weight decay and depth stay; so does when the learning rate drops,
    as shares of the run. The other networks have one width each.
    """
    epochs = min(args.epochs, max(LEAST_EPOCHS, round(scale * args.epochs)))
    train = size_of(args.data).train
    images = max(LEAST_IMAGES, round(scale * train))
    return replace(
        args,
        arch=WIDTH.sub(lambda width: str(narrowed(int(width[0]), scale)), args.arch),
        epochs=epochs,
        limit=images if images < train else None,
    )


def narrowed(width: int, scale: float) -> int:
    """A share of the width of a layer, but no less than what makes sense."""
    return min(width, max(LEAST_WIDTH, round(scale * width)))


def with_settings(args: Args, settings: tuple[str, ...]) -> Args:
    """A run with options of `classify` set."""
    words = [*command(args), *(f"--{setting}" for setting in settings)]
    try:
        return parsed(words)
    except UsageError as error:
        told = " ".join(f"--set {setting}" for setting in settings)
        raise UsageError(f"{told}: `python -m trainers classify` says: {error}") from error

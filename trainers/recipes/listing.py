"""A recipe's runs in words, with what they will take."""

from __future__ import annotations

from collections.abc import Sequence

from trainers.imageargs import Args
from trainers.imagestate import finished
from trainers.recipes.estimate import estimate
from trainers.recipes.records import Recipe

UNITS = ("B", "kB", "MB", "GB", "TB")


def table(recipe: Recipe, runs: Sequence[Args]) -> str:
    """What `--list` prints: a line a run, and the sum of those that are not finished."""
    sizes = [estimate(args) for args in runs]
    done = [finished(args) for args in runs]
    width = max(len(args.out.name) for args in runs)
    lines = [f"{recipe.name}: {recipe.title}", recipe.source, ""]
    lines += [f"{'run':{width}} {'updates':>11} {'images':>11} {'on disk':>9}"]
    for args, size, is_done in zip(runs, sizes, done, strict=True):
        lines.append(
            f"{args.out.name:{width}} {size.updates:>11,} {size.images:>11,} "
            f"{shown(size.disk):>9}{'  finished' if is_done else ''}"
        )
    left = [size for size, is_done in zip(sizes, done, strict=True) if not is_done]
    lines += [
        "",
        f"{len(left)} of {len(runs)} runs to do: {sum(s.updates for s in left):,} updates, "
        f"{sum(s.images for s in left):,} images, {shown(sum(s.disk for s in left))} on disk",
    ]
    return "\n".join(lines)


def shown(size: int) -> str:
    """A number of bytes.

    >>> shown(999), shown(20_500_000)
    ('999 B', '20 MB')
    """
    value, unit = float(size), 0
    while value >= 1000 and unit < len(UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{value:.0f} {UNITS[unit]}"

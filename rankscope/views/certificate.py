"""A certification as the views see it: the verdict and what it assumed, a row a matrix."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rankscope.certificates.certification import Certification
from rankscope.rows import Row
from rankscope.text import printable
from rankscope.views.cells import SHORT_TYPES
from rankscope.views.grid import Grid
from rankscope.views.numbers import counted, number
from rankscope.views.remarks import left_out
from rankscope.views.report import Remark, Report

MANY_PAIRS = 10  # failing pairs shown
MANY_PHASES = 8  # changes of the hyperparameters shown

KEYS = (
    *("name", "step", "n", "dtype", "inputs_per_sample", "samples", "allowed_rank", "rank"),
    *("sigma_next", "threshold", "margin", "contrast", "lhs", "rhs", "slack", "holds", "possible"),
)

# What makes a true record fail: what the theorem's update leaves out, or rounds more coarsely.
CAUSES = (
    "causes: hyperparameters or m_l other than stated, steps that do not count updates, gradients "
    "computed in less precision than the weights are stored in (TF32, autocast)"
)


def report(certification: Certification) -> Report:
    """The verdict, the hyperparameters that it assumed, the matrices, and the pairs that fail."""
    return Report(
        title=certification.source,
        grids=lambda everything: _grids(certification, everything=everything),
        remarks=lambda everything: _remarks(certification, everything=everything),
        document=certification.to_document,
        rows=lambda: _rows(certification),
        part="pairs",
    )


def _rows(certification: Certification) -> tuple[Sequence[str], Iterator[list[Any]]]:
    return KEYS, ([row[key] for key in KEYS] for row in certification.pairs)


def _grids(certification: Certification, *, everything: bool) -> list[Grid]:
    grids = [_assumed(certification, everything=everything), _matrices(certification)]
    failed = certification.failed
    if failed:
        shown = failed if everything else failed[:MANY_PAIRS]
        worst = "" if len(shown) == len(failed) else f"The {len(shown)} worst of "
        grids.append(_pairs(f"{worst}{len(failed)} pairs that do not hold", shown))
    if everything and certification.pairs:
        grids.append(_pairs("Every pair", certification.pairs))
    return [grid for grid in grids if grid.rows]


def verdict(certification: Certification) -> str:
    """The result in one sentence."""
    source, pairs = printable(certification.source), len(certification.pairs)
    worst = certification.tightest
    if worst is None:
        return f"{source}: nothing could be checked"
    place = f"{printable(worst['name'])}, steps {worst['step'] - worst['n']} to {worst['step']}"
    extreme = f"{place}, rank {worst['rank']} of {worst['allowed_rank']} allowed, "
    extreme += f"the next singular value {number(worst['margin'])} times the rounding noise"
    checked = counted(len(certification.summary()))
    if certification.holds is None:
        return f"{source}: undecided: {pairs} pairs of {checked}; tightest: {extreme}"
    if certification.holds:
        return f"{source}: holds: {pairs} pairs of {checked}; tightest: {extreme}"
    failed = len(certification.failed)
    return f"{source}: does not hold: {failed} of {pairs} pairs of {checked}; worst: {extreme}"


def _assumed(certification: Certification, *, everything: bool) -> Grid:
    dynamics = certification.provenance["dynamics"]
    phases = dynamics["phases"]
    shown = phases if everything else phases[:MANY_PHASES]
    title = verdict(certification)
    if len(shown) < len(phases):
        title += f" (the first {len(shown)} of {len(phases)} phases below; --all shows every one)"
    kind = " Nesterov" if dynamics["nesterov"] and dynamics["momentum"] else ""
    return Grid(
        title,
        ("from update", "B", "mu", "lambda (theorem's)", "weight_decay (PyTorch's)", "momentum"),
        tuple(
            (
                str(phase["start"]),
                str(phase["B"]),
                *(f"{phase[key]:.6g}" for key in ("mu", "lambda", "weight_decay")),
                f"{dynamics['momentum']:g}{kind}",
            )
            for phase in shown
        ),
        labels=0,
        optional=0,
    )


def _matrices(certification: Certification) -> Grid:
    return Grid(
        "U = W_T - a W_{T-n} - b W_{T-n-1}: each matrix's "
        f"{'worst' if certification.failed else 'tightest'} pair, whose rank of U decides",
        (
            *("matrix", "shape", "type", "pairs", "fail", "all n"),
            *("rank of U", "at most", "next / noise", "least slack"),
        ),
        tuple(
            (
                printable(row["name"]),
                "x".join(map(str, row["shape"])),
                SHORT_TYPES.get(row["dtype"], str(row["dtype"])),
                str(row["pairs"]),
                str(row["failed"]),
                _span(row),
                str(row["rank"]),
                str(row["allowed_rank"]),
                number(row["margin"]),
                number(row["slack"]),
            )
            for row in certification.summary()
        ),
        labels=1,
        optional=0,
    )


def _span(row: Row) -> str:
    least, most = row["n_min"], row["n_max"]
    return str(least) if least == most else f"{least}-{most}"


def _pairs(title: str, rows: Sequence[Row]) -> Grid:
    return Grid(
        title,
        ("matrix", "step", "n", "rank of U", "at most", "next / noise", "lhs", "rhs", "slack"),
        tuple(
            (
                printable(row["name"]),
                *(str(row[key]) for key in ("step", "n", "rank", "allowed_rank")),
                *(number(row[key]) for key in ("margin", "lhs", "rhs", "slack")),
            )
            for row in rows
        ),
        labels=1,
        optional=0,
    )


def _remarks(certification: Certification, *, everything: bool) -> list[Remark]:
    suspect = certification.holds is False  # what was taken for granted may be why
    lines = [Remark(printable(text), strong=suspect) for text in certification.remarks]
    lines += left_out(certification.skipped, everything=everything)
    if suspect:
        lines.append(Remark(CAUSES))
    undecided = sum(row["undecided"] for row in certification.summary())
    if undecided:
        text = "the rank is too large, but by no more than roundings that go the same way at every"
        lines.append(Remark(f"undecided: {undecided} pairs: {text} update may do", strong=True))
    decisive = sum(row["decisive"] for row in certification.summary())
    if certification.holds and decisive:
        share = 1 / max(row["contrast"] for row in certification.pairs)
        lines.append(
            Remark(f"a weight decay off by more than about {100 * share:.2g} % would have shown")
        )
    if certification.holds and decisive == 0:
        text = "the decay is below the rounding in every pair: any weight decay would hold"
        lines.append(Remark(text))
    return lines

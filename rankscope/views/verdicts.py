"""What the theory says of runs, in sentences: the assumption, the bound, the trends."""

from __future__ import annotations

from collections.abc import Sequence

from rankscope.rows import Row
from rankscope.table import Table
from rankscope.text import printable
from rankscope.training import NOTHING_KNOWN
from rankscope.trajectory import EXACT, VACUOUS
from rankscope.views.cells import split_key
from rankscope.views.numbers import counted
from rankscope.views.report import Remark
from rankscope.views.sweep import is_sweep

MANY_NAMES = 3  # layers or runs named in a sentence; the rest are counted

RATIO_WORDS = "||W_(T-1)|| / ||W_T|| over snapshots"


def verdicts(table: Table) -> list[Remark]:
    """One or two sentences a run, or for all runs of a sweep together; then the trends."""
    if is_sweep(table):
        lines = _several(table.runs)
    else:
        alone = len(table.runs) == 1
        wheres = ["" if alone else f"{printable(run['source'])}: " for run in table.runs]
        pairs = zip(table.runs, wheres, strict=True)
        lines = [line for run, where in pairs for line in _single(table, run, where)]
    lines += [Remark(printable(row["sentence"]) + ".", strong=True) for row in table.trends]
    several = len(table.runs) > 1
    for run in table.runs:
        where = f"{printable(run['source'])}: " if several else ""
        lines += [Remark(f"{where}{printable(text)}", lacking=True) for text in run["remarks"]]
    return lines


def _single(table: Table, run: Row, where: str) -> list[Remark]:
    found = run["assumption"]
    lines: list[Remark] = []
    if found is not None:
        lines.append(Remark(f"{where}{RATIO_WORDS}: {_converged(found)}", strong=True))
    if run["no_bound"]:
        if run["no_bound"] != NOTHING_KNOWN:
            lines.append(Remark(where + printable(run["no_bound"])))
        return lines
    own = [row for row in table.matrices if row["source"] == run["source"]]
    rows = [row for row in own if row["step"] == run["step"]]
    lines += [Remark(where + text, strong=True) for text in _vacuous(table, rows)]
    return lines + _kept(run, where)


def _converged(found: Row) -> str:
    tolerance, missing = found["tolerance"], found["not_converged"]
    apart = found.get("steps_apart") or [0]
    if apart[0] < apart[-1]:
        # A burst is calm by itself; what converged is told by the widest gaps.
        return f"{_verdict(found, tolerance, missing)}; snapshots {apart[0]} to {apart[-1]} apart"
    return _verdict(found, tolerance, missing)


def _verdict(found: Row, tolerance: float, missing: Sequence[str]) -> str:
    if found["converged"]:
        mu = found.get("mu")
        small = "" if mu is None else f" (mu {mu:g} there)"
        return f"within {tolerance:g} of 1 in every matrix since step {found['since_step']}{small}"
    return f"not within {tolerance:g} of 1 at the end in {_named(missing)}"


def _vacuous(table: Table, rows: Sequence[Row]) -> list[str]:
    """For each eps, of how many matrices the exact bound says something at the end."""
    lines = []
    for key in table.columns:
        name, eps = split_key(key)
        if name != EXACT:
            continue
        bounds = [row[key] for row in rows if row[key] is not None]
        useful = [row for row in rows if row[f"{VACUOUS}{eps}"] is False]
        what = f"bound on the rank{' at eps ' + eps[1:] if eps else ''}"
        if useful:
            lines.append(f"{what}: below full rank in {len(useful)} of {counted(len(rows))}")
        elif bounds:
            least = min(bounds)
            text = f"{what}: {least} at least, which is vacuous here and says something of matrices"
            lines.append(f"{text} from {least + 1} x {least + 1} on")
        else:
            notes = [row["notes"][key] for row in rows if key in row["notes"]]
            lines.append(f"{what}: none{f', {printable(notes[0])}' if notes else ''}")
    return lines


def _kept(run: Row, where: str) -> list[Remark]:
    kept = run["bound_kept"]
    if kept is None:
        return []
    if not kept["violated"]:
        text = (
            f"{where}bound by the run's own norms (Lemma 3.2): kept by all {kept['checked']} ranks"
        )
        return [Remark(f"{text} compared")]
    worst = kept["violations"][0]
    text = (
        f"{where}bound by the run's own norms (Lemma 3.2): exceeded by {kept['violated']} of "
        f"{kept['checked']} ranks, in {printable(worst['name'])} at step {worst['step']} by "
        f"{worst['rank']} against {worst['bound']}; are the recorded hyperparameters right?"
    )
    return [Remark(text, lacking=True)]


def _several(runs: Sequence[Row]) -> list[Remark]:
    known = [run for run in runs if run["assumption"] is not None]
    lines: list[Remark] = []
    if known:
        fine = [run for run in known if run["assumption"]["converged"]]
        missing = [run["source"] for run in known if not run["assumption"]["converged"]]
        tolerance = known[0]["assumption"]["tolerance"]
        text = f"{RATIO_WORDS}: within {tolerance:g} of 1 at the end in every matrix of "
        text += f"{len(fine)} of {len(known)} runs"
        lines.append(Remark(text + (f"; not in {_named(missing)}" if missing else "")))
    for run in runs:
        if run["bound_kept"] and run["bound_kept"]["violated"]:
            lines += _kept(run, f"{printable(run['source'])}: ")
    reasons: dict[str, list[str]] = {}
    for run in runs:
        if run["no_bound"] not in ("", NOTHING_KNOWN):
            reasons.setdefault(run["no_bound"], []).append(run["source"])
    lines += [Remark(f"{_named(names)}: {printable(why)}") for why, names in reasons.items()]
    return lines


def _named(names: Sequence[str]) -> str:
    shown = ", ".join(map(printable, names[:MANY_NAMES]))
    more = len(names) - MANY_NAMES
    return f"{shown} and {more} more" if more > 0 else shown

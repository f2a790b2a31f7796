"""A plan for people: a line for each number of workers, and what to make of it."""

from __future__ import annotations

from rankscope.prediction import Plan, Prediction
from rankscope.rates import Storage
from rankscope.text import printable
from rankscope.views.grid import Grid
from rankscope.views.numbers import counted
from rankscope.views.report import Remark

PREFIXES = ("", "k", "M", "G", "T", "P", "E")

BUSY = 0.9  # of the cores' time; what the system itself takes of an idle machine is less

UNITS = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"))


def plan_grid(plan: Plan) -> Grid:
    """Time and memory by the number of workers."""
    rows = tuple(
        (
            one.limit,
            str(one.workers),
            duration(one.seconds),
            duration(one.least),
            duration(one.most),
            size(one.memory_bytes),
        )
        for one in plan.predictions
    )
    heads = ("limit", "workers", "time", "from", "to", "memory")
    return Grid(f"plan, by the rates of {printable(plan.rates.machine)}", heads, rows, 1, 0, False)


def plan_remarks(plan: Plan) -> list[Remark]:
    """What a plan says beside its table; the answer to what was asked last."""
    rates = plan.rates
    known = f"; {counted(plan.known)} more are in the store" if plan.known else ""
    grows = f", the store grows by {size(plan.store_bytes)}" if plan.store_bytes else ""
    lines = [
        f"{size(plan.bytes)} to read of {counted(plan.matrices)}{grows}{known}",
        storage_line(rates.storage),
        f"where the workers' time goes: {shares(plan.asked)}",
        f"if every matrix needs the direct route too: {duration(plan.direct_seconds)}",
    ]
    if rates.share < BUSY:
        lines.append(
            f"other programs use this machine, which gave {rates.share:.0%} of its cores' time: "
            "the plan holds while they do"
        )
    if plan.asked.used > rates.cores:
        lines.append(
            f"{rates.machine}: more workers than cores are taken to be on more such machines"
        )
    return [*(Remark(printable(line)) for line in lines), Remark(answer_line(plan), strong=True)]


def answer_line(plan: Plan) -> str:
    """The plan in one line."""
    asked = plan.asked
    line = (
        f"{asked.workers} worker{'s' if asked.workers > 1 else ''}: {duration(asked.seconds)} "
        f"({duration(asked.least)} to {duration(asked.most)}), up to "
        f"{size(asked.memory_bytes)} of memory"
    )
    if plan.useful < asked.workers:
        return f"{line}; more than {plan.useful} gain nothing"
    return line


def shares(asked: Prediction) -> str:
    """The phases by their share, the largest first, without those below a hundredth."""
    phases = asked.phases
    parts = {
        "products": phases.products,
        "eigenvalues": phases.eigenvalues,
        "reading": phases.reading,
        "converting": phases.converting,
        "hashing": phases.hashing,
        "overhead": phases.overhead,
        "start": phases.start,
        "idle": phases.idle,
    }
    whole = phases.total or 1.0
    told = sorted(((share / whole, name) for name, share in parts.items()), reverse=True)
    return ", ".join(f"{name} {share:.0%}" for share, name in told if share >= 0.01) or "none"


def storage_line(storage: Storage) -> str:
    """How fast the files come, and how that is known."""
    if not storage.sampled:
        return "no file was sampled: reading is reckoned at the rate of memory"
    read = f"{size(storage.sampled)} of the files were read"
    warm = f"{size(storage.warm)}/s a worker"
    if storage.cached is None:
        return f"{read}: {warm}; whether from memory or from storage cannot be told here"
    if storage.cold is None:
        return f"{read}: in this machine's memory, {warm}; from storage: not measured"
    share = f"{storage.cached:.0%} were in memory ({warm})"
    return f"{read}: {share}, the others came at {size(storage.cold)}/s for all workers"


def duration(seconds: float) -> str:
    """Seconds in the unit that people use for so many.

    >>> duration(0.31), duration(95), duration(7000), duration(1e6), duration(1e9)
    ('0.31 s', '1.58 min', '1.94 h', '11.6 d', '11,574 d')
    """
    for length, unit in UNITS:
        if seconds >= 1.5 * length:
            return f"{three_digits(seconds / length)} {unit}"
    return f"{seconds:.2g} s"


def size(count: float) -> str:
    """Bytes with a decimal unit.

    >>> size(1234567)
    '1.23 MB'
    """
    text = scaled(count)
    return f"{text}B" if " " in text else f"{text} B"


def scaled(count: float) -> str:
    """A count in three digits with a decimal prefix.

    >>> scaled(242_000_000)
    '242 M'
    """
    for prefix in PREFIXES:
        # What would be rounded to 1000 belongs to the next one.
        if count < 999.5 or prefix == PREFIXES[-1]:
            break
        count /= 1000
    return f"{three_digits(count)} {prefix}".rstrip()


def three_digits(value: float) -> str:
    """Three digits where that many say it; more, without an exponent, of what is longer."""
    return f"{value:.3g}" if value < 999.5 else f"{value:,.0f}"

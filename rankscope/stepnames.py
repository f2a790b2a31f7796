"""What the name of a file or directory tells: its step, its family, whether it is finished."""

from __future__ import annotations

import re

# The words that trainers put before a number, the more telling first: Lightning writes
# `epoch=3-step=100.ckpt`, the Hugging Face Trainer `checkpoint-500`, Pythia `step1000`,
# DeepSpeed `global_step1000`.
STEP_WORDS = ("step", "checkpoint", "ckpt", "iter", "iteration", "epoch")

# What a file of numbers has room for; more digits are a digest or a date.
COUNT = r"(0*\d{1,18})(?!\d)"

# A word begins where no letter stands before it, or with a capital after a small one: `step3`,
# `my_step3`, `globalStep3`; not `footstep3`.
STEP_PATTERNS = tuple(
    re.compile(rf"(?:(?<![^\W\d_])|(?<=[a-z])(?=[A-Z]))(?i:{word})s?[-_=. ]?{COUNT}")
    for word in STEP_WORDS
)
NUMBER = re.compile(r"\d+")
# A number that stands by itself at the end: `w-10`, `10`; not what belongs to a model's name,
# `resnet18`, `llama-7b`.
FINAL_NUMBER = re.compile(rf"(?:^|(?<=[-_=. ])){COUNT}$")

# What is being written: hidden, by our own writers among others; `tmp-checkpoint-500` (the
# Hugging Face Trainer); what downloads and editors append.
UNFINISHED = re.compile(
    r"^\.|(^|[-_.])tmp([-_.]|$)|\.(part|partial|incomplete|crdownload)$|~$", re.IGNORECASE
)


def step_in(name: str) -> int | None:
    """The step that a file or directory name states, by one of `STEP_WORDS` before a number.

    What stands behind an `@` is a revision and states the step of what stands before: the name of
    a model may look like one, `step3@step1000`.

    >>> step_in("epoch=3-step=100.ckpt"), step_in("checkpoint-500"), step_in("resnet18.pt")
    (100, 500, None)
    >>> step_in("OLMo-1B@step1000-tokens2B"), step_in("step3@step1000"), step_in("step-5@2x")
    (1000, 1000, 5)
    """
    _, at, revision = name.rpartition("@")
    stated = _stated(revision) if at else None
    return _stated(name) if stated is None else stated


def _stated(name: str) -> int | None:
    for pattern in STEP_PATTERNS:
        match = pattern.search(name)
        if match:
            return int(match.group(1))
    return None


def counts_epochs(name: str) -> bool:
    """Whether the number that a name states is of an epoch.

    >>> counts_epochs("epoch=3-step=100.ckpt"), counts_epochs("model_epoch_7.pt")
    (False, True)
    """
    found = (
        word
        for word, pattern in zip(STEP_WORDS, STEP_PATTERNS, strict=True)
        if pattern.search(name)
    )
    return next(found, None) == "epoch"


def family(name: str) -> str:
    """The name with every number left open: the same for all snapshots of a series.

    >>> family("epoch=3-step=100.ckpt")
    'epoch=#-step=#.ckpt'
    """
    return NUMBER.sub("#", name)


def final_number(stem: str) -> tuple[str, int] | None:
    """The number at the end of a name without its suffix, and the name with it left open.

    >>> final_number("w-10"), final_number("resnet18"), final_number("llama-7b")
    (('w-#', 10), None, None)
    """
    match = FINAL_NUMBER.search(stem)
    return None if match is None else (FINAL_NUMBER.sub("#", stem), int(match.group(1)))


def is_unfinished(name: str) -> bool:
    """Whether this is somebody's temporary or hidden file.

    >>> is_unfinished(".step-3.safetensors.9-01234567.tmp"), is_unfinished("step-3.safetensors")
    (True, False)
    """
    return UNFINISHED.search(name) is not None

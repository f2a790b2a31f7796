"""Which optimisers the bound is about."""

from __future__ import annotations

from rankscope.errors import UsageError

# Optimisers that divide elementwise, by PyTorch's names; each in lower case.
ELEMENTWISE = frozenset(
    {
        *("adadelta", "adafactor", "adagrad", "adam", "adamax", "adamw", "amsgrad"),
        *("lion", "nadam", "radam", "rmsprop", "rprop", "sparseadam"),
    }
)


def check_optimiser(name: str) -> None:
    """`UsageError` unless it is SGD, the only one that the theorem is about."""
    if name.lower() in ELEMENTWISE:
        raise UsageError(
            f"no bound for {name}: dividing the gradient elementwise destroys its low rank; "
            "the theorem is about SGD"
        )
    if name.lower() != "sgd":
        raise UsageError(f"no bound for optimiser {name}: the theorem is about SGD")

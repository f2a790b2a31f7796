"""Telling Keras's HDF5 files from others by how they are laid out.

- Keras 3, `.weights.h5`: every dataset is `.../vars/N` (keras/src/saving/saving_lib.py).
- Keras 1 and 2, and Keras 3's older `.h5`: the root group, or its `model_weights`, has the
  attribute `layer_names` (keras/src/legacy/saving/legacy_h5_format.py).

There kernels have their output channels last, (k..., in, out).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

VARIABLE = re.compile(r"(^|/)vars/\d+$")

# Both layouts put the optimiser's slots beside the model: momenta, not weights.
OPTIMIZER = re.compile(r"^(optimizer|optimizer_weights)/")

# MultiHeadAttention's projections to the heads are (model, heads, width): their inputs come
# first. The projection back, (heads, width, model), is laid out like a kernel.
TO_HEADS = re.compile(r"(^|/)(query|key|value)(_dense)?/(vars/\d+|kernel(:0)?)$")


def is_keras(file: Any, names: Sequence[str]) -> bool:
    """Whether an open `h5py.File` with these datasets was written by Keras."""
    from h5py import h5a

    if names and all(VARIABLE.search(name) for name in names):
        return True
    places = [file.id]
    if any(name.startswith("model_weights/") for name in names):
        places.append(file["model_weights"].id)
    return any(h5a.exists(place, b"layer_names") for place in places)


def channels_last(name: str, axes: int) -> bool:
    """Whether a tensor of a Keras file has its output channels last."""
    return 3 <= axes <= 5 and not TO_HEADS.search(name)

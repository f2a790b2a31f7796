"""What config.json says of how tensors are laid out: their orientation, and fused layers.

Only the listing changes: `TensorInfo.transposed` and `TensorInfo.parts`. Whatever is not certain
stays as it is stored: a model that is not in the table, a number that is missing or of the wrong
type, a shape that does not fit, two models in one checkpoint that would have it differently.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import islice
from typing import Any, NamedTuple

from rankscope.checkpoints.layout_parts import Section
from rankscope.checkpoints.layout_table import ANY_MODEL, LAYOUTS, Layout
from rankscope.checkpoints.modelfiles import ModelFiles
from rankscope.checkpoints.wrapped import WrappedCheckpoint
from rankscope.records import Checkpoint, Part, TensorInfo

# A model inside a model inside a model: Qwen-Omni's thinker has a vision tower.
MAX_DEPTH = 3

# Models that see, hear and speak come to a dozen; a file of nothing else would take for ever.
MAX_KNOWN = 256


# Integers and MXFP4 are stored as (out, in), whatever the model had; fp8 keeps its orientation.
AS_STORED = ("fp8", "float8")


# Each layout once, for names are matched against it, with the models that have it.
Known = dict[Layout, list[Section]]


class Placing(NamedTuple):
    """What one layout says of one tensor."""

    transposed: bool
    parts: tuple[Part, ...]


def laid_out(checkpoint: Checkpoint, files: ModelFiles) -> Checkpoint:
    """The checkpoint with its tensors' orientation and parts, as far as config.json tells them.

    Raises:
        InputRejected: config.json is no JSON.
    """
    found = tuple(islice(_known(files.config), MAX_KNOWN + 1))
    if len(found) > MAX_KNOWN:
        return checkpoint
    known: Known = defaultdict(list)
    for layout, section in found:
        known[layout].append(section)
    listing = checkpoint.listing
    tensors = tuple(_placed(tensor, known) for tensor in listing.tensors)
    if tensors == listing.tensors:
        return checkpoint
    return WrappedCheckpoint(checkpoint, replace(listing, tensors=tensors))


def _known(config: Mapping[str, Any]) -> Iterator[tuple[Layout, Section]]:
    """Each layout with each part of config.json that speaks of a model which has it."""
    for section in (Section(ANY_MODEL, {}), *_sections(config, "", 0)):
        yield from ((layout, section) for layout in LAYOUTS if section.model in layout.models)


def _sections(config: Mapping[str, Any], model: str, depth: int) -> Iterator[Section]:
    """The models that config.json describes; one without a type is of that around it."""
    own = config.get("model_type")
    model = own if isinstance(own, str) else model
    yield Section(model, config)
    for key, value in config.items():
        described = isinstance(value, dict) and (key.endswith("_config") or "model_type" in value)
        if described and depth < MAX_DEPTH:
            yield from _sections(value, model, depth + 1)


def _placed(tensor: TensorInfo, known: Known) -> TensorInfo:
    """A tensor with what all that is known of it agrees on."""
    if tensor.factors is not None or tensor.channels_last or 0 in tensor.shape:
        return tensor
    found = [
        placing
        for layout, sections in known.items()
        if len(tensor.shape) == layout.axes and layout.names(tensor.name)
        for section in sections
        if (placing := _place(layout, section, tensor)) is not None
    ]
    # Of two models in one checkpoint, the one whose numbers do not fit is not meant.
    fitting = {placing for placing in found if placing.parts} or set(found)
    if len(fitting) != 1:
        return tensor
    (placing,) = fitting
    return replace(tensor, transposed=placing.transposed, parts=placing.parts)


def _place(layout: Layout, section: Section, tensor: TensorInfo) -> Placing | None:
    """What a layout says of a tensor; None where its width does not fit."""
    rows, columns = tensor.shape[-2:]
    transposed = _is_transposed(layout, section, tensor)
    if transposed is None:
        return None
    outputs, inputs = (columns, rows) if transposed else (rows, columns)
    if layout.split is None:
        return Placing(transposed, ())
    return Placing(transposed, layout.split(section, outputs, inputs))


def _is_transposed(layout: Layout, section: Section, tensor: TensorInfo) -> bool | None:
    """Whether a tensor is stored as (in, out); None where that is not certain."""
    if not layout.width:
        return False
    rows, columns = tensor.shape[-2:]
    width = section.count(*layout.width)
    if width not in (rows, columns):
        return None
    if rows != columns:
        return width == (rows if layout.side == "in" else columns)
    if tensor.encoding and not tensor.encoding.startswith(AS_STORED):
        return False
    return None if layout.stored is None else layout.stored == "in out"

"""Which tensors of a base an adapter of PEFT changes, and how; what does not fit is refused."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from rankscope.checkpoints.adapter_config import why_not_merged
from rankscope.checkpoints.adapters import PREFIX, Pair, pairs_in, products
from rankscope.checkpoints.merged import Change, MergedCheckpoint
from rankscope.checkpoints.modelfiles import ModelFiles
from rankscope.dtypes import FLOATS
from rankscope.errors import InputRejected
from rankscope.records import Checkpoint, Factors, Listing, TensorInfo
from rankscope.text import nearest

# Where both ways round have the same shape, a base without config.json is certain unless a layer
# is called what transformers' Conv1D layers are.
CONV1D_NAMES = ("c_attn", "c_proj", "c_fc", "q_attn")

ON = " on "  # between the adapter's format and the base's

# What PEFT saves of resized embeddings, and a base has not got whose two are tied.
TIED = ("lm_head",)


def merge(
    base: Checkpoint,
    adapter: Checkpoint,
    files: ModelFiles,
    config: Mapping[str, Any],
    *,
    whole: bool,
) -> Checkpoint:
    """A base model with an adapter merged into it; closing it closes both.

    Args:
        base: the base model, interpreted.
        adapter: the adapter, as it is stored.
        files: what stands beside the adapter.
        config: config.json of the base.
        whole: the base's listing is of the whole model, so that what is not in it is nowhere.

    Raises:
        InputRejected: the adapter does not fit the base, or is of a kind that cannot be merged.
    """
    path = adapter.listing.path
    reason = why_not_merged(files.adapter)
    if reason is not None:
        raise InputRejected(path, f"cannot be merged: {reason}")
    plan = _Plan(base.listing, adapter.listing, files, config, whole=whole)
    pairs = pairs_in(adapter.listing)
    found, refused = products(adapter, pairs, files)
    if refused:
        raise InputRejected(path, refused[0].reason.partition(";")[0], tensor=refused[0].name)
    members = {tensor.name for pair in pairs for tensor in pair.members}
    for tensor in adapter.listing.tensors:
        if tensor.name not in members:
            plan.hold(tensor)
    for pair in pairs:
        plan.add(pair, found[pair.name])
    return MergedCheckpoint(base, adapter, plan.listing(), plan.changes)


class _Plan:
    """Which tensors change, gathered one by one."""

    def __init__(
        self,
        base: Listing,
        adapter: Listing,
        files: ModelFiles,
        config: Mapping[str, Any],
        *,
        whole: bool,
    ) -> None:
        self._base = base
        self._adapter = adapter
        self._settings = files.adapter
        self._hints = files.paths
        self._config = config
        # Whatever is nowhere may be in a part that is missing.
        self._whole = whole and not any(item.unnamed for item in base.missing)
        self._tensors = {tensor.name: tensor for tensor in base.tensors}
        self._unread = {item.name for item in (*base.skipped, *base.missing) if not item.same_as}
        self._saved = {*_saved(files.adapter), *TIED}
        self._held: dict[str, str] = {}
        self.changes: dict[str, Change] = {}

    def hold(self, tensor: TensorInfo) -> None:
        """Take a tensor that the adapter holds whole for the base's."""
        parts = tensor.name.removeprefix(PREFIX).split(".")
        stripped = [part for part in parts if part not in ("base_layer", "original_module")]
        if "modules_to_save" in stripped:  # as in a raw state dict, with the adapter's name behind
            at = stripped.index("modules_to_save")
            del stripped[at : at + 2]
        name = ".".join(stripped)
        known = self._tensors.get(name)
        if known is None and len(tensor.shape) < 2:
            return  # a bias: no matrix
        if known is None and not self._is_added(stripped):
            if self._whole and name not in self._unread:
                raise self._unknown(name, tensor.name)
            return
        if tensor.dtype not in FLOATS:
            self._reject(tensor.name, f"is {tensor.dtype}, expected floating point")
        first = self._held.setdefault(name, tensor.name)
        if first != tensor.name:
            self._reject(tensor.name, f"stands for {name}, as {first} does")
        info = replace(tensor, name=name, sources=tensor.sources or (tensor.name,))
        if known is not None:
            info = replace(info, sources=info.sources + (known.sources or (name,)))
        if known is not None and known.shape == tensor.shape:
            info = replace(info, transposed=known.transposed, parts=known.parts)
        self._tensors[name] = info
        self.changes[name] = Change(tensor, held=True)

    def _is_added(self, parts: Sequence[str]) -> bool:
        """Whether a tensor that the base has not got belongs to a module that is saved whole."""
        start = next((i for i, part in enumerate(parts[:-1]) if part in self._saved), None)
        if start is None:
            return False
        # Under another prefix it is there, and the names do not fit.
        tail = ".".join(["", *parts[start:]])[::-1]
        near = bisect_left(self._backwards, tail)
        return not any(name.startswith(tail) for name in self._backwards[near : near + 1])

    @cached_property
    def _backwards(self) -> list[str]:
        """The base's names, a dot before each, read from the end, in order: equal ends meet."""
        return sorted(f".{tensor.name}"[::-1] for tensor in self._base.tensors)

    def add(self, pair: Pair, product: TensorInfo) -> None:
        """Add a product to a tensor of the base."""
        info = self._tensors.get(pair.name)
        if info is None:
            if self._whole and pair.name not in self._unread:
                raise self._unknown(pair.name, pair.first.name)
            return
        if info.dtype not in FLOATS:
            self._reject(pair.name, f"the base's is {info.dtype}, expected floating point")
        factors = product.factors
        if factors is None:
            raise AssertionError("a product has factors")
        magnitude = pair.magnitude
        if magnitude is not None and magnitude.size != factors.left.shape[0]:
            outputs = factors.left.shape[0]
            self._reject(magnitude.name, f"has {magnitude.size} elements, expected {outputs}")
        if (magnitude is None) is bool(self._settings.get("use_dora")):
            self._reject(pair.name, "has magnitudes of DoRA or not, unlike adapter_config.json")
        before = self.changes.get(pair.name, Change(info))
        flipped = self._is_flipped(info, product, factors)
        self.changes[pair.name] = replace(
            before, factors=factors, flipped=flipped, magnitude=magnitude
        )
        own = () if magnitude is None else (magnitude.name,)
        # 8 bits hold nothing of what is added.
        dtype = "float32" if info.dtype.startswith("float8") else info.dtype
        sources = (*(info.sources or (info.name,)), *product.sources, *own)
        self._tensors[pair.name] = replace(info, dtype=dtype, encoding="", sources=sources)

    def _is_flipped(self, info: TensorInfo, product: TensorInfo, factors: Factors) -> bool:
        """Whether B A is to be transposed to lie as a tensor is stored."""
        outputs, inputs = factors.left.shape[0], factors.right.shape[1]
        stored = (info.shape[0], math.prod(info.shape[1:])) if info.shape else (0, 0)
        if product.transposed:  # an embedding
            straight, turned = False, stored == (inputs, outputs)
        else:
            straight = stored == (outputs, inputs)
            turned = len(info.shape) == 2 and stored == (inputs, outputs)
        if not straight and not turned:
            shape = (inputs, outputs) if product.transposed else (outputs, inputs)
            self._reject(info.name, f"the adapter adds {shape}, the base's has shape {info.shape}")
        if straight and turned and not info.transposed and self._is_uncertain(info.name):
            self._reject(
                info.name,
                f"is square, {info.shape}: which way round it is stored cannot be told without "
                "the base's config.json",
            )
        return turned and (not straight or info.transposed)

    def _is_uncertain(self, name: str) -> bool:
        """Whether a square tensor may be stored as (in, out), unlike what the base tells."""
        if self._settings.get("fan_in_fan_out"):
            return True
        module = name.rpartition(".")[0].rpartition(".")[2]
        return "model_type" not in self._config and module in CONV1D_NAMES

    def _unknown(self, name: str, tensor: str) -> InputRejected:
        near = nearest(name, self._tensors)
        hint = f"; nearest: {', '.join(near)}" if near else ""
        reason = f"changes {name}, which is not in {self._base.path}{hint}"
        return InputRejected(self._adapter.path, reason, tensor=tensor)

    def _reject(self, tensor: str, reason: str) -> None:
        raise InputRejected(self._adapter.path, reason, tensor=tensor)

    def listing(self) -> Listing:
        """The base's listing with the tensors as they are now."""
        base, adapter = self._base, self._adapter
        covered = {name for name, change in self.changes.items() if change.held}
        return Listing(
            adapter.path,
            f"{adapter.format}{ON}{base.format}",
            tuple(self._tensors.values()),
            tuple(item for item in base.skipped if item.name not in covered),
            tuple(item for item in base.missing if item.name not in covered),
            (*base.files, *adapter.files),
            (*base.hints, *self._hints),
        )


def _saved(settings: Mapping[str, Any]) -> frozenset[str]:
    """The names of modules that are saved whole, as adapter_config.json tells."""
    names = settings.get("modules_to_save")
    return frozenset(map(str, names)) if isinstance(names, list) else frozenset()

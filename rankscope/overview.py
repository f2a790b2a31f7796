"""What is in a checkpoint and what measuring it would cost: the record behind `inspect`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rankscope.inventory import Inventory
from rankscope.layerkinds import role_keys
from rankscope.plan import cost, matrix_flops, matrix_peak

if TYPE_CHECKING:
    from rankscope.prediction import Plan

SCHEMA = "rankscope/inventory/1"


@dataclass(frozen=True, slots=True)
class Overview:
    """Rows for every matrix and everything else, and the totals.

    Attributes:
        sources: paths of which at least one snapshot could be listed.
        matrices: name, shape, dtype, kind, role, depth, flops, peak_bytes, step, source.
        skipped: name, reason, missing, step, source.
        cost: matrices, parameters, bytes, flops, workers and memory_bytes of the whole.
        plan: how long measuring takes, where that is asked.
    """

    sources: tuple[str, ...]
    matrices: tuple[dict[str, Any], ...]
    skipped: tuple[dict[str, Any], ...]
    cost: dict[str, Any]
    plan: Plan | None = None

    @property
    def incomplete(self) -> bool:
        """Whether a piece that should be there is missing."""
        return any(row["missing"] for row in self.skipped)

    def to_document(self) -> dict[str, Any]:
        """The JSON document."""
        return {
            "schema": SCHEMA,
            "sources": list(self.sources),
            "cost": self.cost,
            "matrices": list(self.matrices),
            "skipped": list(self.skipped),
            **({} if self.plan is None else {"plan": self.plan.to_document()}),
        }


def overview(inventory: Inventory, workers: int) -> Overview:
    """The overview of an inventory, its memory for so many worker processes."""
    sources: dict[str, None] = {}
    matrices: list[dict[str, Any]] = []
    skipped: list[dict[str, Any]] = []
    for entry in inventory.entries:
        source = str(inventory.series[entry.series].path)
        place = {"step": entry.snapshot.step, "source": source}
        sources[source] = None
        for spec in entry.specs:
            work = {"flops": matrix_flops(spec), "peak_bytes": matrix_peak(spec)}
            what = {
                "shape": list(spec.shape),
                "dtype": spec.encoding or spec.dtype,
                "kind": spec.kind,
                **role_keys(spec.name, spec.kind),
            }
            matrices.append({"name": spec.name, **what, **work, **place})
        for items, missing in ((entry.skipped, False), (entry.listing.missing, True)):
            for item in items:
                row = {"name": item.name, "reason": item.reason, "missing": missing}
                skipped.append(row | place)
    for index, error in inventory.rejected:
        row = {"name": error.path, "reason": error.reason, "missing": True, "step": None}
        skipped.append(row | {"source": str(inventory.series[index].path)})
    total = cost([spec for entry in inventory.entries for spec in entry.specs])
    return Overview(
        tuple(sources),
        tuple(matrices),
        tuple(skipped),
        {
            "matrices": total.matrices,
            "parameters": sum(math.prod(row["shape"]) for row in matrices),
            "bytes": total.bytes,
            "flops": total.flops,
            "workers": workers,
            "memory_bytes": total.memory(workers),
        },
    )

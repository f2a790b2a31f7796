"""What a device does in a second, measured once in each process, and what follows from it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch

from rankscope.accelerator.lanes import Lane, full_float32, lane_of
from rankscope.accelerator.splitting import SLICE_BITS, SLICE_LENGTH

# Order of the matrices that are timed: a product takes 2 GFLOP, 8 ms on a card of 0.25 TFLOP/s in
# float64 (Tesla T4's data sheet), and is large enough to use all of a card.
ORDER = 1024

ROUNDS = 2  # the faster one counts; one before it is not timed, it loads kernels

# 53 bits and as many for how much smaller than its line's largest an entry may be: no product of
# slices beyond these is worth its time on any card.
MOST_SLICES = 8

# Splitting a block and adding its products in float64 take about as long again as the products, by
# the traffic to memory: 20 bytes an element for each 2048 operations at 1 TB/s and 80 TFLOP/s.
OVERHEAD = 2.0


@dataclass(frozen=True, slots=True)
class Rates:
    """Floating-point operations per second of one device.

    Attributes:
        double: of a product in float64.
        single: of a product in float32, not in TF32.
        eigenvalues: of the values-only symmetric eigensolver in float64, 4/3 n^3 each.
        exact: whether float32 adds integers below 2^24 without rounding, as it should.
    """

    double: float
    single: float
    eigenvalues: float
    exact: bool

    @property
    def slices(self) -> int:
        """So many slices are still sooner multiplied in float32 than all in float64; 0 for none.

        Only the lower half is made on either way, of each ordered pair of slices.
        """
        if not self.exact:
            return 0
        pairs = self.single / (OVERHEAD * self.double)
        return min(MOST_SLICES, math.isqrt(int(pairs))) if pairs >= 1 else 0


@cache  # a process keeps to one device, or to two
def rates_of(device: str) -> Rates:
    """The rates of `cpu` or `cuda:N`; takes some tens of milliseconds once it is warm."""
    lane = lane_of(device)
    generator = torch.Generator().manual_seed(0)
    draw = torch.randn(ORDER, ORDER, generator=generator, dtype=torch.float64).to(lane.device)
    single = draw.float()
    small = draw[: ORDER // 2, : ORDER // 2] + draw[: ORDER // 2, : ORDER // 2].T
    product = 2.0 * ORDER**3
    with lane.active(), full_float32():
        return Rates(
            double=product / _seconds(lane, lambda: draw @ draw),
            single=product / _seconds(lane, lambda: single @ single),
            eigenvalues=4
            / 3
            * len(small) ** 3
            / _seconds(lane, lambda: torch.linalg.eigvalsh(small)),
            exact=_adds_exactly(lane.device),
        )


def _seconds(lane: Lane, work: Callable[[], torch.Tensor]) -> float:
    work()
    best = math.inf
    for _ in range(ROUNDS):
        lane.finish()
        start = time.perf_counter()
        work()
        lane.finish()
        best = min(best, time.perf_counter() - start)
    return max(best, 1e-9)


def _adds_exactly(device: torch.device) -> bool:
    """Whether products of the largest slices there can be come out to the last bit."""
    generator = torch.Generator().manual_seed(0)
    top = 2**SLICE_BITS
    lines = torch.randint(-top, top + 1, (256, SLICE_LENGTH), generator=generator)
    lines[0] = top
    lines[1] = top - 1
    single = lines.float().to(device)
    return torch.equal((single @ single.T).cpu().long(), lines @ lines.T)

"""What measuring costs, against what it does cost."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from rankscope import plan
from rankscope.matrices import fold
from rankscope.records import TensorInfo

# How far above the measured peak the bound may lie; it counts every type as eight bytes wide,
# and the more demanding of the two routes.
GENEROUS = 4.0


def test_flops_are_those_of_syrk_and_the_reduction() -> None:
    """m n^2 for half of W W^T's 2 m n^2, 4/3 n^3 for the reduction, n the small side."""
    assert plan.flops((5, 3)) == plan.flops((3, 5)) == 5 * 9 + 4 / 3 * 27
    assert plan.flops((32000, 4096)) == pytest.approx(6.285e11, rel=1e-3)
    assert plan.flops((0, 7)) == plan.flops((7, 0)) == 0


def test_cost_adds_up() -> None:
    tensors = [
        TensorInfo("a", (5, 3), "float32"),
        TensorInfo("experts", (2, 8, 6), "bfloat16"),
        TensorInfo("empty", (0, 6), "float64"),
    ]
    specs = [spec for tensor in tensors for spec in fold(tensor)]
    cost = plan.cost(specs)
    assert cost.matrices == 4
    assert cost.bytes == 5 * 3 * 4 + 2 * 8 * 6 * 2
    assert cost.flops == plan.flops((5, 3)) + 2 * plan.flops((8, 6))
    assert cost.peak == plan.peak_bytes((8, 6))
    assert cost.memory(4) - cost.memory(3) == plan.PROCESS_BYTES + cost.peak
    assert plan.cost([]).memory(1) == 2 * plan.PROCESS_BYTES


def test_memory_is_of_the_small_side_not_of_the_matrix() -> None:
    """The vocabulary of an embedding may grow as it likes."""
    assert plan.peak_bytes((10**7, 512)) == plan.peak_bytes((10**5, 512))
    assert plan.peak_bytes((512, 10**7)) == plan.peak_bytes((10**7, 512))


# The peak of the resident memory, over what there was after the same on a small matrix.
CHILD = """
import sys
from pathlib import Path
from rankscope.matrices import Selection, select
from rankscope.question import Question
from rankscope.worker import Task, list_checkpoint, measure_task

def status(key):
    lines = open("/proc/self/status")
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))

def measure(path):
    specs, _ = select(list_checkpoint(path)[0], Selection())
    (outcome,) = measure_task(Task(path, specs, sys.argv[3], Question().columns()))
    assert outcome.measurement.route == sys.argv[3], outcome

measure(Path(sys.argv[1]))
open("/proc/self/clear_refs", "w").write("5")  # the peak starts anew
before = status("VmRSS")
measure(Path(sys.argv[2]))
print(status("VmHWM") - before)
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("route", ["gram", "direct"])
@pytest.mark.parametrize("shape", [(1024, 1024), (4096, 512)])
def test_peak_is_an_upper_bound(tmp_path: Path, shape: tuple[int, int], route: str) -> None:
    rng = np.random.default_rng(0)
    for name, size in (("small", (300, 200)), ("large", shape)):
        safetensors.numpy.save_file({"w": rng.standard_normal(size)}, tmp_path / name)
    ended = subprocess.run(
        [sys.executable, "-c", CHILD, str(tmp_path / "small"), str(tmp_path / "large"), route],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=Path(__file__).parents[1],
    )
    assert ended.stderr == ""
    measured = int(ended.stdout)
    assert measured <= plan.peak_bytes(shape) <= GENEROUS * measured

"""A plan's arithmetic: against a queue simulated second by second, and against `measure` itself."""

from __future__ import annotations

import itertools
import json
import os
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from rankscope import engines, measure, plan
from rankscope.errors import InputRejected
from rankscope.executors import Done
from rankscope.how import How
from rankscope.inventory import take_inventory
from rankscope.matrices import Selection, select
from rankscope.prediction import in_processes, makespan, predict, prediction, useful_workers
from rankscope.question import Question
from rankscope.rates import Rates, Speeds, Storage, rates_of
from rankscope.records import Listing, MatrixSpec, TensorInfo
from rankscope.series import discover
from rankscope.solvers import ROUTE_VERSION
from rankscope.store import SpectrumStore
from rankscope.taskcosts import Work, costs_of, spectrum_bytes, work_of

# Round numbers: 1 Gflop/s whatever the order, eigenvalues in order^3 ns up to 1000.
SPEEDS = Speeds(
    gram=((10, 1e9), (1000, 1e9)),
    eigen=((10, 1e-6), (100, 1e-3), (1000, 1.0)),
    svd=((10, 2e-6), (100, 2e-3), (1000, 2.0)),
    qr=1e9,
    bandwidth=1e10,
    convert=(("float32", 1e-9), ("bfloat16", 2e-9)),
    hashing=1e9,
)
RATES = Rates(
    machine="made up, 4 cores",
    cores=4,
    processes=4,
    alone=SPEEDS,
    together=replace(SPEEDS, gram=((10, 5e8), (1000, 5e8)), convert=(("float32", 2e-9),)),
    threaded=(3.0, 1.5),
    command=0.25,
    workers=0.5,
    task=0.002,
    matrix=0.001,
    row=1e-4,
    spread=0.1,
    share=1.0,
    seconds=1.0,
    storage=Storage("/data", 1.0, 4e9, None, 1000),
)
FLAT = replace(RATES, together=SPEEDS, threaded=(1.0, 1.0))  # workers do not slow each other


def specs(*shapes: tuple[int, int], dtype: str = "float32") -> tuple[MatrixSpec, ...]:
    tensors = tuple(TensorInfo(f"w{i}", shape, dtype) for i, shape in enumerate(shapes))
    return select(Listing("", "made up", tensors), Selection())[0]


def work(*shapes: tuple[int, int], stored: bool = False, dtype: str = "float32") -> Work:
    """A task a matrix, in processes."""
    return Work(
        tuple((spec,) for spec in specs(*shapes, dtype=dtype)), isolated=True, stored=stored
    )


def second_by_second(durations: list[int], workers: int) -> int:
    """The queue as it passes: at each tick, who is free takes the next."""
    left = [0] * workers
    queue = list(durations)
    for now in itertools.count():
        for index in range(workers):
            if left[index] == 0 and queue:
                left[index] = queue.pop(0)
        if not queue and not any(left):
            return now
        left = [max(0, one - 1) for one in left]
    raise AssertionError


class TestQueue:
    @pytest.mark.parametrize("seed", range(20))
    def test_makespan_is_that_of_the_queue(self, seed: int) -> None:
        rng = random.Random(seed)
        durations = [rng.randint(1, 30) for _ in range(rng.randint(1, 40))]
        workers = rng.randint(1, 9)
        assert makespan(durations, workers) == second_by_second(durations, workers)

    def test_order_counts(self) -> None:
        assert makespan([1, 1, 4], 2) == 5
        assert makespan([4, 1, 1], 2) == 4

    def test_nothing_takes_nothing(self) -> None:
        assert makespan([], 3) == 0

    @pytest.mark.parametrize("executor", ["ProcessExecutor", "ThreadExecutor"])
    def test_tasks_are_those_that_measure_hands_out(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, executor: str
    ) -> None:
        rng = np.random.default_rng(0)
        large = executor == "ProcessExecutor"
        for step in range(3):
            shapes = [(40, 30), (900, 400), (8, 8), (500, 600), (700, 700)]
            tensors = {
                f"w{i}": rng.standard_normal(shape, dtype=np.float32)
                for i, shape in enumerate(shapes)
            }
            save_file(tensors, tmp_path / f"step-{step}.safetensors")
        handed: list[tuple[str, tuple[MatrixSpec, ...]]] = []

        class Recorder:
            def __init__(self, *settings: Any) -> None:
                pass

            def run(
                self, function: Callable[[Any], Any], items: Iterable[Any]
            ) -> Iterator[Done[Any, Any]]:
                del function
                for item in items:
                    handed.append((str(item.path), item.specs))
                    yield Done(item, [])

        monkeypatch.setattr(engines, executor, Recorder)
        monkeypatch.setattr(engines, "INLINE_FLOPS", 1.0 if large else 1e12)
        monkeypatch.setattr("rankscope.prediction.INLINE_FLOPS", 1.0 if large else 1e12)
        series = [discover(tmp_path)]
        how = How(workers=2, store=False, device="cpu")
        _, found = measure.measure(series, Selection(), Question().columns(), how)
        assert list(found) == []
        inventory = take_inventory(series, Selection(), [SpectrumStore(None, ROUTE_VERSION)])
        planned = work_of(inventory.entries, {})
        assert [task for _, task in handed] == list(planned.tasks)
        assert in_processes(planned) is large


class TestCosts:
    def test_of_one_matrix_by_hand(self) -> None:
        """300 x 100 of float32: 30 000 entries, 120 000 bytes, 3 Mflop, order 100."""
        phases = costs_of(work((300, 100)), FLAT).phases(4)[0]
        assert phases.reading == pytest.approx(120e3 / 4e9)
        assert phases.converting == pytest.approx(30e3 * 1e-9)
        assert phases.hashing == 0
        assert phases.products == pytest.approx(3e6 / 1e9)
        assert phases.eigenvalues == pytest.approx(1e-3)
        assert phases.overhead == pytest.approx(0.003)

    def test_of_the_store_by_hand(self) -> None:
        phases = costs_of(work((300, 100), stored=True), FLAT).phases(4)[0]
        assert phases.hashing == pytest.approx(120e3 / 1e9)
        assert phases.reading == pytest.approx(2 * 120e3 / 4e9)

    def test_between_orders_a_cube_stays_a_cube(self) -> None:
        assert SPEEDS.eigen_seconds(500) == pytest.approx(500**3 * 1e-9)
        assert SPEEDS.svd_seconds(500) == pytest.approx(2 * 500**3 * 1e-9)

    def test_beyond_the_orders_half_waits_for_memory(self) -> None:
        """4/3 n^3: half at 2 flop per 4 bytes of 10 GB/s, half at 1 Gflop/s."""
        more = 2 / 3 * (2000**3 - 1000**3)
        assert SPEEDS.eigen_seconds(2000) == pytest.approx(1 + more / 5e9 + more / 1e9)

    def test_of_the_direct_route_by_hand(self) -> None:
        """One block: 2 m n^2 - 2/3 n^3 of the QR; a square one has nothing to eliminate."""
        assert SPEEDS.qr_seconds(300, 100, 10**6) == pytest.approx((600 - 200 / 3) * 1e4 / 1e9)
        assert SPEEDS.qr_seconds(100, 100, 10**6) == 0
        more = 4 / 3 * (2000**3 - 1000**3)
        assert SPEEDS.svd_seconds(2000) == pytest.approx(2 + more / 2.5e9 + more / 1e9)

    def test_add_up_over_a_task(self) -> None:
        whole = costs_of(Work((specs((300, 100), (50, 70), (300, 100)),)), FLAT).phases(1)[0]
        parts = [costs_of(work(s), FLAT).phases(1)[0] for s in ((300, 100), (50, 70), (300, 100))]
        expected = sum(one.total for one in parts) - 2 * FLAT.task
        assert whole.total == pytest.approx(expected)

    def test_workers_slow_each_other_step_by_step(self) -> None:
        found = [costs_of(work((300, 100)), RATES).phases(n)[0].products for n in (2, 3, 4, 9)]
        # Alone 3 ms, four together 6 ms; two of them have two threads each.
        assert found[0] == pytest.approx(4e-3 / 3.0**0.5)
        assert found[1:] == pytest.approx([5e-3, 6e-3, 6e-3])

    def test_of_equal_matrices_are_one_kind(self) -> None:
        costs = costs_of(work((5, 6), (7, 8), (5, 6)), RATES)
        assert costs.kinds == (0, 1, 0)
        assert len(costs.alone) == 2

    def test_of_what_is_empty_is_next_to_nothing(self) -> None:
        assert costs_of(work((0, 7)), FLAT).phases(1)[0].total == pytest.approx(0.003)


class TestPrediction:
    def test_seconds_are_start_and_makespan(self) -> None:
        found = prediction(costs_of(work((300, 100), (300, 100), (300, 100)), FLAT), 2)
        each = 120e3 / 4e9 + 30e3 * 1e-9 + 3e-3 + 1e-3 + 0.003
        assert found.seconds == pytest.approx(0.25 + 0.5 + 2 * each)
        assert found.phases.idle == pytest.approx(each)
        assert found.phases.start == pytest.approx(2 * 0.5)
        assert found.least < found.seconds < found.most

    def test_more_workers_never_take_longer(self) -> None:
        """That do not slow each other: list scheduling of independent tasks, largest first."""
        rng = random.Random(0)
        shapes = sorted(((rng.randint(2, 900), rng.randint(2, 900)) for _ in range(60)), key=sum)
        costs = costs_of(work(*reversed(shapes)), FLAT)
        seconds = [prediction(costs, n).seconds for n in (1, 2, 4, 8, 16, 32, 64)]
        assert seconds == sorted(seconds, reverse=True)

    def test_workers_times_seconds_hold_all_phases(self) -> None:
        for workers in (1, 3, 7):
            found = prediction(costs_of(work((300, 100), (90, 80), (10, 10)), RATES), workers)
            whole = found.seconds - RATES.command
            assert found.phases.total == pytest.approx(found.used * whole)

    def test_one_large_matrix_limits(self) -> None:
        """2 s, and 20 of a quarter of a second, which three others do in the meantime."""
        costs = costs_of(work((1000, 1000), *[(500, 500)] * 20), FLAT)
        assert prediction(costs, 8).limit == "the largest task"
        assert useful_workers(costs) == 4
        assert prediction(costs, 8).seconds == pytest.approx(prediction(costs, 4).seconds)
        assert prediction(costs, 3).limit == "arithmetic"

    def test_cold_storage_limits_whatever_the_workers(self) -> None:
        cold = replace(FLAT, storage=Storage("/data", 0.25, 4e9, 1e6, 1000))
        costs = costs_of(work(*[(1000, 1000)] * 8), cold)
        # 32 MB, of which three quarters come at 1 MB/s.
        assert prediction(costs, 8).seconds == pytest.approx(0.75 + 24.0)
        assert prediction(costs, 8).limit == "reading"

    def test_tiny_work_is_start(self) -> None:
        assert prediction(costs_of(work((8, 8)), FLAT), 1).limit == "start"

    def test_rows_are_collected_by_one(self) -> None:
        slow = replace(FLAT, row=1.0)
        found = prediction(costs_of(work(*[(10, 10)] * 30), slow), 8)
        assert found.seconds == pytest.approx(0.75 + 30.0)
        assert found.limit == "collecting"

    def test_threads_gain_nothing_on_tiny_matrices(self) -> None:
        """80 of 1.1 ms and 3 ms of calls; 4 of a quarter of a second are done at once."""
        tiny = Work(tuple((spec,) for spec in specs(*[(100, 100)] * 80)))
        one, four = (prediction(costs_of(tiny, FLAT), n).seconds for n in (1, 4))
        assert four == pytest.approx(one)
        larger = Work(tuple((spec,) for spec in specs(*[(500, 500)] * 4)))
        one, four = (prediction(costs_of(larger, FLAT), n).seconds for n in (1, 4))
        assert four - 0.25 == pytest.approx((one - 0.25) / 4, rel=0.01)

    def test_memory_is_the_bound_of_plan(self) -> None:
        found = prediction(costs_of(work((300, 100), (900, 700)), FLAT), 32)
        assert found.used == 2
        assert found.memory_bytes == plan.cost(specs((300, 100), (900, 700))).memory(2)

    def test_a_plan_of_several_numbers_of_workers(self) -> None:
        found = predict(work((300, 100), (900, 700), stored=True), RATES, 12, known=3)
        assert [one.workers for one in found.predictions] == [1, 2, 4, 8, 12]
        assert found.asked.workers == 12
        assert found.matrices == 2
        assert found.known == 3
        assert found.bytes == 4 * (300 * 100 + 900 * 700)
        assert found.store_bytes == sum(map(spectrum_bytes, specs((300, 100), (900, 700))))
        assert found.direct_seconds > found.asked.seconds

    def test_of_nothing(self) -> None:
        found = predict(Work(()), RATES, 4)
        assert found.asked.seconds == pytest.approx(RATES.command)
        assert found.store_bytes == found.matrices == 0


class TestRates:
    def test_survive_json(self, tmp_path: Path) -> None:
        text = json.dumps(RATES.to_document())
        assert rates_of(tmp_path, json.loads(text)) == RATES

    def test_are_found_in_a_plan(self, tmp_path: Path) -> None:
        document = {"plan": predict(work((30, 10)), RATES, 2).to_document()}
        assert rates_of(tmp_path, json.loads(json.dumps(document))) == RATES

    @pytest.mark.parametrize(
        "change",
        [
            {"schema": "other/1"},
            {"cores": 0},
            {"command": None},
            {"threaded": [1.0]},
            {"storage": None},
            {"alone": {"gram": []}},
            {"together": {**json.loads(json.dumps(RATES.to_document()))["together"], "qr": 0}},
            {"together": {**RATES.to_document()["together"], "eigen": [[100, 1.0], [10, 1.0]]}},
            {"together": {**RATES.to_document()["together"], "convert": [["float32", -1.0]]}},
        ],
    )
    def test_others_are_refused(self, change: dict[str, Any]) -> None:
        with pytest.raises(InputRejected):
            rates_of(Path("rates.json"), json.loads(json.dumps(RATES.to_document() | change)))


@pytest.mark.parametrize("order", [12, 170, 260, 600])
def test_the_store_grows_by_what_is_said(tmp_path: Path, order: int) -> None:
    """A real store of a real file, the tables' own pages aside."""
    path, store = tmp_path / "m.safetensors", tmp_path / "spectra.sqlite3"
    rng = np.random.default_rng(0)
    names = [f"model.layers.{i}.mlp.down_proj.weight" for i in range(40)]
    shape = (order, 2 * order)
    save_file({name: rng.standard_normal(shape, dtype=np.float32) for name in names}, path)
    os.utime(path, (1e9, 1e9))
    empty = tmp_path / "empty.sqlite3"
    SpectrumStore(empty, ROUTE_VERSION).close()
    how = How(store=store, workers=1, cores=1, device="cpu")
    inventory, found = measure.measure([discover(path)], Selection(), Question().columns(), how)
    assert len(list(found)) == 40
    grown = store.stat().st_size - empty.stat().st_size
    said = sum(map(spectrum_bytes, inventory.entries[0].specs))
    assert said == pytest.approx(grown, rel=0.15)

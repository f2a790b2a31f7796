"""A task, and a whole analysis, on a device: the same table but for the route."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
import torch

import rankscope
from rankscope import worker
from rankscope.accelerator import device_executor, placing
from rankscope.answering import RouteChoice
from rankscope.contentkey import content_key
from rankscope.errors import InputRejected, UsageError
from rankscope.executors import InlineExecutor, SideBySideExecutor
from rankscope.how import How
from rankscope.matrices import Selection, select
from rankscope.plan import matrix_flops
from rankscope.question import Question
from rankscope.records import MatrixSpec, Spectrum
from rankscope.solvers import ROUTE_VERSION
from rankscope.store import SpectrumStore
from rankscope.tasks import CARD_TASK_FLOPS, grouped_for_cards
from rankscope.worker import Outcome, Task, list_checkpoint, measure_task
from tests.accelerator.conftest import Memory, Solver
from tests.matrix import Array, low_rank

OLD = (1e9, 1e9)


def weights() -> dict[str, Array]:
    """A matrix of every fate."""
    rng = np.random.default_rng(2)
    nan = rng.standard_normal((6, 5)).astype(np.float32)
    nan[1, 1] = np.nan
    dead = rng.standard_normal((12, 9)).astype(np.float32)
    dead[3] = 0
    return {
        "a.weight": rng.standard_normal((40, 30)).astype(np.float32),
        "b.weight": rng.standard_normal((40, 30)).astype(ml_dtypes.bfloat16),
        "c.weight": rng.standard_normal((30, 64)).astype(np.float16),
        "d.weight": rng.standard_normal((3, 7)) * 1e-200,
        "dead.weight": dead,
        "empty.weight": np.zeros((0, 4), np.float32),
        "huge.weight": np.full((2, 2), 1.7e308),
        "low.weight": low_rank(20, 30, 4).astype(np.float32),
        "nan.weight": nan,
        "zero.weight": np.zeros((4, 4), np.float32),
    }


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    safetensors.numpy.save_file(weights(), path)
    os.utime(path, OLD)
    return path


def task_of(path: Path, *, device: str, route: RouteChoice = "auto", **more: Any) -> Task:
    found = list_checkpoint(path)
    assert not isinstance(found, InputRejected)
    listing, seen = found
    specs, _ = select(listing, Selection())
    return Task(path, specs, route, Question().columns(), seen=seen, device=device, **more)


def measured(path: Path, **asked: Any) -> dict[str, Outcome]:
    return {outcome.spec.name: outcome for outcome in measure_task(task_of(path, **asked))}


@pytest.mark.usefixtures("stand_in")
class TestATask:
    @pytest.mark.parametrize("route", ["auto", "gram", "direct"])
    def test_the_same_but_for_the_route(self, model: Path, route: RouteChoice) -> None:
        here = measured(model, device="cpu", route=route, keyed=True)
        there = measured(model, device="cuda:0", route=route, keyed=True)
        assert list(here) == list(there)
        for name, one in here.items():
            two = there[name]
            assert (one.key, one.seen) == (two.key, two.seen)
            if not isinstance(one.measurement, Spectrum):
                assert one.measurement == two.measurement
                continue
            assert isinstance(two.measurement, Spectrum)
            np.testing.assert_allclose(
                two.measurement.sigma,
                one.measurement.sigma,
                rtol=1e-9,
                atol=1e-7 * two.measurement.sigma[0],
            )
            assert two.measurement.resolution == one.measurement.resolution
            renamed = {"gram": "cuda"}.get(one.measurement.route, one.measurement.route)
            assert two.measurement.route == renamed
            assert [asked for asked, _ in two.computed] == [asked for asked, _ in one.computed]
            exact = [reading.exact for reading in one.readings or ()]
            assert [reading.exact for reading in two.readings or ()] == exact

    def test_what_the_gram_route_leaves_open_is_resolved_on_the_cpu(self, model: Path) -> None:
        found = measured(model, device="cuda:0")["low.weight"]
        assert isinstance(found.measurement, Spectrum)
        assert found.measurement.route == "direct"
        assert [asked for asked, _ in found.computed] == ["gram", "direct"]

    def test_what_the_store_knows_is_not_read_twice(
        self, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = tmp_path / "store.sqlite"
        first = measured(model, device="cpu", keyed=True)
        kept = SpectrumStore(store, ROUTE_VERSION)
        for name in ("a.weight", "b.weight"):
            key = first[name].key
            assert key is not None
            kept.put(model, name, key, first[name].computed)
        kept.commit()
        kept.close()
        asked: list[int] = []
        right: Solver = torch.linalg.eigvalsh

        def counted(stack: torch.Tensor) -> torch.Tensor:
            asked.extend([stack.shape[1]] * len(stack))
            return right(stack)

        monkeypatch.setattr(torch.linalg, "eigvalsh", counted)
        again = measured(model, device="cuda:0", store=store)
        assert sorted(asked) == [2, 3, 4, 9, 20, 30]  # of three of order 30 only c
        assert again["a.weight"].computed == ()

    def test_no_memory_at_all_is_the_cpu(self, model: Path) -> None:
        with Memory(8):
            there = measured(model, device="cuda:0")
        here = measured(model, device="cpu")
        for name, one in there.items():
            if isinstance(one.measurement, Spectrum):
                assert one.measurement.route in ("gram", "direct")
                assert np.array_equal(one.measurement.sigma, here[name].measurement.sigma)  # type: ignore[union-attr]
            else:
                assert one.measurement == here[name].measurement

    def test_a_file_that_goes_away(self, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        task = task_of(model, device="cuda:0", keyed=True)
        right = content_key

        def truncates(matrix: Any) -> bytes:
            key = right(matrix)
            os.truncate(model, 4000)
            return key

        monkeypatch.setattr(worker, "content_key", truncates)
        found = measure_task(task)
        assert {
            one.measurement.status for one in found if not isinstance(one.measurement, Spectrum)
        } >= {"unreadable"}
        assert len(found) == len(task.specs)


def analyze(path: Path, **how: Any) -> rankscope.Analysis:
    return rankscope.analyze(path, how=How(**how))


def inline(count: int, threads: int) -> InlineExecutor:
    assert count == 1
    return InlineExecutor(threads)


@pytest.fixture
def cards(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Two cards whose processes are threads of this one, and which of them had work."""
    used: list[str] = []
    right = worker._known_on_device

    def noted(checkpoint: Any, task: Task) -> Any:
        used.append(task.device)
        return right(checkpoint, task)

    monkeypatch.setattr("rankscope.engines.devices_for", lambda *_: ("cuda:0", "cuda:1"))
    monkeypatch.setattr(placing, "ProcessExecutor", inline)
    monkeypatch.setattr(worker, "_known_on_device", noted)
    return used


@pytest.mark.usefixtures("stand_in")
class TestAnAnalysis:
    def test_the_same_table(self, model: Path, cards: list[str]) -> None:
        there = analyze(model, store=False, device="cuda:*")
        assert cards
        assert set(cards) <= {"cuda:0", "cuda:1"}
        here = analyze(model, store=False, device="cpu")
        for one, two in zip(here.matrices, there.matrices, strict=True):
            assert two["route"] == {"gram": "cuda"}.get(one["route"], one["route"])
            for key, value in one.items():
                if key == "route":
                    continue
                expected = pytest.approx(value, rel=1e-6) if isinstance(value, float) else value
                assert two[key] == expected, key

    def test_a_later_analysis_on_the_cpu_finds_it(
        self, model: Path, cards: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = tmp_path / "store.sqlite"
        first = analyze(model, store=store, device="cuda:*")
        monkeypatch.undo()  # and without the card
        orders: list[int] = []
        right = np.linalg.eigvalsh

        def counted(gram: Array) -> Array:
            orders.append(len(gram))
            values: Array = right(gram)
            return values

        monkeypatch.setattr(np.linalg, "eigvalsh", counted)
        again = analyze(model, store=store, device="cpu")
        assert orders == [2]  # what failed is not kept
        assert again.matrices == first.matrices
        assert "cuda" in {row["route"] for row in again.matrices}

    def test_direct_is_the_cpu_s(self, model: Path, cards: list[str]) -> None:
        analyze(model, store=False, device="cuda:*", route="direct")
        assert cards == []


@dataclass(frozen=True)
class Job:
    number: int
    device: str = "cpu"


def where(job: Job) -> tuple[str, int]:
    return job.device, os.getpid()


def test_one_process_a_card_and_items_as_they_were() -> None:
    jobs = [Job(i) for i in range(12)]
    done = list(device_executor(("cuda:0", "cuda:1"), 1).run(where, jobs))
    assert sorted(one.item.number for one in done) == list(range(12))
    assert {one.item.device for one in done} == {"cpu"}
    results = {one.result for one in done if one.result is not None}
    assert {device for device, _ in results} == {"cuda:0", "cuda:1"}
    assert len({pid for _, pid in results}) == 2


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a card")
def test_a_card_that_is_not_there_after_all_costs_nothing_but_time(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rankscope.engines.devices_for", lambda *_: ("cuda:0", "cuda:1"))
    there = analyze(model, store=False, device="cuda:*")
    assert there.matrices == analyze(model, store=False, device="cpu").matrices


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_card(model: Path) -> None:
    found = analyze(model, store=False, device="cuda:*")
    assert {row["route"] for row in found.matrices} & {"cuda", "cuda32"}


def dies(task: Task) -> list[Outcome]:
    os._exit(1)


@pytest.mark.parametrize("count", [1, 3])
def test_what_a_card_s_process_dies_of_is_measured_on_the_cpu(
    count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tmp_path / "some.safetensors"
    safetensors.numpy.save_file(dict(list(weights().items())[:count]), model)

    class Dying(SideBySideExecutor):
        def run(self, function: Any, items: Any) -> Any:
            return super().run(dies, items)

    def dying(devices: Any, threads: int) -> Dying:
        return Dying(device_executor(devices, threads).executors)  # type: ignore[attr-defined]

    monkeypatch.setattr("rankscope.engines.devices_for", lambda *_: ("cuda:0",))
    monkeypatch.setattr("rankscope.engines.device_executor", dying)
    there = analyze(model, store=False, device="cuda")
    assert {row["status"] for row in there.matrices} == {"ok"}
    assert len(there.matrices) == count
    assert there.matrices == analyze(model, store=False, device="cpu").matrices


class TestGroups:
    def spec(self, name: str, rows: int, columns: int) -> MatrixSpec:
        return MatrixSpec(name, name, (), 1, (rows, columns), "float32", "linear")

    def test_equal_orders_meet(self) -> None:
        shapes = [(4096, 11008), (4096, 4096), (11008, 4096), (4096, 4096), (32000, 4096)]
        specs = [self.spec(str(i), *shape) for i, shape in enumerate(shapes)]
        groups = list(grouped_for_cards(specs))
        assert [one.name for group in groups for one in group] == ["4", "0", "2", "1", "3"]
        assert all(len(group) == 1 or work(group) <= CARD_TASK_FLOPS for group in groups)
        assert len(groups) < len(specs)
        assert list(grouped_for_cards([])) == []


def work(group: tuple[MatrixSpec, ...]) -> float:
    return sum(matrix_flops(spec) for spec in group)


def test_a_wrong_name_is_told_at_once() -> None:
    with pytest.raises(UsageError, match="device is 'gpu', expected auto, cpu, cuda"):
        How(device="gpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a card")
def test_a_card_that_is_not_there_is_told_before_anything_is_read(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    safetensors.numpy.save_file({"w": np.ones((2, 2), np.float32)}, path)
    with pytest.raises(UsageError, match="device cuda: "):
        analyze(path, store=tmp_path / "store.sqlite", device="cuda")
    assert not (tmp_path / "store.sqlite").exists()

"""From snapshots to a table: the same numbers whatever computes them, and what may go wrong."""

from __future__ import annotations

import concurrent.futures
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import safetensors.numpy

import rankscope
from rankscope import measure as module
from rankscope.errors import InputRejected, UsageError
from rankscope.executors import Done, InlineExecutor, ProcessExecutor, ThreadExecutor
from rankscope.how import How
from rankscope.inventory import take_inventory
from rankscope.matrices import Selection
from rankscope.measure import Measured, measure
from rankscope.plan import flops
from rankscope.question import Question
from rankscope.records import MatrixSpec, Spectrum, Unmeasured
from rankscope.series import Series, discover
from rankscope.solvers import ROUTE_VERSION
from rankscope.store import SpectrumStore
from rankscope.tasks import TASK_FLOPS, grouped
from rankscope.worker import Task
from tests.matrix import Array, low_rank

RNG = np.random.default_rng(5)
OLD = (1e9, 1e9)
COLUMNS = Question().columns()


def save(path: Path, tensors: dict[str, Array]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    safetensors.numpy.save_file(tensors, path)
    os.utime(path, OLD)
    return path


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Three snapshots of matrices of all sorts."""
    for step in range(3):
        tensors: dict[str, Array] = {
            "full": RNG.standard_normal((40, 30)).astype(np.float32),
            "low": low_rank(64, 50, 3 + step, seed=step).astype(np.float32),
            "conv": RNG.standard_normal((8, 3, 3, 3)).astype(np.float16),
            "experts": RNG.standard_normal((3, 20, 12)),
            "zero": np.zeros((5, 4)),
            "nan": np.full((4, 4), np.nan),
            "bias": np.ones(7),
        }
        save(tmp_path / "run" / f"step-{step}.safetensors", tensors)
    return tmp_path / "run"


class Refusing(concurrent.futures.Executor):
    """Takes no work at all."""

    def submit(self, *arguments: Any, **more: Any) -> Any:
        raise AssertionError("nothing was left to measure")


def analyze(*paths: Path, **how: Any) -> rankscope.Analysis:
    return rankscope.analyze(*paths, how=How(**{"store": False, **how}))


def assert_same_numbers(one: rankscope.Analysis, other: rankscope.Analysis) -> None:
    assert len(one.matrices) == len(other.matrices)
    for row, twin in zip(one.matrices, other.matrices, strict=True):
        assert row.keys() == twin.keys()
        for key, value in row.items():
            # BLAS may sum in another order on another number of threads.
            if isinstance(value, float):
                assert twin[key] == pytest.approx(value, rel=1e-9), (row["name"], key)
            elif key != "content":  # not known without a store
                assert twin[key] == value, (row["name"], key)


class TestSameNumbers:
    @pytest.mark.parametrize(
        ("workers", "inline_flops", "kind"),
        [
            (1, 1e99, InlineExecutor),
            (4, 1e99, ThreadExecutor),
            (1, 0.0, ProcessExecutor),
            (4, 0.0, ProcessExecutor),
        ],
    )
    def test_whatever_the_executor(
        self,
        run: Path,
        workers: int,
        inline_flops: float,
        kind: type,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr("rankscope.engines.INLINE_FLOPS", 1e99)
        plain = analyze(run, workers=1)
        monkeypatch.setattr("rankscope.engines.INLINE_FLOPS", inline_flops)
        monkeypatch.setattr("rankscope.tasks.TASK_FLOPS", 1e5)
        used: list[type] = []
        original = kind.run  # type: ignore[attr-defined]

        def seen(self: Any, *arguments: Any) -> Any:
            used.append(type(self))
            return original(self, *arguments)

        monkeypatch.setattr(kind, "run", seen)
        assert_same_numbers(plain, analyze(run, workers=workers))
        assert kind in used

    @pytest.mark.parametrize("pool", [ThreadPoolExecutor, ProcessPoolExecutor])
    def test_on_somebody_elses_executor(
        self,
        run: Path,
        pool: Callable[..., concurrent.futures.Executor],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        plain = analyze(run, workers=1)
        monkeypatch.setattr("rankscope.tasks.TASK_FLOPS", 1e5)
        monkeypatch.chdir(run.parent)
        with pool(2) as engine:
            assert_same_numbers(plain, analyze(run, executor=engine))
            # Paths are told so that they mean the same in another directory.
            below = analyze(Path(run.name), executor=engine)
        assert [row["rank"] for row in below.matrices] == [row["rank"] for row in plain.matrices]

    def test_what_another_executor_measured_is_kept(self, run: Path, tmp_path: Path) -> None:
        store = tmp_path / "s.sqlite3"
        with ThreadPoolExecutor(2) as engine:
            first = analyze(run, store=store, executor=engine)
        again = analyze(run, store=store, executor=Refusing())
        assert again.matrices == first.matrices

    def test_the_routes_agree(self, run: Path) -> None:
        """To the stated resolution: where both call a reading exact."""
        gram, direct = (analyze(run, route=route) for route in ("gram", "direct"))
        compared = 0
        for row, twin in zip(gram.matrices, direct.matrices, strict=True):
            for column in COLUMNS:
                value = row.get(column.key)
                if value is not None and column.key not in row["notes"]:
                    assert twin[column.key] == pytest.approx(value, rel=2e-6), column.key
                    compared += 1
        assert compared > 100
        low = [row for row in gram.matrices if row["name"] == "low"]
        assert all("not exact by the gram route" in row["notes"]["condition_number"] for row in low)

    def test_with_the_store_and_without(self, run: Path, tmp_path: Path) -> None:
        kept = {"store": tmp_path / "store", "workers": 1}
        first, second = analyze(run, **kept), analyze(run, **kept)
        assert first.matrices == second.matrices
        assert_same_numbers(first, analyze(run, workers=1))

    def test_isolated_formats(self, run: Path, tmp_path: Path) -> None:
        """HDF5 is measured in processes, however little it is."""
        source = run / "step-0.safetensors"
        with h5py.File(tmp_path / "w.h5", "w") as file:
            for name, array in safetensors.numpy.load_file(source).items():
                file[name] = array
        rows = {row["name"]: row for row in analyze(source).matrices}
        found = {row["name"]: row for row in analyze(tmp_path / "w.h5").matrices}
        assert found.keys() == rows.keys()
        for name, row in rows.items():
            assert found[name]["status"] == row["status"]
            if row["status"] == "ok":
                assert found[name]["nuclear_norm"] == pytest.approx(row["nuclear_norm"], rel=1e-9)


class TestOrder:
    def test_rows_are_in_the_order_of_the_snapshots_and_the_file(self, run: Path) -> None:
        names = [row["name"] for row in analyze(run / "step-0.safetensors").matrices]
        result = analyze(run, workers=4)
        assert [(row["step"], row["name"]) for row in result.matrices] == [
            (step, name) for step in range(3) for name in names
        ]

    def test_small_matrices_go_together_and_a_large_one_alone(self) -> None:
        def spec(n: int, i: int) -> MatrixSpec:
            return MatrixSpec(f"{n}.{i}", "w", (), 1, (n, n), "float32", "linear")

        specs = [spec(n, i) for i, n in enumerate([100] * 500 + [2000] + [100] * 500 + [0] * 3)]
        groups = list(grouped(specs))
        assert [one for group in groups for one in group] == specs
        for group in groups:
            assert len(group) == 1 or sum(flops(one.shape) for one in group) <= TASK_FLOPS
        assert len(groups) == 2 * 2 + 1
        assert list(grouped([])) == []

    def test_progress_goes_up_to_the_whole(self, run: Path, tmp_path: Path) -> None:
        told: list[tuple[float, float]] = []
        kept = tmp_path / "store"
        progress: Callable[[float, float], None] = lambda *pair: told.append(pair)  # noqa: E731
        analyze(run, progress=progress, store=kept)
        done = [one for one, _ in told]
        assert done == sorted(done)
        assert done[-1] == pytest.approx(told[-1][1])
        assert len({total for _, total in told}) == 1
        told.clear()
        analyze(run, progress=progress, store=kept)
        assert told == []  # nothing had to be computed

    @pytest.mark.parametrize("workers", [0, -1])
    def test_workers_must_be_some(self, run: Path, workers: int) -> None:
        with pytest.raises(UsageError, match="expected at least 1"):
            analyze(run, workers=workers)


class TestCores:
    """What a command that runs beside a training job may take of a machine of 64 cores."""

    @pytest.mark.parametrize(
        ("asked", "inline_flops", "expected"),
        [
            ({"cores": 1}, 1e99, InlineExecutor(1)),
            ({"cores": 1}, 0.0, ProcessExecutor(1, 1)),
            ({"cores": 1, "workers": 5}, 0.0, ProcessExecutor(1, 1)),
            ({"cores": 6, "workers": 2}, 0.0, ProcessExecutor(2, 3)),
            ({"cores": 3}, 1e99, ThreadExecutor(3)),
            ({"workers": 2}, 0.0, ProcessExecutor(2, 32)),
        ],
    )
    def test_are_not_exceeded(
        self,
        run: Path,
        asked: dict[str, int],
        inline_flops: float,
        expected: Any,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        kept = tmp_path / "store"
        analyze(run / "step-0.safetensors", store=kept, workers=1)
        monkeypatch.setattr("rankscope.engines.available_cores", lambda: 64)
        monkeypatch.setattr("rankscope.engines.INLINE_FLOPS", inline_flops)
        monkeypatch.setattr("rankscope.tasks.TASK_FLOPS", 1e5)
        used: list[Any] = []
        here = InlineExecutor.run

        def run_here(self: Any, *arguments: Any) -> Any:
            used.append(self)
            return here(InlineExecutor(1), *arguments)

        for kind in (InlineExecutor, ThreadExecutor, ProcessExecutor):
            monkeypatch.setattr(kind, "run", run_here)
        analyze(run, store=kept, **asked)  # what is there already is read and hashed
        assert used[-1] == expected
        assert all(getattr(one, "workers", 1) <= asked.get("cores", 64) for one in used)

    def test_must_be_some(self, run: Path) -> None:
        with pytest.raises(UsageError, match="cores is 0, expected at least 1"):
            analyze(run, cores=0)


def drawn(
    series: Series, how: How, change: Callable[[], object] = lambda: None
) -> dict[tuple[int | None, str], Measured]:
    """What is measured when something happens between listing and measuring."""
    _, measured = measure([series], Selection(), COLUMNS, how)
    change()
    return {(one.entry.snapshot.step, one.spec.name): one for one in measured}


def status(one: Measured) -> str:
    return one.measurement.status if isinstance(one.measurement, Unmeasured) else "ok"


class TestDamage:
    def test_a_file_truncated_after_it_was_listed(self, run: Path) -> None:
        victim = run / "step-1.safetensors"
        how = How(store=False)
        found = drawn(discover(run), how, lambda: os.truncate(victim, victim.stat().st_size // 2))
        assert {status(one) for (step, _), one in found.items() if step == 1} == {"unreadable"}
        rest = [status(one) for (step, _), one in found.items() if step != 1]
        assert rest.count("ok") == 2 * 7
        assert rest.count("nonfinite") == 2

    def test_and_the_table_is_incomplete(self, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        victim = run / "step-1.safetensors"
        original = take_inventory

        def then_truncate(*arguments: Any) -> Any:
            found = original(*arguments)
            os.truncate(victim, victim.stat().st_size // 2)
            return found

        monkeypatch.setattr(module, "take_inventory", then_truncate)
        result = analyze(run)
        assert result.incomplete
        assert [row["unmeasured"] for row in result.summary] == [1, 8, 1]
        assert result.summary[1]["rank"] is None
        lost = [row for row in result.matrices if row["step"] == 1]
        assert {row["status"] for row in lost} == {"unreadable"}
        assert all(row["notes"]["status"] and row["rank"] is None for row in lost)

    def test_nothing_of_it_is_kept(self, run: Path, tmp_path: Path) -> None:
        victim = run / "step-1.safetensors"
        whole = victim.read_bytes()
        how = How(store=tmp_path / "store", workers=1)

        def damage() -> None:
            os.truncate(victim, len(whole) // 2)
            os.utime(victim, OLD)

        drawn(discover(run), how, damage)
        victim.write_bytes(whole)
        os.utime(victim, OLD)
        assert "unreadable" not in {status(one) for one in drawn(discover(run), how).values()}

    @pytest.mark.parametrize("kind", ["empty", "garbage", "cut"])
    def test_a_damaged_snapshot_among_sound_ones(self, run: Path, kind: str) -> None:
        victim = run / "step-1.safetensors"
        whole = victim.read_bytes()
        victim.write_bytes({"empty": b"", "garbage": b"\xff" * 999, "cut": whole[:-9]}[kind])
        result = analyze(run)
        assert {row["step"] for row in result.matrices} == {0, 2}
        assert [row["step"] for row in result.summary] == [0, 2]
        assert result.incomplete
        (lost,) = [row for row in result.skipped if row["missing"]]
        assert str(victim) in lost["name"]
        with pytest.raises(InputRejected) as alone:
            analyze(victim)
        assert alone.value.reason == lost["reason"]

    def test_nothing_sound_is_an_error(self, run: Path, tmp_path: Path) -> None:
        for file in run.iterdir():
            file.write_bytes(b"")
        with pytest.raises(InputRejected, match="step-0"):
            analyze(run)
        with pytest.raises(InputRejected, match="no such file"):
            analyze(tmp_path / "nowhere")

    def test_the_store_is_let_go_when_the_question_makes_no_sense(
        self, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Its listings are remembered in a transaction that nobody would end."""
        store = tmp_path / "store"
        nothing = Selection(include=("nothing",))
        with pytest.raises(UsageError) as held:
            rankscope.analyze(run, selection=nothing, how=How(store=store))
        monkeypatch.setattr("rankscope.store.LOCK_SECONDS", 0.1)
        analyze(run, store=store)  # warns when it has to wait for a lock
        assert held.value

    def test_the_store_is_not_locked_while_files_are_listed(
        self, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Listing may take minutes, and others wait for seconds only."""
        store = tmp_path / "store"
        analyze(run, store=store)

        def beside(*arguments: Any) -> Any:
            monkeypatch.undo()
            monkeypatch.setattr("rankscope.store.LOCK_SECONDS", 0.1)
            analyze(run / "step-1.safetensors", store=store, verify=True)
            return take_inventory(*arguments)

        monkeypatch.setattr(module, "take_inventory", beside)
        assert len(analyze(run, store=store, verify=True).matrices) == 24


class Fatal:
    """An executor on which one matrix kills its worker, each time."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.tasks: list[int] = []

    def run(
        self, function: Callable[[Task], Any], items: Iterable[Task]
    ) -> Iterator[Done[Any, Any]]:
        for task in items:
            self.tasks.append(len(task.specs))
            if any(spec.name == self.name for spec in task.specs):
                yield Done(task, None, lost=True)
            else:
                yield Done(task, function(task))


@pytest.mark.parametrize("engine", [5, ThreadPoolExecutor, ProcessExecutor, object()])
def test_what_is_no_executor_is_refused_at_once(engine: Any) -> None:
    with pytest.raises(UsageError, match=r"expected one of concurrent\.futures that is open, or"):
        How(executor=engine)


def test_another_machine_without_the_card_that_is_asked_for_says_so(run: Path) -> None:
    with ThreadPoolExecutor(1) as engine, pytest.raises(UsageError, match="device cuda: "):
        analyze(run, device="cuda", executor=engine)


class TestLostWorkers:
    def test_one_matrix_costs_itself_only(
        self, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fatal = Fatal("experts[1]")
        monkeypatch.setattr("rankscope.engines.Engine._executor", lambda *_, **__: fatal)
        result = analyze(run, store=tmp_path / "store")
        by_status = {row["name"]: row["status"] for row in result.matrices}
        assert by_status.pop("experts[1]") == "worker_lost"
        assert by_status.pop("nan") == "nonfinite"
        assert set(by_status.values()) == {"ok"}
        assert result.incomplete
        assert [row["unmeasured"] for row in result.summary] == [2, 2, 2]
        # Together at first, then each alone.
        assert fatal.tasks == [8] * 3 + [1] * 24
        lost = next(row for row in result.matrices if row["status"] == "worker_lost")
        assert "died, twice" in lost["notes"]["status"]
        # It is tried again by the next call, and only it.
        monkeypatch.undo()
        fresh = Fatal("")
        monkeypatch.setattr("rankscope.engines.Engine._executor", lambda *_, **__: fresh)
        again = analyze(run, store=tmp_path / "store")
        assert {row["status"] for row in again.matrices} == {"ok", "nonfinite"}
        assert fresh.tasks == [1, 1, 1]


class TestEarlyEnd:
    def test_what_was_measured_is_kept(self, tmp_path: Path) -> None:
        tensors = {f"w{i}": RNG.standard_normal((30, 20)) for i in range(40)}
        path = save(tmp_path / "w.safetensors", tensors)
        how = How(store=tmp_path / "store", workers=1)
        _, measured = measure([discover(path)], Selection(), COLUMNS, how)
        for _ in range(5):
            next(measured)
        measured.close()
        store = SpectrumStore(tmp_path / "store", ROUTE_VERSION, read_only=True)
        assert store.listing(path) is not None
        kept = store.find_all(path)
        assert len(kept) >= 5
        assert all(key and isinstance(one, Spectrum) for key, one in kept.values())
        store.close()

    def test_an_exception_of_the_caller_too(self, tmp_path: Path) -> None:
        path = save(tmp_path / "w.safetensors", {f"w{i}": np.eye(9) * (i + 1) for i in range(9)})

        def stop(done: float, total: float) -> None:
            if done > total / 2:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            analyze(path, store=tmp_path / "store", progress=stop)
        store = SpectrumStore(tmp_path / "store", ROUTE_VERSION, read_only=True)
        assert store.listing(path) is not None
        assert len(store.find_all(path)) >= 4
        store.close()


def test_averages_say_what_they_leave_out(tmp_path: Path) -> None:
    tensors = {"a": np.eye(4), "b": np.diag([1.0, 1, 0, 0]), "c": np.full((3, 3), np.inf)}
    result = analyze(save(tmp_path / "w.safetensors", tensors))
    (row,) = result.summary
    assert (row["matrices"], row["unmeasured"]) == (3, 1)
    assert row["rank"] == 3
    assert result.incomplete
    undefined = analyze(save(tmp_path / "z.safetensors", {"a": np.zeros((3, 3))})).summary[0]
    assert (undefined["rank"], undefined["effective_rank"]) == (0, None)


def test_a_mean_with_an_infinite_value_is_no_number(tmp_path: Path) -> None:
    tensors = {"a": np.eye(4), "b": np.diag([1.0, 1, 0, 0])}
    result = analyze(save(tmp_path / "w.safetensors", tensors))
    assert [row["condition_number"] for row in result.matrices] == [1.0, None]
    assert result.summary[0]["condition_number"] is None
    assert result.summary[0]["rank"] == 3

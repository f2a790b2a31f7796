"""One task: which route answers, what a content is, and what becomes of a file that changed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from rankscope.answering import RouteChoice, answer, sound
from rankscope.checkpoints.closing import Closing
from rankscope.contentkey import HASH_ELEMENTS, content_key
from rankscope.errors import InputRejected
from rankscope.identities import ABSENT, identity, unchanged
from rankscope.matrices import Selection, select
from rankscope.question import Column, Question
from rankscope.records import MatrixSpec, Measurement, Route, Spectrum, Unmeasured
from rankscope.solvers import solve
from rankscope.storedmatrix import StoredMatrix
from rankscope.worker import Outcome, Task, list_checkpoint, measure_task
from tests.matrix import Array, ArrayMatrix, low_rank, with_sigma

RNG = np.random.default_rng(11)
OLD = (1e9, 1e9)
COLUMNS = Question().columns()


def save(path: Path, tensors: dict[str, Array]) -> Path:
    safetensors.numpy.save_file(tensors, path)
    os.utime(path, OLD)
    return path


def task_of(
    path: Path, *, route: RouteChoice = "auto", columns: Sequence[Column] = COLUMNS
) -> Task:
    found = list_checkpoint(path)
    assert not isinstance(found, InputRejected)
    listing, seen = found
    return Task(path, select(listing, Selection())[0], route, tuple(columns), seen=seen)


def measured(path: Path, **asked: Any) -> dict[str, Outcome]:
    return {outcome.spec.name: outcome for outcome in measure_task(task_of(path, **asked))}


def spec_of(array: Array) -> MatrixSpec:
    rows, columns = array.shape
    return MatrixSpec("w", "w", (), 1, (rows, columns), array.dtype.name, "linear")


class ArrayCheckpoint(Closing):
    """A checkpoint of one array, as it lies in memory."""

    def __init__(self, array: Array) -> None:
        self.array = array
        self.listing: Any = None

    def read(self, spec: MatrixSpec, rows: slice, columns: slice) -> Array:
        return self.array[rows, columns]

    def close(self) -> None: ...


def key_of(array: Array) -> bytes:
    return content_key(StoredMatrix(ArrayCheckpoint(array), spec_of(array)))


class TestContentKey:
    def test_is_of_shape_type_and_elements(self) -> None:
        base = np.arange(12, dtype=np.float32).reshape(3, 4)
        changed = base.copy()
        changed[2, 3] = np.nextafter(np.float32(11), np.float32(12))
        others = [
            base,
            base.reshape(4, 3),
            base.reshape(1, 12),
            base.view(np.float64).reshape(3, 2),
            base.astype(np.float64),
            base.T.copy(),
            changed,
            base.astype(np.float16),
            base.astype(np.float16).view(ml_dtypes.bfloat16),
        ]
        assert len({key_of(array) for array in others}) == len(others)

    def test_is_not_of_how_it_lies_in_memory(self) -> None:
        base = RNG.standard_normal((7, 9)).astype(np.float32)
        wide = np.zeros((7, 18), np.float32)
        wide[:, ::2] = base
        alike = [base, np.asfortranarray(base), wide[:, ::2], base.astype(">f4")]
        assert {key_of(array) for array in alike} == {key_of(base)}

    def test_the_same_bytes_in_another_byte_order_are_other_numbers(self) -> None:
        base = RNG.standard_normal((7, 9)).astype("<f4")
        assert key_of(base.view(">f4")) != key_of(base)

    @pytest.mark.parametrize(
        "shape", [(3, HASH_ELEMENTS // 2 + 5), (HASH_ELEMENTS + 3, 1), (1, HASH_ELEMENTS + 3)]
    )
    def test_every_element_of_a_large_matrix_counts(self, shape: tuple[int, int]) -> None:
        array = np.zeros(shape, np.float16)
        keys = {key_of(array)}
        for position in (0, -1, array.size // 2, HASH_ELEMENTS):
            array.flat[position] = 1
            keys.add(key_of(array))
            array.flat[position] = 0
        assert len(keys) == 5


class Known:
    """A look-up that has some answers, and records what it was asked."""

    def __init__(self, **known: Measurement) -> None:
        self.known = known
        self.asked: list[Route] = []

    def __call__(self, route: Route) -> Measurement | None:
        self.asked.append(route)
        return self.known.get(route)


class TestAnswer:
    """`auto` takes the direct route exactly when a column's reading is not exact."""

    clear = with_sigma([3, 2, 1], route="gram")
    dim = with_sigma([3, 2, 1e-12], route="gram")
    direct = with_sigma([3, 2, 1e-12], route="direct")
    failed = Unmeasured("failed", "no")
    rank = Question(("numerical_rank",)).columns()
    norm = Question(("spectral_norm",)).columns()

    @pytest.mark.parametrize(
        ("columns", "known", "asked", "found"),
        [
            (rank, {"gram": clear, "direct": direct}, ["gram"], clear),
            (rank, {"gram": dim, "direct": direct}, ["gram", "direct"], direct),
            (norm, {"gram": dim, "direct": direct}, ["gram"], dim),
            (rank, {"gram": dim, "direct": failed}, ["gram", "direct"], dim),
            (rank, {"gram": failed}, ["gram"], failed),
            (rank, {"gram": dim}, ["gram", "direct"], None),
            (rank, {}, ["gram"], None),
            (rank, {"direct": direct}, ["gram"], None),
            # The Gram route fell back by itself.
            (rank, {"gram": direct}, ["gram"], direct),
        ],
    )
    def test_auto(
        self,
        columns: Sequence[Column],
        known: dict[str, Measurement],
        asked: list[Route],
        found: Measurement | None,
    ) -> None:
        look_up = Known(**known)
        answered = answer("auto", columns, look_up)
        assert (answered and answered.measurement) is found
        assert look_up.asked == asked
        if answered and answered.readings is not None:
            assert isinstance(found, Spectrum)
            assert answered.readings == tuple(column.read(found) for column in columns)

    @pytest.mark.parametrize("route", ["gram", "direct"])
    def test_a_given_route_is_taken(self, route: Route) -> None:
        look_up = Known(gram=self.dim, direct=self.direct)
        answered = answer(route, self.rank, look_up)
        assert answered is not None
        assert answered.measurement is look_up.known[route]
        assert look_up.asked == [route]

    def test_on_weights(self, tmp_path: Path) -> None:
        low = low_rank(96, 64, 5)
        path = save(
            tmp_path / "w",
            {
                "full": RNG.standard_normal((96, 64)).astype(np.float32),
                "deficient": low.astype(np.float32),
                "rounded": low.astype(ml_dtypes.bfloat16),
                "dead rows": np.where(np.arange(64) < 32, RNG.standard_normal((96, 64)), 0),
            },
        )
        routes = {
            name: outcome.measurement.route
            for name, outcome in measured(path).items()
            if isinstance(outcome.measurement, Spectrum)
        }
        assert routes == {
            "full": "gram",
            "deficient": "direct",
            "rounded": "gram",
            "dead rows": "gram",
        }
        for route in ("gram", "direct"):
            for outcome in measured(path, route=route).values():
                assert isinstance(outcome.measurement, Spectrum)
                assert outcome.measurement.route == route
                assert [r for r, _ in outcome.computed] == [route]


class TestMemory:
    """Too large is a fact about this machine: told, and not kept."""

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        return save(tmp_path / "w", {"w": low_rank(30, 20, 4), "v": np.eye(3)})

    def test_for_the_direct_route_leaves_the_gram_spectrum(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def tight(matrix: StoredMatrix, route: Route) -> Measurement:
            if route == "direct":
                raise MemoryError
            return solve(matrix, route)

        monkeypatch.setattr("rankscope.worker.solve", tight)
        found = measured(path)["w"]
        assert isinstance(found.measurement, Spectrum)
        assert found.measurement.route == "gram"
        given = measured(path, route="direct")["w"].measurement
        assert given == Unmeasured("failed", "not enough memory for a 30x20 matrix")

    def test_content_is_hashed_for_a_store_only(self, path: Path) -> None:
        task = task_of(path)
        assert {one.key for one in measure_task(task)} == {None}
        assert None not in {
            one.key for one in measure_task(replace(task, store=path.parent / "store"))
        }

    def test_for_anything(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def none(*_: object) -> None:
            raise MemoryError

        with monkeypatch.context() as patch:
            patch.setattr("rankscope.worker.solve", none)
            assert measured(path)["w"].measurement == Unmeasured(
                "failed", "not enough memory for a 30x20 matrix"
            )
        monkeypatch.setattr("rankscope.worker.content_key", none)
        outcome = measure_task(replace(task_of(path), store=path.parent / "store"))[0]
        assert isinstance(outcome.measurement, Unmeasured)
        assert outcome.measurement.status == "failed"
        assert outcome.key is None


class TestChange:
    """A file may change between its listing and its reading."""

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        tensors = {"a": RNG.standard_normal((6, 4)), "b": RNG.standard_normal((5, 5))}
        return save(tmp_path / "w", tensors)

    def statuses(self, outcomes: list[Outcome]) -> dict[str, str]:
        return {
            one.spec.name: one.measurement.status if isinstance(one.measurement, Unmeasured) else ""
            for one in outcomes
        }

    def test_listing_tells_the_identity(self, path: Path, tmp_path: Path) -> None:
        seen = task_of(path).seen
        assert seen[0] == identity(path)
        # What would say how to read it is not there, and its absence is remembered too.
        assert all(one.size == ABSENT for one in seen[1:])
        (path.parent / "config.json").write_text("{}")
        assert not unchanged(seen)
        missing = list_checkpoint(tmp_path / "nothing")
        assert isinstance(missing, InputRejected)
        assert "cannot be opened" in missing.reason or "No such file" in missing.reason

    def test_the_identity_of_a_file_that_changes_meanwhile_is_not_sure(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from rankscope.checkpoints import open_checkpoint

        def changing(given: Path, base: Path | None) -> Any:
            checkpoint = open_checkpoint(given, base=base)
            os.utime(given, (1e9, 1e9 + 1))
            return checkpoint

        monkeypatch.setattr("rankscope.worker.open_checkpoint", changing)
        assert task_of(path).seen == ()

    def test_an_unchanged_file_is_sure(self, path: Path) -> None:
        task = task_of(path)
        assert {outcome.seen for outcome in measure_task(task)} == {task.seen}
        assert {outcome.seen for outcome in measure_task(replace(task, seen=()))} == {()}

    @pytest.mark.parametrize("when", ["before", "after"])
    def test_one_that_changed_is_measured_and_not_sure(
        self, path: Path, when: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        task = task_of(path)
        if when == "before":
            os.utime(path, (1e9, 1e9 + 1))
        else:

            def late(matrix: StoredMatrix, route: Route) -> Measurement:
                os.utime(path, (1e9, 1e9 + 1))
                return solve(matrix, route)

            monkeypatch.setattr("rankscope.worker.solve", late)
        outcomes = measure_task(task)
        assert self.statuses(outcomes) == {"a": "", "b": ""}
        assert {outcome.seen for outcome in outcomes} == {()}

    def test_gone(self, path: Path) -> None:
        task = task_of(path)
        path.unlink()
        assert self.statuses(measure_task(task)) == {"a": "unreadable", "b": "unreadable"}

    def test_truncated(self, path: Path) -> None:
        task = task_of(path)
        os.truncate(path, path.stat().st_size - 8)
        assert self.statuses(measure_task(task)) == {"a": "unreadable", "b": "unreadable"}

    def test_a_disk_that_fails(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        task = replace(task_of(path), store=path.parent / "store")

        def broken(*_: object) -> bytes:
            raise OSError(5, "Input/output error")

        monkeypatch.setattr("rankscope.worker.content_key", broken)
        outcomes = measure_task(task)
        assert self.statuses(outcomes) == {"a": "unreadable", "b": "unreadable"}
        assert "Input/output error" in str(outcomes[0].measurement)

    @pytest.mark.parametrize(
        "a",
        [
            None,
            np.ones((4, 6)),
            np.ones((6, 4), np.float32),
            np.ones((3, 4)),
            np.ones(24),
            np.ones((2, 3, 4)),
        ],
        ids=["gone", "transposed", "type", "smaller", "vector", "other axes"],
    )
    def test_replaced_by_one_with_another_tensor(self, path: Path, a: Array | None) -> None:
        """Read as it was listed, it would give the numbers of its neighbours, or an exception."""
        task = task_of(path)
        b = np.diag([5.0, 4, 3, 2, 1])
        save(path, {"b": b} if a is None else {"a": a, "b": b})
        outcomes = measure_task(task)
        assert self.statuses(outcomes) == {"a": "unreadable", "b": ""}
        by_name = {outcome.spec.name: outcome.measurement for outcome in outcomes}
        assert "changed since it was listed" in str(by_name["a"])
        assert isinstance(by_name["b"], Spectrum)
        np.testing.assert_allclose(by_name["b"].sigma, [5, 4, 3, 2, 1])

    def test_a_stack_that_lost_a_member(self, tmp_path: Path) -> None:
        path = save(tmp_path / "w", {"experts": RNG.standard_normal((3, 5, 4))})
        task = task_of(path)
        save(path, {"experts": RNG.standard_normal((2, 5, 4))})
        assert self.statuses(measure_task(task)) == {
            "experts[0]": "",
            "experts[1]": "",
            "experts[2]": "unreadable",
        }


def test_a_stored_spectrum_must_be_sound_and_of_such_a_matrix() -> None:
    array = RNG.standard_normal((6, 4))
    spectrum = solve(ArrayMatrix(array), "gram")
    assert isinstance(spectrum, Spectrum)
    spec = spec_of(array)
    assert sound(spectrum, spec) is spectrum
    assert sound(None, spec) is None
    empty = Unmeasured("empty", "no entries")
    assert sound(empty, spec) is empty
    assert sound(replace(spectrum, sigma=spectrum.sigma * 1.001), spec) is None
    assert sound(spectrum, replace(spec, shape=(4, 6))) is None
    assert sound(spectrum, replace(spec, dtype="float32")) is None

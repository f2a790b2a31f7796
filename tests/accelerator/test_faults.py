"""Memory that is short, a solver that is wrong, a card that dies: never a wrong number."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Literal

import numpy as np
import pytest
import torch

from rankscope.accelerator import eigen, streaming, summing
from rankscope.accelerator.lanes import lane_of
from rankscope.accelerator.memory import out_of_memory
from rankscope.accelerator.reading import AHEAD, ahead, pieces
from rankscope.accelerator.streaming import grams_on
from rankscope.errors import InputRejected
from rankscope.records import Spectrum
from rankscope.solvers import torchsum
from tests.accelerator.conftest import Memory, Solver, rates_for
from tests.matrix import Array, ArrayMatrix


@pytest.fixture(autouse=True)
def _rates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "rates_of", lambda _: rates_for(0))


def matrices(count: int, order: int = 20, length: int = 30) -> list[ArrayMatrix]:
    rng = np.random.default_rng(1)
    return [ArrayMatrix(rng.standard_normal((order, length))) for _ in range(count)]


def solved(given: Sequence[ArrayMatrix], device: str = "cpu") -> list[Spectrum | None]:
    found = {id(one): got for one, got in grams_on(device, given)}
    for one in given:
        if id(one) in found:
            expected = np.linalg.svd(one.array.astype(np.float64), compute_uv=False)
            np.testing.assert_allclose(found[id(one)].sigma, expected, rtol=1e-9)
    return [found.get(id(one)) for one in given]


def watched_batches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many matrices each call of the eigensolver had."""
    sizes: list[int] = []
    right: Solver = torch.linalg.eigvalsh

    def counted(stack: torch.Tensor) -> torch.Tensor:
        values = right(stack)
        sizes.append(len(stack))
        return values

    monkeypatch.setattr(torch.linalg, "eigvalsh", counted)
    return sizes


class TestShortOfMemory:
    """Sizes in bytes of one tensor: a Gram matrix of order 20 has 3200."""

    def test_enough_for_all(self, monkeypatch: pytest.MonkeyPatch) -> None:
        sizes = watched_batches(monkeypatch)
        with Memory(8 * 3200) as memory:
            assert None not in solved(matrices(8))
        assert (sizes, memory.refused) == ([8], 0)

    def test_a_batch_is_halved_until_it_fits(self, monkeypatch: pytest.MonkeyPatch) -> None:
        sizes = watched_batches(monkeypatch)
        with Memory(3 * 3200) as memory:
            assert None not in solved(matrices(8))
        assert (sizes, memory.refused) == ([2] * 4, 3)

    def test_down_to_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        sizes = watched_batches(monkeypatch)
        with Memory(5000):
            assert None not in solved(matrices(5))
        assert sizes == [1] * 5

    def test_long_blocks_come_again_in_smaller_ones(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(streaming, "BLOCK_ELEMENTS", 16 * 600)
        long, short = matrices(1, 20, 480)[0], matrices(2)
        with Memory(20 * 100 * 8) as memory:  # a sixteenth of the block is 30 columns
            assert None not in solved([short[0], long, short[1]])
        assert memory.refused == 1

    def test_what_never_fits_is_left_out_and_the_others_are_not(self) -> None:
        large, small = matrices(1, 60, 60), matrices(3)
        with Memory(3 * 3200):
            found = solved([small[0], *large, *small[1:]])
        assert found[1] is None
        assert None not in (found[0], *found[2:])

    @pytest.mark.parametrize("at", [1, 2, 3, 4, 5])
    def test_a_block_that_is_refused_is_not_left_out(
        self, at: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Of three blocks of the first matrix and two of the second; those after it still come."""
        monkeypatch.setattr(streaming, "BLOCK_ELEMENTS", 20 * 10)
        right = summing.Sums.add
        calls: list[object] = []

        def refuses(sums: summing.Sums[ArrayMatrix], stored: torch.Tensor) -> None:
            calls.append(sums)
            if len(calls) == at:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")
            right(sums, stored)

        monkeypatch.setattr(summing.Sums, "add", refuses)
        assert None not in solved([*matrices(1), *matrices(2, 20, 20)])

    @pytest.mark.parametrize(
        "text",
        [
            "CUDA error: out of memory",
            "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
            "cusolver error: CUSOLVER_STATUS_ALLOC_FAILED, when calling `cusolverDnCreate`",
        ],
    )
    def test_whatever_it_is_called(self, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
        sizes = watched_batches(monkeypatch)
        with Memory(5 * 3200, RuntimeError(text)):
            assert None not in solved(matrices(8))
        assert sizes == [4, 4]

    def test_other_errors_are_not_taken_for_it(self) -> None:
        assert not out_of_memory(RuntimeError("CUDA error: an illegal memory access was met"))
        assert not out_of_memory(ValueError("out of memory"))
        assert out_of_memory(MemoryError())


class TestAWrongSolver:
    def test_the_diagonal_instead_of_eigenvalues(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What a batched Jacobi solver has returned; the trace, and so the norm, is right."""

        def diagonal(stack: torch.Tensor) -> torch.Tensor:
            return torch.diagonal(stack, dim1=1, dim2=2).sort().values

        monkeypatch.setattr(torch.linalg, "eigvalsh", diagonal)
        assert [got for _, got in grams_on("cpu", matrices(3))] == []

    @pytest.mark.parametrize("off", [1e-6, 1e-9, float("nan")])
    def test_one_of_a_batch_alone(self, off: float, monkeypatch: pytest.MonkeyPatch) -> None:
        right: Solver = torch.linalg.eigvalsh

        def lies(stack: torch.Tensor) -> torch.Tensor:
            values = right(stack)
            values[1, -1] *= 1 + off
            return values

        monkeypatch.setattr(torch.linalg, "eigvalsh", lies)
        found = solved(matrices(4))
        assert [one is None for one in found] == [False, True, False, False]

    def test_values_that_keep_trace_and_not_the_second_moment(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        right: Solver = torch.linalg.eigvalsh

        def lies(stack: torch.Tensor) -> torch.Tensor:
            values = right(stack)
            values[:, -1] -= 1e-8 * values[:, -1]
            values[:, 0] += 1e-8 * values[:, -1]
            return values

        monkeypatch.setattr(torch.linalg, "eigvalsh", lies)
        assert [got for _, got in grams_on("cpu", matrices(3))] == []

    def test_a_sum_that_lacks_a_block(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Its eigenvalues are those of what was summed; the entries' norm is another."""
        monkeypatch.setattr(streaming, "BLOCK_ELEMENTS", 20 * 10)
        right = torchsum.add_product
        calls: list[object] = []

        def forgets(gram: torch.Tensor, block: torch.Tensor) -> None:
            calls.append(block.shape)
            if len(calls) != 5:
                right(gram, block)

        monkeypatch.setattr(summing, "add_product", forgets)
        assert [one is None for one in solved(matrices(3))] == [False, True, False]

    def test_a_matrix_of_which_a_block_never_came(self) -> None:
        """The norm is of the rest as well, so that only counting can tell."""

        class Short(ArrayMatrix):
            def blocks(self, axis: Literal[0, 1], max_elements: int) -> Iterator[Array]:
                yield next(super().blocks(axis, 20 * 10))

        good = matrices(1)
        assert [one is None for one in solved([Short(good[0].array), *good])] == [True, False]

    def test_what_does_not_converge_is_left_out_alone(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        given = [ArrayMatrix(one.array.astype(np.float32)) for one in matrices(5)]
        given[3].array[0, 0] = 1e3
        right: Solver = torch.linalg.eigvalsh

        def fails(stack: torch.Tensor) -> torch.Tensor:
            if float(stack.abs().max()) > 1e5:
                raise torch.linalg.LinAlgError("did not converge")  # type: ignore[attr-defined]
            return right(stack)

        monkeypatch.setattr(torch.linalg, "eigvalsh", fails)
        assert [one is None for one in solved(given)] == [False, False, False, True, False]


class TestACardThatDies:
    def test_nothing_more_is_asked_of_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(eigen, "BATCH_ELEMENTS", 2 * 400)
        right: Solver = torch.linalg.eigvalsh
        calls: list[int] = []

        def dies(stack: torch.Tensor) -> torch.Tensor:
            calls.append(len(stack))
            if len(calls) > 1:
                raise RuntimeError("CUDA error: an illegal memory access was encountered")
            return right(stack)

        monkeypatch.setattr(torch.linalg, "eigvalsh", dies)
        found = solved(matrices(8))
        assert [one is None for one in found] == [False] * 2 + [True] * 6
        assert calls == [2, 2]

    @pytest.mark.skipif(torch.cuda.is_available(), reason="there is a card")
    def test_one_that_is_not_there(self) -> None:
        assert list(grams_on("cuda:0", matrices(2))) == []


class Sick(ArrayMatrix):
    """A matrix that cannot be read, from its second block on."""

    def blocks(self, axis: Literal[0, 1], max_elements: int) -> Iterator[Array]:
        yield from super().blocks(axis, max_elements)
        raise InputRejected("x", "truncated while it was read")


class TestReading:
    def test_what_cannot_be_read_is_left_out_alone(self) -> None:
        good = matrices(2)
        sick = Sick(good[0].array)
        assert [one is None for one in solved([good[0], sick, good[1]])] == [False, True, False]

    def test_it_is_a_thread_that_reads_while_this_one_works(self) -> None:
        """By events: the second item is drawn before the first has been let go."""
        drawn = [threading.Event() for _ in range(9)]
        threads: set[int] = set()

        def items() -> Iterator[int]:
            for i, event in enumerate(drawn):
                threads.add(threading.get_ident())
                event.set()
                yield i

        with closing(ahead(items(), 3)) as found:
            assert next(found) == 0
            assert drawn[3].wait(10)  # without being asked for
            assert not drawn[8].is_set()  # and no further than is bearable
            assert list(found) == list(range(1, 9))
        assert threads.isdisjoint({threading.get_ident()})

    def test_matrices_are_read_while_others_are_solved(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The eigensolver of the first waits until the second one's blocks have been read."""
        monkeypatch.setattr(eigen, "BATCH_ELEMENTS", 400)
        given = matrices(4)
        read = [threading.Event() for _ in given]

        class Told(ArrayMatrix):
            def blocks(self, axis: Literal[0, 1], max_elements: int) -> Iterator[Array]:
                yield from super().blocks(axis, max_elements)
                read[next(i for i, m in enumerate(told) if m is self)].set()

        told = [Told(one.array) for one in given]
        right: Solver = torch.linalg.eigvalsh
        solves: list[bool] = []

        def waits(stack: torch.Tensor) -> torch.Tensor:
            following = min(len(solves) + 2, 3)  # the one behind is copied already
            solves.append(read[following].wait(10))
            return right(stack)

        monkeypatch.setattr(torch.linalg, "eigvalsh", waits)
        assert None not in solved(told)
        assert solves == [True] * 4

    def test_the_next_block_is_sent_before_this_one_is_worked_on(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        events: list[str] = []
        lane = lane_of("cpu")
        right = lane.sent

        def told(staged: torch.Tensor) -> Callable[[], torch.Tensor]:
            events.append("sent")
            receive = right(staged)

            def received() -> torch.Tensor:
                events.append("received")
                return receive()

            return received

        monkeypatch.setattr(lane, "sent", told)
        monkeypatch.setattr(streaming, "lane_of", lambda _: lane)
        assert None not in solved(matrices(3))
        assert events == ["sent", "sent", "received", "sent", "received", "received"]

    def test_what_drawing_raises_is_raised(self) -> None:
        def items() -> Iterator[int]:
            yield 1
            raise KeyError("three")

        before = threading.active_count()
        found = ahead(items(), 2)
        assert next(found) == 1
        with pytest.raises(KeyError, match="three"):
            next(found)
        assert threading.active_count() == before

    def test_closed_early_the_thread_ends_and_so_does_what_it_drew(self) -> None:
        ended = threading.Event()

        def items() -> Iterator[int]:
            try:
                yield from range(10**9)
            finally:
                ended.set()

        before = threading.active_count()
        found = ahead(items(), 2)
        next(found)
        found.close()
        assert ended.is_set()
        assert threading.active_count() == before

    def test_pieces_of_long_and_short_matrices(self) -> None:
        given = [ArrayMatrix(np.ones((2, 10))), ArrayMatrix(np.ones((3, 2)))]
        found = list(pieces(given, torch.from_numpy, 8))
        shapes = [None if one.block is None else tuple(one.block.shape) for one in found]
        assert shapes == [(2, 4), (2, 4), (2, 2), (3, 2)]
        assert [one.last for one in found] == [False, False, True, True]
        assert AHEAD > 1

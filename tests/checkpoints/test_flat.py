"""Windows of tensors with any strides, against NumPy's own."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from rankscope.checkpoints.flat import FlatCheckpoint, Span, c_strides
from rankscope.errors import InputRejected
from rankscope.files import LocalFile
from rankscope.records import Listing, MatrixSpec

OFFSET = 24  # bytes before the tensor; not a multiple of every block size


def checkpoint_of(path: Path, base: NDArray[Any], view: NDArray[Any]) -> FlatCheckpoint:
    """A checkpoint over a file of `base`, with the tensor `w` where `view` lies in it."""
    path.write_bytes(bytes(OFFSET) + base.tobytes())
    start = view.__array_interface__["data"][0] - base.__array_interface__["data"][0]
    strides = tuple(step // view.itemsize for step in view.strides)
    dtype = view.dtype.name
    span = Span(OFFSET + start, dtype, view.shape, strides, view.dtype.byteorder == ">")
    return FlatCheckpoint(Listing(str(path), "flat", ()), LocalFile(path), {"w": span})


def spec_of(view: NDArray[Any], index: tuple[int, ...], split: int) -> MatrixSpec:
    rest = view.shape[len(index) :]
    shape = (math.prod(rest[:split]), math.prod(rest[split:]))
    return MatrixSpec("w", "w", index, split, shape, view.dtype.name, "linear")


@st.composite
def views(draw: st.DrawFn) -> tuple[NDArray[Any], NDArray[Any]]:
    """A C-ordered base, and a transposed, sliced or broadcast view of it with at least two axes."""
    shape = tuple(draw(st.lists(st.integers(1, 5), min_size=2, max_size=4)))
    base = np.arange(math.prod(shape), dtype=np.float32).reshape(shape)
    view = base.transpose(draw(st.permutations(range(len(shape)))))
    steps = [draw(st.integers(1, 3)) for _ in shape]
    starts = [draw(st.integers(0, size - 1)) for size in view.shape]
    view = view[tuple(slice(a, None, step) for a, step in zip(starts, steps, strict=True))]
    if draw(st.booleans()):
        view = np.broadcast_to(view[:, :1], view.shape)
    return base, view


class TestWindows:
    @given(st.data())
    @settings(max_examples=300, deadline=None)
    def test_equal_numpy(
        self, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
    ) -> None:
        base, view = data.draw(views())
        fixed = data.draw(st.integers(0, view.ndim - 2))
        index = tuple(data.draw(st.integers(0, size - 1)) for size in view.shape[:fixed])
        split = data.draw(st.integers(1, view.ndim - fixed - 1))
        spec = spec_of(view, index, split)
        top, left = (data.draw(st.integers(0, size)) for size in spec.shape)
        rows = slice(top, data.draw(st.integers(top, spec.shape[0])))
        columns = slice(left, data.draw(st.integers(left, spec.shape[1])))
        checkpoint = checkpoint_of(tmp_path_factory.getbasetemp() / "flat", base, view)
        window = checkpoint.read(spec, rows, columns)
        np.testing.assert_array_equal(window, view[index].reshape(spec.shape)[rows, columns])
        checkpoint.close()

    def test_a_transposed_tensor_is_read_in_one_piece(self, tmp_path: Path) -> None:
        base = np.arange(12.0).reshape(3, 4)
        checkpoint = checkpoint_of(tmp_path / "flat", base, base.T)
        window = checkpoint.read(spec_of(base.T, (), 1), slice(0, 4), slice(0, 3))
        np.testing.assert_array_equal(window, base.T)
        assert window.flags.f_contiguous
        checkpoint.close()

    def test_big_endian(self, tmp_path: Path) -> None:
        base = np.arange(12, dtype=">f4").reshape(3, 4)
        checkpoint = checkpoint_of(tmp_path / "flat", base, base)
        window = checkpoint.read(spec_of(base, (), 1), slice(1, 3), slice(1, 3))
        np.testing.assert_array_equal(window, base[1:3, 1:3])
        checkpoint.close()

    @pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)])
    def test_of_nothing(self, tmp_path: Path, shape: tuple[int, int]) -> None:
        base = np.empty(shape)
        checkpoint = checkpoint_of(tmp_path / "flat", base, base)
        rows, columns = (slice(0, size) for size in shape)
        assert checkpoint.read(spec_of(base, (), 1), rows, columns).shape == shape
        checkpoint.close()

    def test_beyond_the_file(self, tmp_path: Path) -> None:
        base = np.arange(12.0).reshape(3, 4)
        checkpoint = checkpoint_of(tmp_path / "flat", base, base)
        path = tmp_path / "flat"
        path.write_bytes(path.read_bytes()[:-1])
        with pytest.raises(InputRejected, match="expected 120: truncated or replaced"):
            checkpoint.read(spec_of(base, (), 1), slice(0, 3), slice(0, 4))
        assert checkpoint.read(spec_of(base, (), 1), slice(0, 2), slice(0, 4)).shape == (2, 4)
        checkpoint.close()


class TestStrides:
    @given(st.lists(st.integers(1, 4), max_size=5).map(tuple))
    def test_equal_numpy(self, shape: tuple[int, ...]) -> None:
        array = np.empty(shape, np.uint8)
        assert c_strides(shape) == array.strides

    def test_of_axes_without_elements(self) -> None:
        assert c_strides((2, 0, 3)) == (0, 3, 1)

    def test_take_time_in_proportion(self) -> None:
        # 100 000 axes; were it the square, this would take minutes.
        assert len(c_strides((1,) * 100_000)) == 100_000

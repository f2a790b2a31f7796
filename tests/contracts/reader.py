"""What every reader must do. Subclass `ReaderContract` in tests/checkpoints/test_<format>.py.

A subclass names the reader and says how the library that owns the format writes a file; that
library is the oracle. The contract then writes through it and reads through us.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from rankscope.checkpoints import Reader, reader_for
from rankscope.errors import InputRejected
from rankscope.records import MatrixSpec, TensorInfo

Arrays = dict[str, Any]

ALL_DTYPES = ("float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2")


def as_dtype(name: str) -> np.dtype[Any]:
    return np.dtype(getattr(ml_dtypes, name, name))


def whole(info: TensorInfo, split: int = 1) -> MatrixSpec:
    """The matrix of a tensor with at least two axes, as (first axes, rest)."""
    rows, columns = math.prod(info.shape[:split]), math.prod(info.shape[split:])
    return MatrixSpec(info.name, info.name, (), split, (rows, columns), info.dtype, "linear")


class ReaderContract:
    """Subclasses set `reader`, `suffix` and `write`; `dtypes` when the format has fewer."""

    reader: Reader
    suffix: str
    dtypes: tuple[str, ...] = ALL_DTYPES

    def write(self, path: Path, arrays: Arrays) -> None:
        """Write arrays with the library that owns the format."""
        raise NotImplementedError

    def make(self, tmp_path: Path, arrays: Arrays) -> Path:
        path = tmp_path / f"model{self.suffix}"
        self.write(path, arrays)
        return path

    def test_is_found_by_content_not_by_name(self, tmp_path: Path) -> None:
        path = self.make(tmp_path, {"w": np.ones((2, 3), np.float32)})
        renamed = path.rename(tmp_path / "weights.misleading")
        assert reader_for(renamed) is self.reader or reader_for(renamed).name == self.reader.name

    def test_lists_names_shapes_and_dtypes(self, tmp_path: Path) -> None:
        arrays: Arrays = {
            "a.weight": np.ones((2, 3), np.float32),
            "b": np.ones((4, 2, 3, 3), np.float64),
            "bias": np.ones(5, np.float32),
        }
        checkpoint = self.reader.open(self.make(tmp_path, arrays))
        found = {t.name: (t.shape, t.dtype) for t in checkpoint.listing.tensors}
        assert found == {name: (a.shape, a.dtype.name) for name, a in arrays.items()}
        assert checkpoint.listing.files
        checkpoint.close()

    def test_every_dtype_reads_back_bit_for_bit(self, tmp_path: Path) -> None:
        rng = np.random.default_rng(0)
        arrays = {name: rng.standard_normal((7, 5)).astype(as_dtype(name)) for name in self.dtypes}
        checkpoint = self.reader.open(self.make(tmp_path, arrays))
        for info in checkpoint.listing.tensors:
            window = checkpoint.read(whole(info), slice(0, 7), slice(0, 5))
            assert window.dtype.newbyteorder("=") == arrays[info.name].dtype
            assert (
                window.astype(np.float64).tobytes()
                == arrays[info.name].astype(np.float64).tobytes()
            )
        checkpoint.close()

    @pytest.mark.parametrize("split", [1, 2, 3])
    def test_windows_of_a_folded_tensor(self, tmp_path: Path, split: int) -> None:
        array = np.arange(6 * 4 * 3 * 2, dtype=np.float32).reshape(6, 4, 3, 2)
        checkpoint = self.reader.open(self.make(tmp_path, {"w": array}))
        spec = whole(checkpoint.listing.tensors[0], split)
        folded = array.reshape(spec.shape)
        rows, columns = spec.shape
        for window in [
            (0, rows, 0, columns),
            (1, rows - 1, 0, columns),
            (0, rows, 1, columns - 1),
            (2, 5, 1, 2),
        ]:
            r, c = slice(*window[:2]), slice(*window[2:])
            np.testing.assert_array_equal(checkpoint.read(spec, r, c), folded[r, c])
        checkpoint.close()

    def test_windows_of_one_stacked_matrix(self, tmp_path: Path) -> None:
        array = np.arange(3 * 4 * 5, dtype=np.float32).reshape(3, 4, 5)
        checkpoint = self.reader.open(self.make(tmp_path, {"w": array}))
        for i in range(3):
            spec = MatrixSpec(f"w[{i}]", "w", (i,), 1, (4, 5), "float32", "stacked")
            window = checkpoint.read(spec, slice(1, 4), slice(2, 4))
            np.testing.assert_array_equal(window, array[i, 1:4, 2:4])
        checkpoint.close()

    def test_truncated_while_open_is_an_error_not_a_crash(self, tmp_path: Path) -> None:
        array = np.random.default_rng(0).standard_normal((400, 300))
        path = self.make(tmp_path, {"w": array})
        checkpoint = self.reader.open(path)
        with open(path, "r+b") as file:
            file.truncate(path.stat().st_size // 2)
        spec = whole(checkpoint.listing.tensors[0])
        with pytest.raises(InputRejected, match=str(path)):
            checkpoint.read(spec, slice(0, 400), slice(0, 300))
        checkpoint.close()

"""Weights in memory: NumPy arrays, torch tensors and modules, and what is neither."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import ml_dtypes
import numpy as np
import pytest
import torch

import rankscope
from rankscope.checkpoints.memory import MemoryCheckpoint, as_numpy
from rankscope.errors import InputRejected
from tests.contracts.reader import ALL_DTYPES, as_dtype, whole

TORCH_DTYPES = {name: getattr(torch, name) for name in ALL_DTYPES}


def only(tensor: Any) -> MemoryCheckpoint:
    return MemoryCheckpoint({"w": tensor})


class TestListing:
    @pytest.mark.parametrize("name", ALL_DTYPES)
    def test_every_dtype_of_numpy_and_torch(self, name: str) -> None:
        for tensor in (np.ones((2, 3), as_dtype(name)), torch.ones(2, 3).to(TORCH_DTYPES[name])):
            (info,) = only(tensor).listing.tensors
            assert (info.name, info.shape, info.dtype) == ("w", (2, 3), name)

    @pytest.mark.parametrize(
        ("tensor", "reason"),
        [
            (3.0, "float: not an array"),
            ([[1.0, 2.0]], "list: not an array"),
            (None, "NoneType: not an array"),
            ({"w": np.eye(2)}, "dict: not an array"),
            (torch.eye(3).to_sparse(), "torch.sparse_coo: only dense tensors are supported"),
            (torch.empty(3, 3, device="meta"), "Tensor: has no numbers yet"),
        ],
    )
    def test_what_cannot_be_read_is_skipped(self, tensor: Any, reason: str) -> None:
        listing = only(tensor).listing
        assert listing.tensors == ()
        assert [(item.name, item.reason) for item in listing.skipped] == [("w", reason)]

    def test_a_lazy_module_that_has_seen_no_input(self) -> None:
        result = rankscope.analyze(torch.nn.LazyLinear(3))
        assert [row["reason"] for row in result.skipped] == [
            "UninitializedParameter: has no numbers yet"
        ] * 2

    def test_an_open_hdf5_dataset(self, tmp_path: Path) -> None:
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file["w"] = np.eye(3)
            assert only(file["w"]).listing.skipped[0].reason == "Dataset: not an array"

    def test_keys_that_are_no_names(self) -> None:
        result = rankscope.analyze({0: np.eye(2), ("a", 1): np.eye(2), "w": np.eye(2)})
        assert [row["name"] for row in result.matrices] == ["w"]
        assert [(row["name"], row["reason"]) for row in result.skipped] == [
            ("0", "its key is of type int, expected a name"),
            ("('a', 1)", "its key is of type tuple, expected a name"),
        ]

    @pytest.mark.parametrize(
        ("tensor", "reason"),
        [
            (np.ones((2, 2), np.int8), "int8: quantised or an index, no scales"),
            (np.ones((2, 2), np.complex128), "complex128: complex weights are not supported"),
            (np.ones((2, 2), bool), "bool: not a floating-point type"),
            (np.full((2, 2), None), "object: not a floating-point type"),
            (np.ones((2, 2), ml_dtypes.float8_e4m3fnuz), "float8_e4m3fnuz: not supported"),
            (torch.ones(2, 2, dtype=torch.int32), "int32: quantised or an index, no scales"),
            (np.float32(1), "scalar"),
            (torch.ones(3), "vector"),
        ],
    )
    def test_what_is_no_matrix_of_floats(self, tensor: Any, reason: str) -> None:
        result = rankscope.analyze({"w": tensor})
        assert result.matrices == ()
        assert result.skipped[0]["reason"].startswith(reason)
        assert not result.incomplete

    @pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
    def test_a_quantised_tensor(self) -> None:
        tensor = torch.quantize_per_tensor(torch.ones(2, 2), 0.1, 0, torch.qint8)
        assert rankscope.analyze({"w": tensor}).skipped[0]["reason"].startswith("qint8: not a")


class TestRead:
    @pytest.mark.parametrize("name", ALL_DTYPES)
    def test_torch_and_numpy_give_the_same_bits(self, name: str) -> None:
        values = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)
        tensor = torch.from_numpy(values).to(TORCH_DTYPES[name])
        array = values.astype(as_dtype(name))
        windows = [
            only(one).read(whole(only(one).listing.tensors[0]), slice(1, 4), slice(0, 3))
            for one in (tensor, array)
        ]
        assert windows[0].dtype == windows[1].dtype == as_dtype(name)
        assert windows[0].tobytes() == windows[1].tobytes() == array[1:4, :3].tobytes()

    @pytest.mark.parametrize("split", [1, 2, 3])
    def test_folds_as_numpy_does(self, split: int) -> None:
        array = np.arange(120.0).reshape(5, 4, 3, 2)
        for tensor in (array, np.asfortranarray(array), torch.from_numpy(array)):
            spec = whole(only(tensor).listing.tensors[0], split)
            window = only(tensor).read(spec, slice(1, 5), slice(1, 2))
            np.testing.assert_array_equal(window, array.reshape(spec.shape)[1:5, 1:2])

    def test_a_strided_tensor_that_wants_a_gradient(self) -> None:
        tensor = torch.arange(12.0).reshape(3, 4).t().requires_grad_()
        window = only(tensor).read(whole(only(tensor).listing.tensors[0]), slice(0, 4), slice(0, 3))
        np.testing.assert_array_equal(window, np.arange(12.0).reshape(3, 4).T)

    def test_big_endian(self) -> None:
        array = np.arange(6.0).reshape(2, 3) + 1
        assert (
            rankscope.analyze({"w": array.astype(">f8")}).matrices[0]["frobenius_norm"]
            == rankscope.analyze({"w": array}).matrices[0]["frobenius_norm"]
        )

    def test_nothing_is_copied_but_the_window(self) -> None:
        array = np.zeros((1000, 1000))
        window = only(array).read(whole(only(array).listing.tensors[0]), slice(3, 5), slice(0, 9))
        assert np.shares_memory(window, array)

    def test_the_weights_are_not_changed(self) -> None:
        module = torch.nn.Linear(4, 3)
        before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
        rankscope.analyze(module)
        for name, tensor in module.state_dict().items():
            assert torch.equal(tensor, before[name])

    def test_as_numpy_refuses_a_tensor_of_no_floats(self) -> None:
        with pytest.raises(InputRejected, match="memory: complex64: not a floating-point type"):
            as_numpy(torch.ones(2, 2, dtype=torch.complex64))


def test_arrays_are_read_without_torch() -> None:
    code = (
        "import sys, numpy\n"
        "from rankscope.checkpoints.memory import MemoryCheckpoint, as_numpy\n"
        "assert len(MemoryCheckpoint({'w': numpy.eye(3)}).listing.tensors) == 1\n"
        "as_numpy(numpy.eye(3))\n"
        "assert 'torch' not in sys.modules\n"
    )
    root = str(Path(__file__).parents[2])
    subprocess.run(
        [sys.executable, "-c", code], check=True, timeout=20, env={**os.environ, "PYTHONPATH": root}
    )

"""Copies of tensors: every type bit for bit, private, contiguous."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch

from rankscope.errors import UsageError
from rankscope.hostcopy import STORABLE, copies_in_place, host_copies, named_tensors

TORCH_TYPES = sorted(name for name in STORABLE if hasattr(torch, name))


def random_bits(dtype: np.dtype[Any], shape: tuple[int, ...]) -> Any:
    """Arbitrary bits, NaNs and subnormals among them."""
    size = int(np.prod(shape)) * dtype.itemsize
    high = 2 if dtype == np.bool_ else 256
    raw = np.random.default_rng(0).integers(0, high, size, np.uint8)
    return raw.view(dtype).reshape(shape)


@pytest.mark.parametrize("name", TORCH_TYPES)
def test_torch_types_bit_for_bit(name: str) -> None:
    dtype = np.dtype(getattr(ml_dtypes, name, None) or name)
    bits = random_bits(dtype, (6, 4))
    tensor = torch.frombuffer(bytearray(bits.tobytes()), dtype=getattr(torch, name)).reshape(6, 4)
    copies = host_copies({"whole": tensor, "turned": tensor.t(), "one": tensor[1, 2]})
    assert copies["whole"].dtype == dtype
    assert copies["whole"].tobytes() == bits.tobytes()
    assert copies["turned"].tobytes() == np.ascontiguousarray(bits.T).tobytes()
    assert copies["one"].shape == ()
    assert copies["one"].tobytes() == bits[1, 2].tobytes()


@pytest.mark.parametrize("name", sorted(STORABLE))
def test_numpy_types_bit_for_bit(name: str) -> None:
    dtype = np.dtype(getattr(ml_dtypes, name, None) or name)
    bits = random_bits(dtype, (6, 4))
    copies = host_copies({"strided": bits[::2, ::-1]})
    assert copies["strided"].dtype == dtype
    assert copies["strided"].tobytes() == np.ascontiguousarray(bits[::2, ::-1]).tobytes()


def test_big_endian_arrays_keep_their_values() -> None:
    array = np.array([1.5, -2.0], ">f4")
    copy = host_copies({"w": array})["w"]
    assert copy.tobytes() == np.array([1.5, -2.0], "<f4").tobytes()


@pytest.mark.parametrize("make", [torch.zeros, np.zeros], ids=["torch", "numpy"])
def test_later_changes_do_not_show(make: Any) -> None:
    weights = make((3, 2))
    copy = host_copies({"w": weights})["w"]
    weights += 1
    np.testing.assert_array_equal(copy, np.zeros((3, 2)))


def test_tied_tensors_are_copied_once_and_named_twice() -> None:
    weight = torch.nn.Parameter(torch.ones(3, 2))
    copies = host_copies({"embed": weight.detach(), "head": weight.detach(), "t": weight.t()})
    assert copies["embed"] is copies["head"]
    assert copies["t"].shape == (2, 3)


def test_a_module_gives_its_state_dict() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    copies = host_copies(named_tensors(model))
    assert set(copies) == set(model.state_dict())
    assert copies["1.num_batches_tracked"].dtype == np.int64


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"w": 3.0}, "'w' is a float, expected a tensor"),
        ({"optimizer": {"lr": 1}}, "'optimizer' is a dict, .*pass model.state_dict"),
        ({1: torch.ones(2)}, "1 is a Tensor, expected a tensor under a string"),
        ({"w": torch.ones(2, dtype=torch.complex64)}, "w: complex64 cannot be stored"),
        ({"w": np.array(["a"])}, "w: str.* cannot be stored"),
        ({"w": np.array([{}])}, "w: object cannot be stored"),
        ({"w": torch.empty(2, device="meta")}, "w: cannot be copied to host memory"),
        ({"w": torch.eye(2).to_sparse()}, "w: cannot be copied to host memory"),
    ],
)
def test_refuses_what_cannot_be_stored(tensors: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        host_copies(tensors)
    assert "\n" not in str(caught.value)


def test_refuses_what_is_no_mapping() -> None:
    with pytest.raises(UsageError, match="cannot save a list, expected a model"):
        named_tensors([torch.ones(2)])


def test_what_is_in_host_memory_is_copied_once() -> None:
    weights = {"w": torch.ones(3), "v": np.zeros(2)}
    host = host_copies(weights)
    again = copies_in_place(weights, host)
    assert all(again[name] is host[name] for name in weights)
    assert not np.shares_memory(copies_in_place(weights, {})["v"], weights["v"])

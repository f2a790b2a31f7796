"""The torch reader against torch itself: what torch.save writes, read without torch."""

from __future__ import annotations

import argparse
import collections
import datetime
import io
import pathlib
import random
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rankscope.checkpoints import reader_for
from rankscope.checkpoints.torchzip import TorchReader
from rankscope.errors import InputRejected
from rankscope.matrices import Selection, select
from rankscope.records import Checkpoint
from tests.checkpoints.torch_files import Call, G, open_in_child, tensor, write_archive
from tests.contracts.reader import Arrays, ReaderContract, whole

TORCH_DTYPES = {
    "bfloat16": torch.bfloat16,
    "float8_e4m3fn": torch.float8_e4m3fn,
    "float8_e5m2": torch.float8_e5m2,
}


def as_tensor(array: Any) -> torch.Tensor:
    """A NumPy array with the same bits; torch does not know ml_dtypes' types."""
    own = TORCH_DTYPES.get(array.dtype.name)
    if own is None:
        return torch.from_numpy(array)
    return torch.from_numpy(array.view(f"u{array.itemsize}").astype(f"i{array.itemsize}")).view(own)


class TestContract(ReaderContract):
    reader = TorchReader()
    suffix = ".pt"

    def write(self, path: Path, arrays: Arrays) -> None:
        torch.save({name: as_tensor(array) for name, array in arrays.items()}, path)


def saved(tmp_path: Path, value: object) -> Checkpoint:
    torch.save(value, tmp_path / "model.pt")
    return TorchReader().open(tmp_path / "model.pt")


def names(checkpoint: Checkpoint) -> list[str]:
    return [info.name for info in checkpoint.listing.tensors]


def reasons(checkpoint: Checkpoint) -> dict[str, str]:
    return {item.name: item.reason for item in checkpoint.listing.skipped}


def matrix(checkpoint: Checkpoint, name: str) -> Any:
    info = next(info for info in checkpoint.listing.tensors if info.name == name)
    spec = whole(info)
    return checkpoint.read(spec, slice(0, spec.shape[0]), slice(0, spec.shape[1]))


class TestLayouts:
    def test_views_read_as_torch_reads_them(self, tmp_path: Path) -> None:
        base = torch.arange(240, dtype=torch.float32)
        views = {
            "transposed": base[:12].view(3, 4).t(),
            "offset": base[7:19].view(3, 4),
            "sliced": base.view(12, 20)[2:9, 3:11],
            "strided": base.view(12, 20)[::3, ::2],
            "row": base[:5].expand(3, 5),
            "column": base[:3].view(3, 1).expand(3, 5),
            "one": base[3].expand(4, 4),
            "channels_last": base.view(2, 5, 4, 6).to(memory_format=torch.channels_last),
            "permuted": base.view(4, 5, 3, 4).permute(2, 0, 3, 1),
            "diagonal": base.as_strided((4, 3), (21, 1)),
            "empty": base[:0].view(0, 4),
        }
        checkpoint = saved(tmp_path, views)
        assert names(checkpoint) == list(views)
        for name, view in views.items():
            if name == "empty":
                continue
            expected = view.reshape(view.shape[0], -1).numpy()
            np.testing.assert_array_equal(matrix(checkpoint, name), expected, err_msg=name)

    def test_tied_weights_are_both_listed_and_stored_once(self, tmp_path: Path) -> None:
        weight = torch.randn(5, 3)
        checkpoint = saved(tmp_path, {"embed": weight, "head": weight, "part": weight[1:3]})
        assert names(checkpoint) == ["embed", "head", "part"]
        np.testing.assert_array_equal(matrix(checkpoint, "head"), weight.numpy())
        np.testing.assert_array_equal(matrix(checkpoint, "part"), weight[1:3].numpy())

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
    def test_big_endian_files(self, tmp_path: Path, dtype: torch.dtype) -> None:
        weight = torch.randn(4, 3).to(dtype)
        torch.save({"w": weight}, tmp_path / "little.pt")
        width = weight.element_size()
        with (
            zipfile.ZipFile(tmp_path / "little.pt") as little,
            zipfile.ZipFile(tmp_path / "big.pt", "w") as big,
        ):
            for name in little.namelist():
                data = little.read(name)
                if name.endswith("data/0"):
                    data = np.frombuffer(data, f"V{width}").view(f"u{width}").byteswap().tobytes()
                big.writestr(name, b"big" if name.endswith("byteorder") else data)
        window = matrix(TorchReader().open(tmp_path / "big.pt"), "w")
        np.testing.assert_array_equal(window.astype(np.float64), weight.double().numpy())

    @pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.uint16, torch.bool])
    def test_other_types_are_listed(self, tmp_path: Path, dtype: torch.dtype) -> None:
        (info,) = saved(tmp_path, {"w": torch.ones(2, 2).to(dtype)}).listing.tensors
        assert info.dtype == str(dtype).removeprefix("torch.")

    @pytest.mark.filterwarnings("ignore")
    def test_what_is_not_plain_numbers_is_skipped_with_a_reason(self, tmp_path: Path) -> None:
        dense = torch.randn(3, 4)
        checkpoint = saved(
            tmp_path,
            {
                "w": dense,
                "coo": dense.to_sparse(),
                "csr": dense.to_sparse_csr(),
                "qint8": torch.quantize_per_tensor(dense, 0.1, 0, torch.qint8),
                "channel": torch.quantize_per_channel(
                    dense, torch.ones(3), torch.zeros(3), 0, torch.qint8
                ),
                "meta": torch.empty(2, 2, device="meta"),
                "nested": torch.nested.nested_tensor([dense, dense]),
                "e8m0": dense.to(torch.float8_e8m0fnu),
                "neg": torch.randn(3, 3, dtype=torch.complex64).conj().imag,
                "array": np.ones(3),
                "storage": torch.ones(2).untyped_storage(),
            },
        )
        assert names(checkpoint) == ["w", "e8m0"]  # the second is listed, as scales may be
        assert select(checkpoint.listing, Selection())[1][-1].name == "e8m0"
        expected = {
            "coo": "sparse",
            "csr": "sparse",
            "qint8": "quantised",
            "channel": "quantised",
            "meta": "never stored",
            "nested": "nested",
            "neg": "negation",
            "array": "NumPy array",
            "storage": "without a shape",
        }
        found = reasons(checkpoint)
        assert found.keys() == expected.keys()
        assert all(text in found[name] for name, text in expected.items()), found

    def test_a_parameter_with_attributes_is_a_tensor(self, tmp_path: Path) -> None:
        parameter = torch.nn.Parameter(torch.randn(2, 3))
        parameter.note = "kept"  # type: ignore[attr-defined]
        checkpoint = saved(
            tmp_path, {"p": parameter, "b": torch.nn.Buffer(torch.ones(2, 2)), "q": torch.ones(1)}
        )
        assert names(checkpoint) == ["p", "b", "q"]
        np.testing.assert_array_equal(matrix(checkpoint, "p"), parameter.detach().numpy())

    def test_a_subclass_is_skipped_by_name(self, tmp_path: Path) -> None:
        plain = tensor()
        wrapped = Call(
            G("torch._tensor", "_rebuild_from_type_v2"),
            (plain.function, G("torchao", "Int4"), plain.arguments, {}),
        )
        path = write_archive(tmp_path / "a.pt", {"w": wrapped})
        assert "'torchao.Int4'" in reasons(TorchReader().open(path))["w"]


class TestNames:
    def model(self) -> torch.nn.Module:
        return torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3))

    def test_a_state_dict_is_listed_in_order(self, tmp_path: Path) -> None:
        state = self.model().state_dict()
        assert names(saved(tmp_path, state)) == list(state)

    @pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model", "module", "net"])
    @pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod."])
    def test_wrappers_and_prefixes_go(self, tmp_path: Path, key: str, prefix: str) -> None:
        state = self.model().state_dict()
        wrapped = {prefix + name: value for name, value in state.items()}
        checkpoint = saved(tmp_path, {"epoch": 3, key: wrapped, "best": torch.tensor(0.5)})
        assert names(checkpoint) == list(state)
        assert reasons(checkpoint) == {"best": f"outside the state dict, which is '{key}'"}

    def test_a_prefix_that_one_name_lacks_stays(self, tmp_path: Path) -> None:
        value = torch.ones(2, 2)
        assert names(saved(tmp_path, {"module.a": value, "b": value})) == ["module.a", "b"]

    def test_two_parts_of_one_model_both_stay(self, tmp_path: Path) -> None:
        value = torch.ones(2, 2)
        parts = {"net": {"w": value}, "head": {"w": value}}
        assert names(saved(tmp_path, parts)) == ["net.w", "head.w"]

    def test_a_training_checkpoint_gives_its_weights_and_names_the_rest(
        self, tmp_path: Path
    ) -> None:
        model = self.model()
        optimiser = torch.optim.AdamW(model.parameters())
        model(torch.randn(5, 4)).sum().backward()
        optimiser.step()
        checkpoint = saved(
            tmp_path,
            {
                "state_dict": model.state_dict(),
                "optimizer_states": [optimiser.state_dict()],
                "hyper_parameters": argparse.Namespace(lr=0.1, path=pathlib.Path("runs"), t=None),
                "held": argparse.Namespace(mask=torch.ones(2)),
                "random": [torch.get_rng_state(), np.random.get_state(), random.getstate()],  # noqa: NPY002
                "numbers": [np.float64(3), np.dtype("f4"), 1j, b"abc", bytearray(b"abc")],
                "containers": [{1, 2}, frozenset([1]), collections.Counter("abc"), slice(1, 2)],
                "more": [collections.defaultdict(list, a=[1]), collections.deque([1]), range(3)],
                "when": [datetime.datetime(2024, 1, 1), datetime.timedelta(1)],
                "named": [torch.float16, torch.device("cpu"), torch.Size((1, 2)), torch.nn.Linear],
                "keys": {(1, 2): torch.ones(2)},
            },
        )
        assert names(checkpoint) == list(model.state_dict())
        found = reasons(checkpoint)
        assert found.pop("held.mask").startswith("held by argparse.Namespace")
        assert found.pop("keys.<tuple>").startswith("under a tuple")
        assert found.pop("random.1.1").startswith("NumPy array")
        assert found.pop("random.0").startswith("outside the state dict")
        assert set(found.values()) == {"optimiser state"}
        assert "optimizer_states.0.state.0.exp_avg" in found

    def test_lists_and_single_tensors_have_names(self, tmp_path: Path) -> None:
        value = torch.ones(2, 2)
        assert names(saved(tmp_path, [value, {"a": [value]}])) == ["0", "1.a.0"]
        assert names(saved(tmp_path, value)) == ["tensor"]

    def test_names_that_meet_are_rejected(self, tmp_path: Path) -> None:
        value = torch.ones(2, 2)
        with pytest.raises(InputRejected, match=r"a\.b: two tensors"):
            saved(tmp_path, {"a": {"b": value}, "a.b": value})


class TestOtherFiles:
    def test_a_legacy_file_is_rejected_with_the_remedy(self, tmp_path: Path) -> None:
        path = tmp_path / "weights.safetensors"
        torch.save({"w": torch.ones(2)}, path, _use_new_zipfile_serialization=False)
        assert reader_for(path).name == "torch"
        with pytest.raises(InputRejected, match=r"legacy torch file.*weights_only=True"):
            reader_for(path).open(path)

    def test_a_bare_pickle_is_rejected(self, tmp_path: Path) -> None:
        path = tmp_path / "weights.pkl"
        path.write_bytes(b"\x80\x04\x95\x00\x00\x00\x00\x00\x00\x00\x00cos\nsystem\n.")
        with pytest.raises(InputRejected, match="bare pickle"):
            reader_for(path).open(path)

    @pytest.mark.filterwarnings("ignore")
    def test_torchscript_is_rejected_with_the_remedy(self, tmp_path: Path) -> None:
        path = tmp_path / "script.pt"
        program = torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2))  # type: ignore[no-untyped-call]
        torch.jit.save(program, path)
        with pytest.raises(InputRejected, match=r"TorchScript.*state_dict"):
            reader_for(path).open(path)

    def test_a_whole_model_is_rejected_with_the_remedy(self, tmp_path: Path) -> None:
        with pytest.raises(InputRejected, match=r"'torch\.nn\.modules\.linear\.Linear'.*state_dic"):
            saved(tmp_path, torch.nn.Linear(2, 2))

    def test_an_npz_file_is_not_ours(self, tmp_path: Path) -> None:
        buffer = io.BytesIO()
        np.savez(buffer, w=np.ones(3))
        assert not TorchReader().recognises(buffer.getvalue()[:4096])

    def test_a_safetensors_header_that_begins_like_a_pickle_is_not_ours(self) -> None:
        assert not TorchReader().recognises(struct.pack("<Q", 0x0280) + b'{"w":')

    @pytest.mark.parametrize("other", [{}, {"x/data.pkl": b"N.", "y/data.pkl": b"N."}])
    def test_other_zip_archives_are_rejected(self, tmp_path: Path, other: dict[str, bytes]) -> None:
        path = tmp_path / "a.pt"
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in {"readme": b"", **other}.items():
                archive.writestr(name, data)
        with pytest.raises(InputRejected, match=r"data\.pkl, expected one"):
            reader_for(path).open(path)

    def test_torch_is_not_needed(self, tmp_path: Path) -> None:
        torch.save(torch.nn.Linear(2, 2).state_dict(), tmp_path / "a.pt")
        prelude = (
            "import sys\n"
            "class Refuse:\n"
            "    def find_spec(self, name, path=None, target=None):\n"
            "        if name.partition('.')[0] == 'torch': raise AssertionError('torch imported')\n"
            "sys.meta_path.insert(0, Refuse())\n"
        )
        assert open_in_child(tmp_path / "a.pt", prelude) == "['weight', 'bias']"

"""The safetensors reader against the safetensors library, and against random damage."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rankscope import analyze
from rankscope.checkpoints import open_checkpoint
from rankscope.checkpoints.safetensors import SafetensorsReader
from rankscope.errors import InputRejected
from rankscope.how import How
from rankscope.matrices import Selection, select
from rankscope.storedmatrix import StoredMatrix
from tests.checkpoints.safetensors_files import entry, library_refuses, write
from tests.contracts.reader import ALL_DTYPES, Arrays, ReaderContract, as_dtype, whole


class TestContract(ReaderContract):
    reader = SafetensorsReader()
    suffix = ".safetensors"

    def write(self, path: Path, arrays: Arrays) -> None:
        safetensors.numpy.save_file(arrays, path)


class TestSound:
    @given(
        st.lists(
            st.tuples(
                st.sampled_from([*ALL_DTYPES, "int64", "uint8", "bool"]),
                st.lists(st.integers(0, 4), max_size=4),
            ),
            max_size=6,
        )
    )
    @settings(max_examples=50, deadline=None)
    def test_reads_what_the_library_wrote(
        self, tmp_path_factory: pytest.TempPathFactory, tensors: list[tuple[str, list[int]]]
    ) -> None:
        rng = np.random.default_rng(0)
        arrays = {
            f"t{i}": np.asarray(rng.standard_normal(shape) * 50).astype(as_dtype(dtype))
            for i, (dtype, shape) in enumerate(tensors)
        }
        path = tmp_path_factory.mktemp("sound") / "m.safetensors"
        safetensors.numpy.save_file(arrays, path, {"format": "pt"})
        checkpoint = open_checkpoint(path)
        found = {t.name: (t.shape, t.dtype) for t in checkpoint.listing.tensors}
        assert found == {name: (a.shape, a.dtype.name) for name, a in arrays.items()}
        for info in checkpoint.listing.tensors:
            if len(info.shape) >= 2:
                spec = whole(info)
                window = checkpoint.read(spec, slice(0, spec.shape[0]), slice(0, spec.shape[1]))
                assert window.tobytes() == arrays[info.name].tobytes()
        checkpoint.close()

    def test_a_file_that_torch_wrote(self, tmp_path: Path) -> None:
        weight = torch.randn(5, 7, dtype=torch.bfloat16)
        safetensors.torch.save_file({"w": weight}, tmp_path / "m.safetensors")
        checkpoint = open_checkpoint(tmp_path / "m.safetensors")
        window = checkpoint.read(whole(checkpoint.listing.tensors[0]), slice(0, 5), slice(0, 7))
        np.testing.assert_array_equal(window.astype(np.float32), weight.float().numpy())
        checkpoint.close()

    def test_the_header_padded_with_blanks(self, tmp_path: Path) -> None:
        # The library pads so that the data is aligned; any number of blanks is legal.
        path = write(
            tmp_path / "m", b'{"w":{"dtype":"F32","shape":[1,1],"data_offsets":[0,4]}}  ', bytes(4)
        )
        assert not library_refuses(path)
        assert [t.name for t in open_checkpoint(path).listing.tensors] == ["w"]

    def test_metadata_is_no_tensor(self, tmp_path: Path) -> None:
        path = write(tmp_path / "m", {"__metadata__": {"a": "b"}, "w": entry()}, bytes(4))
        assert [t.name for t in open_checkpoint(path).listing.tensors] == ["w"]

    def test_a_header_without_tensors(self, tmp_path: Path) -> None:
        assert open_checkpoint(write(tmp_path / "m", {})).listing.tensors == ()

    def test_unicode_names(self, tmp_path: Path) -> None:
        safetensors.numpy.save_file({"层.權重": np.eye(2)}, tmp_path / "m.safetensors")
        tensors = open_checkpoint(tmp_path / "m.safetensors").listing.tensors
        assert [t.name for t in tensors] == ["层.權重"]

    def test_a_link_to_a_file(self, tmp_path: Path) -> None:
        safetensors.numpy.save_file({"w": np.eye(2)}, tmp_path / "m.safetensors")
        (tmp_path / "link").symlink_to("m.safetensors")
        assert [t.name for t in open_checkpoint(tmp_path / "link").listing.tensors] == ["w"]

    def test_every_code_of_the_library_is_known_or_skipped(self, tmp_path: Path) -> None:
        arrays = {
            "e4m3": np.ones((2, 2), ml_dtypes.float8_e4m3fn),
            "c64": np.ones((2, 2), np.complex64),
            "i8": np.ones((2, 2), np.int8),
            "u16": np.ones((2, 2), np.uint16),
        }
        safetensors.numpy.save_file(arrays, tmp_path / "m")
        result = analyze(tmp_path / "m", how=How(store=False))
        assert [row["name"] for row in result.matrices] == ["e4m3"]
        assert {row["name"]: row["reason"] for row in result.skipped} == {
            "c64": "complex64: complex weights are not supported",
            "i8": "int8: quantised or an index, no scales",
            "u16": "uint16: quantised or an index, no scales",
        }


def read_everything(path: Path) -> None:
    """Read all that a file lists, in blocks."""
    checkpoint = open_checkpoint(path)
    try:
        specs, _ = select(checkpoint.listing, Selection())
        for spec in specs:
            for block in StoredMatrix(checkpoint, spec).blocks(0, 64):
                assert block.shape[1] == spec.shape[1]
    finally:
        checkpoint.close()


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    path = tmp_path_factory.mktemp("fuzz") / "m.safetensors"
    arrays: Arrays = {
        "a": np.ones((3, 4), np.float32),
        "experts": np.ones((2, 3, 4), ml_dtypes.bfloat16),
        "i": np.ones((2, 2), np.int64),
        "s": np.array(1.0),
    }
    safetensors.numpy.save_file(arrays, path)
    return path, path.read_bytes()


class TestFuzz:
    """Damage gives `InputRejected`, or a listing whose reads succeed or are `InputRejected`."""

    @given(data=st.data())
    @settings(max_examples=400, deadline=None)
    def test_bytes_changed(self, sound: tuple[Path, bytes], data: st.DataObject) -> None:
        path, content = sound
        damaged = bytearray(content)
        places = st.one_of(st.integers(0, 7), st.integers(0, len(content) - 1))
        # Bytes that mean something in JSON get further than any others.
        values = st.one_of(st.integers(0, 255), st.sampled_from(b'0123456789[]{},:"-.eFBI'))
        for place, value in data.draw(st.lists(st.tuples(places, values), min_size=1, max_size=5)):
            damaged[place] = value
        self.survives(path, bytes(damaged))

    @given(data=st.data())
    @settings(max_examples=200, deadline=None)
    def test_cut_and_pasted(self, sound: tuple[Path, bytes], data: st.DataObject) -> None:
        path, content = sound
        at = data.draw(st.integers(0, len(content)))
        gone = data.draw(st.integers(0, 40))
        new = data.draw(st.one_of(st.binary(max_size=20), st.just(content[at : at + 30])))
        self.survives(path, content[:at] + new + content[at + gone :])

    def survives(self, path: Path, content: bytes) -> None:
        path.write_bytes(content)
        try:
            read_everything(path)
        except InputRejected as error:
            assert error.path == str(path)  # noqa: PT017

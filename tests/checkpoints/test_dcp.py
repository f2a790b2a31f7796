"""Directories of torch.distributed.checkpoint against torch itself, read without torch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict
from torch.distributed.checkpoint.state_dict_saver import save as dcp_save

from rankscope import analyze
from rankscope.checkpoints import is_isolated, needs_isolation, open_checkpoint
from rankscope.checkpoints.dcp_files import MAX_OPEN
from rankscope.errors import InputRejected
from rankscope.how import How
from rankscope.matrices import Selection, select
from rankscope.records import Checkpoint, MatrixSpec
from tests.checkpoints.dcp_dirs import Boxes, craft, described, loaded, save, write

# Two processes that shard tensors in every way that a mesh of one axis can.
RANK = """
import os, sys, warnings
warnings.simplefilter("ignore")
import torch, torch.distributed as dist, torch.distributed.checkpoint as dcp
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Replicate, Shard, distribute_tensor
from torch.distributed.checkpoint.state_dict import get_state_dict
rank, directory = int(sys.argv[1]), sys.argv[2]
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method=f"file://{directory}.init", rank=rank, world_size=2)
mesh = init_device_mesh("cpu", (2,))
torch.manual_seed(0)
shards = {
    name: distribute_tensor(torch.randn(shape), mesh, [Shard(axis) if axis >= 0 else Replicate()])
    for name, shape, axis in [
        ("rows", (7, 6), 0), ("columns", (6, 7), 1), ("conv", (5, 3, 3, 3), 0),
        ("inputs", (4, 5, 3, 3), 1), ("kernel", (4, 2, 5, 3), 2), ("both", (4, 4), -1),
        ("short", (1, 5), 0), ("vector", (5,), 0), ("stack", (4, 17, 18), 2),
    ]
}
net = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.Linear(5, 3))
fully_shard(net, mesh=mesh)
optimiser = torch.optim.Adam(net.parameters())
net(torch.ones(2, 6)).sum().backward()
optimiser.step()
model, moments = get_state_dict(net, optimiser)
dcp.save({"model": {**shards, **model}, "optim": moments, "step": 3}, checkpoint_id=directory)
dist.destroy_process_group()
os._exit(0)  # Gloo's threads may still run, and abort a process that unwinds
"""


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("dcp") / "two"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    ranks = [
        subprocess.Popen([sys.executable, "-c", RANK, str(rank), str(directory)], env=environment)
        for rank in range(2)
    ]
    assert [rank.wait(timeout=120) for rank in ranks] == [0, 0]
    return directory


def specs(checkpoint: Checkpoint) -> dict[str, MatrixSpec]:
    return {spec.name: spec for spec in select(checkpoint.listing, Selection())[0]}


def matrix(checkpoint: Checkpoint, name: str) -> Any:
    spec = specs(checkpoint)[name]
    return checkpoint.read(spec, slice(0, spec.shape[0]), slice(0, spec.shape[1]))


def names(checkpoint: Checkpoint) -> list[str]:
    return [tensor.name for tensor in checkpoint.listing.tensors]


def reasons(checkpoint: Checkpoint) -> dict[str, str]:
    return {item.name: item.reason for item in checkpoint.listing.skipped}


class TestSeveralRanks:
    def test_every_tensor_is_as_torch_joins_it(self, two_ranks: Path) -> None:
        expected = loaded(two_ranks)["model"]
        with open_checkpoint(two_ranks) as checkpoint:
            shapes = {tensor.name: tensor.shape for tensor in checkpoint.listing.tensors}
            assert shapes == {name: tuple(tensor.shape) for name, tensor in expected.items()}
            assert {"rows", "stack", "0.weight", "1.bias"} <= set(shapes)
            for spec in specs(checkpoint).values():
                whole = expected[spec.tensor][spec.index].reshape(spec.shape).numpy()
                found = checkpoint.read(spec, slice(0, spec.shape[0]), slice(0, spec.shape[1]))
                np.testing.assert_array_equal(found, whole, err_msg=spec.name)

    def test_they_are_chunks_indeed(self, two_ranks: Path) -> None:
        with open_checkpoint(two_ranks) as checkpoint:
            files = {Path(file).name for file in checkpoint.listing.files}
            assert files == {".metadata", "__0_0.distcp", "__1_0.distcp"}
        (two_ranks / "__1_0.distcp").rename(two_ranks / "away")
        try:
            with open_checkpoint(two_ranks) as checkpoint:
                missing = {item.name: item.reason for item in checkpoint.listing.missing}
        finally:
            (two_ranks / "away").rename(two_ranks / "__1_0.distcp")
        assert {"rows", "columns", "conv", "stack", "0.weight"} <= set(missing)
        assert missing["rows"] == "__1_0.distcp is missing"

    def test_the_optimisers_state_is_skipped(self, two_ranks: Path) -> None:
        with open_checkpoint(two_ranks) as checkpoint:
            told = reasons(checkpoint)
        assert told["optim.state.0.weight.exp_avg"] == "optimiser state"
        assert told["step"] == "a pickled object, no tensor"


BOXES = st.lists(st.integers(1, 6), min_size=2, max_size=4).map(tuple)


@st.composite
def partitions(draw: st.DrawFn) -> tuple[tuple[int, ...], Boxes]:
    """A shape, and boxes that halving it again and again at any place gives."""
    shape = draw(BOXES)
    boxes = [(tuple(0 for _ in shape), shape)]
    for _ in range(draw(st.integers(0, 6))):
        offsets, sizes = boxes.pop(draw(st.integers(0, len(boxes) - 1)))
        axis = draw(st.integers(0, len(shape) - 1))
        cut = draw(st.integers(0, sizes[axis]))  # at an end: one of the two is empty
        moved = tuple(o + cut * (i == axis) for i, o in enumerate(offsets))
        boxes.append((offsets, tuple(cut if i == axis else n for i, n in enumerate(sizes))))
        boxes.append((moved, tuple(n - cut * (i == axis) for i, n in enumerate(sizes))))
    return shape, draw(st.permutations([box for box in boxes if all(box[1])]))


class TestWindows:
    @given(partitions(), st.data())
    def test_of_any_partition(
        self, tmp_path_factory: pytest.TempPathFactory, cut: tuple[Any, Any], data: st.DataObject
    ) -> None:
        shape, boxes = cut
        directory = tmp_path_factory.mktemp("cut")
        tensor = torch.arange(float(np.prod(shape))).reshape(shape)
        craft(directory, {"w": (tensor, boxes)})
        split = data.draw(st.integers(1, len(shape) - 1))
        folded = tensor.reshape(int(np.prod(shape[:split])), -1).numpy()
        spec = MatrixSpec("w", "w", (), split, folded.shape, "float32", "linear")
        rows, columns = (
            slice(*sorted(data.draw(st.tuples(st.integers(0, n), st.integers(0, n)))))
            for n in folded.shape
        )
        with open_checkpoint(directory) as checkpoint:
            assert not checkpoint.listing.missing
            found = checkpoint.read(spec, rows, columns)
        np.testing.assert_array_equal(found, folded[rows, columns])

    @pytest.mark.parametrize(
        "dtype", ["float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"]
    )
    def test_every_dtype(self, tmp_path: Path, dtype: str) -> None:
        whole = torch.randn(6, 5).to(getattr(torch, dtype))
        craft(tmp_path, {"w": (whole, [((0, 0), (4, 5)), ((4, 0), (2, 5))])})
        with open_checkpoint(tmp_path) as checkpoint:
            assert checkpoint.listing.tensors[0].dtype == dtype
            found = matrix(checkpoint, "w")
        assert found.dtype.name == dtype
        np.testing.assert_array_equal(found.astype(np.float64), whole.double().numpy())

    def test_chunks_in_any_memory_order(self, tmp_path: Path) -> None:
        turned = torch.arange(12.0).reshape(3, 4).t()  # torch keeps its strides
        last = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
        save(tmp_path / "m", {"turned": turned, "last": last})
        with open_checkpoint(tmp_path / "m") as checkpoint:
            np.testing.assert_array_equal(matrix(checkpoint, "turned"), turned.numpy())
            np.testing.assert_array_equal(matrix(checkpoint, "last"), last.reshape(2, -1).numpy())

    def test_vectors_and_scalars_can_be_read_too(self, tmp_path: Path) -> None:
        """As those need them that apply scales."""
        craft(
            tmp_path,
            {
                "v": (torch.arange(6.0), [((0,), (4,)), ((4,), (2,))]),
                "s": (torch.tensor(3.0), [((), ())]),
            },
        )
        with open_checkpoint(tmp_path) as checkpoint:
            column = MatrixSpec("v", "v", (), 1, (6, 1), "float32", "linear")
            number = MatrixSpec("s", "s", (), 0, (1, 1), "float32", "linear")
            found = checkpoint.read(column, slice(1, 5), slice(0, 1))
            assert found.tolist() == [[1.0], [2.0], [3.0], [4.0]]
            assert checkpoint.read(number, slice(0, 1), slice(0, 1)).tolist() == [[3.0]]

    @pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts open files there")
    def test_more_files_than_are_kept_open(self, tmp_path: Path) -> None:
        count = MAX_OPEN + 10
        whole = torch.randn(count, 3)
        craft(tmp_path, {"w": (whole, [((i, 0), (1, 3)) for i in range(count)])}, files=count)
        with open_checkpoint(tmp_path) as checkpoint:
            before = len(os.listdir("/proc/self/fd"))
            for _ in range(2):
                np.testing.assert_array_equal(matrix(checkpoint, "w"), whole.numpy())
            assert len(os.listdir("/proc/self/fd")) <= before + MAX_OPEN

    def test_of_what_is_wanted_only_its_files_are_opened(self, tmp_path: Path) -> None:
        boxes = [((0, 0), (2, 3)), ((2, 0), (2, 3))]
        whole = torch.randn(4, 3)
        craft(tmp_path, {"a": (whole[:2], boxes[:1]), "b": (whole, boxes)}, files=2)
        (tmp_path / "__1_0.distcp").unlink()
        with open_checkpoint(tmp_path, {"a"}) as checkpoint:
            assert (names(checkpoint), checkpoint.listing.missing) == (["a"], ())
            np.testing.assert_array_equal(matrix(checkpoint, "a"), whole[:2].numpy())
        with open_checkpoint(tmp_path) as checkpoint:
            assert [item.name for item in checkpoint.listing.missing] == ["b"]


class TestNames:
    def test_the_keys_that_torch_keeps_tell_what_wraps_the_weights(self, tmp_path: Path) -> None:
        inner = {"model.embed.weight": torch.randn(3, 2), "head.weight": torch.randn(2, 2)}
        states: dict[str, dict[str, Any]] = {
            "flat": inner,
            "model": {"model": inner},
            "app": {"app": {"model": inner}},
        }
        for name, state in states.items():
            with open_checkpoint(save(tmp_path / name, state)) as checkpoint:
                assert names(checkpoint) == ["head.weight", "model.embed.weight"]

    def test_without_them_nothing_is_unwrapped(self, tmp_path: Path) -> None:
        whole = torch.randn(2, 2)
        craft(tmp_path, {"model.w": (whole, [((0, 0), (2, 2))])})
        with open_checkpoint(tmp_path) as checkpoint:
            assert names(checkpoint) == ["model.w"]

    @pytest.mark.parametrize("key", ["model", "state_dict", "module", "model_state_dict"])
    @pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "_fsdp_wrapped_module."])
    def test_wrappers_and_prefixes_go(self, tmp_path: Path, key: str, prefix: str) -> None:
        state = {key: {f"{prefix}0.weight": torch.ones(2, 2), f"{prefix}0.bias": torch.ones(2)}}
        with open_checkpoint(save(tmp_path / "m", state)) as checkpoint:
            assert names(checkpoint) == ["0.bias", "0.weight"]

    @pytest.mark.parametrize("key", ["optim", "optimizer", "optimizer_0", "trainer"])
    @pytest.mark.parametrize("flat", [False, True])
    def test_optimisers_are_found_by_what_is_in_them(
        self, tmp_path: Path, key: str, *, flat: bool
    ) -> None:
        net = torch.nn.Linear(3, 2)
        optimiser = torch.optim.Adam(net.parameters())
        net(torch.ones(3)).sum().backward()
        optimiser.step()
        options = StateDictOptions(flatten_optimizer_state_dict=flat)
        model, moments = get_state_dict(net, optimiser, options=options)
        with open_checkpoint(save(tmp_path / "m", {"model": model, key: moments})) as checkpoint:
            assert names(checkpoint) == ["bias", "weight"]
            told = reasons(checkpoint)
        assert told[f"{key}.state.weight.exp_avg_sq"] == "optimiser state"

    @pytest.mark.parametrize(
        ("beside", "name"),
        [
            (
                {
                    "trainer": {
                        "state": {"w": {"factor": torch.ones(2, 2)}},
                        "param_groups": [{"lr": 1}],
                    }
                },
                "trainer.state.w.factor",
            ),
            ({"optimizer_1": {"w": {"factor": torch.ones(2, 2)}}}, "optimizer_1.w.factor"),
            ({"averages": {"w": {"exp_avg": torch.ones(2, 2)}}}, "averages.w.exp_avg"),
        ],
    )
    def test_each_sign_of_an_optimiser_is_enough(
        self, tmp_path: Path, beside: dict[str, Any], name: str
    ) -> None:
        """Its two keys, its name, or what Adam calls its moments."""
        with open_checkpoint(save(tmp_path / "m", {"w": torch.ones(2, 2), **beside})) as checkpoint:
            assert names(checkpoint) == ["w"]
            assert reasons(checkpoint)[name] == "optimiser state"

    def test_a_layer_called_state_is_a_layer(self, tmp_path: Path) -> None:
        state = {"state": {"weight": torch.ones(2, 2)}, "proj": {"weight": torch.ones(2, 2)}}
        with open_checkpoint(save(tmp_path / "m", state)) as checkpoint:
            assert names(checkpoint) == ["proj.weight", "state.weight"]

    def test_tensors_of_other_kinds(self, tmp_path: Path) -> None:
        whole = torch.randn(2, 2)
        metadata = craft(
            tmp_path, {name: (whole, [((0, 0), (2, 2))]) for name in ("w", "coo", "odd", "zip")}
        )
        described(metadata, "coo").properties.layout = torch.sparse_coo
        described(metadata, "odd").properties.dtype = torch.qint8
        (index,) = [index for index in metadata.storage_data if index.fqn == "zip"]
        metadata.storage_data[index].transform_descriptors = ["stream.zstd/1"]
        with open_checkpoint(write(tmp_path, metadata)) as checkpoint:
            assert names(checkpoint) == ["w"]
            assert reasons(checkpoint) == {
                "coo": "'sparse_coo' tensor: only dense ones are read",
                "odd": "element type 'qint8' is not known",
                "zip": "stored through 'stream.zstd/1': only plain chunks are read",
            }


class TestPieces:
    """What is not there, or there too often."""

    boxes = (((0, 0), (2, 3)), ((2, 0), (2, 3)))

    def missing(self, directory: Path) -> dict[str, str]:
        with open_checkpoint(directory) as checkpoint:
            return {item.name: item.reason for item in checkpoint.listing.missing}

    def test_a_hole_is_missing(self, tmp_path: Path) -> None:
        craft(
            tmp_path,
            {"w": (torch.randn(4, 3), self.boxes[:1]), "v": (torch.ones(2), [((0,), (2,))])},
        )
        assert self.missing(tmp_path) == {"w": "its chunks hold 6 of 12 elements"}

    def test_a_chunk_that_is_stored_nowhere_is_missing(self, tmp_path: Path) -> None:
        metadata = craft(tmp_path, {"w": (torch.randn(4, 3), self.boxes)})
        metadata.storage_data.popitem()
        write(tmp_path, metadata)
        assert self.missing(tmp_path) == {"w": "the chunk at [2, 0] is stored nowhere"}

    def test_empty_shards_are_nothing(self, tmp_path: Path) -> None:
        """As the last ranks have them of a tensor with fewer rows than there are ranks."""
        boxes = [((0, 0), (1, 3)), ((1, 0), (0, 3))]
        metadata = craft(tmp_path, {"w": (torch.ones(1, 3), boxes)})
        described(metadata, "w").chunks.append(described(metadata, "w").chunks[1])
        write(tmp_path, metadata)
        (tmp_path / "__1_0.distcp").unlink()
        with open_checkpoint(tmp_path) as checkpoint:
            assert checkpoint.listing.missing == ()
            assert matrix(checkpoint, "w").tolist() == [[1.0, 1.0, 1.0]]

    def test_files_of_an_earlier_save_are_named(self, tmp_path: Path) -> None:
        craft(tmp_path, {"w": (torch.randn(4, 3), self.boxes)})
        (tmp_path / "__7_0.distcp").write_bytes(b"old")
        (tmp_path / "__8_0.distcp").touch()  # a rank that had nothing to save
        with open_checkpoint(tmp_path) as checkpoint:
            reason = "a file of chunks that .metadata does not name"
            assert reasons(checkpoint) == {"__7_0.distcp": reason}

    def test_replaced_while_open(self, tmp_path: Path) -> None:
        count = MAX_OPEN + 1
        boxes = [((i, 0), (1, 3)) for i in range(count)]
        craft(tmp_path, {"w": (torch.randn(count, 3), boxes)}, files=count)
        with open_checkpoint(tmp_path) as checkpoint:
            first = tmp_path / "__0_0.distcp"  # closed again by now
            first.rename(tmp_path / "old")
            first.write_bytes((tmp_path / "old").read_bytes())
            with pytest.raises(InputRejected, match="replaced while the checkpoint was read"):
                matrix(checkpoint, "w")

    def test_truncated_while_open(self, tmp_path: Path) -> None:
        craft(tmp_path, {"w": (torch.randn(400, 300), [((0, 0), (400, 300))])})
        with open_checkpoint(tmp_path) as checkpoint:
            os.truncate(tmp_path / "__0_0.distcp", 1000)
            with pytest.raises(InputRejected, match=r"w: chunk at \[0, 0\]: .*ends at byte"):
                matrix(checkpoint, "w")


class TestAsAModel:
    def test_is_opened_in_this_process(self, tmp_path: Path) -> None:
        save(tmp_path / "m", {"w": torch.ones(2, 2)})
        assert not needs_isolation(tmp_path / "m" / ".metadata")
        with open_checkpoint(tmp_path / "m" / ".metadata") as checkpoint:
            assert not is_isolated(checkpoint.listing)
            assert checkpoint.listing.path == str(tmp_path / "m")

    def test_the_same_numbers_as_of_a_torch_file(self, tmp_path: Path) -> None:
        torch.manual_seed(0)
        state = {"a.weight": torch.randn(40, 30), "b.weight": torch.randn(8, 4, 3, 3)}
        torch.save(state, tmp_path / "m.pt")
        halves = {
            name: (
                t,
                [
                    ((0,) * t.ndim, (3, *t.shape[1:])),
                    ((3, *(0,) * (t.ndim - 1)), (t.shape[0] - 3, *t.shape[1:])),
                ],
            )
            for name, t in state.items()
        }
        craft(tmp_path / "dcp", halves)
        rows = [
            [
                {k: v for k, v in row.items() if k != "source"}
                for row in analyze(tmp_path / p, how=How(store=False)).matrices
            ]
            for p in ("m.pt", "dcp")
        ]
        assert rows[0] == rows[1]
        assert len(rows[0]) == 2

    def test_a_store_forgets_it_when_a_file_of_chunks_changes(self, tmp_path: Path) -> None:
        whole = torch.eye(4)
        how = How(store=tmp_path / "store.sqlite3")
        craft(tmp_path / "m", {"w": (whole, [((0, 0), (2, 4)), ((2, 0), (2, 4))])})
        for file in (tmp_path / "m").iterdir():
            os.utime(file, (1, 1))  # old enough to be remembered
        assert [row["rank"] for row in analyze(tmp_path / "m", how=how).matrices] == [4]
        whole[3] = 0
        craft(tmp_path / "m", {"w": (whole, [((0, 0), (2, 4)), ((2, 0), (2, 4))])})
        assert [row["rank"] for row in analyze(tmp_path / "m", how=how).matrices] == [3]

    def test_what_the_writer_of_safetensors_leaves_is_a_sharded_model(self, tmp_path: Path) -> None:
        state = {"a": torch.randn(4, 3), "b": torch.randn(2, 3)}
        writer = HuggingFaceStorageWriter(str(tmp_path), {"a": 1, "b": 2})
        with pytest.warns(UserWarning, match="single process"):
            dcp_save(state, storage_writer=writer)
        with open_checkpoint(tmp_path) as checkpoint:
            assert checkpoint.listing.format == "sharded safetensors"
            np.testing.assert_array_equal(matrix(checkpoint, "b"), state["b"].numpy())

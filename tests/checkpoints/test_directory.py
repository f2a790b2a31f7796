"""Sharded checkpoints: what Hugging Face's libraries write, and what nobody should."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import h5py
import numpy as np
import pytest
import safetensors.numpy
import torch

from rankscope import InputRejected, analyze
from rankscope.checkpoints import is_isolated, needs_isolation, open_checkpoint
from rankscope.checkpoints.directory import MAX_INDEX_BYTES, MAX_SHARDS, find_model
from rankscope.how import How
from rankscope.series import discover
from tests.checkpoints.safetensors_files import open_in_child
from tests.contracts.reader import Arrays, whole

INDEX = "model.safetensors.index.json"
FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"


def write_index(directory: Path, weight_map: object, name: str = INDEX) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / name
    path.write_text(json.dumps({"metadata": {"total_size": 0}, "weight_map": weight_map}))
    return path


def sharded(directory: Path, shards: dict[str, Arrays] | None = None) -> Path:
    """A directory of two shards, or of those given, and their index."""
    shards = shards or {
        FIRST: {"a": np.arange(6.0).reshape(2, 3)},
        SECOND: {"b": np.eye(4), "bias": np.ones(3)},
    }
    write_index(directory, {name: shard for shard, arrays in shards.items() for name in arrays})
    for shard, arrays in shards.items():
        safetensors.numpy.save_file(arrays, directory / shard)
    return directory


def refused(path: Path) -> InputRejected:
    with pytest.raises(InputRejected) as caught:
        open_checkpoint(path)
    assert "\n" not in str(caught.value)
    assert len(caught.value.reason) < 700
    return caught.value


class TestSound:
    @pytest.mark.parametrize("what", ["directory", "index"])
    def test_all_shards_are_one_checkpoint(self, tmp_path: Path, what: str) -> None:
        directory = sharded(tmp_path / "m")
        checkpoint = open_checkpoint(directory if what == "directory" else directory / INDEX)
        listing = checkpoint.listing
        assert [t.name for t in listing.tensors] == ["a", "b", "bias"]
        assert listing.format == "sharded safetensors"
        assert (listing.skipped, listing.missing) == ((), ())
        assert listing.files == tuple(str(directory / name) for name in (INDEX, FIRST, SECOND))
        by_name = {t.name: t for t in listing.tensors}
        window = checkpoint.read(whole(by_name["a"]), slice(0, 2), slice(1, 3))
        np.testing.assert_array_equal(window, [[1, 2], [4, 5]])
        window = checkpoint.read(whole(by_name["b"]), slice(0, 4), slice(0, 4))
        np.testing.assert_array_equal(window, np.eye(4))
        checkpoint.close()

    def test_only_the_shards_that_are_wanted_are_opened(self, tmp_path: Path) -> None:
        directory = sharded(tmp_path / "m")
        checkpoint = open_checkpoint(directory, {"b"})
        assert checkpoint.listing.files == (str(directory / INDEX), str(directory / SECOND))
        assert {t.name for t in checkpoint.listing.tensors} == {"b", "bias"}
        checkpoint.close()

    def test_a_wanted_tensor_is_found_where_the_index_does_not_say(self, tmp_path: Path) -> None:
        directory = sharded(tmp_path / "m")
        write_index(directory, {"a": FIRST, "b": FIRST, "bias": SECOND})
        checkpoint = open_checkpoint(directory, {"b"})
        (info,) = [t for t in checkpoint.listing.tensors if t.name == "b"]
        window = checkpoint.read(whole(info), slice(0, 4), slice(0, 4))
        np.testing.assert_array_equal(window, np.eye(4))
        checkpoint.close()

    def test_analysed_from_beginning_to_end(self, tmp_path: Path) -> None:
        result = analyze(sharded(tmp_path / "m"), how=How(store=False))
        assert [(row["name"], row["rank"]) for row in result.matrices] == [("a", 2), ("b", 4)]
        assert not result.incomplete

    def test_torch_shards(self, tmp_path: Path) -> None:
        name = "pytorch_model.bin.index.json"
        shards = {f"pytorch_model-0000{i}-of-00002.bin": {f"w{i}": torch.eye(i)} for i in (1, 2)}
        for shard, state in shards.items():
            torch.save(state, tmp_path / shard)
        write_index(tmp_path, {key: s for s, state in shards.items() for key in state}, name)
        checkpoint = open_checkpoint(tmp_path)
        assert checkpoint.listing.format == "sharded torch"
        assert [(t.name, t.shape) for t in checkpoint.listing.tensors] == [
            ("w1", (1, 1)),
            ("w2", (2, 2)),
        ]
        checkpoint.close()
        assert [row["rank"] for row in analyze(tmp_path, how=How(store=False)).matrices] == [1, 2]

    def test_shards_of_hdf5_are_opened_apart(self, tmp_path: Path) -> None:
        with h5py.File(tmp_path / "tf_model-00001-of-00001.h5", "w") as file:
            file["w"] = np.eye(3)
        index = write_index(tmp_path, {"w": "tf_model-00001-of-00001.h5"}, "tf_model.h5.index.json")
        assert needs_isolation(index)
        checkpoint = open_checkpoint(index)
        assert is_isolated(checkpoint.listing)
        checkpoint.close()
        assert not needs_isolation(sharded(tmp_path / "m") / INDEX)

    def test_shards_in_a_folder_below(self, tmp_path: Path) -> None:
        (tmp_path / "weights").mkdir()
        safetensors.numpy.save_file({"a": np.eye(2)}, tmp_path / "weights" / "one.safetensors")
        write_index(tmp_path, {"a": "weights/one.safetensors"})
        assert [t.name for t in open_checkpoint(tmp_path).listing.tensors] == ["a"]

    def test_an_index_whose_name_would_be_a_pattern(self, tmp_path: Path) -> None:
        safetensors.numpy.save_file({"a": np.eye(2)}, tmp_path / "one.safetensors")
        index = write_index(tmp_path, {"a": "one.safetensors"}, "a**[b.safetensors.index.json")
        assert open_checkpoint(index).listing.skipped == ()


class TestFindModel:
    def test_the_safe_format_is_preferred(self, tmp_path: Path) -> None:
        names = ("pytorch_model.bin", "model.safetensors", INDEX)
        for name in names:
            (tmp_path / name).touch()
            assert find_model(tmp_path) == tmp_path / name

    def test_any_index_that_is_not_hidden(self, tmp_path: Path) -> None:
        (tmp_path / f".{INDEX}").touch()
        assert find_model(tmp_path) is None
        (tmp_path / "diffusion_pytorch_model.safetensors.index.json").touch()
        assert find_model(tmp_path) == tmp_path / "diffusion_pytorch_model.safetensors.index.json"

    def test_a_directory_that_is_no_model(self, tmp_path: Path) -> None:
        assert "holds no model, expected one of model.safet" in refused(tmp_path).reason


class TestMissingPieces:
    def test_a_shard(self, tmp_path: Path) -> None:
        directory = sharded(tmp_path / "m")
        (directory / SECOND).unlink()
        missing = open_checkpoint(directory).listing.missing
        reason = f"shard {SECOND} is missing"
        assert [(item.name, item.reason) for item in missing] == [("b", reason), ("bias", reason)]

    def test_a_link_to_a_blob_that_was_not_loaded(self, tmp_path: Path) -> None:
        directory = sharded(tmp_path / "m")
        (directory / SECOND).unlink()
        (directory / SECOND).symlink_to("gone")
        assert len(open_checkpoint(directory).listing.missing) == 2

    def test_all_shards(self, tmp_path: Path) -> None:
        write_index(tmp_path, {"a": FIRST})
        result = analyze(tmp_path, how=How(store=False))
        assert result.incomplete
        assert result.matrices == ()

    def test_the_rest_is_measured_and_the_result_is_incomplete(self, tmp_path: Path) -> None:
        directory = sharded(tmp_path / "m")
        (directory / SECOND).unlink()
        result = analyze(directory, how=How(store=tmp_path / "store"))
        assert result.incomplete
        assert [row["name"] for row in result.matrices] == ["a"]
        assert {row["name"] for row in result.skipped if row["missing"]} == {"b", "bias"}
        # Neither remembered as it was: the shard is found when it is there.
        safetensors.numpy.save_file({"b": np.eye(4), "bias": np.ones(3)}, directory / SECOND)
        again = analyze(directory, how=How(store=tmp_path / "store"))
        assert not again.incomplete
        assert [row["name"] for row in again.matrices] == ["a", "b"]

    def test_a_tensor_that_its_shard_does_not_hold(self, tmp_path: Path) -> None:
        directory = sharded(tmp_path / "m")
        write_index(directory, {"a": FIRST, "b": SECOND, "bias": SECOND, "c": FIRST})
        missing = open_checkpoint(directory).listing.missing
        reason = f"the index places it in {FIRST}, which does not hold it"
        assert [(item.name, item.reason) for item in missing] == [("c", reason)]
        assert analyze(directory, how=How(store=False)).incomplete

    def test_a_tensor_in_another_shard_than_the_index_says(self, tmp_path: Path) -> None:
        directory = sharded(tmp_path / "m")
        write_index(directory, {"a": SECOND, "b": SECOND, "bias": FIRST})
        assert analyze(directory, how=How(store=False)).incomplete


class TestContradictions:
    def test_a_tensor_in_two_shards(self, tmp_path: Path) -> None:
        arrays = {"a": np.eye(2)}
        error = refused(sharded(tmp_path, {FIRST: {**arrays, "c": np.eye(3)}, SECOND: arrays}))
        assert error.tensor == "a"
        assert error.reason == f"stands in two shards, {SECOND} and {FIRST}"

    def test_one_shard_under_two_names(self, tmp_path: Path) -> None:
        directory = sharded(tmp_path / "m")
        write_index(directory, {"a": FIRST, "b": SECOND, "bias": f"./{SECOND}"})
        assert "stands in two shards" in refused(directory).reason

    def test_a_tensor_twice_in_the_index(self, tmp_path: Path) -> None:
        directory = sharded(tmp_path)
        text = f'{{"weight_map": {{"a": "{FIRST}", "a": "{SECOND}"}}}}'
        (directory / INDEX).write_text(text)
        assert refused(directory).reason == "name stands twice in the index, expected once: 'a'"

    def test_a_shard_that_the_index_does_not_name(self, tmp_path: Path) -> None:
        directory = sharded(tmp_path / "m")
        stray = "model-00003-of-00003.safetensors"
        safetensors.numpy.save_file({"c": np.eye(2)}, directory / stray)
        safetensors.numpy.save_file({"c": np.eye(2)}, directory / "other.safetensors")
        listing = open_checkpoint(directory).listing
        assert [(item.name, item.reason) for item in listing.skipped] == [
            (stray, "a shard that the index does not name")
        ]
        assert [t.name for t in listing.tensors] == ["a", "b", "bias"]

    def test_shards_of_two_formats(self, tmp_path: Path) -> None:
        directory = sharded(tmp_path / "m")
        torch.save({"b": torch.eye(4), "bias": torch.ones(3)}, directory / SECOND)
        assert refused(directory).reason == "shards of safetensors and torch, expected one format"

    def test_a_damaged_shard(self, tmp_path: Path) -> None:
        directory = sharded(tmp_path / "m")
        os.truncate(directory / SECOND, 100)
        error = refused(directory)
        assert error.path == str(directory / SECOND)
        assert "truncated" in error.reason


class TestIndex:
    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            (b"", "index is not JSON: Expecting value"),
            (b"not json", "index is not JSON: Expecting value"),
            (b'{"weight_map": {"a": "\xff"}}', "index is not UTF-8"),
            (b'{"weight_map": {"\\udc00": "x"}}', "name in the index is not Unicode text"),
            (b"[]", "has no weight_map"),
            (b"{}", "has no weight_map"),
            (b'{"weight_map": {}}', "has no weight_map"),
            (b'{"weight_map": ["a"]}', "has no weight_map"),
            (b'{"weight_map": {"a": 3}}', "weight_map holds a shard that is not a file name"),
            (b'{"weight_map": {"a": null}}', "weight_map holds a shard that is not a file name"),
            (b'{"weight_map": {"a": {"b": "c"}}}', "weight_map holds a shard that is not a"),
        ],
    )
    def test_that_is_none(self, tmp_path: Path, content: bytes, reason: str) -> None:
        (tmp_path / INDEX).write_bytes(content)
        error = refused(tmp_path)
        assert error.reason.startswith(reason)
        assert error.path == str(tmp_path / INDEX)

    def test_nested_until_the_stack_ends(self, tmp_path: Path) -> None:
        (tmp_path / INDEX).write_bytes(b'{"weight_map":' * 1_000_000)
        assert open_in_child(tmp_path) == "rejected: index is nested too deeply"

    def test_larger_than_any(self, tmp_path: Path) -> None:
        (tmp_path / INDEX).touch()
        os.truncate(tmp_path / INDEX, MAX_INDEX_BYTES + 1)
        assert "bytes, expected at most" in open_in_child(tmp_path, megabytes=150)

    def test_many_shards(self, tmp_path: Path) -> None:
        write_index(tmp_path, {f"t{i}": f"s{i}" for i in range(200_000)})
        assert open_in_child(tmp_path) == (
            f"rejected: names 200000 shards, expected at most {MAX_SHARDS}"
        )

    def test_many_tensors_take_time_in_proportion(self, tmp_path: Path) -> None:
        write_index(tmp_path, {f"t{i}": f"s{i % 5000}" for i in range(200_000)})
        assert open_in_child(tmp_path, megabytes=1000) == "[]"

    def test_a_fifo_in_its_place(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / INDEX)
        assert open_in_child(tmp_path) == "rejected: not a regular file"


class TestPlaces:
    """An index is data from the internet: it may not make us read what it should not."""

    @pytest.mark.parametrize(
        "shard", ["../secret.safetensors", "sub/../../secret.safetensors", "..", "/etc/passwd", ""]
    )
    def test_out_of_the_directory(self, tmp_path: Path, shard: str) -> None:
        safetensors.numpy.save_file({"a": np.eye(2)}, tmp_path / "secret.safetensors")
        write_index(tmp_path / "m", {"a": shard})
        assert refused(tmp_path / "m").reason == (
            f"shard {shard!r} leaves the directory, expected a plain name"
        )

    @pytest.mark.parametrize("where", ["file", "folder", "chain"])
    def test_a_link_out_of_the_directory(self, tmp_path: Path, where: str) -> None:
        safetensors.numpy.save_file({"a": np.eye(2)}, tmp_path / "one.safetensors")
        directory = tmp_path / "m"
        shard = "folder/one.safetensors" if where == "folder" else "one.safetensors"
        write_index(directory, {"a": shard})
        if where == "folder":
            (directory / "folder").symlink_to(tmp_path)
        elif where == "file":
            (directory / shard).symlink_to(tmp_path / "one.safetensors")
        else:
            (directory / shard).symlink_to("two.safetensors")
            (directory / "two.safetensors").symlink_to("../one.safetensors")
        assert "is a link out of the directory to" in refused(directory).reason

    def test_a_link_within_the_directory(self, tmp_path: Path) -> None:
        safetensors.numpy.save_file({"a": np.eye(2)}, tmp_path / "one.safetensors")
        (tmp_path / "two.safetensors").symlink_to("one.safetensors")
        write_index(tmp_path, {"a": "two.safetensors"})
        assert [t.name for t in open_checkpoint(tmp_path).listing.tensors] == ["a"]

    def test_a_directory_that_is_a_link_itself(self, tmp_path: Path) -> None:
        sharded(tmp_path / "m")
        (tmp_path / "link").symlink_to("m")
        assert len(open_checkpoint(tmp_path / "link").listing.tensors) == 3

    def test_a_link_to_itself(self, tmp_path: Path) -> None:
        write_index(tmp_path, {"a": FIRST})
        (tmp_path / FIRST).symlink_to(FIRST)
        answer = open_in_child(tmp_path)
        # Until Python 3.12 resolving it fails; from then on it is a file that is not there.
        assert "is no file's name" in answer or answer == "[]"

    @pytest.mark.parametrize("shard", [INDEX, ".", "sub"])
    def test_an_index_or_a_directory_as_a_shard(self, tmp_path: Path, shard: str) -> None:
        sharded(tmp_path / "sub")
        write_index(tmp_path, {"a": shard})
        answer = open_in_child(tmp_path)
        expected = "which no reader knows" if shard == INDEX else "rejected: not a regular file"
        assert expected in answer

    def test_a_fifo_as_a_shard(self, tmp_path: Path) -> None:
        write_index(tmp_path, {"a": FIRST})
        os.mkfifo(tmp_path / FIRST)
        assert open_in_child(tmp_path) == "rejected: not a regular file"

    @pytest.mark.parametrize("shard", ["a\0b", "\ud800", "x" * 900, "x" * 10**6])
    def test_names_that_no_file_has(self, tmp_path: Path, shard: str) -> None:
        write_index(tmp_path, {"a": shard})
        answer = open_in_child(tmp_path)
        expected = {2: "is no file's name", 3: "is no file's name", 900: "[]"}
        length = len(shard.encode("utf-8", "surrogatepass"))
        assert expected.get(length, "name of 1000000 characters, expected at most") in answer


class TestCacheOfHuggingFace:
    """`snapshots/REVISION/FILE` are links to `../../blobs/HASH`."""

    def cache(self, tmp_path: Path, folder: str = "") -> Path:
        repository = tmp_path / "models--org--name"
        place = repository / "snapshots" / "0123abcd" / folder
        loose = sharded(tmp_path / "loose")
        place.mkdir(parents=True)
        (repository / "blobs").mkdir()
        up = "../" * (3 if folder else 2)
        for file in loose.iterdir():
            name = hashlib.sha256(file.read_bytes()).hexdigest()
            file.rename(repository / "blobs" / name)
            (place / file.name).symlink_to(f"{up}blobs/{name}")
        return place

    @pytest.mark.parametrize("folder", ["", "transformer"])
    @pytest.mark.parametrize("file", [None, INDEX, FIRST])
    def test_is_read(self, tmp_path: Path, folder: str, file: str | None) -> None:
        place = self.cache(tmp_path, folder)
        path = place / file if file else place
        expected = ["a"] if file == FIRST else ["a", "b", "bias"]
        assert [t.name for t in open_checkpoint(path).listing.tensors] == expected
        result = analyze(path, how=How(store=False))
        assert [row["name"] for row in result.matrices] == expected[:2]

    def test_through_a_link_to_the_snapshot(self, tmp_path: Path) -> None:
        (tmp_path / "mine").symlink_to(self.cache(tmp_path))
        assert len(open_checkpoint(tmp_path / "mine").listing.tensors) == 3

    def test_the_repository_itself_says_where_to_look(self, tmp_path: Path) -> None:
        repository = self.cache(tmp_path).parents[1]
        with pytest.raises(InputRejected, match="expected one of them: snapshots/0123abcd"):
            discover(repository)

    @pytest.mark.parametrize("target", ["../../../secret", "../../refs/secret", "/secret"])
    def test_other_links_out_of_it_are_refused(self, tmp_path: Path, target: str) -> None:
        place = self.cache(tmp_path)
        (place / SECOND).unlink()
        (place / SECOND).symlink_to(target)
        assert "is a link out of the directory to" in refused(place).reason

"""B - A: the numbers of NumPy, what rounding explains, and what is never computed again."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch

import rankscope
from rankscope.checkpoints import open_checkpoint
from rankscope.comparing import Diff
from rankscope.differences import running
from rankscope.differences.delta import subtract
from rankscope.executors import Done
from rankscope.how import How
from rankscope.records import Checkpoint
from tests.matrix import Array, low_rank

OLD = (1e9, 1e9)
BF16 = ml_dtypes.bfloat16


def save(path: Path, tensors: dict[str, Array]) -> Path:
    safetensors.numpy.save_file(tensors, path)
    os.utime(path, OLD)
    return path


def gaussian(rows: int, columns: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal((rows, columns))


def diff(before: Path, after: Path, *, store: Path | bool = False, **asked: Any) -> Diff:
    return rankscope.diff(before, after, True, how=How(workers=1, store=store), **asked)


def only(found: Diff) -> dict[str, Any]:
    (row,) = found.matrices
    return row


@pytest.fixture
def place(tmp_path: Path) -> Callable[[Array, Array], tuple[Path, Path]]:
    """Two checkpoints of one matrix each."""

    def placed(before: Array, after: Array) -> tuple[Path, Path]:
        a = save(tmp_path / "a.safetensors", {"w": before})
        return a, save(tmp_path / "b.safetensors", {"w": after})

    return placed


Place = Callable[[Array, Array], tuple[Path, Path]]


class TestNumbers:
    @pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, BF16])
    @pytest.mark.parametrize("shape", [(60, 35), (35, 60), (1, 9)])
    def test_are_those_of_numpy(self, place: Place, dtype: Any, shape: tuple[int, int]) -> None:
        before = gaussian(*shape).astype(dtype)
        after = (before.astype(np.float64) + 0.1 * gaussian(*shape, seed=1)).astype(dtype)
        row = only(diff(*place(before, after)))
        exact = after.astype(np.float64) - before.astype(np.float64)
        sigma = np.linalg.svd(exact, compute_uv=False)
        assert row["delta_spectral_norm"] == pytest.approx(sigma[0])
        assert row["delta_nuclear_norm"] == pytest.approx(sigma.sum())
        assert row["delta_frobenius_norm"] == pytest.approx(np.linalg.norm(exact))
        assert row["relative_change"] == pytest.approx(
            np.linalg.norm(exact) / np.linalg.norm(before.astype(np.float64))
        )
        shares = sigma / sigma.sum()
        entropy = -sum(p * np.log(p) for p in shares if p > 0)
        assert row["delta_effective_rank"] == pytest.approx(np.exp(entropy))

    def test_eps_is_relative_to_the_difference(self, place: Place) -> None:
        before = gaussian(40, 30)
        delta = np.zeros((40, 30))
        delta[range(4), range(4)] = 1e-6, 1e-7, 1e-8, 1e-12
        found = diff(*place(before, before + delta), eps=(1e-1, 1e-3), metrics=("rank",))
        sigma = np.linalg.svd(before + delta - before, compute_uv=False)
        for eps in (0.1, 0.001):
            expected = int((sigma > eps * np.linalg.norm(sigma)).sum())
            assert only(found)[f"delta_rank@{eps}"] == expected
        assert found.delta_columns == ("numerical_rank", "rank@0.1", "rank@0.001")
        absolute = diff(*place(before, before + delta), eps=(1e-9,), norm="none", metrics=("rank",))
        assert only(absolute)["delta_rank"] == 3

    def test_of_a_matrix_that_was_zero(self, place: Place) -> None:
        row = only(diff(*place(np.zeros((4, 4)), np.eye(4))))
        assert row["relative_change"] is None
        assert row["notes"]["relative_change"] == "infinite: it was zero"
        assert row["delta_numerical_rank"] == 4

    def test_whole_and_its_opposite(self, place: Place) -> None:
        matrix = gaussian(20, 30).astype(np.float32)
        row = only(diff(*place(matrix, -matrix)))
        assert row["relative_change"] == pytest.approx(2)
        assert row["loss"] == 0


class TestNoise:
    """The rounding of the stored types is no direction."""

    @pytest.mark.parametrize("shape", [(128, 128), (200, 60), (60, 200)])
    @pytest.mark.parametrize(("before", "after"), [(np.float32, BF16), (BF16, BF16)])
    def test_an_update_above_it_is_counted(
        self, place: Place, shape: tuple[int, int], before: Any, after: Any
    ) -> None:
        base = gaussian(*shape).astype(before)
        update = low_rank(*shape, 8, seed=2)
        update *= 0.05 * np.linalg.norm(base.astype(np.float64)) / np.linalg.norm(update)
        tuned = (base.astype(np.float64) + update).astype(after)
        row = only(diff(*place(base, tuned)))
        assert row["delta_numerical_rank"] == 8
        assert row["delta_rank"] > 50  # what a threshold relative to B - A alone would say
        assert row["notes"] == {} or "delta_numerical_rank" not in row["notes"]

    @pytest.mark.parametrize("shape", [(128, 128), (200, 60), (16, 900)])
    @pytest.mark.parametrize("after", [BF16, np.float16, np.float32])
    def test_rounding_alone_is_none(self, place: Place, shape: tuple[int, int], after: Any) -> None:
        base = gaussian(*shape)
        found = diff(*place(base, base.astype(after)))
        row = only(found)
        assert row["relative_change"] > 0
        assert row["delta_numerical_rank"] == 0
        assert (found.summary["moved"], found.summary["rounded"]) == (0, 1)

    def test_both_roundings_count(self, place: Place) -> None:
        """What one type hides is hidden whichever side has it."""
        base = gaussian(200, 200)
        update = np.outer(gaussian(200, 1, 3), gaussian(1, 200, 4)) * 2e-4
        coarse, fine = base.astype(BF16), (base + update).astype(np.float32)
        assert only(diff(*place(coarse, fine)))["delta_numerical_rank"] == 0
        assert only(diff(*place(fine, coarse)))["delta_numerical_rank"] == 0
        exact = diff(*place(base.astype(np.float32), fine))
        assert only(exact)["delta_numerical_rank"] == 1
        noise = only(exact)["delta_noise"]
        lines = sum(
            np.linalg.norm(matrix, axis=axis).max() * 2.0**-24
            for matrix in (base, base + update)
            for axis in (0, 1)
        )
        assert noise == pytest.approx(lines, rel=1e-6)

    def test_float64_is_resolved(self, place: Place) -> None:
        base = gaussian(60, 60)
        update = low_rank(60, 60, 5, seed=1) * 1e-9
        assert only(diff(*place(base, base + update)))["delta_numerical_rank"] == 5

    def test_two_types_are_two_measures(self, place: Place) -> None:
        base = gaussian(30, 30)
        found = diff(*place(base, base.astype(BF16)))
        row = only(found)
        assert row["numerical_rank_change"] is None
        assert (
            row["notes"]["numerical_rank_change"] == "float64 and bfloat16 are rounded differently"
        )
        assert found.retyped == ({"name": "w", "before": "float64", "after": "bfloat16"},)


def lora(folder: Path, name: str, left: Array, right: Array) -> Path:
    """An adapter of one layer as PEFT writes it, its scale 1."""
    folder.mkdir()
    settings = {"peft_type": "LORA", "r": len(right), "lora_alpha": len(right)}
    (folder / "adapter_config.json").write_text(json.dumps({**settings, "target_modules": [name]}))
    head = f"base_model.model.{name}.lora_"
    tensors = {f"{head}A.weight": right, f"{head}B.weight": left}
    safetensors.numpy.save_file(tensors, folder / "adapter_model.safetensors")
    return folder


class TestOtherForms:
    """What is not stored as an array of its type."""

    def test_adapters_are_products(self, tmp_path: Path) -> None:
        left, right = (gaussian(*shape, 5).astype(np.float32) for shape in ((40, 3), (3, 30)))
        turned = left[:, ::-1].copy()
        one, two = lora(tmp_path / "a", "q", left, right), lora(tmp_path / "b", "q", turned, right)
        row = only(diff(one, two))
        exact = (turned - left).astype(np.float64) @ right
        assert row["delta_frobenius_norm"] == pytest.approx(np.linalg.norm(exact), rel=1e-6)
        assert row["delta_numerical_rank"] == 1  # the first column has changed places with the last

    def test_an_adapter_merged_into_its_base(self, tmp_path: Path) -> None:
        base = save(tmp_path / "base.safetensors", {"q.weight": gaussian(40, 30), "v": np.eye(9)})
        left, right = gaussian(40, 3, 1).astype(np.float32), gaussian(3, 30, 2).astype(np.float32)
        adapter = lora(tmp_path / "adapter", "q", left, right)
        found = diff(base, adapter, base=base)
        assert [row["name"] for row in found.matrices] == ["q.weight", "v"]
        assert [row["equal"] for row in found.matrices] == [False, True]
        row = found.matrices[0]
        assert row["delta_numerical_rank"] == 3
        exact = np.linalg.norm(left.astype(np.float64) @ right)
        assert row["delta_frobenius_norm"] == pytest.approx(exact, rel=1e-6)

    def test_the_rounding_of_codes_is_not_known(self, tmp_path: Path) -> None:
        base = gaussian(20, 30)
        codes = torch.from_numpy(base / 2).to(torch.float8_e4m3fn)
        plain = save(tmp_path / "a.safetensors", {"w.weight": base.astype(BF16)})
        coded = tmp_path / "b.safetensors"
        scaled = {"w.weight": codes, "w.weight_scale_inv": torch.tensor(2.0)}
        safetensors.torch.save_file(scaled, coded)
        found = diff(plain, coded)
        row = only(found)
        assert row["delta_numerical_rank"] is None
        assert row["delta_noise"] is None
        assert "the rounding of " in row["notes"]["delta_numerical_rank"]
        assert row["relative_change"] > 0
        assert "no delta rank of 1 matrix: undefined: the rounding of " in str(found)


class TestEqual:
    def test_is_zero_without_being_read_again(
        self, place: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        matrix = gaussian(20, 10).astype(np.float32)

        def never(*_: Any) -> Any:
            raise AssertionError("nothing is to be subtracted")

        monkeypatch.setattr(running, "subtract", never)
        found = diff(*place(matrix, matrix))
        row = only(found)
        assert row["equal"] is True
        assert row["relative_change"] == row["delta_numerical_rank"] == row["delta_rank"] == 0
        assert row["delta_frobenius_norm"] == 0
        assert row["delta_effective_rank"] is None
        assert row["delta_status"] == "ok"
        assert not found.incomplete

    def test_whatever_the_format(self, tmp_path: Path) -> None:
        """The same weights as safetensors, NumPy, torch and HDF5."""
        tensors = {"a.w": gaussian(20, 10).astype(np.float32), "b.w": gaussian(7, 9, 1)}
        paths = [save(tmp_path / "m.safetensors", tensors), tmp_path / "m.npz", tmp_path / "m.pt"]
        np.savez(paths[1], **tensors)  # type: ignore[arg-type]
        torch.save({name: torch.from_numpy(one) for name, one in tensors.items()}, paths[2])
        for path in paths[1:]:
            found = diff(paths[0], path)
            assert [row["equal"] for row in found.matrices] == [True, True], path
            assert found.summary["unchanged"] == 2
        with h5py.File(tmp_path / "m.h5", "w") as file:
            file["w"] = tensors["a.w"]
            file["v"] = tensors["b.w"]
        plain = save(tmp_path / "n.safetensors", {"w": tensors["a.w"], "v": tensors["b.w"] + 1})
        found = diff(tmp_path / "m.h5", plain)
        assert {row["name"]: row["equal"] for row in found.matrices} == {"w": True, "v": False}
        assert found.matrices[0]["delta_numerical_rank"] == 1

    def test_a_checkpoint_is_itself(self, place: Place) -> None:
        path, _ = place(gaussian(9, 5), np.eye(3))
        found = diff(path, path)
        assert (found.summary["matrices"], found.summary["unchanged"]) == (1, 1)


def counting(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How often a matrix was decomposed, and weights were opened, in this process."""
    counts = {"solved": 0, "opened": 0}
    for module in ("rankscope.worker", "rankscope.differences.delta"):
        monkeypatch.setattr(f"{module}.solve", _counted(counts, "solved", f"{module}.solve"))
        name = f"{module}.open_checkpoint"
        monkeypatch.setattr(name, _counted(counts, "opened", name))
    return counts


def _counted(counts: dict[str, int], what: str, name: str) -> Callable[..., Any]:
    from rankscope.solvers import solve

    original: Callable[..., Any] = solve if name.endswith(".solve") else open_checkpoint

    def called(*arguments: Any, **named: Any) -> Any:
        counts[what] += 1
        return original(*arguments, **named)

    return called


class TestStore:
    @pytest.fixture
    def pair(self, tmp_path: Path) -> tuple[Path, Path]:
        tensors = {f"w{i}": gaussian(30, 20, i).astype(np.float32) for i in range(4)}
        moved = tensors | {"w2": tensors["w2"] + low_rank(30, 20, 2).astype(np.float32)}
        return save(tmp_path / "a.safetensors", tensors), save(tmp_path / "b.safetensors", moved)

    def test_a_second_time_opens_and_solves_nothing(
        self, pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        counts = counting(monkeypatch)
        first = diff(*pair, store=tmp_path / "store")
        # Four matrices of A and the one that is new in B, then B - A.
        assert counts["solved"] >= 6
        assert counts["opened"] > 0
        before = dict(counts)
        second = diff(*pair, store=tmp_path / "store", eps=(0.2,))
        assert counts == before
        assert second.matrices[0]["delta_numerical_rank"] == 2
        assert second.matrices[0]["delta_nuclear_norm"] == first.matrices[0]["delta_nuclear_norm"]

    def test_only_the_difference_is_new_after_a_comparison_without(
        self, pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        how = How(workers=1, store=tmp_path / "store")
        rankscope.diff(*pair, how=how, metrics=("rank",))
        counts = counting(monkeypatch)
        rankscope.diff(*pair, True, how=how, metrics=("rank",))
        assert counts["opened"] == 2
        assert 1 <= counts["solved"] <= 2  # by the Gram route, and where that does not do directly

    def test_it_is_found_by_content_wherever_it_lies(
        self, pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        diff(*pair, store=tmp_path / "store")
        other = tmp_path / "other.npz"
        np.savez(other, **{f"x.{k}": v for k, v in safetensors.numpy.load_file(pair[1]).items()})  # type: ignore[arg-type]
        base = tmp_path / "base.npz"
        np.savez(base, **{f"x.{k}": v for k, v in safetensors.numpy.load_file(pair[0]).items()})  # type: ignore[arg-type]
        counts = counting(monkeypatch)
        found = diff(base, other, store=tmp_path / "store")
        assert counts["solved"] == 0
        assert found.matrices[0]["delta_numerical_rank"] == 2

    def test_the_opposite_is_another_one(self, pair: tuple[Path, Path], tmp_path: Path) -> None:
        there = diff(*pair, store=tmp_path / "store").matrices[0]
        back = diff(*pair[::-1], store=tmp_path / "store").matrices[0]
        assert back["delta_nuclear_norm"] == pytest.approx(there["delta_nuclear_norm"])
        assert back["relative_change"] != there["relative_change"]

    def test_of_another_base_too(self, pair: tuple[Path, Path], tmp_path: Path) -> None:
        diff(*pair, store=tmp_path / "store")
        tensors = safetensors.numpy.load_file(pair[0])
        other = save(tmp_path / "c.safetensors", {name: 2 * one for name, one in tensors.items()})
        kept = diff(other, pair[1], store=tmp_path / "store")
        assert kept.matrices == diff(other, pair[1]).matrices

    def test_with_it_and_without(self, pair: tuple[Path, Path], tmp_path: Path) -> None:
        kept = diff(*pair, store=tmp_path / "store")
        assert diff(*pair, store=tmp_path / "store").matrices == kept.matrices
        for row, twin in zip(diff(*pair).matrices, kept.matrices, strict=True):
            assert row == twin

    def test_a_file_that_changes_meanwhile_gives_nothing(
        self, pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """B - A of other weights must not be kept as that of these."""
        original = running.deltas

        def changed(*arguments: Any) -> Any:
            tensors = safetensors.numpy.load_file(pair[1])
            safetensors.numpy.save_file(tensors | {"w2": tensors["w2"] * 2}, pair[1])
            return original(*arguments)

        monkeypatch.setattr("rankscope.differences.subtraction.deltas", changed)
        whole = pair[1].read_bytes()
        found = diff(*pair, store=tmp_path / "store")
        row = next(row for row in found.matrices if row["name"] == "w2")
        assert row["delta_status"] == "unreadable"
        assert "changed while it was compared" in row["notes"]["delta_status"]
        assert found.incomplete
        monkeypatch.undo()
        pair[1].write_bytes(whole)
        os.utime(pair[1], OLD)
        row = diff(*pair, store=tmp_path / "store").matrices[0]
        assert (row["delta_status"], row["delta_numerical_rank"]) == ("ok", 2)


class TestExecutors:
    @pytest.fixture
    def pair(self, tmp_path: Path) -> tuple[Path, Path]:
        tensors = {f"w{i}": gaussian(30, 20, i) for i in range(9)}
        after = {name: one + 1 for name, one in tensors.items()}
        return save(tmp_path / "a.safetensors", tensors), save(tmp_path / "b.safetensors", after)

    @pytest.mark.parametrize(("workers", "inline"), [(3, 1e99), (2, 0.0)])
    def test_the_same_numbers(
        self,
        pair: tuple[Path, Path],
        workers: int,
        inline: float,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        plain = diff(*pair)
        monkeypatch.setattr(running, "INLINE_FLOPS", inline)
        monkeypatch.setattr("rankscope.tasks.TASK_FLOPS", 5e4)
        told: list[tuple[float, float]] = []
        how = How(workers=workers, store=False, progress=lambda *pair: told.append(pair))
        found = rankscope.diff(*pair, True, how=how)
        for row, twin in zip(found.matrices, plain.matrices, strict=True):
            assert row["name"] == twin["name"]
            assert row["delta_numerical_rank"] == twin["delta_numerical_rank"] == 1
            assert row["delta_nuclear_norm"] == pytest.approx(twin["delta_nuclear_norm"], rel=1e-9)
        assert told[-1][0] == pytest.approx(told[-1][1])

    def test_one_that_kills_its_worker_costs_itself_only(
        self, pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Fatal:
            def run(self, function: Any, items: Any) -> Iterator[Done[Any, Any]]:
                for task in items:
                    lost = any(one.after.name == "w4" for one in task.pairs)
                    yield Done(task, None if lost else function(task), lost=lost)

        monkeypatch.setattr(running._Run, "_executor", lambda *_: Fatal())
        found = diff(*pair)
        states = {row["name"]: row["delta_status"] for row in found.matrices}
        assert states.pop("w4") == "worker_lost"
        assert set(states.values()) == {"ok"}
        assert found.incomplete

    def test_a_matrix_that_is_gone_says_so(self, pair: tuple[Path, Path], tmp_path: Path) -> None:
        other = save(tmp_path / "c.safetensors", {"w0": np.eye(3)})

        def swapped(path: Path, *rest: Any) -> Checkpoint:
            return open_checkpoint(other if path == pair[1] else path, *rest)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("rankscope.differences.delta.open_checkpoint", swapped)
            found = diff(*pair)
        assert {row["delta_status"] for row in found.matrices} == {"unreadable"}
        assert "changed since it was listed" in found.matrices[0]["notes"]["delta_status"]


def test_a_task_that_cannot_be_opened(tmp_path: Path) -> None:
    from rankscope.differences.delta import Pair, Task
    from rankscope.records import MatrixSpec, Unmeasured
    from rankscope.series import Snapshot

    spec = MatrixSpec("w", "w", (), 1, (3, 3), "float32", "linear")
    nowhere = tmp_path / "nowhere.safetensors"
    place = Snapshot(nowhere, None)
    task = Task(place, place, (Pair(spec, spec, b"", ()),), "auto", None, ())
    (outcome,) = subtract(task)
    assert isinstance(outcome.measurement, Unmeasured)
    assert outcome.measurement.status == "unreadable"

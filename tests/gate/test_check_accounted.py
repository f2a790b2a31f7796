"""What a model has not got under its name, and what accounts for that: ties, and missing parts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch
from gguf import GGUFWriter

import rankscope
from rankscope.errors import InputRejected
from rankscope.gate.verdict import Verdict
from rankscope.how import How
from rankscope.matrices import Selection
from rankscope.release import check_headers
from tests.checkpoints.gguf_files import finished
from tests.gate.models import Weights, matrix

NO_STORE = How(store=False)


def ranks_of(path: Path) -> Path:
    ranks = path.with_name(f"{path.name}.json")
    rankscope.write_baseline(rankscope.baseline(path, how=NO_STORE), ranks)
    return ranks


def check(
    source: Path | torch.nn.Module,
    ranks: Path,
    *rules: str,
    headers: bool = False,
    selection: Selection | None = None,
) -> Verdict:
    if headers:
        assert isinstance(source, Path)
        return check_headers(source, ranks, rules)
    return rankscope.check(source, ranks, rules, selection=selection, how=NO_STORE)


def told(verdict: Verdict) -> list[tuple[str, str, bool]]:
    return [(one.name, one.metric, one.failure) for one in verdict.findings]


class Tied(torch.nn.Module):
    """Two layers of no known role with one weight, and one of its own."""

    def __init__(self, tied: bool = True) -> None:
        super().__init__()
        self.enc = torch.nn.Linear(20, 20, bias=False)
        self.dec = torch.nn.Linear(20, 20, bias=False)
        self.own = torch.nn.Linear(20, 30, bias=False)
        for i, layer in enumerate((self.dec, self.enc, self.own)):
            rows, columns = layer.weight.shape
            layer.weight.data = torch.from_numpy(matrix(rows, columns, i))
        if tied:
            self.enc.weight = self.dec.weight


class TestTies:
    @pytest.fixture
    def both(self, tmp_path: Path) -> Path:
        """The baseline of a file that holds both names."""
        torch.save(Tied().state_dict(), tmp_path / "m.pt")
        return ranks_of(tmp_path / "m.pt")

    @pytest.fixture
    def one(self, tmp_path: Path) -> Path:
        """What safetensors saves of the same module."""
        safetensors.torch.save_model(Tied(), str(tmp_path / "m.safetensors"))
        return tmp_path / "m.safetensors"

    @pytest.mark.parametrize("headers", [False, True])
    def test_tied_is_not_removed(self, both: Path, one: Path, headers: bool) -> None:
        verdict = check(one, both, headers=headers)
        assert verdict.outcome == "pass"
        assert told(verdict) == [("enc.weight", "tied", False)]
        assert verdict.findings[0].sentence == (
            "no longer stored beside dec.weight, which it is tied to"
        )

    def test_nor_in_memory(self, both: Path) -> None:
        """Of a module the first name is measured."""
        assert told(check(Tied(), both)) == [("dec.weight", "tied", False)]

    def test_the_other_name_was_kept(self, tmp_path: Path, one: Path) -> None:
        weights = {"enc.weight": matrix(20, 20, 0), "own.weight": matrix(30, 20, 2)}
        safetensors.numpy.save_file(weights, tmp_path / "old", {"dec.weight": "enc.weight"})
        assert told(check(one, ranks_of(tmp_path / "old"))) == [("enc.weight", "tied", False)]

    def test_a_file_that_tells_nothing_has_lost_it(self, tmp_path: Path, both: Path) -> None:
        weights = {"dec.weight": matrix(20, 20, 0), "own.weight": matrix(30, 20, 2)}
        safetensors.numpy.save_file(weights, tmp_path / "m")
        assert told(check(tmp_path / "m", both)) == [("enc.weight", "removed", True)]

    def test_what_was_two_is_held_against_the_one(self, tmp_path: Path, one: Path) -> None:
        """A file may claim a tie to anything: the readings must be those that were."""
        state = Tied(tied=False).state_dict()
        state["enc.weight"] *= 2
        torch.save(state, tmp_path / "two.pt")
        verdict = check(one, ranks_of(tmp_path / "two.pt"))
        assert ("enc.weight", "tied", False) in told(verdict)
        assert ("enc.weight", "spectral_norm", True) in told(verdict)
        assert verdict.outcome == "fail"

    def test_a_claim_of_another_shape(self, tmp_path: Path, both: Path) -> None:
        weights = {"dec.weight": matrix(20, 20, 0), "own.weight": matrix(30, 20, 2)}
        safetensors.numpy.save_file(weights, tmp_path / "m", {"enc.weight": "own.weight"})
        assert ("enc.weight", "reshaped", True) in told(check(tmp_path / "m", both))

    def test_a_claim_of_what_cannot_be_measured(self, tmp_path: Path, both: Path) -> None:
        weights: Weights = {
            "dec.weight": matrix(20, 20, 0),
            "own.weight": matrix(30, 20, 2),
            "codes": np.ones((20, 20), np.int8),
        }
        safetensors.numpy.save_file(weights, tmp_path / "m", {"enc.weight": "codes"})
        assert told(check(tmp_path / "m", both)) == [("enc.weight", "status", True)]

    def test_what_is_left_out_is_left_out_by_each_name(self, both: Path, one: Path) -> None:
        verdict = check(one, both, selection=Selection(exclude=("dec*",)))
        assert (told(verdict), verdict.names) == ([], ("own.weight",))

    def test_a_comparison_calls_it_tied(self, both: Path, one: Path) -> None:
        two = both.with_suffix("")
        for a, b, side in ((two, one, "before"), (one, two, "after")):
            found = rankscope.diff(a, b, how=NO_STORE)
            assert found.tied == ({"name": "enc.weight", "side": side, "to": "dec.weight"},)
            assert found.removed == found.added == ()


def adapter(folder: Path, module: str) -> Path:
    """A LoRA adapter of one layer of 20 x 20."""
    folder.mkdir()
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 2}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    factors = {"A": matrix(2, 20, 8), "B": matrix(20, 2, 9)}
    safetensors.numpy.save_file(
        {f"base_model.model.{module}.lora_{key}.weight": one for key, one in factors.items()},
        folder / "adapter_model.safetensors",
    )
    return folder


class TestAdapterOnABase:
    def test_that_stores_the_layer_once(self, tmp_path: Path) -> None:
        """What it adds to one of two tied layers is not left out in silence."""
        safetensors.torch.save_model(Tied(), str(tmp_path / "m.safetensors"))
        kept, other = (adapter(tmp_path / name, name) for name in ("dec", "enc"))
        merged = rankscope.analyze(kept, base=tmp_path / "m.safetensors", how=NO_STORE)
        assert [row["name"] for row in merged.matrices] == ["dec.weight", "own.weight"]
        with pytest.raises(InputRejected, match=r"changes enc\.weight, which is not in"):
            rankscope.analyze(other, base=tmp_path / "m.safetensors", how=NO_STORE)

    def test_whose_part_is_missing(self, tmp_path: Path) -> None:
        folder = tmp_path / "base"
        folder.mkdir()
        writer = GGUFWriter(folder / "m.gguf", "llama", split_max_tensors=1)
        for i in range(2):
            writer.add_tensor(f"blk.{i}.weight", matrix(20, 20, i))
        finished(writer, folder / "m.gguf")
        (folder / "m-00002-of-00002.gguf").unlink()
        found = rankscope.analyze(adapter(tmp_path / "a", "blk.1"), base=folder, how=NO_STORE)
        assert found.incomplete
        assert [row["name"] for row in found.matrices] == ["blk.0.weight"]


class TestMissingPart:
    @pytest.fixture
    def parts(self, tmp_path: Path) -> list[Path]:
        folder = tmp_path / "m"
        folder.mkdir()
        writer = GGUFWriter(folder / "m.gguf", "llama", split_max_tensors=2)
        for i in range(5):
            writer.add_tensor(f"blk.{i}.w", matrix(20, 20, i))
        finished(writer, folder / "m.gguf")
        return sorted(folder.iterdir())

    @pytest.fixture
    def ranks(self, parts: list[Path]) -> Path:
        return ranks_of(parts[0].parent)

    @pytest.mark.parametrize("gone", [0, 1, 2])
    @pytest.mark.parametrize("headers", [False, True])
    def test_accounts_for_what_is_not_there(
        self, parts: list[Path], ranks: Path, gone: int, headers: bool
    ) -> None:
        parts[gone].unlink()
        kept = [f"blk.{i}.w" for i in range(5) if i // 2 != gone]
        for source in (parts[0].parent, parts[gone - 1]):
            verdict = check(source, ranks, headers=headers)
            assert verdict.outcome == "incomplete"
            assert told(verdict) == []
            assert list(verdict.names) == kept
            assert [row["name"] for row in verdict.lacking] == [parts[gone].name]
            assert verdict.lacking[0].keys() == {"name", "reason"}

    def test_a_failure_beside_it_is_a_failure(self, tmp_path: Path, parts: list[Path]) -> None:
        weights = {f"blk.{i}.w": matrix(20, 20, i) for i in range(5)}
        safetensors.numpy.save_file({**weights, "blk.4.w": 3 * weights["blk.4.w"]}, tmp_path / "o")
        parts[0].unlink()
        verdict = check(parts[0].parent, ranks_of(tmp_path / "o"))
        assert verdict.outcome == "fail"
        assert {one.name for one in verdict.failures} == {"blk.4.w"}

    def test_what_has_another_name_is_renamed(self, tmp_path: Path, parts: list[Path]) -> None:
        weights = {f"blk.{i}.w": matrix(20, 20, i) for i in range(5)}
        weights["old"] = weights.pop("blk.4.w")
        safetensors.numpy.save_file(weights, tmp_path / "o")
        parts[0].unlink()
        verdict = check(parts[0].parent, ranks_of(tmp_path / "o"))
        assert told(verdict) == [("old", "renamed", True)]

    def test_a_rule_about_what_is_in_it(self, parts: list[Path], ranks: Path) -> None:
        parts[1].unlink()
        assert check(parts[0].parent, ranks, "rank >= 3 for blk.2.*").outcome == "incomplete"

    def test_is_no_baseline(self, parts: list[Path]) -> None:
        parts[1].unlink()
        with pytest.raises(InputRejected, match="no baseline without it: is not there"):
            rankscope.baseline(parts[0].parent, how=NO_STORE)

    def test_a_comparison_says_why(self, parts: list[Path]) -> None:
        whole = parts[0].parent.with_name("whole")
        whole.mkdir()
        for part in parts:
            (whole / part.name).write_bytes(part.read_bytes())
        parts[1].unlink()
        found = rankscope.diff(whole, parts[0].parent, how=NO_STORE)
        assert [(row["name"], row["reason"]) for row in found.removed] == [
            (f"blk.{i}.w", f"{parts[1].name} is not there (parts missing: 1 of 3)") for i in (2, 3)
        ]

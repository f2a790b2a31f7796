"""`rankscope baseline` and `check`: nothing is overwritten, forgotten or passed unseen."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file
from safetensors.torch import load_file, save_model
from safetensors.torch import save_file as torch_save_file

from rankscope.errors import UsageError
from rankscope.matrices import Selection
from rankscope.release import baseline, update_baseline, write_baseline
from tests.checkpoints import gguf_files, peft_models
from tests.checkpoints.gguf_files import blocks
from tests.cli.conftest import Run
from tests.gate import models

Q8_0 = gguf.GGMLQuantizationType.Q8_0
CODES = np.arange(64, dtype=np.int8).reshape(8, 8)

MIXED: dict[str, NDArray[Any]] = {
    "model.up.weight": np.eye(8, dtype=np.float32),
    "model.norm.weight": np.ones(8, np.float32),
    "model.up.bias": np.ones(8, np.float32),
    "model.rotary_emb.inv_freq": np.ones(4, np.float32),
    "model.position_ids": np.arange(8)[None],
}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def released(here: Path, run: Run) -> Path:
    """A directory v1 and its baseline, ranks.json."""
    path = models.save(here / "v1", models.model())
    assert run("baseline", "v1", "-o", "ranks.json").code == 0
    return path


class TestOverwritten:
    @pytest.mark.parametrize(
        "target",
        ["v1/model.safetensors", "index.json", "report.json", "list.json", "binary.json"],
    )
    def test_no_baseline_takes_the_place_of_what_is_none(
        self, released: Path, here: Path, run: Run, target: str
    ) -> None:
        run("analyze", "v1", "-o", "report.json")
        (here / "index.json").write_text('{"weight_map": {}}')
        (here / "list.json").write_text("[1]")
        (here / "binary.json").write_bytes(b"\x00" * 10)
        before = Path(target).read_bytes()
        ended = run("baseline", "v1", "-o", target)
        assert ended.code == 2
        assert "is no baseline, and would be lost" in ended.err
        assert Path(target).read_bytes() == before
        with pytest.raises(UsageError, match="is no baseline"):
            write_baseline(baseline({"w": np.eye(3)}), target)
        assert Path(target).read_bytes() == before

    def test_an_empty_file_an_older_and_a_damaged_baseline_are_replaced(
        self, released: Path, run: Run
    ) -> None:
        whole = Path("ranks.json").read_text()
        conflict = "<<<<<<< ours\n" + whole.replace("16", "17", 1) + "=======\n" + whole
        for text in ("", whole.replace("baseline/1", "baseline/0"), "{" + conflict):
            Path("ranks.json").write_text(text)
            assert run("baseline", "v1", "-o", "ranks.json").code == 0
            assert Path("ranks.json").read_text() == whole

    @pytest.mark.parametrize("name", ["ranks.json", "v1/../ranks.json", "link.json"])
    def test_a_report_does_not_take_the_baselines_place(
        self, released: Path, run: Run, name: str
    ) -> None:
        Path("link.json").symlink_to("ranks.json")
        before = Path("ranks.json").read_bytes()
        ended = run("check", "v1", "--baseline", "ranks.json", "-o", name)
        assert ended.code == 2
        assert "is the baseline, which only --update writes" in ended.err
        assert Path("ranks.json").read_bytes() == before


class TestForgotten:
    def test_an_update_of_a_part(self, released: Path, run: Run) -> None:
        before = Path("ranks.json").read_bytes()
        command = ("check", "v1", "--baseline", "ranks.json", "--update", "--include", "*q_proj*")
        ended = run(*command)
        assert ended.code == 2
        assert "would be forgotten" in " ".join(ended.err.split())
        assert Path("ranks.json").read_bytes() == before
        with pytest.raises(UsageError, match="would be forgotten"):
            update_baseline("v1", "ranks.json", selection=Selection(("*q_proj*",)))
        assert Path("ranks.json").read_bytes() == before
        Path("ranks.json").unlink()
        assert run(*command).code == 0
        matrices = json.loads(Path("ranks.json").read_text())["matrices"]
        assert matrices
        assert all("q_proj" in name for name in matrices)
        assert run(*command).code == 0  # the same part again
        assert run("check", "v1", "--baseline", "ranks.json", "--update").code == 0

    def test_the_advice_measures_the_same_again(self, here: Path, run: Run) -> None:
        saved = peft_models.save(here, peft_models.llama(), r=4, target_modules=["v_proj"])
        command = ("check", str(saved.adapter), "--base", str(saved.base))
        part = ("--include", "*v_proj*", "--exclude", "*layers.0*")
        assert run(*command, *part, "--baseline", "ranks.json", "--update").code == 0
        kept = json.loads(Path("ranks.json").read_text())
        for row in kept["matrices"].values():
            row["rank"] = row["rank"] + 10
        Path("ranks.json").write_text(json.dumps(kept))
        ended = run(*command, *part, "--baseline", "ranks.json")
        assert ended.code == 1
        advice = " ".join(ended.out.split())
        assert (
            f"rankscope check {saved.adapter} --baseline ranks.json --base {saved.base} "
            "--include '*v_proj*' --exclude '*layers.0*' --update" in advice
        )

    def test_no_advice_where_no_baseline_can_be_made(self, released: Path, run: Run) -> None:
        weights = models.model()
        weights[models.UP] = models.projected(weights[models.UP], 0.5)
        weights["new.weight"] = CODES
        models.save(Path("v2"), weights)
        ended = run("check", "v2", "--baseline", "ranks.json")
        assert ended.code == 1
        assert "--update" not in ended.out


class TestUnseen:
    def test_codes_without_scales(self, here: Path, run: Run) -> None:
        save_file(
            {
                "a.weight": np.eye(8, dtype=np.float32),
                "b.weight": CODES,
                "b.mask": CODES,
                "c.weight": np.arange(8),
            },
            "m.safetensors",
        )
        ended = run("check", "m.safetensors", "--rule", "rank >= 1", "--format", "json")
        assert ended.code == 1
        (finding,) = json.loads(ended.out)["findings"]
        assert (finding["name"], finding["metric"], finding["after"]) == (
            "b.weight",
            "status",
            "skipped",
        )
        assert "int8" in finding["sentence"]
        for more in (("--rule", "status: any for b.*"), ("--exclude", "b.*")):
            assert run("check", "m.safetensors", "--rule", "rank >= 1", *more).code == 0
        assert run("analyze", "m.safetensors").code == 0  # which says what it left out

        ended = run("baseline", "m.safetensors", "-o", "ranks.json")
        assert (ended.code, Path("ranks.json").exists()) == (3, False)
        assert "b.weight: no baseline without it: int8" in ended.err
        assert "name with --exclude" in ended.err
        part = ("--exclude", "b.*")
        assert run("baseline", "m.safetensors", "-o", "ranks.json", *part).code == 0
        for headers in ((), ("--headers",)):
            assert run("check", "m.safetensors", "--baseline", "ranks.json", *headers).code == 0
        everything = ("check", "m.safetensors", "--baseline", "ranks.json", "--include", "*")
        for headers in ((), ("--headers",)):
            ended = run(*everything, *headers)
            assert ended.code == 1
            assert "b.weight" in ended.out

    def test_a_type_that_nothing_here_decodes(
        self, here: Path, run: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = gguf_files.write(here / "m.gguf", {"a.weight": (blocks(Q8_0, (8, 64)), Q8_0)})
        assert run("check", path, "--rule", "rank >= 1").code == 0
        monkeypatch.setattr("importlib.util.find_spec", lambda *_: None)
        ended = run("check", path, "--rule", "rank >= 1", "--no-store")
        assert ended.code == 1
        assert "gguf package" in ended.out
        ended = run("baseline", path, "-o", "ranks.json", "--no-store")
        assert (ended.code, Path("ranks.json").exists()) == (3, False)

    def test_nothing_at_all(self, here: Path, run: Run) -> None:
        save_file({"norm.weight": np.ones(4, np.float32)}, "m.safetensors")
        for command in (
            ("check", "m.safetensors", "--rule", "rank >= 1"),
            ("check", "m.safetensors"),
            ("baseline", "m.safetensors", "-o", "ranks.json"),
        ):
            ended = run(*command)
            assert (ended.code, ended.out) == (3, "")
            assert "holds no weight matrix" in ended.err
        assert not Path("ranks.json").exists()


class TestVectors:
    def saved(self, *without: str, prefix: str = "model.") -> None:
        save_file(
            {
                name.replace("model.", prefix): array
                for name, array in MIXED.items()
                if name not in without
            },
            "m.safetensors",
        )

    @pytest.fixture(autouse=True)
    def _released(self, here: Path, run: Run) -> None:
        self.saved()
        assert run("baseline", "m.safetensors", "-o", "ranks.json").code == 0

    @pytest.mark.parametrize("headers", [(), ("--headers",)])
    def test_one_that_is_gone(self, run: Run, headers: tuple[str, ...]) -> None:
        command = ("check", "m.safetensors", "--baseline", "ranks.json", *headers)
        assert run(*command).code == 0
        self.saved("model.norm.weight")
        ended = run(*command, "--format", "json")
        assert ended.code == 1
        (finding,) = json.loads(ended.out)["findings"]
        assert (finding["name"], finding["metric"]) == ("model.norm.weight", "removed")
        assert finding["sentence"] == "removed: a vector"
        told = run(*command).out
        assert "model.norm.weight" in told
        assert "fails: 1 vector is gone, no rule is broken by 1 matrix" in told
        assert run(*command, "--rule", "removed: any for *norm*").code == 0

    def test_what_is_no_loss(self, run: Run) -> None:
        command = ("check", "m.safetensors", "--baseline", "ranks.json")
        self.saved("model.rotary_emb.inv_freq", "model.position_ids")
        assert run(*command).code == 0
        self.saved(prefix="")  # everything has another name, of which that of one matrix is told
        ended = run(*command, "--format", "json")
        assert [one["metric"] for one in json.loads(ended.out)["findings"]] == ["renamed"]

    def test_a_baseline_from_before_they_were_noted(self, run: Run) -> None:
        known = json.loads(Path("ranks.json").read_text())
        assert known.pop("vectors") == [
            "model.norm.weight",
            "model.rotary_emb.inv_freq",
            "model.up.bias",
        ]
        Path("ranks.json").write_text(json.dumps(known))
        self.saved("model.norm.weight")
        assert run("check", "m.safetensors", "--baseline", "ranks.json").code == 0
        known["vectors"] = [1]
        Path("ranks.json").write_text(json.dumps(known))
        ended = run("check", "m.safetensors", "--baseline", "ranks.json")
        assert ended.code == 3
        assert "vectors" in ended.err

    def test_one_that_became_a_matrix(self, run: Run) -> None:
        weights = {**MIXED, "model.norm.weight": np.eye(8, dtype=np.float32)}
        save_file(weights, "m.safetensors")
        ended = run("check", "m.safetensors", "--baseline", "ranks.json", "--format", "json")
        assert [one["metric"] for one in json.loads(ended.out)["findings"]] == ["added"]


def test_a_matrix_that_became_a_vector(here: Path, run: Run) -> None:
    weights = {"a.weight": np.eye(8, dtype=np.float32), "b.weight": np.eye(4, dtype=np.float32)}
    save_file(weights, "m.safetensors")
    assert run("baseline", "m.safetensors", "-o", "ranks.json").code == 0
    save_file(weights | {"a.weight": np.ones(64, np.float32)}, "m.safetensors")
    ended = run("check", "m.safetensors", "--baseline", "ranks.json", "--format", "json")
    assert ended.code == 1
    (finding,) = json.loads(ended.out)["findings"]
    assert (finding["name"], finding["metric"]) == ("a.weight", "reshaped")
    assert finding["sentence"] == "shape was 8x8, is a vector now"


def test_a_missing_shard_of_codes(here: Path, run: Run) -> None:
    """Its tensors have other names in the index than the weights that they stand for."""
    rng = np.random.default_rng(0)
    shards = {}
    for layer in "ab":
        codes = rng.integers(-128, 128, (8, 64)).astype(np.int8).view(np.int32)
        shards[f"{layer}.safetensors"] = {
            f"{layer}.weight_packed": codes,
            f"{layer}.weight_scale": np.full((8, 1), 0.01, np.float32),
            f"{layer}.weight_shape": np.array([8, 64]),
        }
    (here / "m").mkdir()
    for name, tensors in shards.items():
        save_file(tensors, here / "m" / name)
    places = {tensor: name for name, tensors in shards.items() for tensor in tensors}
    (here / "m" / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    quantisation = {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "config_groups": {
            "group_0": {
                "targets": ["Linear"],
                "weights": {"num_bits": 8, "strategy": "channel", "symmetric": True},
            }
        },
    }
    (here / "m" / "config.json").write_text(json.dumps({"quantization_config": quantisation}))
    ended = run("baseline", "m", "-o", "ranks.json")
    assert ended.code == 0, ended.err
    assert set(json.loads(Path("ranks.json").read_text())["matrices"]) == {"a.weight", "b.weight"}
    (here / "m" / "b.safetensors").unlink()
    ended = run("check", "m", "--baseline", "ranks.json", "--format", "json")
    assert ended.code == 4, ended.out
    assert not json.loads(ended.out)["findings"]
    tensors = shards["a.safetensors"]
    codes = np.zeros_like(tensors["a.weight_packed"])
    save_file({**tensors, "a.weight_packed": codes}, here / "m" / "a.safetensors")
    ended = run("check", "m", "--baseline", "ranks.json")
    assert ended.code == 1
    assert "--update" not in ended.out  # of a model that lacks a shard no baseline is made


class TestNoFalseAlarm:
    def test_a_stored_glob_that_matches_nothing_any_more(self, here: Path, run: Run) -> None:
        weights = {"a.weight": np.eye(8, dtype=np.float32), "a.bias": np.ones(8, np.float32)}
        save_file(weights | {"head.weight": np.eye(3)}, "m.safetensors")
        part = ("--exclude", "head*")
        assert run("baseline", "m.safetensors", "-o", "ranks.json", *part).code == 0
        save_file(weights, "m.safetensors")
        command = ("check", "m.safetensors", "--baseline", "ranks.json")
        assert run(*command).code == 0
        assert run(*command, "--headers").code == 0
        assert run(*command, "--update").code == 0
        assert run(*command, *part).code == 2  # typed just now
        Path("rankscope.toml").write_text('[check]\nexclude = ["head*"]\n')
        assert run(*command, "--config", "rankscope.toml").code == 0

    def test_what_save_model_keeps_another_name_of(self, here: Path, run: Run) -> None:
        class Tied(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                torch.manual_seed(0)
                self.enc, self.dec = torch.nn.Linear(8, 8), torch.nn.Linear(8, 8)
                self.dec.weight, self.dec.bias = self.enc.weight, self.enc.bias
                self.other = torch.nn.Linear(8, 8)

        model = Tied()
        save_model(model, "once.safetensors")
        one, other = (
            {
                name: tensor
                for name, tensor in model.state_dict().items()
                if not name.startswith(part)
            }
            for part in ("enc", "dec")
        )
        torch_save_file({name: tensor.clone() for name, tensor in one.items()}, "one.safetensors")
        torch_save_file(
            {name: tensor.clone() for name, tensor in other.items()}, "other.safetensors"
        )
        assert run("baseline", "once.safetensors", "-o", "ranks.json").code == 0
        assert json.loads(Path("ranks.json").read_text())["ties"]
        for file in ("one", "other", "once"):
            ended = run("check", f"{file}.safetensors", "--baseline", "ranks.json")
            assert ended.code == 0, (file, ended.out)
        kept = next(iter(json.loads(Path("ranks.json").read_text())["ties"].values()))
        part = "enc" if kept.startswith("dec") else "dec"
        weak = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        weak = {name: tensor for name, tensor in weak.items() if name.startswith((part, "other"))}
        weak[f"{part}.weight"] = torch.ones(8, 8)
        torch_save_file(weak, "weak.safetensors")
        ended = run("check", "weak.safetensors", "--baseline", "ranks.json")
        assert ended.code == 1  # a tie hides no loss
        assert "rank" in ended.out

    def test_norms_that_save_model_keeps_another_name_of(self, here: Path, run: Run) -> None:
        model = torch.nn.ModuleDict(
            {name: torch.nn.LayerNorm(8) for name in ("first", "second")}
            | {"up": torch.nn.Linear(8, 8)}
        )
        for kind in ("weight", "bias"):
            setattr(model["second"], kind, getattr(model["first"], kind))
        save_model(model, "once.safetensors")
        assert run("baseline", "once.safetensors", "-o", "ranks.json").code == 0
        assert set(json.loads(Path("ranks.json").read_text())["vectors"]) & {
            "first.weight",
            "second.weight",
        }
        for gone in ("first", "second"):
            left = {k: v.clone() for k, v in model.state_dict().items() if not k.startswith(gone)}
            torch_save_file(left, "m.safetensors")
            ended = run("check", "m.safetensors", "--baseline", "ranks.json")
            assert ended.code == 0, ended.out

    def test_vectors_of_what_was_renamed(self, here: Path, run: Run) -> None:
        kept = {"up.weight": np.eye(8, dtype=np.float32), "up.bias": np.ones(8, np.float32)}
        other = {"weight": np.ones((4, 4), np.float32), "bias": np.ones(4, np.float32)}
        save_file(kept | {f"old.{name}": array for name, array in other.items()}, "m.safetensors")
        assert run("baseline", "m.safetensors", "-o", "ranks.json").code == 0
        save_file(kept | {f"new.{name}": array for name, array in other.items()}, "m.safetensors")
        command = ("check", "m.safetensors", "--baseline", "ranks.json")
        ended = run(*command, "--format", "json")
        assert [one["metric"] for one in json.loads(ended.out)["findings"]] == ["renamed"]
        assert run(*command, "--rule", "renamed: any").code == 0

    def test_integers_that_are_no_weights(self, here: Path, run: Run) -> None:
        counts: dict[str, NDArray[Any]] = {
            "class_weight": np.ones((2, 64), np.int64),
            "edge_weight": np.ones((8, 8), np.uint8),
            "buckets.weight": np.ones((8, 8), np.int64),
            "mask.weight": np.ones((8, 8), np.bool_),
        }
        save_file({"a.weight": np.eye(8, dtype=np.float32), **counts}, "m.safetensors")
        assert run("baseline", "m.safetensors", "-o", "ranks.json").code == 0
        assert run("check", "m.safetensors", "--rule", "rank >= 1").code == 0

    def test_a_bias_that_is_shared_as_its_weight_is(self, here: Path, run: Run) -> None:
        table = np.random.default_rng(0).standard_normal((32, 8)).astype(np.float32)
        once: dict[str, NDArray[Any]] = {
            "bert.embeddings.word_embeddings.weight": table,
            "cls.predictions.bias": np.ones(32),
        }
        twice: dict[str, NDArray[Any]] = {
            "cls.predictions.decoder.weight": table,
            "cls.predictions.decoder.bias": np.ones(32),
        }
        save_file(once | twice, "m.safetensors")
        assert run("baseline", "m.safetensors", "-o", "ranks.json").code == 0
        save_file(once, "m.safetensors")
        ended = run("check", "m.safetensors", "--baseline", "ranks.json", "--format", "json")
        assert ended.code == 0
        assert [one["metric"] for one in json.loads(ended.out)["findings"]] == ["tied"]


class TestHoles:
    def test_an_update_without_vectors(self, here: Path, run: Run) -> None:
        save_file(MIXED, "m.safetensors")
        assert run("baseline", "m.safetensors", "-o", "ranks.json").code == 0
        before = Path("ranks.json").read_bytes()
        command = ("check", "m.safetensors", "--baseline", "ranks.json", "--update")
        assert run(*command, "--exclude", "*.bias").code == 2
        assert Path("ranks.json").read_bytes() == before

    def test_magnitudes_of_dora(self, here: Path, run: Run) -> None:
        saved = peft_models.save(
            here, peft_models.llama(), r=4, target_modules=["v_proj"], use_dora=True
        )
        assert run("baseline", str(saved.adapter), "-o", "ranks.json").code == 0
        file = saved.adapter / "adapter_model.safetensors"
        left = {k: v for k, v in load_file(file).items() if "magnitude" not in k}
        assert len(left) < len(load_file(file))
        torch_save_file(left, file)
        ended = run("check", str(saved.adapter), "--baseline", "ranks.json")
        assert ended.code == 1
        assert "magnitude" in ended.out

    def test_an_emptied_vector(self, here: Path, run: Run) -> None:
        save_file(MIXED, "m.safetensors")
        assert run("baseline", "m.safetensors", "-o", "ranks.json").code == 0
        for emptied in (np.ones(0, np.float32), np.ones(8, np.int64)):
            save_file({**MIXED, "model.norm.weight": emptied}, "m.safetensors")
            ended = run("check", "m.safetensors", "--baseline", "ranks.json")
            assert ended.code == 1
            assert "model.norm.weight" in ended.out

    def test_a_quantised_tensor_of_pytorch(self, here: Path, run: Run) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch will drop these types some day
            codes = torch.quantize_per_tensor(torch.eye(8), 0.1, 0, torch.qint8)
        torch.save({"a.weight": codes, "b.weight": torch.eye(8)}, "m.pt")
        ended = run("baseline", "m.pt", "-o", "ranks.json")
        assert (ended.code, Path("ranks.json").exists()) == (3, False)
        assert "a.weight" in ended.err

    def test_a_link_to_a_baseline_stays_one(self, here: Path, run: Run) -> None:
        save_file(MIXED, "m.safetensors")
        Path("link.json").symlink_to("ranks.json")
        assert run("baseline", "m.safetensors", "-o", "link.json").code == 0
        assert Path("link.json").is_symlink()
        assert Path("ranks.json").exists()

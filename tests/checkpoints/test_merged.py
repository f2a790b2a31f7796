"""Adapters merged onto their base: what PEFT's own merge gives is the oracle."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner

import rankscope
from rankscope import checkpoints
from rankscope.checkpoints import merged, open_checkpoint
from rankscope.cli.app import app
from rankscope.errors import InputRejected, UsageError
from rankscope.how import How
from rankscope.matrices import Selection, fold, select
from rankscope.worker import Task, measure_task
from tests.checkpoints.peft_models import Saved, gpt2, llama, read_all, resnet, save
from tests.checkpoints.test_adapters import CONFIG, adapter, factors
from tests.matrix import Array

LLAMA = ["q_proj", "v_proj", "down_proj"]
CONV1D = {"target_modules": ["c_attn", "c_proj", "c_fc"], "fan_in_fan_out": True}
VARIANTS: dict[str, tuple[Any, dict[str, Any]]] = {
    "plain": (llama, {"target_modules": LLAMA, "lora_alpha": 3}),
    "rslora": (llama, {"target_modules": LLAMA, "use_rslora": True}),
    "dora": (llama, {"target_modules": LLAMA, "use_dora": True}),
    "embedding": (llama, {"target_modules": ["embed_tokens", "q_proj"]}),
    "dora on an embedding": (llama, {"target_modules": ["embed_tokens"], "use_dora": True}),
    "Conv1D": (gpt2, CONV1D),
    "dora on Conv1D": (gpt2, {**CONV1D, "use_dora": True}),
    "convolution": (resnet, {"target_modules": ["convolution"]}),
    "dora on a convolution": (resnet, {"target_modules": ["convolution"], "use_dora": True}),
    "whole modules": (
        llama,
        {"target_modules": ["q_proj"], "modules_to_save": ["lm_head", "o_proj"]},
    ),
    "bfloat16": (llama, {"target_modules": LLAMA, "dtype": "bfloat16"}),
    "dora in bfloat16": (
        llama,
        {"target_modules": LLAMA, "use_dora": True, "dtype": "bfloat16"},
    ),
}


def oriented(name: str, state: dict[str, Array]) -> Array:
    """A matrix of a merged model as it is measured: Conv1D turned, its parts apart."""
    tensor, _, part = name.partition(":")
    matrix = state[tensor].reshape(len(state[tensor]), -1)
    if any(word in tensor for word in ("c_attn", "c_proj", "c_fc")):
        matrix = matrix.T
    return matrix if not part else np.split(matrix, 3)["qkv".index(part)]


@pytest.mark.parametrize("variant", VARIANTS)
def test_it_is_what_peft_merges(tmp_path: Path, variant: str) -> None:
    make, settings = VARIANTS[variant]
    saved = save(tmp_path, make(), **{"r": 4, **settings})
    found = read_all(saved.adapter, saved.base)
    plain = read_all(saved.base)
    assert found.keys() == plain.keys()
    # PEFT rounds on the way, DoRA's several times; we once.
    unit = 2.0**-8 if "dtype" in settings else 2.0**-23
    for name, matrix in found.items():
        expected = oriented(name, saved.merged)
        np.testing.assert_allclose(matrix, expected, rtol=0, atol=4 * unit * np.abs(expected).max())
    moved = {
        name.partition(":")[0] for name in found if not np.array_equal(found[name], plain[name])
    }
    whole = {name for name in plain if any(f"{m}.weight" in name for m in ("lm_head", "o_proj"))}
    assert moved == {*saved.deltas, *(whole if "modules_to_save" in settings else ())}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Saved:
    """One that tests may read, and copy to change."""
    return save(tmp_path_factory.mktemp("saved"), llama(), r=4, target_modules=LLAMA)


def test_its_numbers(saved: Saved) -> None:
    result = rankscope.analyze(saved.adapter, base=saved.base, how=How(store=False))
    assert not result.incomplete
    assert len(result.matrices) == 16
    for row in result.matrices:
        sigma = np.linalg.svd(saved.merged[row["name"]], compute_uv=False)
        assert row["dtype"] == "float32"
        assert row["spectral_norm"] == pytest.approx(sigma[0], rel=1e-5)
    (source,) = result.provenance["sources"]
    assert source["format"] == "safetensors on safetensors"
    assert source["base"] == str(saved.base / "model.safetensors")


def test_workers_read_the_same(saved: Saved, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = rankscope.analyze(saved.adapter, base=saved.base, how=How(store=False))
    monkeypatch.setattr("rankscope.engines.INLINE_FLOPS", 0.0)
    apart = rankscope.analyze(saved.adapter, base=saved.base, how=How(workers=2, store=False))
    assert alone.matrices == apart.matrices


def test_a_sharded_base(saved: Saved, tmp_path: Path) -> None:
    """A worker opens only the shards of what it reads, and still finds the adapter to fit."""
    tensors = load_file(saved.base / "model.safetensors")
    shutil.copy(saved.base / "config.json", tmp_path / "config.json")
    names = {name: f"model-{i % 3}.safetensors" for i, name in enumerate(tensors)}
    for shard in set(names.values()):
        held = {name: tensors[name] for name in tensors if names[name] == shard}
        save_file(held, tmp_path / shard)
    index = {"weight_map": names}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    expected, found = read_all(saved.adapter, saved.base), read_all(saved.adapter, tmp_path)
    assert expected.keys() == found.keys()
    assert all(np.array_equal(expected[name], found[name]) for name in expected)
    rows = rankscope.analyze(saved.adapter, base=tmp_path, how=How(store=False)).matrices
    assert {row["status"] for row in rows} == {"ok"}
    shard = names["model.layers.0.mlp.down_proj.weight"]
    (tmp_path / shard).unlink()
    lacking = rankscope.analyze(saved.adapter, base=tmp_path, how=How(store=False))
    assert lacking.incomplete
    assert all(row["status"] == "ok" for row in lacking.matrices)


def test_only_what_is_read_is_opened(saved: Saved, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task says the names of the base's tensors and of the adapter's."""
    seen: list[Any] = []
    stored = checkpoints._open_stored

    def noted(path: Path, wanted: Any) -> Any:
        seen.append(wanted)
        return stored(path, wanted)

    with open_checkpoint(saved.adapter, base=saved.base) as checkpoint:
        name = "model.layers.1.self_attn.q_proj.weight"
        (tensor,) = (one for one in checkpoint.listing.tensors if one.name == name)
    monkeypatch.setattr(checkpoints, "_open_stored", noted)
    task = Task(saved.adapter, tuple(fold(tensor)), "gram", (), base=saved.base)
    (outcome,) = measure_task(task)
    assert seen == [None, {name}]
    assert outcome.measurement.__class__.__name__ == "Spectrum"


def test_neither_memo_nor_store_confuses_it_with_the_adapter(saved: Saved, tmp_path: Path) -> None:
    how = How(store=tmp_path / "store.sqlite3")
    for path in (*saved.adapter.iterdir(), *saved.base.iterdir()):
        os.utime(path, (1e9, 1e9))  # old enough to be remembered
    for _ in range(2):
        alone = rankscope.analyze(saved.adapter, how=how)
        onto = rankscope.analyze(saved.adapter, base=saved.base, how=how)
        assert {row["route"] for row in alone.matrices} == {"factors"}
        assert {row["route"] for row in onto.matrices}.isdisjoint({"factors"})
        assert len(onto.matrices) > len(alone.matrices)


def test_from_the_command_line(saved: Saved, tmp_path: Path) -> None:
    arguments = ["analyze", str(saved.adapter), "--base", str(saved.base), "--no-store"]
    done = CliRunner().invoke(app, [*arguments, "--json"])
    rows = json.loads(done.stdout)["matrices"]
    assert len(rows) == 16
    spectra = tmp_path / "spectra.csv"
    done = CliRunner().invoke(app, [*arguments, "--spectra", "-o", str(spectra)])
    assert done.exit_code == 0
    lines = [line.split(",") for line in spectra.read_text().splitlines()[1:]]
    largest = {line[1]: float(line[4]) for line in lines if line[3] == "0"}
    assert largest == {row["name"]: pytest.approx(row["spectral_norm"]) for row in rows}


def test_weights_in_memory_are_no_adapter(saved: Saved) -> None:
    with pytest.raises(UsageError, match="no adapter of a base"):
        rankscope.analyze({"w": np.eye(3)}, base=saved.base)


def base(directory: Path, **tensors: Array) -> Path:
    """A base without config.json."""
    directory.mkdir()
    weights = {"a.q.weight": np.ones((5, 7), np.float32), **tensors}
    save_file(weights, directory / "model.safetensors")
    return directory


REJECTED: list[tuple[dict[str, Any], dict[str, Array], str]] = [
    ({"r": 3}, {}, "a.q.weight: the factors share 2"),
    ({"peft_type": "IA3"}, {}, "cannot be merged: .*peft_type is 'IA3', expected 'LORA'"),
    ({"init_lora_weights": "pissa_niter_4"}, {}, "the base's own weights were changed for it"),
    ({"layer_replication": [[0, 1]]}, {}, "layer_replication is set"),
    ({"alora_invocation_tokens": [1]}, {}, "alora_invocation_tokens is set"),
    ({"use_dora": True}, {}, "a.q.weight: has magnitudes of DoRA or not"),
    (
        {"use_dora": True},
        {"base_model.model.a.q.lora_magnitude_vector": np.ones(4, np.float32)},
        "lora_magnitude_vector: has 4 elements, expected 5",
    ),
    (
        {},
        {"base_model.model.a.q.lora_magnitude_vector": np.ones(5, np.float32)},
        "has magnitudes of DoRA or not",
    ),
    (
        {},
        factors("base_model.model.b.q"),
        r"changes b\.q\.weight, which is not in .*; nearest: a\.q\.weight",
    ),
    ({}, {"base_model.model.head.weight": np.ones((2, 2), np.float32)}, r"changes head\.weight"),
    ({}, {"base_model.model.a.q.hada_w1": np.ones((2, 2), np.float32)}, r"changes a\.q\.hada_w1"),
    (
        {"modules_to_save": ["q"]},
        {"base_model.model.model.a.q.weight": np.ones((5, 7), np.float32)},
        r"changes model\.a\.q\.weight, which is not in",
    ),
]


@pytest.mark.parametrize(("config", "more", "message"), REJECTED)
def test_what_does_not_fit_is_refused(
    tmp_path: Path, config: dict[str, Any], more: dict[str, Array], message: str
) -> None:
    path = adapter(tmp_path / "adapter", factors() | more, {**CONFIG, **config})
    with pytest.raises(InputRejected, match=message) as caught:
        open_checkpoint(path, base=base(tmp_path / "base"))
    assert caught.value.path == str(path / "adapter_model.safetensors")


@pytest.mark.parametrize("shape", [(5, 8), (7, 6), (35,), (1, 5, 7), (5, 7, 1, 2)])
def test_a_base_of_another_shape_is_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = adapter(tmp_path / "adapter", factors(), CONFIG)
    with pytest.raises(InputRejected, match=r"a\.q\.weight: the adapter adds \(5, 7\), the base"):
        open_checkpoint(path, base=base(tmp_path / "base", **{"a.q.weight": np.ones(shape, "f4")}))


def test_an_adapter_without_its_config_is_refused(tmp_path: Path) -> None:
    path = adapter(tmp_path / "adapter", factors())
    with pytest.raises(InputRejected, match=r"cannot be merged: no adapter_config\.json"):
        open_checkpoint(path, base=base(tmp_path / "base"))


def test_an_integer_base_is_refused(tmp_path: Path) -> None:
    path = adapter(tmp_path / "adapter", factors(), CONFIG)
    target = base(tmp_path / "base", **{"a.q.weight": np.ones((5, 7), np.int8)})
    with pytest.raises(InputRejected, match="the base's is int8, expected floating point"):
        open_checkpoint(path, base=target)


def test_a_base_that_is_several_is_refused(tmp_path: Path) -> None:
    path = adapter(tmp_path / "adapter", factors(), CONFIG)
    for step in (1, 2):
        save_file({"a.q.weight": np.ones((5, 7), "f4")}, tmp_path / f"step-{step}.safetensors")
    with pytest.raises(InputRejected, match="holds 2 snapshots, expected one"):
        rankscope.analyze(path, base=tmp_path, how=How(store=False))


def square(directory: Path, name: str, **config: Any) -> Path:
    tensors = {
        f"base_model.model.{name}.lora_A.weight": np.eye(2, 5, dtype=np.float32),
        f"base_model.model.{name}.lora_B.weight": np.eye(5, 2, 1, dtype=np.float32),
    }
    return adapter(directory, tensors, {**CONFIG, **config})


@pytest.mark.parametrize(("name", "flag"), [("a.q", True), ("h.0.attn.c_proj", False)])
def test_a_square_matrix_that_may_lie_either_way_is_refused(
    tmp_path: Path, name: str, flag: bool
) -> None:
    path = square(tmp_path / "adapter", name, fan_in_fan_out=flag)
    weights = {f"{name}.weight": np.ones((5, 5), np.float32)}
    with pytest.raises(InputRejected, match=r"is square, .* cannot be told without"):
        open_checkpoint(path, base=base(tmp_path / "base", **weights))


def test_a_square_linear_layer(tmp_path: Path) -> None:
    path = square(tmp_path / "adapter", "a.q", fan_in_fan_out=False)
    weights = {"a.q.weight": np.zeros((5, 5), np.float32)}
    found = read_all(path, base(tmp_path / "base", **weights))
    expected = 3 * np.eye(5, 2, 1) @ np.eye(2, 5)
    np.testing.assert_array_equal(found["a.q.weight"], expected)


def test_a_resized_embedding_takes_the_place_of_the_bases(tmp_path: Path) -> None:
    """PEFT saves both tables; of a base whose two are tied only one is there."""
    table = np.arange(12, dtype=np.float32).reshape(6, 2)
    tensors = factors() | {
        "base_model.model.model.embed_tokens.weight": table,
        "base_model.model.lm_head.weight": table + 1,
    }
    path = adapter(tmp_path / "adapter", tensors, CONFIG)
    weights = {"model.embed_tokens.weight": np.zeros((4, 2), np.float32)}
    found = read_all(path, base(tmp_path / "base", **weights))
    np.testing.assert_array_equal(found["model.embed_tokens.weight"], table)
    np.testing.assert_array_equal(found["lm_head.weight"], table + 1)


def test_a_new_head_is_added(tmp_path: Path) -> None:
    head = np.ones((3, 7), np.float32)
    tensors = factors() | {"base_model.model.score.modules_to_save.default.weight": head}
    path = adapter(tmp_path / "adapter", tensors, {**CONFIG, "modules_to_save": ["score"]})
    found = read_all(path, base(tmp_path / "base"))
    assert found.keys() == {"a.q.weight", "score.weight"}


def test_a_base_of_eight_bits_gives_float32(tmp_path: Path) -> None:
    """What is added would be lost in them."""
    (tmp_path / "base").mkdir()
    weight = torch.ones(5, 7).to(torch.float8_e4m3fn)
    safetensors.torch.save_file({"a.q.weight": weight}, tmp_path / "base" / "model.safetensors")
    path = adapter(tmp_path / "adapter", factors(), CONFIG)
    first, second = factors().values()
    found = read_all(path, tmp_path / "base")["a.q.weight"]
    expected = 1 + 3 * second.astype(float) @ first
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nonfinite_factors_are_told(tmp_path: Path, value: float) -> None:
    tensors = factors()
    next(iter(tensors.values()))[0, 0] = value
    path = adapter(tmp_path / "adapter", tensors, CONFIG)
    (row,) = rankscope.analyze(path, base=base(tmp_path / "base"), how=How(store=False)).matrices
    assert row["status"] == "nonfinite"


def test_a_row_of_zeros_has_no_direction_for_dora(tmp_path: Path) -> None:
    tensors = factors() | {"base_model.model.a.q.lora_magnitude_vector": np.ones(5, np.float32)}
    tensors["base_model.model.a.q.lora_B.weight"][2] = 0
    weights = {"a.q.weight": np.zeros((5, 7), np.float32)}
    path = adapter(tmp_path / "adapter", tensors, {**CONFIG, "use_dora": True})
    target = base(tmp_path / "base", **weights)
    (row,) = rankscope.analyze(path, base=target, how=How(store=False)).matrices
    assert row["status"] == "nonfinite"


def test_windows_of_dora(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The norms come from whole lines, whatever window is asked for and in what pieces."""
    monkeypatch.setattr(merged, "NORM_ELEMENTS", 10)
    tensors = factors() | {
        "base_model.model.a.q.lora_magnitude_vector": np.arange(1, 6, dtype=np.float32)
    }
    path = adapter(tmp_path / "adapter", tensors, {**CONFIG, "use_dora": True})
    weight = np.random.default_rng(2).standard_normal((5, 7)).astype(np.float32)
    target = base(tmp_path / "base", **{"a.q.weight": weight})
    first, second, sizes = tensors.values()
    whole = weight + 3 * second.astype(float) @ first
    whole *= (sizes / np.linalg.norm(whole, axis=1))[:, None]
    with open_checkpoint(path, base=target) as checkpoint:
        (spec,), _ = select(checkpoint.listing, Selection())
        window = checkpoint.read(spec, slice(1, 4), slice(2, 6))
    np.testing.assert_allclose(window, whole[1:4, 2:6], rtol=1e-6)

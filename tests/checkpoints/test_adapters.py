"""Adapters: what PEFT itself adds to the weights is the oracle of every product."""

from __future__ import annotations

import json
import math
import random
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

import rankscope
from rankscope.checkpoints import open_checkpoint
from rankscope.checkpoints.adapter_config import NotScaled, scale_of
from rankscope.contentkey import content_key
from rankscope.errors import InputRejected
from rankscope.how import How
from rankscope.matrices import Selection, fits, select
from rankscope.plan import cost, matrix_flops
from rankscope.products import LowRankProduct, matrix_of
from rankscope.records import MatrixSpec, TensorInfo
from rankscope.worker import list_checkpoint
from tests.checkpoints.peft_models import gpt2, llama, read_all, resnet, save
from tests.matrix import Array

PREFIX = "base_model.model."
RNG = np.random.default_rng(11)

VARIANTS: dict[str, tuple[Any, dict[str, Any]]] = {
    "plain": (llama, {"target_modules": ["q_proj", "down_proj"], "lora_alpha": 3}),
    "rslora": (llama, {"target_modules": ["v_proj"], "lora_alpha": 5, "use_rslora": True}),
    "patterns": (
        llama,
        {
            "target_modules": ["q_proj", "k_proj", "v_proj"],
            "rank_pattern": {"layers.1.self_attn.q_proj": 2, "^model.layers.0.self_attn.k_proj": 3},
            "alpha_pattern": {"(k|v)_proj": 7, r"layers\.\d+\.self_attn.q_proj": 5},
        },
    ),
    "rslora with patterns": (
        llama,
        {"target_modules": ["q_proj"], "rank_pattern": {"1.*q_proj": 9}, "use_rslora": True},
    ),
    "dora": (llama, {"target_modules": ["q_proj"], "use_dora": True}),
    "embedding": (llama, {"target_modules": ["embed_tokens", "o_proj"]}),
    "Conv1D": (gpt2, {"target_modules": ["c_attn", "c_proj"], "fan_in_fan_out": True}),
    "convolution": (resnet, {"target_modules": ["convolution"]}),
    "half": (llama, {"target_modules": ["q_proj", "up_proj"], "dtype": "bfloat16"}),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_product_is_what_peft_adds(tmp_path: Path, variant: str) -> None:
    make, settings = VARIANTS[variant]
    saved = save(tmp_path, make(), **{"r": 4, **settings})
    assert saved.deltas
    found = read_all(saved.adapter)
    flipped = settings.get("fan_in_fan_out", False)
    for name, delta in saved.deltas.items():
        expected = delta.T if flipped else delta.reshape(len(delta), -1)
        # PEFT multiplies in float32, and rounds what it adds to bfloat16.
        accuracy = 2.0**-8 if settings.get("dtype") else 1e-6
        largest = np.abs(expected).max()
        np.testing.assert_allclose(found[name], expected, rtol=accuracy, atol=accuracy * largest)
    with open_checkpoint(saved.adapter) as checkpoint:
        specs, skipped = select(checkpoint.listing, Selection())
        products = [spec for spec in specs if spec.factors is not None]
        assert {spec.name for spec in products} == set(saved.deltas)
        reasons = [item.reason for item in skipped if "factor" in item.reason]
        assert len(reasons) == 2 * len(products)
        magnitudes = [item for item in skipped if "DoRA" in item.reason]
        assert len(magnitudes) == (len(products) if variant == "dora" else 0)


def test_the_table_says_that_it_is_a_product(tmp_path: Path) -> None:
    saved = save(tmp_path, llama(), r=4, target_modules=["q_proj", "embed_tokens"])
    result = rankscope.analyze(saved.adapter, how=How(store=False))
    rows = {row["name"]: row for row in result.matrices if row["name"] in saved.deltas}
    assert rows.keys() == saved.deltas.keys()
    for name, row in rows.items():
        sigma = np.linalg.svd(saved.deltas[name], compute_uv=False)
        assert (row["route"], row["dtype"], row["rank"]) == ("factors", "float32", 4)
        assert row["spectral_norm"] == pytest.approx(sigma[0], rel=1e-5)
        assert row["frobenius_norm"] == pytest.approx(np.linalg.norm(sigma), rel=1e-5)
    assert rows["model.embed_tokens.weight"]["kind"] == "embedding"
    assert not result.incomplete


def adapter(directory: Path, tensors: dict[str, Array], config: Any = None) -> Path:
    directory.mkdir(exist_ok=True)
    save_file(tensors, directory / "adapter_model.safetensors")
    if config is not None:
        text = config if isinstance(config, str) else json.dumps(config)
        (directory / "adapter_config.json").write_text(text)
    return directory


CONFIG = {"peft_type": "LORA", "r": 2, "lora_alpha": 6}


def factors(
    stem: str = f"{PREFIX}a.q", down: str = "lora_A.weight", up: str = "lora_B.weight"
) -> dict[str, Array]:
    rng = np.random.default_rng(5)
    return {
        f"{stem}.{down}": rng.standard_normal((2, 7)).astype(np.float32),
        f"{stem}.{up}": rng.standard_normal((5, 2)).astype(np.float32),
    }


def listed(directory: Path) -> tuple[list[str], dict[str, str]]:
    """The names of what is measured, and the reasons for the rest."""
    with open_checkpoint(directory) as checkpoint:
        specs, skipped = select(checkpoint.listing, Selection())
        return [spec.name for spec in specs], {item.name: item.reason for item in skipped}


@pytest.mark.parametrize(
    ("down", "up"),
    [
        ("lora_A.weight", "lora_B.weight"),
        ("lora_A.default.weight", "lora_B.default.weight"),
        ("lora_A.mine.weight", "lora_B.mine.weight"),
    ],
)
def test_spellings_of_peft(tmp_path: Path, down: str, up: str) -> None:
    tensors = factors(down=down, up=up)
    read = read_all(adapter(tmp_path, tensors, CONFIG))
    first, second = tensors.values()
    np.testing.assert_allclose(read["a.q.weight"], 3 * second.astype(float) @ first, rtol=1e-12)


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
@pytest.mark.parametrize(
    ("down", "up"),
    [
        ("lora_down.weight", "lora_up.weight"),
        ("lora.down.weight", "lora.up.weight"),
        ("lora_A.weight", "lora_B.weight"),
    ],
)
def test_a_scalar_beside_the_factors_tells_the_scale(
    tmp_path: Path, down: str, up: str, shape: tuple[int, ...]
) -> None:
    tensors = factors("lora_unet_mid_block_to_q", down, up)
    first, second = tensors.values()
    tensors["lora_unet_mid_block_to_q.alpha"] = np.full(shape, 5, np.float16)
    read = read_all(adapter(tmp_path, tensors))
    found = read["lora_unet_mid_block_to_q.weight"]
    np.testing.assert_allclose(found, 2.5 * second.astype(float) @ first, rtol=1e-12)


@pytest.mark.parametrize(("kernel", "kind"), [((3,), "linear"), ((3, 2), "convolution")])
def test_convolutions_as_kohya_saves_them(
    tmp_path: Path, kernel: tuple[int, ...], kind: str
) -> None:
    first = RNG.standard_normal((2, 4, *kernel)).astype(np.float32)
    second = RNG.standard_normal((6, 2, *(1 for _ in kernel))).astype(np.float32)
    tensors = {
        "c.lora_down.weight": first,
        "c.lora_up.weight": second,
        "c.alpha": np.array(2, np.float32),
    }
    with open_checkpoint(adapter(tmp_path, tensors)) as checkpoint:
        (spec,), _ = select(checkpoint.listing, Selection())
        (block,) = matrix_of(checkpoint, spec).blocks(0, 1000)
        assert spec.kind == kind
    expected = torch.einsum(
        "or...,ri...->oi...",
        torch.from_numpy(second).double().expand(6, 2, *kernel),
        torch.from_numpy(first).double(),
    )
    np.testing.assert_allclose(block, expected.reshape(6, -1).numpy(), rtol=1e-12)


def change(tensors: dict[str, Array], **changes: Array) -> dict[str, Array]:
    stem = f"{PREFIX}a.q."
    return tensors | {stem + name.replace("__", "."): array for name, array in changes.items()}


ODD = np.ones((2, 2), np.float32)

UNCERTAIN: list[tuple[dict[str, Array], Any, str]] = [
    (factors(), None, "no adapter_config.json beside it tells its scale"),
    (factors(), {}, "no adapter_config.json"),
    (factors(), [], "no adapter_config.json"),
    (factors(), {**CONFIG, "peft_type": "ADALORA"}, "peft_type is 'ADALORA', expected 'LORA'"),
    (factors(), {"r": 2, "lora_alpha": 6}, "peft_type is None"),
    (factors(), {**CONFIG, "r": 4}, "the factors share 2, adapter_config.json says r = 4"),
    (factors(), {**CONFIG, "rank_pattern": {"q": 3}}, "says r = 3"),
    (factors(), {**CONFIG, "lora_alpha": None}, "lora_alpha is None, expected a number"),
    (factors(), {"peft_type": "LORA", "r": 2}, "lora_alpha is None"),
    (factors(), {**CONFIG, "lora_alpha": True}, "lora_alpha is True"),
    (factors(), {**CONFIG, "lora_alpha": "6"}, "lora_alpha is '6'"),
    (factors(), {**CONFIG, "lora_alpha": 10**400}, "lora_alpha is 1000"),
    (factors(), '{"peft_type": "LORA", "r": 2, "lora_alpha": NaN}', "lora_alpha is nan"),
    (factors(), '{"peft_type": "LORA", "r": 2, "lora_alpha": 1e999}', "lora_alpha is inf"),
    (factors(), {**CONFIG, "alpha_pattern": {"q": "x"}}, "lora_alpha is 'x'"),
    (factors(), {**CONFIG, "alpha_pattern": [1]}, "alpha_pattern is no object"),
    (factors(), {**CONFIG, "alpha_pattern": {"(": 1}}, "is none"),
    (factors(), {**CONFIG, "alpha_pattern": {"(a+)+": 1}}, "is not matched safely"),
    (factors(), {**CONFIG, "use_qalora": True}, "use_qalora makes something else"),
    (factors(), {**CONFIG, "target_parameters": ["a.q.weight"]}, "factors may be stacked"),
    (factors(f"{PREFIX}a.q.base_layer"), CONFIG, "one of several adapters of a module"),
    (change(factors(), lora_B__weight=np.ones((5, 3), np.float32)), CONFIG, "do not fit"),
    (change(factors(), lora_B__weight=np.ones((5, 2, 1), np.float32)), CONFIG, "do not fit"),
    (change(factors(), lora_A__weight=np.ones((2, 7), np.int8)), CONFIG, "a factor is int8"),
    (change(factors(), lora_A__weight=np.ones((2, 0), np.float32)), CONFIG, "not stored as a"),
    (change(factors(), lora_E=np.ones((2, 1), np.float32)), CONFIG, "stands between"),
    (factors() | {"a.q.weight": ODD}, CONFIG, "another tensor has this name"),
    (
        factors() | factors(down="lora_A.b.weight", up="lora_B.b.weight"),
        CONFIG,
        "several pairs of factors have this name",
    ),
    (
        {**factors("u", "lora_down.weight", "lora_up.weight"), "u.alpha": np.array(np.nan, "f4")},
        None,
        "u.alpha is nan, expected a finite number",
    ),
    (
        {**factors("u", "lora_down.weight", "lora_up.weight"), "u.alpha": np.ones(3, "f4")},
        None,
        "expected one number",
    ),
]


@pytest.mark.parametrize(("tensors", "config", "reason"), UNCERTAIN)
def test_what_is_not_certain_stays_as_it_is(
    tmp_path: Path, tensors: dict[str, Array], config: Any, reason: str
) -> None:
    """Factors are measured one by one, and the product is listed with the reason."""
    names, skipped = listed(adapter(tmp_path, tensors, config))
    refused = {name: told for name, told in skipped.items() if "measured one by one" in told}
    (told,) = refused.values()
    assert reason in told
    kept = {
        name
        for name, array in tensors.items()
        if array.ndim > 1 and array.size > 2 and array.dtype != np.int8
    }
    assert kept <= {*names, *(name for name in skipped if name.endswith("q.weight"))}


def test_half_of_a_pair_is_a_matrix(tmp_path: Path) -> None:
    tensors = dict(list(factors().items())[:1])
    names, skipped = listed(adapter(tmp_path, tensors, CONFIG))
    assert (names, skipped) == (list(tensors), {})


def test_a_damaged_config_is_refused(tmp_path: Path) -> None:
    path = adapter(tmp_path, factors(), '{"peft_type": ')
    with pytest.raises(InputRejected, match=r"adapter_config\.json is not JSON"):
        open_checkpoint(path)


def test_a_model_without_factors_does_not_read_the_config(tmp_path: Path) -> None:
    names, _ = listed(adapter(tmp_path, {"w": ODD}, "no JSON"))
    assert names == ["w"]


class TestPatterns:
    """PEFT's own rule, for every pattern that is matched at all."""

    PIECES = ("q_proj", "v", r"\d+", r"\.", ".", "layers", "(q|v)_proj", ".*", "^", "0", "1", "$")
    NAMES = ("q_proj", "v", "layers", "0", "1", "12", "k_proj", "x")

    def test_random_ones(self) -> None:
        from peft.utils.other import get_pattern_key

        rng = random.Random(3)
        matched = 0
        for _ in range(3000):
            module = ".".join(rng.choices(self.NAMES, k=rng.randint(1, 4)))
            keys = ["".join(rng.choices(self.PIECES, k=rng.randint(1, 5))) for _ in range(2)]
            patterns = {key: float(i + 2) for i, key in enumerate(keys)}
            config = {**CONFIG, "lora_alpha": 1.0, "alpha_pattern": patterns}
            try:
                found = scale_of(config, module, 2)
            except NotScaled:
                continue
            expected = patterns.get(get_pattern_key(list(patterns), module), 1.0) / 2
            assert found == expected, (module, patterns)
            matched += expected != 0.5
        assert matched > 100

    @pytest.mark.parametrize(
        "pattern",
        [
            "(a|a)" * 30 + "b",
            "a*" * 20 + "b",
            "(a*)*b",
            "(x+x+)+y",
            "(?=a)",
            r"(a)\1",
            "a{1,99}" * 9,
            "(.*)(.*)(.*)x",
            "a" * 1000,
            "|".join("ab" for _ in range(100)),
        ],
    )
    def test_hostile_ones_are_not_tried(self, pattern: str) -> None:
        with pytest.raises(NotScaled, match="is not matched safely"):
            scale_of({**CONFIG, "alpha_pattern": {pattern: 1}}, "a" * 40, 2)

    def test_the_worst_that_is_tried_is_quick(self) -> None:
        pattern = "(a|a.|a..)(a|a.|a..)a|b|c|d|a.*x"
        start = time.perf_counter()
        scale_of({**CONFIG, "alpha_pattern": {pattern: 1}}, "a." * 100, 2)
        assert time.perf_counter() - start < 1.0

    def test_too_many_are_not_tried(self, tmp_path: Path) -> None:
        tensors: dict[str, Array] = {}
        for i in range(300):
            tensors |= factors(f"{PREFIX}layers.{i}.q")
        patterns = {f"layers.{i}.x": 1 for i in range(4000)}
        start = time.perf_counter()
        _, skipped = listed(adapter(tmp_path, tensors, {**CONFIG, "rank_pattern": patterns}))
        assert time.perf_counter() - start < 5.0
        assert "rank_pattern has 4000 entries for 300 modules" in skipped["layers.0.q.weight"]


def spec_of(directory: Path) -> MatrixSpec:
    with open_checkpoint(directory) as checkpoint:
        (spec,), _ = select(checkpoint.listing, Selection())
        return spec


def key_of(directory: Path) -> bytes:
    with open_checkpoint(directory) as checkpoint:
        (spec,), _ = select(checkpoint.listing, Selection())
        return content_key(matrix_of(checkpoint, spec))


def test_the_key_is_of_the_factors_and_the_scale(tmp_path: Path) -> None:
    tensors = factors()
    same = factors(down="lora_A.x.weight", up="lora_B.x.weight")
    other = tensors | {f"{PREFIX}a.q.lora_B.weight": np.ones((5, 2), np.float32)}
    keys = [
        key_of(adapter(tmp_path / str(i), held, config))
        for i, (held, config) in enumerate(
            [
                (tensors, CONFIG),
                (same, CONFIG),
                (tensors, {**CONFIG, "lora_alpha": 7}),
                (other, CONFIG),
            ]
        )
    ]
    assert keys[0] == keys[1]
    assert len(set(keys)) == 3


def test_another_alpha_is_another_matrix(tmp_path: Path) -> None:
    """The file of weights is the same; only adapter_config.json has changed."""
    path = adapter(tmp_path / "a", factors(), CONFIG)
    how = How(store=tmp_path / "store.sqlite3")
    before = rankscope.analyze(path, metrics="spectral_norm", how=how).matrices[0]
    spec = spec_of(path)
    adapter(tmp_path / "a", factors(), {**CONFIG, "lora_alpha": 12})
    after = rankscope.analyze(path, metrics="spectral_norm", how=how).matrices[0]
    assert after["spectral_norm"] == pytest.approx(2 * before["spectral_norm"], rel=1e-12)
    with open_checkpoint(path) as checkpoint:
        (tensor,) = checkpoint.listing.tensors
    assert not fits(spec, tensor)
    assert fits(spec_of(path), tensor)


def test_a_product_is_found_in_the_store(tmp_path: Path) -> None:
    path = adapter(tmp_path / "a", factors(), CONFIG)
    how = How(store=tmp_path / "store.sqlite3")
    first, second = (rankscope.analyze(path, how=how).matrices for _ in range(2))
    assert first == second
    listing, _ = list_checkpoint(path)  # type: ignore[misc]
    from rankscope.storefile import listing_in, listing_row, sealed

    remembered = listing_in(sealed(listing_row(b"", listing, ())))
    assert remembered is not None
    assert remembered[0] == listing


def test_the_direct_route_agrees(tmp_path: Path) -> None:
    path = adapter(tmp_path, factors(), CONFIG)
    rows = [
        rankscope.analyze(path, how=How(route=route, store=False)).matrices[0]
        for route in ("auto", "gram", "direct")
    ]
    assert [row["route"] for row in rows] == ["factors", "gram", "direct"]
    for row in rows[1:]:
        for key in ("rank", "spectral_norm", "frobenius_norm"):
            assert row[key] == pytest.approx(rows[0][key], rel=1e-9)


def test_the_cost_is_that_of_the_factors(tmp_path: Path) -> None:
    tensors = {
        f"{PREFIX}q.lora_A.weight": np.zeros((16, 4096), np.float32),
        f"{PREFIX}q.lora_B.weight": np.zeros((4096, 16), np.float32),
    }
    spec = spec_of(adapter(tmp_path, tensors, {**CONFIG, "r": 16}))
    found = cost([spec])
    assert found.bytes == 2 * 4096 * 16 * 4
    assert found.flops == matrix_flops(spec) < 2e7
    assert found.peak < 2**24
    assert isinstance(matrix_of(open_checkpoint(tmp_path), spec), LowRankProduct)


def test_rslora_by_hand() -> None:
    assert scale_of({**CONFIG, "use_rslora": True}, "q", 2) == 6 / math.sqrt(2)
    assert scale_of(CONFIG, "q", 2) == 3.0


def test_names_with_a_factor_in_them(tmp_path: Path) -> None:
    """The last `lora_A` counts; one without anything before it belongs to nothing."""
    tensors = factors(f"{PREFIX}lora_A.q") | {"lora_A.weight": np.ones((3, 4), np.float32)}
    names, _ = listed(adapter(tmp_path, tensors, CONFIG))
    assert names == ["lora_A.q.weight", "lora_A.weight"]
    assert re.fullmatch(r"lora_A\.q\.weight", names[0])


def test_a_listing_says_what_a_product_is_read_from(tmp_path: Path) -> None:
    with open_checkpoint(adapter(tmp_path, factors(), CONFIG)) as checkpoint:
        (tensor,) = checkpoint.listing.tensors
        assert isinstance(tensor, TensorInfo)
        assert set(tensor.sources) == set(factors())
        assert [Path(hint).name for hint in checkpoint.listing.hints].count(
            "adapter_config.json"
        ) == 1

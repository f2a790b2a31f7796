"""Rows grouped by what they are: labels, towers, and that nothing is mixed."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rankscope
from rankscope.layerkinds import by_layer_kind, ranges
from rankscope.roles import role_of


def labels(*names: str, kind: str = "linear") -> dict[str, int]:
    groups = by_layer_kind({"name": name, "kind": kind} for name in names)
    return {label: len(rows) for label, rows in groups.items()}


def layers(pattern: str, numbers: Any) -> list[str]:
    return [pattern.replace("*", str(number)) for number in numbers]


def test_the_layers_of_a_role_are_one_group_in_order_of_appearance() -> None:
    names = ["model.embed_tokens.weight"]
    for layer in range(24):
        names += [
            f"model.layers.{layer}.self_attn.v_proj.weight",
            f"model.layers.{layer}.mlp.down_proj.weight",
        ]
    assert list(labels(*names, "lm_head.weight").items()) == [
        ("model.embed_tokens.weight", 1),
        ("value projections, layers 0-23", 24),
        ("MLP down projections, layers 0-23", 24),
        ("lm_head.weight", 1),
    ]


def test_rows_are_those_that_were_given() -> None:
    rows = [{"name": f"h.{i}.mlp.c_fc.weight", "kind": "linear", "rank": i} for i in (2, 0, 1)]
    assert by_layer_kind(rows) == {"MLP up projections, layers 0-2": rows}


def test_what_is_not_known_is_grouped_by_its_numbers() -> None:
    names = [*layers("stack.*.thing.weight", range(3)), "fc1.weight", "fc2.weight"]
    assert labels(*names) == {"stack.*.thing.weight": 3, "fc*.weight": 2}
    # Rows of a document from before there were kinds.
    assert list(by_layer_kind([{"name": "h.3.attn.c_attn.weight"}])) == [
        "query-key-value projections, layer 3"
    ]


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (
            ["encoder.block.*.layer.0.SelfAttention.v", "decoder.block.*.layer.0.SelfAttention.v"],
            ["value projections, encoder layers 0-1", "value projections, decoder layers 0-1"],
        ),
        (
            ["text_model.encoder.layers.*.mlp.fc1", "vision_model.encoder.layers.*.mlp.fc1"],
            ["MLP up projections, text layers 0-1", "MLP up projections, vision layers 0-1"],
        ),
        (
            ["model.visual.blocks.*.attn.proj", "model.language_model.layers.*.self_attn.o_proj"],
            [
                "attention output projections, vision layers 0-1",
                "attention output projections, language layers 0-1",
            ],
        ),
        (
            ["enc.blk.*.ffn_up", "dec.blk.*.ffn_up"],
            ["MLP up projections, encoder layers 0-1", "MLP up projections, decoder layers 0-1"],
        ),
        (
            ["layers.1.blocks.*.attn.qkv", "layers.2.blocks.*.attn.qkv"],
            [
                "query-key-value projections, stage 1 layers 0-1",
                "query-key-value projections, stage 2 layers 0-1",
            ],
        ),
        (["bert.encoder.layer.*.output.dense"], ["MLP down projections, layers 0-1"]),
        # Nothing that people call them by.
        (
            ["thinker.layers.*.mlp.fc1", "talker.layers.*.mlp.fc1"],
            ["MLP up projections, thinker.layers 0-1", "MLP up projections, talker.layers 0-1"],
        ),
        # The same role twice in a layer.
        (
            ["layers.*.mlp.fc1", "layers.*.ffn.fc1"],
            ["MLP up projections, layers 0-1", "layers.*.ffn.fc*.weight"],
        ),
        # Layers within many places that are no stages.
        (
            ["members.0.layers.*.mlp.fc1", "members.1.layers.*.mlp.fc1"],
            ["members.*.layers.*.mlp.fc*.weight"],
        ),
    ],
)
def test_towers_are_not_mixed(patterns: list[str], expected: list[str]) -> None:
    names = [name for pattern in patterns for name in layers(f"{pattern}.weight", range(2))]
    assert list(labels(*names)) == expected


def test_experts_the_shared_one_and_dense_layers_stay_apart() -> None:
    names = ["model.layers.0.mlp.up_proj.weight"]
    for layer in (1, 2, 3):
        names += [f"model.layers.{layer}.mlp.experts.{i}.up_proj.weight" for i in range(8)]
        names += [f"model.layers.{layer}.mlp.shared_experts.up_proj.weight"]
    assert labels(*names) == {
        "MLP up projections, layer 0": 1,
        "expert up projections, layers 1-3": 24,
        "shared expert up projections, layers 1-3": 3,
    }
    stacked = [f"layers.{i}.mlp.experts.gate_up_proj[{j}]:up" for i in (0, 1) for j in range(4)]
    assert labels(*stacked, kind="stacked") == {"expert up projections, layers 0-1": 8}


def test_convolutions_of_a_block_stay_apart() -> None:
    names = [f"layer{s}.{i}.conv{c}.weight" for s in (1, 2) for i in (0, 1) for c in (1, 2)]
    assert labels("conv1.weight", *names, kind="convolution") == {
        "conv*.weight": 1,
        "convolutions conv1, stage 1 layers 0-1": 2,
        "convolutions conv2, stage 1 layers 0-1": 2,
        "convolutions conv1, stage 2 layers 0-1": 2,
        "convolutions conv2, stage 2 layers 0-1": 2,
    }
    blocks = [f"blocks.{s}.{i}.conv_pw.weight" for s in (0, 1) for i in (0, 1)]
    assert labels(*blocks, kind="convolution") == {"blocks.*.*.conv_pw.weight": 4}


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ([0], "0"),
        ([0, 1], "0-1"),
        ([0, 1, 2, 3, 8], "0-3, 8"),
        ([1, 3, 5, 7], "1, 3, 5, 7"),
        ([1, 3, 5, 7, 9], "1-9 (5 of them)"),
    ],
)
def test_ranges(numbers: list[int], text: str) -> None:
    assert ranges(numbers) == text


CONTAINERS = ("layers", "blocks", "h", "layer", "stages", "encoder", "decoder", "vision_model")
BLOCKS = ("attn", "self_attn", "mlp", "experts", "x")
PARTS = ("q_proj", "fc1", "fc2", "query_key_value", "out_proj")
WORD = st.sampled_from([*CONTAINERS, *BLOCKS, *PARTS, "0", "1", "2"])


@given(st.lists(st.lists(WORD, min_size=1, max_size=7).map(".".join), unique=True, max_size=40))
def test_a_group_is_part_of_a_pattern(names: list[str]) -> None:
    groups = by_layer_kind({"name": f"{name}.weight", "kind": "linear"} for name in names)
    found = [row["name"] for rows in groups.values() for row in rows]
    assert sorted(found) == sorted(f"{name}.weight" for name in names)
    for rows in groups.values():
        assert len({re.sub(r"\d+", "*", row["name"]) for row in rows}) == 1


def test_rows_of_an_analysis_have_role_and_depth() -> None:
    names = ("model.layers.3.self_attn.v_proj.weight", "lm_head.weight", "fc1.weight")
    table = rankscope.analyze({name: np.eye(4) for name in names}, metrics=("rank",))
    found = {row["name"]: (row["role"], row["depth"]) for row in table.matrices}
    assert found == {names[0]: ("attention.v", 3), names[1]: ("head", None), names[2]: (None, None)}
    keys = list(table.matrices[0])
    assert keys[keys.index("kind") :][:4] == ["kind", "role", "depth", "averaged"]


def test_a_phrase_is_of_one_role() -> None:
    """Two roles of the same words would stand in a table as the same thing."""
    from tests.role_families import FAMILIES

    phrases: dict[str, str] = {}
    for family in FAMILIES:
        for stack, expected in family.stacks.items():
            for path in expected:
                role = role_of(f"{stack}.0.{path.replace('*', '0')}.weight", "linear")
                assert role is None or phrases.setdefault(role.phrase, role.name) == role.name
    assert len(phrases) > 25

"""Which rows of a fused matrix are which layer: the arithmetic of head layouts.

Every split takes what config.json says of one model (`Section`) and the matrix's rows and columns,
as (out, in), and returns its parts; () where the numbers are missing or do not add up, so that
the matrix stays whole.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rankscope.records import Part

# Far above any dimension of a model; what config.json says beyond is no size.
MAX_COUNT = 2**31

# A part each for the experts of DBRX, which has 16; a number of rows would fill the memory.
MAX_PARTS = 1024

# CodeGen's rows come in this many groups, the TPU cores that it was trained on; its code says so.
CODEGEN_GROUPS = 4

HEADS = ("num_attention_heads", "n_head", "n_heads")
KEY_VALUE_HEADS = ("num_key_value_heads", "num_kv_heads")


@dataclass(frozen=True, slots=True)
class Section:
    """What config.json says of a model, or of one of the models inside a model.

    Attributes:
        model: its `model_type`.
        values: the JSON object; nothing in it is known to be of the right type.
    """

    model: str
    values: Mapping[str, Any]

    def count(self, *keys: str, default: int | None = None) -> int | None:
        """The first of these that is given, if it is a size; the default if none is."""
        for key in keys:
            value = self.values.get(key)
            if value is not None:
                return value if type(value) is int and 0 < value <= MAX_COUNT else None
        return default

    def flag(self, key: str, default: bool) -> bool | None:
        """A boolean; None where it is something else."""
        value = self.values.get(key)
        if value is None:
            return default
        return value if isinstance(value, bool) else None

    def inside(self, key: str) -> Section:
        """The object under a key; an empty one where there is none."""
        value = self.values.get(key)
        return Section(self.model, value if isinstance(value, dict) else {})

    def head_size(self, heads: int | None) -> int | None:
        """`head_dim`, or what is left of the width for each head."""
        width = self.count("hidden_size", "n_embd", "n_embed", "d_model")
        return self.count("head_dim", default=divided(width, heads))


Split = Callable[[Section, int, int], tuple[Part, ...]]


def in_a_row(names: str, sizes: Sequence[int | None], groups: int | None = 1) -> tuple[Part, ...]:
    """Parts one behind the other, in each of `groups` periods.

    Args:
        names: of the parts, with spaces between.
        sizes: rows of each in one period; None for one that is not known.
        groups: how many periods.
    """
    known = [size for size in sizes if size is not None]
    if groups is None or len(known) < len(sizes):
        return ()
    ends = [sum(known[: i + 1]) for i in range(len(known))]
    return tuple(
        Part(name, groups, ends[-1], end - size, end)
        for name, size, end in zip(names.split(), known, ends, strict=True)
    )


def adding_up(parts: tuple[Part, ...], rows: int) -> tuple[Part, ...]:
    """The parts, if they are those of a matrix of so many rows."""
    return parts if parts and parts[0].whole == rows else ()


def times(*factors: int | None) -> int | None:
    """The product; None where a factor is not known."""
    product = 1
    for factor in factors:
        if factor is None:
            return None
        product *= factor
    return product


def divided(number: int | None, by: int | None) -> int | None:
    """The quotient; None where it is no integer, or one of the two not known."""
    if number is None or by is None or number % by:
        return None
    return number // by


def thirds(_section: Section, rows: int, columns: int) -> tuple[Part, ...]:
    """Query, key, value: as wide as the model each."""
    return adding_up(in_a_row("q k v", [columns] * 3), rows)


def key_value_halves(_section: Section, rows: int, columns: int) -> tuple[Part, ...]:
    """Key, value: cross-attention, whose queries come from elsewhere."""
    return adding_up(in_a_row("k v", [columns] * 2), rows)


def gate_up_halves(_section: Section, rows: int, _columns: int) -> tuple[Part, ...]:
    """The gate first, then what it multiplies."""
    return in_a_row("gate up", [divided(rows, 2)] * 2)


def gate_up_in_turn(_section: Section, rows: int, _columns: int) -> tuple[Part, ...]:
    """A row of the gate, a row of what it multiplies, and so on."""
    return in_a_row("gate up", [1, 1], divided(rows, 2))


def grouped_query(section: Section, rows: int, _columns: int) -> tuple[Part, ...]:
    """All queries, then the fewer keys, then as many values."""
    heads = section.count(*HEADS)
    return _queries_first(heads, section.count(*KEY_VALUE_HEADS, default=heads), section, rows)


def _queries_first(
    heads: int | None, kv_heads: int | None, section: Section, rows: int
) -> tuple[Part, ...]:
    size = section.head_size(heads)
    shared = times(kv_heads, size)
    return adding_up(in_a_row("q k v", [times(heads, size), shared, shared]), rows)


def head_by_head(section: Section, rows: int, _columns: int) -> tuple[Part, ...]:
    """Query, key and value of the first head, then of the second, and so on."""
    heads = section.count(*HEADS)
    size = section.head_size(heads)
    return adding_up(in_a_row("q k v", [size] * 3, heads), rows)


def group_by_group(section: Section, rows: int, _columns: int) -> tuple[Part, ...]:
    """For each key and value head: the queries that share it, the key, the value."""
    heads = section.count(*HEADS)
    groups = section.count(*KEY_VALUE_HEADS, default=heads)
    size = section.head_size(heads)
    sizes = [times(divided(heads, groups), size), size, size]
    return adding_up(in_a_row("q k v", sizes, groups), rows)


def falcon(section: Section, rows: int, columns: int) -> tuple[Part, ...]:
    """Three layouts, told by two flags; their defaults are those of transformers' FalconConfig."""
    grouped = section.flag("new_decoder_architecture", default=False)
    shared = section.flag("multi_query", default=True)
    if grouped is None or shared is None:
        return ()
    if grouped:
        return group_by_group(section, rows, columns)
    if shared:
        return _queries_first(section.count(*HEADS), 1, section, rows)
    return head_by_head(section, rows, columns)


def gpt_bigcode(section: Section, rows: int, columns: int) -> tuple[Part, ...]:
    """One key and value for all heads, behind the queries; else head by head."""
    shared = section.flag("multi_query", default=True)
    if shared is None:
        return ()
    if shared:
        return _queries_first(section.count(*HEADS), 1, section, rows)
    return head_by_head(section, rows, columns)


def codegen(_section: Section, rows: int, columns: int) -> tuple[Part, ...]:
    """Query, value, key, in this order, in each of four groups."""
    sizes = [divided(columns, CODEGEN_GROUPS)] * 3
    return adding_up(in_a_row("q v k", sizes, CODEGEN_GROUPS), rows)


def chatglm(section: Section, rows: int, _columns: int) -> tuple[Part, ...]:
    """ChatGLM 2 and later, whose heads share keys and values; the first one stays whole."""
    if section.flag("multi_query_attention", default=False) is not True:
        return ()
    size = section.count("kv_channels")
    shared = times(section.count("multi_query_group_num"), size)
    queries = times(section.count("num_attention_heads"), size)
    return adding_up(in_a_row("q k v", [queries, shared, shared]), rows)


def chatglm_gate_up(section: Section, rows: int, _columns: int) -> tuple[Part, ...]:
    """ChatGLM 2 and later; the first one has no gate, and no `ffn_hidden_size`."""
    return adding_up(in_a_row("gate up", [section.count("ffn_hidden_size")] * 2), rows)


def dbrx(section: Section, rows: int, _columns: int) -> tuple[Part, ...]:
    """All queries, then keys and values, whose heads are counted in `attn_config`."""
    kv_heads = section.inside("attn_config").count("kv_n_heads")
    return _queries_first(section.count(*HEADS), kv_heads, section, rows)


def dbrx_experts(section: Section, rows: int, _columns: int) -> tuple[Part, ...]:
    """One expert behind the other, along the rows, in all three of an expert's matrices."""
    inner = section.inside("ffn_config")
    experts, size = inner.count("moe_num_experts"), inner.count("ffn_hidden_size")
    if experts is None or experts > MAX_PARTS:
        return ()
    names = " ".join(f"expert{expert}" for expert in range(experts))
    return adding_up(in_a_row(names, [size] * experts), rows)


def linear_attention(section: Section, rows: int, _columns: int) -> tuple[Part, ...]:
    """Qwen 3.5: queries, keys, values of its linear attention."""
    key = times(section.count("linear_num_key_heads"), section.count("linear_key_head_dim"))
    value = times(section.count("linear_num_value_heads"), section.count("linear_value_head_dim"))
    return adding_up(in_a_row("q k v", [key, key, value]), rows)


def gated_linear_attention(section: Section, rows: int, _columns: int) -> tuple[Part, ...]:
    """Qwen3-Next: for each key head its query, key, values and their gates."""
    heads = section.count("linear_num_key_heads")
    key = section.count("linear_key_head_dim")
    values = divided(section.count("linear_num_value_heads"), heads)
    value = times(values, section.count("linear_value_head_dim"))
    return adding_up(in_a_row("q k v z", [key, key, value, value], heads), rows)

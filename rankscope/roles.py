"""What a matrix is in its network, from its name: `attention.v` of layer 3.

A name is words between dots. A word that `rolewords.CONTAINER` lists, with a number behind it, is
where a layer starts; the words below it say what the matrix is:

    model.layers.3.self_attn.v_proj.weight     encoder.block.3.layer.1.DenseReluDense.wo.weight
    stack       |  | block   part              stack        |  |       block          part

Every word of a layer has to be known. A name that is not understood as a whole has no role.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import zip_longest

from rankscope import rolewords
from rankscope.records import Kind

# A stacked matrix's index and the part of a fused one stand behind the tensor's name.
NAME = re.compile(r"(.*?)(?:\[(\d{1,6})\])?(?::(\w+))?", re.DOTALL | re.ASCII)
MAX_NAME = 1000  # released models stay below 200; a file may hold one of a hundred million letters
WRAPPER = ["base_model", "model"]  # of PEFT


@dataclass(frozen=True, slots=True)
class Role:
    """What a matrix is in its network.

    Attributes:
        name: `attention.v`, `mlp.down`, `experts.gate`, `embedding`, `head`, `conv`.
        phrase: the same in the plural, for people: `value projections`.
        depth: the number of its layer, as the name gives it; None outside of layers.
        expert: the number of its expert.
        stack: the words before the layer's number, which tell an encoder from a decoder.
        below: the words behind it, with `*` for the expert's number.
    """

    name: str
    phrase: str
    depth: int | None
    expert: int | None
    stack: tuple[str, ...]
    below: str


@dataclass(frozen=True, slots=True)
class _Path:
    """A name taken apart: the words before a layer's number, the number, the words behind it."""

    stack: list[str]
    depth: int | None
    below: list[str]


@dataclass(frozen=True, slots=True)
class _Found:
    """What the words say: `mlp`, `down`, and which expert; outside of blocks `head`, ``."""

    family: str
    part: str = ""
    expert: int | None = None

    @property
    def name(self) -> str:
        return f"{self.family}.{self.part}" if self.part else self.family


@lru_cache(maxsize=2**14)  # every snapshot of a series has the same names
def role_of(name: str, kind: Kind) -> Role | None:
    """The role of a matrix; None where its name does not tell.

    Args:
        name: of the matrix, with `[3]` where it is one of a stack and `:v` where it is a part.
        kind: what its tensor is; decides for embeddings and convolutions of unknown names.

    >>> role = role_of("model.layers.3.self_attn.v_proj.weight", "linear")
    >>> role.name, role.phrase, role.depth
    ('attention.v', 'value projections', 3)
    """
    match = NAME.fullmatch(name) if len(name) <= MAX_NAME else None
    if match is None:
        return None
    whole, index, piece = match.groups()
    words, factor = _without_parameter(re.split(r"[./]", whole))
    path = _split(words)
    found = _outside(words, kind) if path.depth is None else _in_layer(path.below)
    if found is None and kind == "convolution":
        found = _Found("conv")
        if not path.below or is_number(path.below[0]):
            path = _Path([], None, words)  # of a layer that is nothing else, or one of a stage's
    if found is not None and index is not None:
        found = _stacked(found, int(index))
    if found is not None and piece is not None:
        found = _piece(found, piece)
    return None if found is None else _role(found, path, factor)


def _role(found: _Found, path: _Path, factor: str) -> Role:
    """What was found, with the words that people use."""
    name, below = found.name, _below(path.below, found)
    phrase = _phrase(found, "" if path.depth is None else below)
    if factor:
        name, phrase = f"{name}.lora_{factor}", f"{phrase} (LoRA {factor})"
    return Role(name, phrase, path.depth, found.expert, tuple(path.stack), below)


def _without_parameter(words: list[str]) -> tuple[list[str], str]:
    """The words of the module, and `A` or `B` where the parameter is a factor of an adapter."""
    if words[:2] == WRAPPER:
        words = words[2:]
    for place, word in enumerate(words):
        match = rolewords.LORA.fullmatch(word)
        if match:
            return _stripped(words[:place]), match[1] or ""
    return _stripped(words), ""


def _stripped(words: list[str]) -> list[str]:
    end = len(words)
    while end and words[end - 1] in rolewords.PARAMETERS:
        end -= 1
    return words[:end]


def _split(words: list[str]) -> _Path:
    """Where the layer starts: the innermost one, but for the `layer` of T5 within a block."""
    found = _Path([], None, words)
    for place, (word, following) in enumerate(zip_longest(words, words[1:], fillvalue="")):
        numbered = rolewords.NUMBERED.fullmatch(word)
        if numbered:
            found = _Path(words[:place], int(numbered[1]), words[place + 1 :])
        elif found.depth is not None and word == "layer":
            continue
        elif rolewords.CONTAINER.fullmatch(word) and is_number(following):
            found = _Path(words[: place + 1], int(following), words[place + 2 :])
    return found


def is_number(word: str) -> bool:
    """Whether a word can be the number of a layer or an expert."""
    return rolewords.NUMBER.fullmatch(word) is not None


def _in_layer(words: Sequence[str]) -> _Found | None:
    """What the words below a layer say, if every one of them is known."""
    bare = rolewords.BARE.get(" ".join(words))
    if bare is not None:
        family, _, part = bare.partition(".")
        return _Found(family, part)
    for place, word in enumerate(words):
        if word in rolewords.BLOCKS:
            return _in_block(words[place:])
        sublayer = place > 0 and words[place - 1] == "layer" and is_number(word)
        if word not in rolewords.NEUTRAL and not sublayer:
            break
    return None


def _in_block(words: Sequence[str]) -> _Found | None:
    """What the words from a block's name on say."""
    blocks = [words[0]]
    expert: int | None = None
    rest: list[str] = []
    for word in words[1:]:
        number = rolewords.EXPERT.fullmatch(word)
        if word in rolewords.BLOCKS and not rest:
            blocks.append(word)
        elif number and expert is None and not rest and blocks[-1] == "experts":
            expert = int(number[1])
        else:
            rest.append(word)
    family = _family(blocks)
    part = None if family is None else _part(family, blocks, " ".join(rest))
    return None if family is None or part is None else _Found(family, part, expert)


def _family(blocks: Sequence[str]) -> str | None:
    """What a block in a block in a block is; None for what never stands in one another."""
    families = [rolewords.BLOCKS[block] for block in blocks]
    for line in rolewords.LINES:
        if set(families) <= set(line):
            return max(families, key=line.index)
    return None


def _part(family: str, blocks: Sequence[str], path: str) -> str | None:
    if family in rolewords.LINES[0]:
        part = rolewords.ATTENTION.get(path)
        # GPT-2's cross attention makes queries elsewhere, of other inputs.
        crossed = family == "cross_attention" and path == "c_attn"
        return "kv" if crossed else part
    if family == "mlp" and path in rolewords.ROUTERS:
        return "router"
    if path in rolewords.GATED and rolewords.UNGATED not in blocks:
        return rolewords.GATED[path]
    return rolewords.MLP.get(path)


def _outside(words: Sequence[str], kind: Kind) -> _Found | None:
    """What a name without a layer says. An MLP that is in no layer may be any network."""
    found = rolewords.WHOLE.get(" ".join(words))
    for count in (2, 1):
        found = found or rolewords.OUTSIDE.get(" ".join(words[-count:]))
    last = "".join(words[-1:])
    if found is None and kind == "embedding" and rolewords.EMBEDDING.fullmatch(last):
        found = "embedding"
    if found is not None:
        return _Found(found)
    for place, word in enumerate(words):
        if rolewords.BLOCKS.get(word) in rolewords.LINES[0]:
            return _in_block(words[place:])
    return None


def _stacked(found: _Found, index: int) -> _Found:
    """One of a stack: an expert, as what is stacked in an MLP always is."""
    if found.expert is None and found.family in ("mlp", "experts"):
        return _Found("experts", found.part, index)
    return found


def _piece(found: _Found, piece: str) -> _Found | None:
    """The part of a fused matrix; None where its name is not known."""
    expert = rolewords.EXPERT.fullmatch(piece)
    if expert and found.family == "experts":
        return _Found(found.family, found.part, int(expert[1]))
    part = rolewords.PIECES.get(found.part, {}).get(piece)
    return None if part is None else _Found(found.family, part, found.expert)


def _phrase(found: _Found, below: str) -> str:
    """The plural; a convolution has no part but the words below its layer."""
    phrases = rolewords.PHRASES
    if found.name in phrases:
        phrase = phrases[found.name]
    else:
        phrase = rolewords.PREFIXES[found.family] + phrases[found.part]
    return f"{phrase} {below}" if found.family == "conv" and below else phrase


def _below(words: Sequence[str], found: _Found) -> str:
    """The words below a layer, the same for all experts."""
    if found.expert is None:
        return ".".join(words)
    return ".".join("*" if rolewords.EXPERT.fullmatch(word) else word for word in words)

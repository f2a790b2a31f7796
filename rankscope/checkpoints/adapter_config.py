"""What adapter_config.json of PEFT says of LoRA: what the product of two factors is scaled by.

Scale: lora_alpha / r, or lora_alpha / sqrt(r) with `use_rslora`; `alpha_pattern` and
`rank_pattern` hold other values for modules whose names end so (PEFT 0.21, `LoraConfig`,
`get_pattern_key`).
"""

from __future__ import annotations

import math
import re
import reprlib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

# Variants in which what is added to the weights is something else than the scaled product.
VARIANTS = ("use_qalora", "use_bdlora", "arrow_config", "kasa_config", "monteclora_config")

# What leaves the base another one, or is no constant addition to its weights.
UNMERGED = ("layer_replication", "alora_invocation_tokens", "trainable_token_indices")

# Initialisations that leave the base as it is; PiSSA, OLoRA and others take from it what they put
# into the factors.
PLAIN_STARTS = (True, False, None, "gaussian", "eva")

# A pattern is a regular expression by somebody else, and matching one may take for ever. Names with
# dots take no time; what else is understood has two groups, one `.*` or `\d+` outside of them, and
# few alternatives, so that a name of this length is matched or not within 10 ms.
MAX_NAME = 200
MAX_PATTERN = 300
MAX_GROUPS = 2
MAX_ALTERNATIVES = 8
PLAIN = re.compile(r"\^?[\w.\-]*")
TAME = re.compile(r"(?:[\w.\-|()^$]|\\[.\-dw])*(?:(?<=[\w.])[*+](?:[\w.\-|()^$]|\\[.\-dw])*)?")

# Each module is matched against each pattern. The longest that PEFT itself writes (EVA's) have one
# for each module of a few hundred; this many take seconds.
MAX_MATCHES = 1_000_000
MAX_TAME_MATCHES = 5_000


class NotScaled(ValueError):
    """The scale of a product is not certain; the text is the reason."""


class Patterns(NamedTuple):
    """Values for modules by patterns of their names.

    Attributes:
        key: what it is called in the file.
        values: pattern and value, the first that matches counts.
        otherwise: the value of every other module.
    """

    key: str
    values: tuple[tuple[str, Any], ...]
    otherwise: Any

    def of(self, module: str) -> float:
        """The value of a module; `NotScaled` when it is no finite number."""
        found = next((value for pattern, value in self.values if _ends(module, pattern)), None)
        value = self.otherwise if found is None else found
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not abs(value) < 1e300:  # NaN too
            raise NotScaled(f"adapter_config.json: {self.key} is {_told(value)}, expected a number")
        return float(value)


def scale_of(config: Mapping[str, Any], module: str, rank: int) -> float:
    """What the product of the factors of a module is multiplied by.

    Args:
        config: adapter_config.json.
        module: its name in the base model.
        rank: the length that its factors share.

    Raises:
        NotScaled: the file does not tell for certain.
    """
    kind = config.get("peft_type")
    if kind != "LORA":
        raise NotScaled(f"adapter_config.json: peft_type is {_told(kind)}, expected 'LORA'")
    for key in VARIANTS:
        if config.get(key):
            raise NotScaled(f"adapter_config.json: {key} makes something else of the factors")
    if "base_layer" in module.split(".") or _targets(config.get("target_parameters"), module):
        raise NotScaled("one of several adapters of a module, whose factors may be stacked")
    expected = _patterns(config, "r", "rank_pattern").of(module)
    if expected != rank or rank < 1:
        raise NotScaled(f"the factors share {rank}, adapter_config.json says r = {expected:g}")
    alpha = _patterns(config, "lora_alpha", "alpha_pattern").of(module)
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def check_work(config: Mapping[str, Any], modules: int) -> None:
    """Refuse patterns that would take too long to be matched; raises `NotScaled`."""
    targets = config.get("target_parameters")
    if isinstance(targets, list) and len(targets) * modules > MAX_MATCHES:
        raise NotScaled(
            f"adapter_config.json: {len(targets)} target_parameters for {modules} modules, "
            "which take too long to be matched"
        )
    for key in ("rank_pattern", "alpha_pattern"):
        patterns = [pattern for pattern, _ in _patterns(config, "r", key).values]
        tame = sum(PLAIN.fullmatch(pattern) is None for pattern in patterns)
        if len(patterns) * modules > MAX_MATCHES or tame * modules > MAX_TAME_MATCHES:
            raise NotScaled(
                f"adapter_config.json: {key} has {len(patterns)} entries for {modules} modules, "
                "which take too long to be matched"
            )


def _told(value: object) -> str:
    """A value in a reason, of which every module has one: cut before it is written."""
    return f"{reprlib.repr(value):.60}"


def _patterns(config: Mapping[str, Any], key: str, pattern_key: str) -> Patterns:
    patterns = config.get(pattern_key) or {}
    if not isinstance(patterns, dict):
        raise NotScaled(f"adapter_config.json: {pattern_key} is no object")
    return Patterns(key, tuple(patterns.items()), config.get(key))


def _ends(module: str, pattern: str) -> bool:
    """Whether a module is meant, by PEFT's own rule."""
    short = len(pattern) <= MAX_PATTERN and len(module) <= MAX_NAME
    few = short and pattern.count("(") <= MAX_GROUPS and pattern.count("|") <= MAX_ALTERNATIVES
    if not few or TAME.fullmatch(pattern) is None:
        raise NotScaled(f"adapter_config.json: the pattern {_told(pattern)} is not matched safely")
    try:
        return re.match(rf"(.*\.)?({pattern})$", module) is not None
    except re.error as error:
        text = f"adapter_config.json: the pattern {_told(pattern)} is none: {error}"
        raise NotScaled(text) from error


def _targets(parameters: object, module: str) -> bool:
    """Whether parameters of a module are adapted by themselves, as PEFT does to experts."""
    names: Iterable[object] = parameters if isinstance(parameters, list) else ()
    parents = {str(name).rpartition(".")[0] for name in names}
    return any(f".{module}".endswith(f".{parent}") for parent in parents if parent)


def why_not_merged(config: Mapping[str, Any]) -> str | None:
    """The reason why an adapter cannot be merged into the weights of its base, or None."""
    if not config:
        return "no adapter_config.json beside it, expected one of PEFT"
    kind = config.get("peft_type")
    if kind != "LORA":
        return f"adapter_config.json: peft_type is {_told(kind)}, expected 'LORA'"
    for key in (*VARIANTS, *UNMERGED):
        if config.get(key):
            return f"adapter_config.json: {key} is set: its base is used in another way"
    start = config.get("init_lora_weights", True)
    if start not in PLAIN_STARTS:
        return f"init_lora_weights is {_told(start)}: the base's own weights were changed for it"
    return None

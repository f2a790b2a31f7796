"""Which tensors of a distributed checkpoint are weights, and what they are called.

The names that torch gives are keys joined by dots; the metadata's `planner_data` keep the keys
themselves, so that `{"model": {"0.weight": ...}}` and `{"model.0.weight": ...}` differ.

- A dictionary with exactly `state` and `param_groups` in it is an optimiser's, nested or flat
  (`get_optimizer_state_dict` with `flatten_optimizer_state_dict`, which torchtitan uses); so is
  what is called `optim...`, and Adam's and SGD's moments wherever they are.
- `app` (PyTorch's tutorial of a Stateful) is dropped; then the rules of `torch_names` hold.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

from rankscope.checkpoints.dcp_metadata import Contents, Described
from rankscope.checkpoints.torch_names import Leaf, check_path, unwrapped

APPLICATION = "app"
# Lightning writes `optimizer_0`, torchtitan `optimizer`, PyTorch's tutorials `optim`.
OPTIMISER = re.compile(r"optim(i[sz]er)?s?(_(states?|state_dict|\d+))?", re.IGNORECASE)
MOMENTS = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq", "momentum_buffer")
SCOPE_DEPTH = 3  # `app.optim.state` is the deepest that is known


def named(contents: Contents) -> list[tuple[str, Leaf[Described]]]:
    """Everything in a checkpoint under the name it is listed by.

    Raises:
        BadPickle: a name that is absurdly long or not text.
    """
    scopes = _optimiser_scopes([*contents.tensors, *contents.objects])
    leaves: list[Leaf[Described]] = []
    for name in (*contents.tensors, *contents.objects):
        path = contents.paths.get(name, ())
        if ".".join(path) != name:
            path = (name,)
        check_path(path)
        tensor = contents.tensors.get(name)
        reason = "a pickled object, no tensor" if tensor is None else ""
        if _is_optimisers(name, scopes):
            reason = "optimiser state"
        leaves.append(Leaf(path, None if reason else tensor, reason))
    return unwrapped(_inside_application(leaves))


def _optimiser_scopes(names: Iterable[str]) -> set[str]:
    """The prefixes of names that hold an optimiser and nothing else."""
    children: dict[str, set[str]] = defaultdict(set)
    for name in names:
        parts = name.split(".", SCOPE_DEPTH)
        for depth in range(min(SCOPE_DEPTH, len(parts))):
            children[".".join(parts[:depth])].add(parts[depth])
    return {scope for scope, keys in children.items() if keys == {"state", "param_groups"}}


def _is_optimisers(name: str, scopes: set[str]) -> bool:
    parts = name.split(".")
    within = (".".join(parts[:depth]) for depth in range(min(SCOPE_DEPTH, len(parts))))
    return (
        any(scope in scopes for scope in within)
        or OPTIMISER.fullmatch(parts[0]) is not None
        or (len(parts) > 1 and parts[-1] in MOMENTS)
    )


def _inside_application(leaves: Sequence[Leaf[Described]]) -> list[Leaf[Described]]:
    """Leaves without the application's own key, when all that is read is in it."""
    readable = [leaf.path for leaf in leaves if leaf.tensor is not None]
    if not readable or any(len(path) < 3 or path[0] != APPLICATION for path in readable):
        return list(leaves)
    return [
        replace(leaf, path=leaf.path[1:])
        if leaf.path[0] == APPLICATION and len(leaf.path) > 1
        else leaf
        for leaf in leaves
    ]

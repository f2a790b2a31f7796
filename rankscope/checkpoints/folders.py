"""What trainers leave in a checkpoint's folder: which file the model is in, or why none is.

Layouts, from the libraries' own writers:

- torch.distributed.checkpoint: `__RANK_N.distcp`, and `.metadata` when all of these are written;
- Accelerate and the Hugging Face Trainer under FSDP: such a directory `pytorch_model_fsdp_0`, or
  one file `pytorch_model_fsdp.bin`;
- DeepSpeed: `mp_rank_00_model_states.pt` holds the weights up to ZeRO-2; under ZeRO-3 each rank's
  `zero_pp_rank_R_mp_rank_00_model_states.pt` holds a piece of every weight.

The Trainer writes the weights first, the states of optimiser and random numbers after them and
trainer_state.json last (`_save_checkpoint`): a folder with weights that are whole is a snapshot.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from pathlib import PurePath

from rankscope.errors import InputRejected
from rankscope.files import open_file
from rankscope.presence import exists, is_file
from rankscope.presence import names as names_in

METADATA = ".metadata"
CHUNKS_SUFFIX = ".distcp"

# The module of the class whose object `.metadata` is (see `dcp_metadata`): its name comes first in
# the pickle, behind at most a protocol, a frame's length and an opcode or two.
MODULE = b"torch.distributed.checkpoint.metadata"
BEGINNING = 256

FSDP_FOLDER = re.compile(r"pytorch_model_fsdp_\d+")
FSDP_FILE = "pytorch_model_fsdp.bin"

DEEPSPEED_MODEL = re.compile(r"mp_rank_\d+_model_states\.pt")
ZERO3_MODEL = re.compile(r"zero_pp_rank_\d+_mp_rank_\d+_model_states\.pt")
ZERO_FOLDER = re.compile(r"global_step\d+")

# What a trainer needs to go on and a model does not: the Trainer's, then Accelerate's names.
STATE_FILE = re.compile(
    r"(optimizer|scheduler|scaler)(_\d+)?\.(pt|bin)|rng_state(_\d+)?\.pth|training_args\.bin"
    r"|trainer_state\.json|random_states_\d+\.pkl|(bf16_)?zero_pp_rank_.*_optim_states\.pt"
)
TRAINER_STATE = "trainer_state.json"


def trainers_model(directory: PurePath) -> PurePath | None:
    """The file by which to open what a trainer has written into a directory, if it is known."""
    names = names_in(directory)
    if METADATA in names and _chunks(names):
        return directory / METADATA
    folders = [name for name in names if FSDP_FOLDER.fullmatch(name)]
    if len(folders) == 1 and exists(directory / folders[0] / METADATA):
        return trainers_model(directory / folders[0])
    if FSDP_FILE in names:
        return directory / FSDP_FILE
    ranks = [name for name in names if DEEPSPEED_MODEL.fullmatch(name)]
    return directory / ranks[0] if len(ranks) == 1 else None


def lone_metadata(directory: PurePath) -> PurePath | None:
    """`.metadata` of a distributed checkpoint that has lost every other file, if it is there.

    To be asked of a directory in which no other model was found: the name alone says little, so
    that the file is looked into.
    """
    listed = names_in(directory)
    folders = [name for name in listed if FSDP_FOLDER.fullmatch(name)]
    places = [directory, *(directory / name for name in folders[:1] if len(folders) == 1)]
    return next((place / METADATA for place in places if _is_described(place / METADATA)), None)


def _is_described(metadata: PurePath) -> bool:
    """Whether a file is torch's description of a checkpoint, by how its pickle begins."""
    if not is_file(metadata):
        return False
    try:
        file = open_file(metadata)
        try:
            return MODULE in bytes(file.read(0, min(file.size, BEGINNING)))
        finally:
            file.close()
    except InputRejected:  # nobody has said that it is a checkpoint
        return False


def home(model: PurePath) -> PurePath:
    """The folder of a model, where config.json lies: that around Accelerate's, if it is in one."""
    inner = FSDP_FOLDER.fullmatch(model.parent.name) is not None
    return model.parent.parent if inner else model.parent


def why_no_model(directory: PurePath, *, has_weights: bool = False) -> str:
    """What a directory without a model lacks, where it is a trainer's; empty for any other.

    Args:
        directory: one in which no model was found.
        has_weights: whether there are files that may hold weights, of whatever name.
    """
    names = names_in(directory)
    folders = [name for name in names if FSDP_FOLDER.fullmatch(name)]
    if _chunks(names):
        return _why_no_metadata(names)
    if len(folders) == 1:
        inside = why_no_model(directory / folders[0])
        return f"{folders[0]}: {inside}" if inside else ""
    if len(folders) > 1:
        return f"holds {len(folders)} models, expected one of them: {folders[0]}"
    reason = _why_no_deepspeed(names)
    return reason or ("" if has_weights else _why_no_weights(directory, names))


def is_state(name: str) -> bool:
    """Whether a file is a trainer's and holds no weights, by its name.

    >>> is_state("optimizer.pt"), is_state("rng_state_0.pth"), is_state("model.pt")
    (True, True, False)
    """
    return STATE_FILE.fullmatch(name) is not None


def _chunks(names: Collection[str]) -> list[str]:
    return [name for name in names if name.endswith(CHUNKS_SUFFIX)]


def _why_no_metadata(names: Sequence[str]) -> str:
    ranks = [name for name in names if re.fullmatch(r"__\d+\.metadata", name)]
    if ranks:
        return f"each rank has saved by itself ({ranks[0]}), expected one {METADATA}"
    return (
        f"incomplete: {len(_chunks(names))} {CHUNKS_SUFFIX} files without {METADATA}, "
        "which is written last: the save was cut short, or still runs"
    )


def _why_no_deepspeed(names: Sequence[str]) -> str:
    if any(ZERO3_MODEL.fullmatch(name) for name in names):
        return (
            "DeepSpeed ZeRO-3: every rank holds a piece of each weight; join them with its "
            "zero_to_fp32.py and give the result"
        )
    ranks = [name for name in names if DEEPSPEED_MODEL.fullmatch(name)]
    if len(ranks) > 1:
        return (
            f"DeepSpeed with {len(ranks)} tensor-parallel ranks: each holds a part of the "
            "weights; join them with DeepSpeed's ds_to_universal.py or save the whole model"
        )
    if any(re.fullmatch(r"(bf16_)?zero_pp_rank_.*_optim_states\.pt", name) for name in names):
        return "incomplete: DeepSpeed's optimiser states without mp_rank_00_model_states.pt"
    return ""


def _why_no_weights(directory: PurePath, names: Sequence[str]) -> str:
    """Of a folder in which all that is known is a trainer's state."""
    inside = [name for name in names if ZERO_FOLDER.fullmatch(name)]
    if len(inside) == 1:
        reason = why_no_model(directory / inside[0])
        return f"{inside[0]}: {reason}" if reason else f"give the path of {inside[0]} in it"
    state = [name for name in names if is_state(name)]
    if not state:
        return ""
    if TRAINER_STATE in state:
        return f"incomplete: {TRAINER_STATE} and no weights: removed, or saved elsewhere"
    return f"incomplete: {state[0]} and neither weights nor {TRAINER_STATE}, which comes last"

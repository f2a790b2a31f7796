"""Directories that `torch.distributed.checkpoint` writes: FSDP, torchtitan, Lightning, Accelerate.

`.metadata` (see `dcp_metadata`) says which tensors there are, into which chunks each is cut and
where these lie in the `.distcp` files; each chunk is a torch file of one tensor in itself, which
is looked into when it is read first. torch is not needed, and nothing is ever run.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from pathlib import PurePath
from typing import TYPE_CHECKING

from rankscope.checkpoints.boxes import Box, pieces
from rankscope.checkpoints.closing import Closing
from rankscope.checkpoints.dcp_chunks import Chunk, Place, covered
from rankscope.checkpoints.dcp_files import ChunkFiles, Section
from rankscope.checkpoints.dcp_metadata import JOIN, Contents, Described, parse
from rankscope.checkpoints.dcp_names import named
from rankscope.checkpoints.folders import CHUNKS_SUFFIX
from rankscope.checkpoints.inert_nodes import BadPickle, shown
from rankscope.checkpoints.inert_pickle import MAX_PICKLE_BYTES
from rankscope.checkpoints.torchzip import read_archive
from rankscope.dtypes import FLOATS, OTHER_SIZES, itemsize, numpy_dtype
from rankscope.errors import InputRejected
from rankscope.identities import identity
from rankscope.jsonobject import read_limited
from rankscope.places import text_of
from rankscope.presence import is_file, names
from rankscope.records import Checkpoint, Listing, MatrixSpec, Skipped, TensorInfo
from rankscope.text import natural

if TYPE_CHECKING:
    from rankscope.records import Stored


class DcpCheckpoint(Closing):
    """A `Checkpoint` over the chunks of a directory."""

    def __init__(self, metadata: PurePath, wanted: Collection[str] | None = None) -> None:
        """Read `.metadata` and look at the sizes of the files.

        Args:
            metadata: the path of `.metadata`.
            wanted: names of tensors; files that are not needed for them stay closed.
        """
        self._metadata = metadata
        self._files = ChunkFiles(metadata)
        self._stored: dict[str, Described] = {}
        self._chunks: dict[tuple[str, tuple[int, ...]], Checkpoint] = {}
        try:
            self._listing = self._listed(wanted)
        except BaseException:
            self.close()
            raise

    def _listed(self, wanted: Collection[str] | None) -> Listing:
        tensors: list[TensorInfo] = []
        skipped: list[Skipped] = []
        missing: list[Skipped] = []
        name: str | None = None
        try:
            contents = parse(read_limited(self._metadata, MAX_PICKLE_BYTES, JOIN))
            for name, leaf in named(contents):
                reason = leaf.reason if leaf.tensor is None else _why_not(leaf.tensor)
                if leaf.tensor is None or reason:
                    skipped.append(Skipped(name, reason))
                    continue
                self._stored[name] = leaf.tensor
                if wanted is not None and name not in wanted:
                    continue
                lacking = self._lacking(leaf.tensor)
                if lacking:
                    missing.append(Skipped(name, lacking))
                else:
                    tensors.append(TensorInfo(name, leaf.tensor.shape, leaf.tensor.dtype))
        except BadPickle as error:
            raise InputRejected(self._metadata, str(error), tensor=name) from error
        return Listing(
            str(self._metadata.parent),
            "torch DCP",
            tuple(sorted(tensors, key=lambda tensor: natural(tensor.name))),
            (*skipped, *_strays(self._metadata.parent, contents)),
            tuple(sorted(missing, key=lambda item: natural(item.name))),
            self._paths(contents, wanted),
        )

    def _paths(self, contents: Contents, wanted: Collection[str] | None) -> tuple[str, ...]:
        """Every file that is there; of what is wanted, `.metadata` will do."""
        names = contents.files if wanted is None else ()
        there = [name for name in names if self._files.size(name) is not None]
        return (
            text_of(self._metadata),
            *(text_of(self._files.path(name)) for name in sorted(there)),
        )

    def _lacking(self, tensor: Described) -> str:
        """What is not there of a tensor, or nothing.

        Raises:
            BadPickle: what is there cannot be this tensor.
        """
        held, total = covered(tensor.shape, tensor.chunks), math.prod(tensor.shape)
        if held < total:
            return f"its chunks hold {held} of {total} elements"
        for chunk in tensor.chunks:
            place = chunk.place
            if chunk.volume == 0:
                continue
            if place is None:
                return f"the chunk at {list(chunk.offsets)} is stored nowhere"
            size = self._files.size(place.file)
            if size is None:
                return f"{place.file} is missing"
            _check_place(chunk, place, size, itemsize(tensor.dtype))
        return ""

    @property
    def listing(self) -> Listing:
        """What is in the directory."""
        return self._listing

    def read(self, spec: MatrixSpec, rows: slice, columns: slice) -> Stored:
        """A window of a matrix; see `Checkpoint.read`."""
        import numpy as np

        tensor = self._stored[spec.tensor]
        dtype = numpy_dtype(tensor.dtype)
        window = np.empty((rows.stop - rows.start, columns.stop - columns.start), dtype)
        for piece in pieces(tensor.shape, spec, rows, columns):
            part = window[piece.rows, piece.columns]
            filled = np.empty([side.stop - side.start for side in piece.box], dtype)
            for chunk in tensor.chunks:
                shared = chunk.overlap(piece.box)
                if shared is not None:
                    into = _shifted(shared, [side.start for side in piece.box])
                    source = self._chunk(spec.tensor, tensor, chunk)
                    filled[into] = _region(source, _shifted(shared, chunk.offsets))
            part[...] = filled.reshape(part.shape)
        return window

    def _chunk(self, name: str, tensor: Described, chunk: Chunk) -> Checkpoint:
        """The torch file that a chunk is, which must hold what the metadata say."""
        key = (name, chunk.offsets)
        if key not in self._chunks:
            try:
                self._chunks[key] = self._opened(tensor, chunk)
            except InputRejected as error:
                reason = f"chunk at {list(chunk.offsets)}: {error.reason}"
                raise InputRejected(error.path, reason, tensor=name) from error
        return self._chunks[key]

    def _opened(self, tensor: Described, chunk: Chunk) -> Checkpoint:
        if chunk.place is None or self._files.size(chunk.place.file) is None:
            raise InputRejected(self._metadata, "is not there any more")
        section = Section(self._files, chunk.place)
        checkpoint = read_archive(section)
        found = checkpoint.listing.tensors
        if not found and checkpoint.listing.skipped:
            raise InputRejected(section.path, checkpoint.listing.skipped[0].reason)
        if [(one.shape, one.dtype) for one in found] != [(chunk.sizes, tensor.dtype)]:
            held = ", ".join(f"{one.dtype} {list(one.shape)}" for one in found[:3]) or "no tensor"
            expected = f"{tensor.dtype} {list(chunk.sizes)}"
            raise InputRejected(section.path, f"holds {held}, expected one {expected}")
        return checkpoint

    def close(self) -> None:
        """Close all files."""
        self._files.close()


def _why_not(tensor: Described) -> str:
    """The reason why a tensor is not read, or nothing."""
    transforms = {step for chunk in tensor.chunks if chunk.place for step in chunk.place.transforms}
    if tensor.dtype not in FLOATS and tensor.dtype not in OTHER_SIZES:
        return f"element type {shown(tensor.dtype)} is not known"
    if tensor.layout != "strided":
        return f"{shown(tensor.layout)} tensor: only dense ones are read"
    if transforms:
        return f"stored through {shown(min(transforms))}: only plain chunks are read"
    return ""


def _check_place(chunk: Chunk, place: Place, size: int, width: int) -> None:
    """Refuse a chunk that reaches past its file, or that is shorter than its elements."""
    if place.offset + place.length > size:
        raise BadPickle(
            f"chunk at {list(chunk.offsets)} reaches byte {place.offset + place.length} of "
            f"{shown(place.file)}, which has {size}: truncated?"
        )
    if chunk.volume * width > place.length:
        raise BadPickle(
            f"chunk at {list(chunk.offsets)} takes {place.length} bytes, "
            f"expected at least {chunk.volume * width}"
        )


def _shifted(box: Box, origin: Collection[int]) -> Box:
    return tuple(
        slice(side.start - start, side.stop - start)
        for side, start in zip(box, origin, strict=True)
    )


def _region(source: Checkpoint, box: Box) -> Stored:
    """A box of the only tensor of a torch file."""
    import numpy as np

    (info,) = source.listing.tensors
    if len(box) < 2:
        flat = MatrixSpec(info.name, info.name, (), len(box), (info.size, 1), info.dtype, "linear")
        rows = box[0] if box else slice(0, 1)
        return source.read(flat, rows, slice(0, 1)).reshape([rows.stop - rows.start] * len(box))
    partial = [i for i, side in enumerate(box) if side.stop - side.start < info.shape[i]]
    # Columns are the axes from the last one on that is not read whole: one run of elements.
    first = max(1, partial[-1] if partial else 1)
    inner = math.prod(info.shape[first + 1 :])
    columns = slice(box[first].start * inner, box[first].stop * inner)
    lead = [side.stop - side.start for side in box[: first - 1]]
    sizes = [side.stop - side.start for side in box[first - 1 :]]
    region = np.empty((*lead, *sizes), numpy_dtype(info.dtype))
    shape = (info.shape[first - 1], math.prod(info.shape[first:]))
    for place in np.ndindex(*lead):
        index = tuple(side.start + i for side, i in zip(box, place, strict=False))
        spec = MatrixSpec(info.name, info.name, index, 1, shape, info.dtype, "linear")
        region[place] = source.read(spec, box[first - 1], columns).reshape(sizes)
    return region


def _strays(directory: PurePath, contents: Contents) -> list[Skipped]:
    """Files of chunks that the metadata do not name: of an earlier save by more ranks.

    A rank that has nothing to save leaves an empty one.
    """
    chunks = [directory / name for name in names(directory) if name.endswith(CHUNKS_SUFFIX)]
    there = {path.name for path in chunks if is_file(path) and identity(path).size}
    reason = "a file of chunks that .metadata does not name"
    return [Skipped(name, reason) for name in sorted(there.difference(contents.files))]

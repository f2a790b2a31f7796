"""From a model's tensors to the spectra of its matrices, for a run that keeps these.

What a reader makes of the weights and what is kept here is the same: tensors fold to matrices by
the same rules, and every value is resolved, because the weights will be gone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rankscope.checkpoints.interpretation import interpreted
from rankscope.checkpoints.memory import MemoryCheckpoint
from rankscope.checkpoints.modelfiles import ModelFiles
from rankscope.checkpoints.spectrumfile import Entry, metadata
from rankscope.contentkey import content_key
from rankscope.hostcopy import on_cuda
from rankscope.matrices import Selection, fold, select, why_no_matrix
from rankscope.products import matrix_of
from rankscope.records import MatrixSpec, Route, Spectrum, TensorInfo, Unmeasured
from rankscope.resolving import resolved_spectrum
from rankscope.snapshotfiles import write_safetensors
from rankscope.solvers import ROUTE_VERSION, solve
from rankscope.solvers.device import DeviceMatrix
from rankscope.store import FILE_NAME, FOLDER, SpectrumStore
from rankscope.text import natural

if TYPE_CHECKING:
    from rankscope.records import Stored


class SolvedModel:
    """The spectra of everything that is a matrix in a mapping of names to tensors.

    Args:
        tensors: arrays, or PyTorch's; a matrix on a CUDA device is measured there.
        weights: the same in host memory, where they are there too.
    """

    def __init__(
        self, tensors: Mapping[str, Any], weights: Mapping[str, Stored] | None = None
    ) -> None:
        self._tensors = tensors
        # As a reader of the weights would see them: fused layers apart, pairs as products.
        host = MemoryCheckpoint(tensors if weights is None else weights)
        self._checkpoint = interpreted(host, ModelFiles(None))
        specs, _ = select(self._checkpoint.listing, Selection())
        self._specs = specs
        self._entries = {spec.name: self._entry(spec) for spec in specs}

    def _entry(self, spec: MatrixSpec) -> Entry:
        matrix = matrix_of(self._checkpoint, spec)
        tensor = self._tensors.get(spec.tensor)
        if spec.factors is not None:
            found = solve(matrix, "factors")
        elif on_cuda(tensor) and not spec.sources:
            found = resolved_spectrum(_on_device(tensor, spec))
        else:
            found = resolved_spectrum(matrix)
        return Entry(spec.name, found, content_key(matrix).hex())

    def write(self, path: Path) -> None:
        """Write a file of singular values, whole or not at all.

        Raises:
            OutputFailed: the disk is full, or the like.
        """
        found = {name: entry.found for name, entry in self._entries.items()}
        arrays = {name: one.sigma for name, one in found.items() if isinstance(one, Spectrum)}
        listing = self._checkpoint.listing
        # As the reader of weights lists them.
        tensors = sorted(listing.tensors, key=lambda tensor: natural(tensor.name))
        told = [(tensor, list(self._entries_of(tensor))) for tensor in tensors]
        write_safetensors(path, arrays, metadata(told, listing.skipped))

    def _entries_of(self, tensor: TensorInfo) -> Iterator[Entry]:
        """Of a tensor's matrices in the order of `fold`; none where it is not measured."""
        if why_no_matrix(tensor) is not None:
            return
        for spec in fold(tensor):
            shadowed = Unmeasured("unreadable", "another tensor has this name")
            yield self._entries.get(spec.name, Entry(spec.name, shadowed, ""))

    def remember(self, run_dir: Path) -> None:
        """Keep the spectra in the run's store, where an analysis of the weights finds them."""
        store = SpectrumStore(run_dir / FOLDER / FILE_NAME, ROUTE_VERSION)
        try:
            for spec in self._specs:
                entry = self._entries[spec.name]
                # An analysis asks for the Gram route first; a better answer is as good.
                asked: Route = "gram" if spec.factors is None else "factors"
                key = bytes.fromhex(entry.key)
                store.put(run_dir, entry.name, key, [(asked, entry.found)])
            store.commit()
        finally:
            store.close()


def _on_device(tensor: Any, spec: MatrixSpec) -> DeviceMatrix:
    """A matrix of a tensor, where that lies; as `StoredMatrix` reads it."""
    weights = tensor[spec.index].reshape(spec.stored.shape)
    if spec.transposed:
        weights = weights.T
    part = spec.part
    if part is not None:
        rows = weights.reshape(part.groups, part.period, -1)[:, part.start : part.stop]
        weights = rows.reshape(part.rows, -1)
    return DeviceMatrix(weights, spec.dtype)

"""From a model's tensors to the spectra of its matrices, for a run that keeps these.

What a reader makes of the weights and what is kept here is the same: tensors fold to matrices by
the same rules, and every value is resolved, because the weights will be gone.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rankscope.checkpoints.memory import MemoryCheckpoint
from rankscope.checkpoints.spectrumfile import metadata
from rankscope.hostcopy import on_cuda
from rankscope.matrices import Selection, select
from rankscope.records import MatrixSpec, Measurement, Route, Spectrum, TensorInfo
from rankscope.resolving import resolved_spectrum
from rankscope.snapshotfiles import write_safetensors
from rankscope.solvers import ROUTE_VERSION
from rankscope.solvers.device import DeviceMatrix
from rankscope.store import FILE_NAME, FOLDER, SpectrumStore
from rankscope.storedmatrix import StoredMatrix
from rankscope.text import natural
from rankscope.worker import content_key


class SolvedModel:
    """The spectra of everything that is a matrix in a mapping of names to tensors.

    Args:
        tensors: arrays, or PyTorch's; a matrix on a CUDA device is measured there.
    """

    def __init__(self, tensors: Mapping[str, Any]) -> None:
        self._checkpoint = MemoryCheckpoint(tensors)
        specs, _ = select(self._checkpoint.listing, Selection())
        self._found = [(spec, self._measured(spec, tensors[spec.tensor])) for spec in specs]

    def _measured(self, spec: MatrixSpec, tensor: Any) -> Measurement:
        if not on_cuda(tensor):
            return resolved_spectrum(StoredMatrix(self._checkpoint, spec))
        weights = tensor[spec.index].reshape(spec.shape)
        return resolved_spectrum(DeviceMatrix(weights, spec.dtype))

    def write(self, path: Path) -> None:
        """Write a file of singular values, whole or not at all.

        Raises:
            OutputFailed: the disk is full, or the like.
        """
        by_tensor: dict[str, list[tuple[MatrixSpec, Measurement]]] = {}
        for spec, found in self._found:
            by_tensor.setdefault(spec.tensor, []).append((spec, found))
        arrays = {name: _sigma(found) for name, found in by_tensor.items()}
        listing = self._checkpoint.listing
        # As the reader of weights lists them.
        tensors = sorted(listing.tensors, key=lambda tensor: natural(tensor.name))
        told: list[tuple[TensorInfo, list[Measurement]]] = [
            (tensor, [found for _, found in by_tensor.get(tensor.name, [])]) for tensor in tensors
        ]
        write_safetensors(path, arrays, metadata(told))

    def remember(self, run_dir: Path, weights: Mapping[str, Any]) -> None:
        """Keep the spectra in the run's store, where an analysis of the weights finds them.

        Args:
            run_dir: the run directory.
            weights: the same tensors in host memory.
        """
        checkpoint = MemoryCheckpoint(weights)
        store = SpectrumStore(run_dir / FOLDER / FILE_NAME, ROUTE_VERSION)
        try:
            for spec, found in self._found:
                key = content_key(StoredMatrix(checkpoint, spec))
                # An analysis asks for the Gram route first; a better answer is as good.
                routes: list[Route] = ["gram"]
                if isinstance(found, Spectrum) and found.route == "direct":
                    routes.append("direct")
                store.put(run_dir, spec.name, key, [(route, found) for route in routes])
            store.commit()
        finally:
            store.close()


def _sigma(found: list[tuple[MatrixSpec, Measurement]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The singular values of a tensor's matrices, shape (matrices, k) or, of one, (k,)."""
    rows = [
        one.sigma if isinstance(one, Spectrum) else np.zeros(min(spec.shape)) for spec, one in found
    ]
    return np.stack(rows) if found[0][0].index else rows[0]

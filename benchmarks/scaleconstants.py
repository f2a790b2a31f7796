"""The constants of the scale study, measured on this machine with RankScope's own parts."""

from __future__ import annotations

import json
import os
import time
import tracemalloc
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from benchmarks.models import OLD
from benchmarks.scalemodel import FILES, tensors_70b
from rankscope.asking import asked_of, table_of
from rankscope.cluster import Where, connected
from rankscope.how import How
from rankscope.matrices import Selection, select
from rankscope.records import Spectrum
from rankscope.solvers import ROUTE_VERSION
from rankscope.store import SpectrumStore
from rankscope.worker import list_checkpoint

BATCH = 1000  # spectra between commits: about what a second brings


@dataclass(frozen=True, slots=True)
class Stored:
    """A store of so many spectra of k values each.

    Attributes:
        spectra: how many.
        k: values of each.
        bytes: of the file.
        put: seconds of each, with its share of committing, over the last tenth.
        find: seconds to find one by its content.
    """

    spectra: int
    k: int
    bytes: int
    put: float
    find: float


def fill_store(path: Path, model: Path, k: int, steps: list[int]) -> list[Stored]:
    """A store as it grows with checkpoints like a model's, told at these numbers of spectra."""
    rng = np.random.default_rng(0)
    sigma = np.sort(rng.random(k))[::-1].copy()
    listed = list_checkpoint(model)
    if not isinstance(listed, tuple):
        raise listed
    names = [spec.name for spec in select(listed[0], Selection())[0]]
    spectrum = Spectrum(sigma, (k, k), "bfloat16", 1.0, 1.0, 1.0, 1e-8, "gram")
    found: list[Stored] = []
    store = SpectrumStore(path, ROUTE_VERSION)
    with closing(store):
        count = 0
        for goal in steps:
            while count < goal:
                tenth = max(BATCH, goal // 10)
                begun, first = time.perf_counter(), count
                while count < min(goal, first + tenth):
                    step, index = divmod(count, len(names))
                    place = Path(f"/runs/llama-70b/checkpoint-{step:07d}/{model.name}")
                    if index == 0:
                        store.remember(place, *listed)
                    key = rng.bytes(32)
                    store.put(place, names[index], key, [("gram", spectrum)], listed[1])
                    count += 1
                    if count % BATCH == 0:
                        store.commit()
                store.commit()
                put = (time.perf_counter() - begun) / (count - first)
            begun = time.perf_counter()
            for _ in range(100):
                store.find(key, "gram")
            find = (time.perf_counter() - begun) / 100
            found.append(Stored(count, k, path.stat().st_size, put, find))
    return found


def sparse_70b(folder: Path) -> Path:
    """The index of a checkpoint with the headers of a 70 B model, in shards full of holes."""
    folder.mkdir()
    tensors = tensors_70b()
    weight_map: dict[str, str] = {}
    for shard in range(FILES):
        name = f"model-{shard + 1:05d}-of-{FILES:05d}.safetensors"
        mine = tensors[shard * len(tensors) // FILES : (shard + 1) * len(tensors) // FILES]
        header: dict[str, object] = {}
        end = 0
        for tensor in mine:
            begin, end = end, end + 2 * tensor.size
            header[tensor.name] = {
                "dtype": "BF16",
                "shape": list(tensor.shape),
                "data_offsets": [begin, end],
            }
        text = json.dumps(header).encode()
        with open(folder / name, "wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            file.truncate(8 + len(text) + end)
        weight_map |= {tensor.name: name for tensor in mine}
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    for path in folder.iterdir():
        os.utime(path, (OLD, OLD))
    return index


@dataclass(frozen=True, slots=True)
class Listed:
    """What listing a 70 B checkpoint takes: seconds; bytes in memory of what is kept of it."""

    seconds: float
    memory: int


def listing(index: Path, repeats: int = 5) -> Listed:
    """Of a checkpoint's headers that lie in this machine's memory."""
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    kept = list_checkpoint(index)
    if not isinstance(kept, tuple):
        raise kept
    specs = select(kept[0], Selection())
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    del specs
    begun = time.perf_counter()
    for _ in range(repeats):
        list_checkpoint(index)
    return Listed((time.perf_counter() - begun) / repeats, after - before)


@dataclass(frozen=True, slots=True)
class Rowed:
    """A row of the table: bytes in memory, and in the JSON document."""

    memory: int
    json: int


def row(folder: Path, count: int = 2000) -> Rowed:
    """Of a table of so many matrices with all default metrics."""
    path = folder / "rows.safetensors"
    names = [f"model.layers.{i}.mlp.down_proj.weight" for i in range(count)]
    save_file({name: np.eye(8, dtype=np.float32) for name in names}, path)
    asked = asked_of(how=How(workers=1, store=False))
    tracemalloc.start()
    table = table_of(path, asked=asked)
    memory, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return Rowed(memory // count, len(json.dumps(table.to_document())) // count)


def result_of(values: int) -> bytes:
    """What a worker sends back: so many float64."""
    return os.urandom(8 * values)


def dask_task(values: int, count: int) -> float:
    """Seconds that a task takes of a local cluster's scheduler and client, its result so long."""
    with connected(Where(cluster="local", workers=2), lambda _: None) as executor:
        for _ in executor.run(result_of, [values] * 100):
            pass
        begun = time.perf_counter()
        for _ in executor.run(result_of, [values] * count):
            pass
        return (time.perf_counter() - begun) / count

"""Hand-made torch files for the tests: pickles that no pickler writes, archives of any bytes."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

# What opens a file in a child process: prints the reason it was rejected for, or the names.
CHILD = """
import resource, sys
from pathlib import Path
limit = int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
from rankscope.checkpoints.torchzip import TorchReader
from rankscope.errors import InputRejected
try:
    print([t.name for t in TorchReader().open(Path(sys.argv[1])).listing.tensors])
except InputRejected as error:
    print("rejected:", error.reason)
assert "torch" not in sys.modules and "numpy" not in sys.modules
"""


@dataclass(frozen=True)
class G:
    """A global, `module name`."""

    module: str
    name: str


@dataclass(frozen=True)
class Call:
    """A REDUCE."""

    function: object
    arguments: tuple[object, ...]


@dataclass(frozen=True)
class Id:
    """A persistent id."""

    value: object


@dataclass(frozen=True)
class Raw:
    """Opcodes as they are."""

    code: bytes


def encoded(value: object) -> bytes:
    """The opcodes that push a value, protocol 2."""
    match value:
        case Raw():
            code = value.code
        case G():
            code = f"c{value.module}\n{value.name}\n".encode()
        case Call():
            code = encoded(value.function) + encoded(value.arguments) + b"R"
        case Id():
            code = encoded(value.value) + b"Q"
        case tuple():
            code = b"(" + b"".join(map(encoded, value)) + b"t"
        case list():
            code = b"](" + b"".join(map(encoded, value)) + b"e"
        case dict():
            pairs = (encoded(key) + encoded(item) for key, item in value.items())
            code = b"}(" + b"".join(pairs) + b"u"
        case _:
            code = encoded_scalar(value)
    return code


def encoded_scalar(value: object) -> bytes:
    if value is None or isinstance(value, bool):
        return {True: b"\x88", False: b"\x89", None: b"N"}[value]
    if isinstance(value, int):
        data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
        return b"\x8b" + len(data).to_bytes(4, "little") + data
    data = str(value).encode()
    return b"X" + len(data).to_bytes(4, "little") + data


def pickled(value: object) -> bytes:
    return b"\x80\x02" + encoded(value) + b"."


def storage(
    numel: object = 6, key: object = "0", kind: str = "FloatStorage", location: str = "cpu"
) -> Id:
    return Id(("storage", G("torch", kind), key, location, numel))


def tensor(
    size: object = (2, 3), stride: object = (3, 1), offset: object = 0, held: object = None
) -> Call:
    hooks = Call(G("collections", "OrderedDict"), ())
    arguments = (held or storage(), offset, size, stride, False, hooks)
    return Call(G("torch._utils", "_rebuild_tensor_v2"), arguments)


def write_archive(
    path: Path,
    root: object,
    entries: dict[str, bytes] | None = None,
    deflated: tuple[str, ...] = (),
) -> Path:
    """A torch file; one storage of six float32 zeros unless `entries` says otherwise."""
    content = {"data.pkl": root if isinstance(root, bytes) else pickled(root)}
    content |= {"data/0": bytes(24)} if entries is None else entries
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            method = zipfile.ZIP_DEFLATED if name in deflated else zipfile.ZIP_STORED
            archive.writestr(f"top/{name}", data, method)
    return path


def open_in_child(path: Path, prelude: str = "", megabytes: int = 1000) -> str:
    """What CHILD prints about a file, under a limit of memory and ten seconds of time."""
    done = subprocess.run(
        [sys.executable, "-c", prelude + CHILD, str(path), str(megabytes * 2**20)],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()

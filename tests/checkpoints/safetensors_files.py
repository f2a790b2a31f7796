"""Hand-made safetensors files for the tests, and a child process that opens hostile ones."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import safetensors

# Opens a path in a child process: prints the reason it was rejected for, or the names in it.
CHILD = """
import resource, sys
limit = int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
from rankscope.checkpoints import open_checkpoint
from rankscope.errors import InputRejected
try:
    print([t.name for t in open_checkpoint(sys.argv[1]).listing.tensors])
except InputRejected as error:
    print("rejected:", error.reason)
assert "torch" not in sys.modules and "numpy" not in sys.modules
"""


def entry(
    shape: object = (1, 1), dtype: object = "F32", offsets: object = (0, 4)
) -> dict[str, object]:
    """One entry of a header."""
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def write(path: Path, header: object, data: bytes = b"") -> Path:
    """A file with this header (bytes as they are, anything else as JSON) and data section."""
    content = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(content).to_bytes(8, "little") + content + data)
    return path


def library_refuses(path: Path) -> bool:
    try:
        with safetensors.safe_open(path, "np"):
            return False
    except safetensors.SafetensorError:
        return True


def open_in_child(path: Path, megabytes: int = 400) -> str:
    """What CHILD prints about a path, under a limit of memory and of twenty seconds."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(path), str(megabytes * 2**20)],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()

"""The large model behind URLs of this machine against the same file on its disk."""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks import models
from benchmarks.processes import run

ROUNDS = 3
BUCKET = "weights"
NAME = "llama.safetensors"


def bench_remote(folder: Path) -> None:
    """`rankscope analyze` on 242 M parameters over HTTP and S3, in turns with the local file."""
    (folder / BUCKET).mkdir(exist_ok=True)
    path = folder / BUCKET / NAME
    if not path.exists():
        models.llama(path)
    with ExitStack() as stack:
        web = stack.enter_context(web_server(folder))
        moto = stack.enter_context(moto_server(path))
        places = {
            "local": (str(path), {}),
            "http://": (f"{web}/{BUCKET}/{NAME}", {}),
            "s3://, the same server": (f"s3://{BUCKET}/{NAME}", s3_of(web)),
            "s3://, moto's server": (f"s3://{BUCKET}/{NAME}", s3_of(moto)),
        }
        seconds: dict[str, list[float]] = {name: [] for name in places}
        for _ in range(ROUNDS):
            for name, (place, env) in places.items():
                command = [sys.executable, "-m", "rankscope", "analyze", place, "--no-store"]
                seconds[name].append(run(command, env).seconds)
    show(seconds)


def show(seconds: dict[str, list[float]]) -> None:
    """Medians, and the median of the ratios to the local file of the same turn."""
    print(
        "\n### 242 M parameters, bf16, over loopback\n\n| | seconds | to local |\n|---|---:|---:|"
    )
    for name, times in seconds.items():
        ratios = [one / local for one, local in zip(times, seconds["local"], strict=True)]
        print(f"| {name} | {statistics.median(times):.2f} | {statistics.median(ratios):.2f} |")


@contextmanager
def web_server(folder: Path) -> Iterator[str]:
    """The URL of a server of this folder, a process of its own."""
    command = [sys.executable, "-m", "benchmarks.webserver", str(folder)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        if server.stdout is None:
            raise AssertionError("asked for with a pipe")
        yield f"http://127.0.0.1:{int(server.stdout.readline())}"


MOTO = """
import sys, logging
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
logging.getLogger("werkzeug").setLevel(logging.ERROR)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
server.stop()
"""


@contextmanager
def moto_server(path: Path) -> Iterator[str]:
    """The URL of an S3 server that holds the file; it takes all of it into memory a request."""
    import boto3

    command = [sys.executable, "-c", MOTO]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        if server.stdout is None:
            raise AssertionError("asked for with a pipe")
        url = f"http://127.0.0.1:{int(server.stdout.readline())}"
        key = {"aws_access_key_id": "nobody", "aws_secret_access_key": "secret"}
        client = boto3.client("s3", endpoint_url=url, region_name="us-east-1", **key)
        client.create_bucket(Bucket=BUCKET)
        client.put_object(Bucket=BUCKET, Key=NAME, Body=path.read_bytes())
        client.close()
        yield url


def s3_of(endpoint: str) -> dict[str, str]:
    """The environment in which S3 is a server of this machine."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }

"""URLs that hold a secret, which nobody is told, and URLs of one version of an object."""

from __future__ import annotations

import os
import pickle
import sqlite3
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

import rankscope
from rankscope.errors import InputRejected, UsageError
from rankscope.how import How
from rankscope.identities import identity
from rankscope.places import RemotePath, WholePath
from rankscope.remote.filesystem import filesystem_of
from rankscope.remote.looking import names, status
from rankscope.tasks import held
from rankscope.worker import Task
from tests.cli.conftest import Run
from tests.remote.conftest import BUCKET, Bucket, look_anew
from tests.remote.webserver import Site

Web = Callable[..., Site]

SECRET = "c2Vj//cmV0/./x/"  # what base64 may look like, and a path would not leave as it is


def model(scale: float) -> bytes:
    return save({"a.weight": np.diag([3.0, 4.0]).astype("f4") * np.float32(scale)})


def norm(path: RemotePath) -> float:
    look_anew()
    found = rankscope.analyze(path, metrics=["frobenius_norm"], how=How(workers=1, store=False))
    return float(found.matrices[0]["frobenius_norm"])


def everything_below(folder: Path) -> Iterator[tuple[str, bytes]]:
    for path in folder.rglob("*"):
        yield str(path), path.read_bytes() if path.is_file() else b""


class TestSigned:
    COMMANDS = (
        ("analyze",),
        ("analyze", "--json"),
        ("analyze", "--workers", "2"),
        ("analyze", "--download"),
        ("inspect",),
        ("inspect", "--json"),
        ("inspect", "--plan", "--json"),
        *(("analyze", "-o", f"out.{kind}") for kind in ("csv", "html", "md", "json", "parquet")),
        ("analyze", "--spectra", "-o", "spectra.h5"),
        ("report", "-o", "out.html"),
        ("check",),
        ("baseline", "-o", "out.json"),
        ("plot", "--kind", "spectrum", "-o", "out.svg"),
    )

    @pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
    def test_the_query_is_sent_and_nowhere_seen(
        self,
        command: tuple[str, ...],
        web: Web,
        run: Run,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.chdir(tmp_path)
        site = web({"m.safetensors": model(1)})
        url = f"http://127.0.0.1:{site.port}/m.safetensors?X-Amz-Signature={SECRET}"
        name, *rest = command
        ended = run(name, url, *rest)
        assert ended.code in (0, 1), ended.err
        assert {one.path for one in site.settled()} == {f"/m.safetensors?X-Amz-Signature={SECRET}"}
        for text in (ended.out, ended.err):
            assert "c2Vj" not in text
        for path, data in everything_below(tmp_path):
            assert "c2Vj" not in path
            assert b"c2Vj" not in data, path

    @pytest.mark.parametrize("fault", ["nothing", "broken", "busy", "unreachable", "nonsense"])
    def test_nor_in_an_error(self, fault: str, web: Web, run: Run, tmp_path: Path) -> None:
        site = web({"broken.npz": b"PK\3\4" + bytes(60), "busy.npz": b""}, busy=fault == "busy")
        port = 1 if fault == "unreachable" else "x" if fault == "nonsense" else site.port
        ended = run("analyze", f"http://127.0.0.1:{port}/{fault}.npz?sig={SECRET}")
        assert ended.code == 3
        assert "?sig=***" in ended.err
        assert "c2Vj" not in ended.out + ended.err
        assert not any(b"c2Vj" in data for _, data in everything_below(tmp_path))

    def test_nor_in_a_traceback(self, web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("rankscope.remote.looking.time.sleep", lambda _: None)
        site = web({"m.npz": b"PK"}, busy=1000)
        with pytest.raises(InputRejected, match="the server answers 503") as caught:
            norm(RemotePath(f"http://127.0.0.1:{site.port}/m.npz?sig={SECRET}"))
        shown = "".join(traceback.format_exception(caught.value))
        assert "c2Vj" not in shown

    def test_two_queries_are_two_files(self, web: Web, run: Run) -> None:
        site = web({"m.safetensors": model(1)})
        url = f"http://127.0.0.1:{site.port}/m.safetensors"
        assert run("diff", f"{url}?id=1", f"{url}?id=2").code == 0
        asked = {one.path for one in site.bodies()}
        assert asked == {"/m.safetensors?id=1", "/m.safetensors?id=2"}

    def test_what_the_store_knows_by_content_is_found(
        self, web: Web, run: Run, tmp_path: Path
    ) -> None:
        """Nothing is remembered by name, and a spectrum is not computed twice all the same."""
        site = web({"m.safetensors": model(1)}, dates=True)
        store = tmp_path / "s.sqlite3"
        for query in ("", f"?sig={SECRET}", "?sig=another"):
            url = f"http://127.0.0.1:{site.port}/m.safetensors{query}"
            assert run("analyze", url, "--store", store).code == 0
            with closing(sqlite3.connect(store)) as db:
                counts = [
                    db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
                    for table in ("spectra", "files", "keys")
                ]
            assert counts == [1, 1, 1], query

    def test_a_task_that_leaves_this_process_keeps_it(self, web: Web) -> None:
        site = web({"m.safetensors": model(1)})
        path = RemotePath(f"http://127.0.0.1:{site.port}/m.safetensors?sig={SECRET}")
        assert identity(path).path == path.url
        task = pickle.loads(pickle.dumps(held(Task(path, (), "auto", ()), [identity(path)])))
        assert task.path.url == task.listed[0].path == path.url

    def test_a_download_is_for_its_owner_only(self, web: Web, run: Run, tmp_path: Path) -> None:
        site = web({"m.safetensors": model(1)})
        assert run("analyze", f"{site.url('m.safetensors').url}?s=1", "--download").code == 0
        (found,) = (tmp_path / "cache").rglob("m.safetensors")
        if os.name == "posix":
            assert found.stat().st_mode & 0o777 == 0o600
            assert found.parent.stat().st_mode & 0o777 == 0o700


class TestPassword:
    @pytest.mark.parametrize("scheme", ["http", "https", "HTTP", "s3", "gs", "hf", "ftp"])
    def test_is_refused_before_anything_is_asked(self, scheme: str, run: Run) -> None:
        url = f"{scheme}://me:hunter2@127.0.0.1:1/m.safetensors"
        ended = run("watch", url)  # of this machine only
        assert "hunter2" not in ended.out + ended.err
        for command in (("analyze",), ("analyze", "--download"), ("inspect",), ("check",)):
            ended = run(*command, url)
            assert ended.code == 2
            assert "://***@127.0.0.1:1/m.safetensors: no credentials are taken" in ended.err
            assert "hunter2" not in ended.out + ended.err
            assert ("~/.netrc" in ended.err) == (scheme.lower() in ("http", "https"))

    def test_is_refused_of_a_path(self) -> None:
        with pytest.raises(UsageError, match=r"^https://\*\*\*@host/m: no credentials"):
            status(WholePath("https://me:hunter2@host/m"))


class TestVersions:
    @pytest.fixture
    def versions(self, s3: Bucket) -> Iterator[list[str]]:
        """Three versions of m.safetensors: of norm 5, 10 and 15."""
        client = s3.client
        client.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
        put = {"Bucket": BUCKET, "Key": "m.safetensors"}
        yield [client.put_object(**put, Body=model(n))["VersionId"] for n in (1, 2, 3)]
        for one in client.list_object_versions(Bucket=BUCKET).get("Versions", []):
            client.delete_object(Bucket=BUCKET, Key=one["Key"], VersionId=one["VersionId"])

    @pytest.mark.parametrize("kind", [RemotePath, WholePath])
    def test_each_is_measured(self, kind: type[RemotePath], versions: list[str]) -> None:
        url = f"s3://{BUCKET}/m.safetensors"
        found = [norm(kind(f"{url}?versionId={one}")) for one in versions]
        assert found == [5, 10, 15]
        assert norm(kind(url)) == 15

    def test_the_newest_being_seen_before(self, versions: list[str]) -> None:
        """A listing of the newest, still believed, answers for no other version."""
        names(RemotePath(f"s3://{BUCKET}"))
        path = RemotePath(f"s3://{BUCKET}/m.safetensors?versionId={versions[0]}")
        filesystem_of(path).ls(f"s3://{BUCKET}")
        first, newest = status(path), status(RemotePath(f"s3://{BUCKET}/m.safetensors"))
        assert first is not None
        assert newest is not None
        assert first.tag != newest.tag

    def test_the_store_tells_them_apart(self, versions: list[str], tmp_path: Path) -> None:
        url, how = f"s3://{BUCKET}/m.safetensors", How(workers=1, store=tmp_path / "s.sqlite3")
        for _ in range(2):
            look_anew()
            rows = [
                rankscope.analyze(
                    RemotePath(f"{url}?versionId={one}"), metrics=["frobenius_norm"], how=how
                ).matrices[0]
                for one in versions
            ]
            assert [row["frobenius_norm"] for row in rows] == [5, 10, 15]
            assert rows[0]["source"] == f"{url}?versionId={versions[0]}"

    def test_none_of_this_name(self, versions: list[str]) -> None:
        with pytest.raises(InputRejected):
            norm(RemotePath(f"s3://{BUCKET}/m.safetensors?versionId=nonsense"))

    def test_a_version_of_an_index_is_none_of_its_shards(
        self, versions: list[str], s3: Bucket
    ) -> None:
        index = b'{"weight_map": {"a.weight": "m.safetensors"}}'
        put = {"Bucket": BUCKET, "Key": "model.safetensors.index.json", "Body": index}
        version = s3.client.put_object(**put)["VersionId"]
        path = s3.url("model.safetensors.index.json")
        assert norm(path) == 15
        with pytest.raises(InputRejected, match="one of several files"):
            norm(RemotePath(f"{path}?versionId={version}"))

    @pytest.mark.parametrize("name", ["x?versionId=1.safetensors", "x?versionId="])
    def test_a_name_that_looks_like_one_is_no_other_object(self, name: str, s3: Bucket) -> None:
        s3.put(f"run/{name}", model(1))
        s3.put("run/x", model(2))
        for path in (RemotePath(f"s3://{BUCKET}/run/{name}"), s3.url("run") / name):
            look_anew()
            with pytest.raises(OSError, match=r"version|400"):
                status(path)
        look_anew()
        with pytest.raises(InputRejected):
            norm(s3.url("run"))

    def test_a_directory_has_none(self, s3: Bucket) -> None:
        s3.put("run/step-1.safetensors", model(1))
        path = RemotePath(f"s3://{BUCKET}/run?versionId=1")
        for ask in (status, names):
            with pytest.raises(OSError, match=r"directory|400"):
                ask(path)

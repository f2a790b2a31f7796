"""`python -m trainers classify`: every network trains, and a killed run ends as it would have."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

import rankscope
from rankscope.errors import UsageError
from rankscope.how import How
from trainers import images
from trainers.__main__ import main
from trainers.data import Standardise, load
from trainers.images import Args
from trainers.imagestate import STATE, Keeper
from trainers.networks import build

ROOT = Path(__file__).parents[2]
NO_STORE = How(store=False)


def trained(out: Path, **chosen: Any) -> Path:
    small: dict[str, Any] = {"data": "synthetic", "limit": 64, "epochs": 1, "snapshots": 1}
    images.run(Args(out, **(small | chosen)))
    return out


def last(run: Path) -> dict[str, Any]:
    return load_file(sorted((run / "snapshots").iterdir())[-1])


# How many matrices P1 averages over.
@pytest.mark.parametrize(
    ("arch", "averaged"),
    [("mlp-bn-3-16", 3), ("res-bn-2-16", 5), ("resnet18", 17), ("vgg16", 13), ("vit", 37)],
)
def test_every_network_trains_and_is_analysed(tmp_path: Path, arch: str, averaged: int) -> None:
    run = trained(tmp_path / "run", arch=arch, limit=16, batch_size=8, augment=True)
    found = rankscope.analyze(run, metrics=["frobenius_norm"], how=NO_STORE)
    rows = [row for row in found.matrices if row["step"] == 2]
    assert sum(row["averaged"] for row in rows) == averaged
    assert all(row["status"] == "ok" for row in rows)
    first, second = (load_file(file) for file in sorted((run / "snapshots").iterdir()))
    assert first.keys() == second.keys()
    moved = [name for name in first if first[name].ndim > 1 and (first[name] != second[name]).any()]
    assert len(moved) >= averaged


def test_the_run_says_how_it_was_trained(tmp_path: Path) -> None:
    run = trained(tmp_path / "run", epochs=5, batch_size=16, mu=0.5, weight_decay=0.01)
    document = rankscope.analyze(run, how=NO_STORE).to_document()
    (ended,) = document["runs"]
    assert (ended["batch_size"], ended["mu"], ended["weight_decay"]) == (16, 0.5, 0.01)
    log = [row for row in document["summary"] if row["step"] == 20]
    assert log[0]["epoch"] == 5
    assert log[0]["lr"] == pytest.approx(0.5 / 1000)
    assert ended["no_bound"] == ""


class TestSchedule:
    def rates(self, **chosen: Any) -> list[float]:
        args = Args(Path("run"), mu=1.0, **chosen)
        return [args.learning_rate(epoch) for epoch in range(args.epochs)]

    def test_of_the_paper(self) -> None:
        rates = self.rates(arch="resnet18", epochs=500)
        expected = [0.1 ** sum(epoch >= drop for drop in (60, 100, 200)) for epoch in range(500)]
        assert rates == pytest.approx(expected)

    def test_of_the_vit(self) -> None:
        rates = self.rates(arch="vit", epochs=200)
        expected = [0.2 ** sum(epoch >= drop for drop in (60, 100)) for epoch in range(200)]
        assert rates == pytest.approx(expected)

    def test_in_proportion_and_with_the_authors_factor(self) -> None:
        rates = self.rates(arch="vgg16", epochs=50, lr_factor=0.2)
        expected = [0.2 ** sum(epoch >= drop for drop in (6, 10, 20)) for epoch in range(50)]
        assert rates == pytest.approx(expected)


class TestResuming:
    COMMON = ("--data", "synthetic", "--limit", "64", "--B", "8", "--snapshots", "6", "--augment")

    # Keeps the state after each epoch, which of so short ones would take too large a share.
    KEEPING = """
import sys
from trainers import imagestate
imagestate.KEPT_SHARE = 1e9
from trainers.__main__ import main
sys.exit(main(sys.argv[1:]))
"""

    @pytest.mark.parametrize("arch", ["mlp-bn-2-16", "vit"])
    def test_killed_and_resumed_ends_with_the_same_bits(self, tmp_path: Path, arch: str) -> None:
        # The ViT has dropout, which draws from PyTorch's own generator; and 75 MB of weights.
        small = ("--limit", "16", "--epochs", "3", "--snapshots", "3")
        size = small if arch == "vit" else ("--epochs", "20", "--burst", "2")
        chosen = ["classify", *self.COMMON, *size, "--arch", arch, "--momentum", "0.9"]
        whole, cut = tmp_path / "whole", tmp_path / "cut"
        assert self.started(chosen, whole).wait() == 0
        process = self.started(chosen, cut)
        self.kill_after_epoch(process, cut, 2 if arch == "vit" else 12)
        assert self.kept(cut) > 0
        assert self.started(chosen, cut).wait() == 0
        names = [file.name for file in sorted((whole / "snapshots").iterdir())]
        assert [file.name for file in sorted((cut / "snapshots").iterdir())] == names
        for name in names:
            one, other = (load_file(run / "snapshots" / name) for run in (whole, cut))
            assert all(np.array_equal(one[key], other[key]) for key in one), name

    def started(self, chosen: Sequence[str], out: Path) -> subprocess.Popen[bytes]:
        """A process of its own: what other tests have set in this one moves the bits of sums."""
        command = [sys.executable, "-c", self.KEEPING, *chosen, "--out", str(out)]
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        silent = subprocess.DEVNULL
        return subprocess.Popen(command, cwd=out.parent, env=env, stdout=silent, stderr=silent)

    def kept(self, run: Path) -> int:
        """The epoch that the state is of, the first one having been written before any."""
        return int(torch.load(run / STATE, weights_only=True)["epoch"])

    def kill_after_epoch(self, process: subprocess.Popen[bytes], run: Path, epoch: int) -> None:
        log = run / "log.jsonl"
        end = time.monotonic() + 300
        while not (log.exists() and log.read_bytes().count(b"\n") > epoch):
            assert process.poll() is None, "ended before it could be killed"
            assert time.monotonic() < end
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()

    def test_a_finished_run_is_left_alone(self, tmp_path: Path) -> None:
        run = trained(tmp_path / "run", epochs=2)
        before = {file: file.stat().st_mtime_ns for file in (run / "snapshots").iterdir()}
        trained(run, epochs=2)
        assert {file: file.stat().st_mtime_ns for file in (run / "snapshots").iterdir()} == before

    def test_another_run_is_refused(self, tmp_path: Path) -> None:
        run = trained(tmp_path / "run")
        with pytest.raises(UsageError, match="another run: seed is 0 there, 1 now"):
            trained(run, seed=1)

    def test_the_state_is_no_snapshot(self, tmp_path: Path) -> None:
        run = trained(tmp_path / "run")
        assert (run / STATE).exists()
        assert len(rankscope.analyze(run, how=NO_STORE).summary) == 2


def test_order_and_augmentation_are_two_streams() -> None:
    training = images.started(Args(Path("run"), seed=3), load("digits"))
    order, draws = training.order, training.augment.generator
    assert not torch.equal(torch.rand(8, generator=order), torch.rand(8, generator=draws))


class TestKeeper:
    def test_writing_takes_a_hundredth_of_the_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        keeper = Keeper(Path("state.pt"), cost=0.5, ended=100.0)
        due = {}
        for now in (100.0, 149.9, 150.0, 1e6):
            monkeypatch.setattr("trainers.imagestate.time.monotonic", lambda now=now: now)
            due[now] = keeper.due
        assert due == {100.0: False, 149.9: False, 150.0: True, 1e6: True}

    def test_the_first_is_due_at_once(self) -> None:
        assert Keeper(Path("state.pt")).due


def saved(run: Path) -> list[int]:
    return [int(file.name[5:13]) for file in sorted((run / "snapshots").iterdir())]


class TestWhichSnapshots:
    """Of 10 epochs of 4 updates."""

    COMMON: ClassVar[dict[str, Any]] = {"epochs": 10, "batch_size": 16, "arch": "mlp-bn-2-8"}

    def test_evenly_spread(self, tmp_path: Path) -> None:
        assert saved(trained(tmp_path, **{**self.COMMON, "snapshots": 3})) == [0, 12, 28, 40]

    def test_every_few_epochs_and_the_last(self, tmp_path: Path) -> None:
        assert saved(trained(tmp_path, every=4, **self.COMMON)) == [0, 16, 32, 40]

    def test_at_listed_steps_too(self, tmp_path: Path) -> None:
        listed = (1, 5, 16, 40)
        run = trained(tmp_path, every=10, steps=listed, **self.COMMON)
        assert saved(run) == [0, 1, 5, 16, 40]
        again = trained(run, every=10, steps=listed, **self.COMMON)
        assert saved(again) == [0, 1, 5, 16, 40]

    @pytest.mark.parametrize("save", ["spectra", "both"])
    def test_spectra_are_those_of_the_weights(self, tmp_path: Path, save: Any) -> None:
        chosen = {**self.COMMON, "epochs": 2, "arch": "res-bn-2-16"}
        metrics = ["rank", "numerical_rank", "effective_rank", "frobenius_norm"]
        expected, found = (
            rankscope.analyze(trained(tmp_path / kept, save=kept, **chosen), metrics=metrics)
            for kept in ("weights", save)
        )
        keys = ("name", "step", "kind", "shape", "averaged", "m", "rank", "numerical_rank")
        for one, other in zip(found.matrices, expected.matrices, strict=True):
            assert [one.get(key) for key in keys] == [other.get(key) for key in keys]
            for metric in ("effective_rank", "frobenius_norm"):
                assert one[metric] == pytest.approx(other[metric], rel=1e-9)


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        (["--every", "0"], "every is 0"),
        (["--steps", "3,0"], "steps holds 0, expected steps from 1"),
        (["--steps", "1,99999"], "steps holds 99999, and the run ends after"),
        (["--save", "gradients"], "save is 'gradients', expected one of weights, spectra, both"),
        (["--save", "spectra", "--burst", "2"], "which need weights: save weights or both"),
        (["--arch", "resnet50"], "arch is 'resnet50', expected one of resnet18"),
        (["--data", "imagenet"], "imagenet"),
        (["--data", "cifar10"], "cifar"),
        (["--B", "1"], "batch_size is 1"),
        (["--mu", "-1"], "mu is -1"),
        (["--limit", "4"], "and there are 4 images"),
        (["--nesterov"], "nesterov needs a momentum"),
    ],
)
def test_mistakes_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], chosen: list[str], message: str
) -> None:
    assert main(["classify", "--out", str(tmp_path / "run"), *chosen]) in (2, 3)
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error.lower() or message in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "run" / "run.json").exists()


def test_lambda_is_half_of_the_weight_decay(tmp_path: Path) -> None:
    out = tmp_path / "run"
    arguments = ["--data", "synthetic", "--limit", "32", "--epochs", "1", "--lambda", "0.05"]
    assert main(["classify", "--out", str(out), *arguments]) == 0
    (ended,) = rankscope.analyze(out, how=NO_STORE).runs
    assert (ended["lambda"], ended["weight_decay"]) == (0.05, 0.1)


def test_an_update_is_that_of_the_theory(tmp_path: Path) -> None:
    """W - mu (gradient + 2 lambda W), the gradient by autograd on the same images."""
    run = trained(tmp_path / "run", mu=0.5, weight_decay=0.1, limit=16, batch_size=16)
    torch.manual_seed(0)
    data = load("synthetic", limit=16)
    model = build("mlp-bn-3-64", (3, 32, 32), data.classes)
    batch = Standardise.fitted(data.train_images)(data.train_images)
    loss = torch.nn.functional.cross_entropy(model(batch), data.train_labels)
    loss.backward()  # type: ignore[no-untyped-call]
    found = last(run)
    for name, weight in model.named_parameters():
        assert weight.grad is not None
        expected = weight - 0.5 * (weight.grad + 0.1 * weight)
        np.testing.assert_allclose(found[name], expected.detach().numpy(), rtol=1e-4, atol=1e-6)

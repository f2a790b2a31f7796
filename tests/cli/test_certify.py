"""`rankscope certify` on runs of the digits driver: it holds, and fails on a wrong record."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from rankscope.certificates.certify import certify
from rankscope.errors import InputRejected
from rankscope.snapshots import SnapshotWriter
from rankscope.training import Given
from tests.cli.conftest import Run
from trainers import digits

# Two epochs of 84 updates; P1's schedule, squeezed, divides mu by 1000 between them.
STEPS = 84
BURST = 60

KINDS = {
    "plain": {},
    "heavy ball": {"momentum": 0.9, "mu": 0.01},
    "nesterov": {"momentum": 0.9, "nesterov": True, "mu": 0.01},
}


def train(out: Path, **chosen: Any) -> Path:
    small = {"depth": 1, "width": 64, "epochs": 2, "snapshots": 1, "burst": BURST}
    digits.run(digits.Args(out, **(small | chosen)))
    return out


@pytest.fixture(scope="module", params=KINDS)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A burst of 60 steps that ends with the run, by each kind of SGD, after the drop of mu."""
    return train(tmp_path_factory.mktemp("runs") / "run", **KINDS[request.param])


@pytest.fixture(scope="module")
def across(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Plain SGD: the steps around the drop of mu, and the steps before."""
    return train(tmp_path_factory.mktemp("runs") / "run", burst=BURST + 60)


@pytest.fixture
def small(across: Path, tmp_path: Path) -> Path:
    """A run of ten of its steps that a test may damage."""
    out = tmp_path / "small"
    (out / "snapshots").mkdir(parents=True)
    for name in ("run.json", "log.jsonl"):
        shutil.copy(across / name, out)
    for path in snapshots(across)[1:11]:
        shutil.copy(path, out / "snapshots")
    return out


def snapshots(run_dir: Path) -> list[Path]:
    return sorted((run_dir / "snapshots").iterdir())


def record(run_dir: Path, part: str, **changes: Any) -> None:
    """Change what run.json says."""
    path = run_dir / "run.json"
    content = json.loads(path.read_text())
    (content[part] if part else content).update(changes)
    path.write_text(json.dumps(content))


def load(run_dir: Path, step: int, name: str) -> Any:
    path = run_dir / "snapshots" / f"step-{step:08d}.safetensors"
    return safetensors.numpy.load_file(path)[name].astype(np.float64)


def test_holds_over_sixty_steps_of_a_run(run: Run, trained: Path) -> None:
    ended = run("certify", trained, "--json")
    assert (ended.code, ended.err) == (0, "")
    document = json.loads(ended.out)
    assert document["schema"] == "rankscope/certificate/1"
    assert document["holds"] is True
    pairs = document["pairs"]
    assert len({row["step"] for row in pairs}) >= BURST - 2
    # Rounding stays far from the threshold that it must not reach.
    assert max(row["margin"] for row in pairs) < 0.5
    assert all(row["rank"] <= row["allowed_rank"] < 64 and row["slack"] > 0 for row in pairs)
    extra = document["provenance"]["dynamics"]["nesterov"]
    assert all(row["samples"] == 16 * (row["n"] + extra) for row in pairs)
    assert {row["n"] for row in pairs} == ({1, 2} if extra else {1, 2, 3})


def test_holds_across_a_change_of_the_step_size(run: Run, across: Path) -> None:
    document = json.loads(run("certify", across, "--json").out)
    assert document["holds"] is True
    mus = [phase["mu"] for phase in document["provenance"]["dynamics"]["phases"]]
    assert mus == pytest.approx([0.08, 0.00008])
    over = [row for row in document["pairs"] if row["step"] - row["n"] < STEPS < row["step"]]
    assert {(row["step"], row["n"]) for row in over} == {(85, 2), (85, 3), (86, 3)}
    # A pair over the change, from the entries: two updates before it and one after.
    kept = (1 - 0.08 * 0.15) ** 2 * (1 - 8e-5 * 0.15)
    now, before = (load(across, step, "hidden.0.weight") for step in (85, 82))
    sigma = np.linalg.svd(now - kept * before, compute_uv=False)
    (row,) = (row for row in over if (row["step"], row["n"]) == (85, 3))
    assert row["rank"] == (sigma > row["threshold"]).sum()
    assert row["sigma_next"] == pytest.approx(sigma[48], abs=1e-13)
    norm = np.linalg.norm(now)
    tail = np.linalg.svd(now, compute_uv=False)[48:]
    assert row["lhs"] == pytest.approx(np.linalg.norm(tail) / norm)
    assert row["rhs"] == pytest.approx(kept * np.linalg.norm(before) / norm)


@pytest.mark.parametrize(
    ("part", "changes"),
    [
        ("hyperparameters", {"weight_decay": 0.3, "lambda": 0.15}),
        ("hyperparameters", {"lr": 0.09}),
        ("hyperparameters", {"batch_size": 12}),
        ("optimiser", {"momentum": 0.5}),
        ("optimiser", {"momentum": 0.5, "nesterov": True}),
    ],
)
def test_a_wrong_record_fails(run: Run, small: Path, part: str, changes: dict[str, Any]) -> None:
    assert run("certify", small).code == 0
    record(small, part, **changes)
    if part == "optimiser":  # else the log would contradict it
        (small / "log.jsonl").unlink()
    ended = run("certify", small)
    assert ended.code == 1
    assert f"{small}: does not hold: " in ended.out
    assert "pairs that do not hold" in ended.out
    assert "causes: hyperparameters or m_l other than stated" in ended.out


@pytest.mark.parametrize("factor", [0.9, 1.1])
def test_momentum_and_decay_of_each_kind_are_seen(trained: Path, factor: float) -> None:
    content = json.loads((trained / "run.json").read_text())
    momentum = content["optimiser"]["momentum"]
    decay = content["hyperparameters"]["weight_decay"]
    assert certify(trained, Given(weight_decay=2 * decay), workers=1).holds is False
    wrong = Given(momentum=factor * momentum if momentum else 0.1)
    assert certify(trained, wrong, workers=1).holds is False


def test_options_win_over_the_record_and_say_so(run: Run, small: Path) -> None:
    ended = run("certify", small, "--lambda", "0.15", "--no-nesterov")
    assert ended.code == 1
    assert "weight decay is 0.3 as stated, not 0.15 as in run.json" in ended.out
    record(small, "hyperparameters", weight_decay=0.3, **{"lambda": 0.15})
    assert run("certify", small, "--weight-decay", "0.15").code == 0


def test_the_table_names_the_verdict_and_both_conventions(run: Run, small: Path) -> None:
    lines = run("certify", small).out.splitlines()
    assert lines[0].startswith(f"{small}: holds: 24 pairs of 1 matrix; tightest: hidden.0.weight")
    heading = " ".join(" ".join(lines[1:3]).split())
    assert "lambda weight_decay" in heading
    assert "(theorem's) (PyTorch's)" in heading
    assert any(line.split()[:4] == ["0", "16", "0.08", "0.075"] for line in lines)
    assert any("output.weight (10x64, m_l 1, B 16: one step already allows" in x for x in lines)


@pytest.mark.parametrize("suffix", [".json", ".csv", ".md", ".html"])
def test_writes_any_view(run: Run, small: Path, tmp_path: Path, suffix: str) -> None:
    target = tmp_path / f"certificate{suffix}"
    ended = run("certify", small, "-o", target)
    assert (ended.code, ended.out) == (0, "")
    assert f"wrote {target}" in ended.err
    assert f"{small}: holds: 24 pairs" in ended.err
    assert "hidden.0.weight" in target.read_text()
    if suffix == ".json":
        assert json.loads(target.read_text())["holds"] is True


class TestRefused:
    def test_adam(self, run: Run, small: Path) -> None:
        record(small, "optimiser", name="adam")
        ended = run("certify", small)
        assert (ended.code, ended.out) == (3, "")
        assert ended.err.startswith(f"error: {small}: no bound for adam: dividing the gradient")

    def test_snapshots_far_apart(self, run: Run, small: Path) -> None:
        for path in snapshots(small):
            if path.stem[-1] not in "05":
                path.unlink()
        first = int(snapshots(small)[0].stem[5:])
        ended = run("certify", small)
        assert ended.code == 3
        assert ended.err == (
            f"error: {small}: no two snapshots are close enough: needed are two n steps apart, "
            "n <= 3 for hidden.0.weight (64x64, m_l 1, B 16); the nearest are steps "
            f"{first} and {first + 5}, 5 apart: record bursts of consecutive steps "
            "(docs/run-directory.md)\n"
        )

    def test_momentum_without_the_step_before(self, run: Run, small: Path) -> None:
        for path in snapshots(small)[2:]:
            path.unlink()
        assert run("certify", small).code == 0
        ended = run("certify", small, "--momentum", 0.9)
        assert ended.code == 3
        assert "n steps apart, and the step before the earlier one, n <= 3" in ended.err

    def test_matrices_that_are_too_small(self, run: Run, small: Path) -> None:
        ended = run("certify", small, "--include", "output.*")
        assert ended.code == 3
        assert "one step allows full rank in every matrix, in output.weight too" in ended.err

    @pytest.mark.parametrize(
        ("part", "hint"),
        [("hyperparameters", "give --mu"), ("matrices", "m_l is known of no matrix; give --m")],
    )
    def test_a_record_that_lacks_something_names_the_option(
        self, run: Run, small: Path, part: str, hint: str
    ) -> None:
        record(small, "", **{part: None if part == "hyperparameters" else []})
        (small / "log.jsonl").unlink()
        ended = run("certify", small)
        assert ended.code == 3
        assert hint in ended.err

    def test_a_single_snapshot(self, run: Run, small: Path) -> None:
        ended = run("certify", snapshots(small)[0], "--B", 16, "--mu", 0.08, "--lambda", 0.075)
        assert ended.code == 3
        assert "expected at least two snapshots" in ended.err

    def test_wrong_usage(self, run: Run, small: Path) -> None:
        assert run("certify", small, "--lambda", 1, "--weight-decay", 2).code == 2
        assert run("certify", small, "--include", "nothing*").code == 2
        assert run("certify", small, "-o", "x.png").code == 2


class TestForeign:
    """Consecutive steps of somebody else's run, with nothing beside them."""

    @pytest.fixture
    def steps(self, small: Path, tmp_path: Path) -> Path:
        folder = tmp_path / "theirs"
        folder.mkdir()
        for path in snapshots(small):
            shutil.copy(path, folder)
        return folder

    def test_needs_options(self, run: Run, steps: Path) -> None:
        ended = run("certify", steps)
        assert ended.code == 3
        assert "give --B, --mu, --weight-decay, --m" in ended.err
        ended = run("certify", steps, "--B", 16)
        assert (ended.code, "give --mu" in ended.err) == (3, True)

    def test_with_options_it_is_checked(self, run: Run, steps: Path) -> None:
        stated = ["--B", 16, "--mu", 0.08, "--lambda", 0.075, "--m", 1]
        ended = run("certify", steps, *stated)
        assert ended.code == 0
        assert "no optimiser is recorded: taken as SGD" in ended.out
        stated[3] = 0.16
        assert run("certify", steps, *stated).code == 1


class TestIncomplete:
    def test_a_damaged_snapshot_leaves_the_rest(self, run: Run, small: Path) -> None:
        damaged = snapshots(small)[4]
        damaged.write_bytes(damaged.read_bytes()[:-100])
        ended = run("certify", small, "--json")
        assert ended.code == 4
        document = json.loads(ended.out)
        assert document["holds"] is True
        assert 0 < len(document["pairs"]) < 24
        (missing,) = (row for row in document["skipped"] if row["missing"])
        assert missing["name"] == str(damaged)
        assert str(damaged) in ended.err

    def test_weights_that_are_not_finite(self, run: Run, small: Path) -> None:
        path = snapshots(small)[-1]
        tensors = safetensors.numpy.load_file(path)
        tensors["hidden.0.weight"][3, 4] = np.nan
        safetensors.numpy.save_file(tensors, path)
        ended = run("certify", small, "--json")
        assert ended.code == 4
        (missing,) = (row for row in json.loads(ended.out)["skipped"] if row["missing"])
        assert missing["step"] == int(path.stem[5:])
        assert missing["reason"] == "holds NaN or infinity"

    def test_does_not_hold_says_more_than_incomplete(self, run: Run, small: Path) -> None:
        damaged = snapshots(small)[4]
        damaged.write_bytes(b"x")
        assert run("certify", small, "--weight-decay", 0.3).code == 1

    def test_a_matrix_that_changes_its_shape_is_left_out(self, tmp_path: Path) -> None:
        with SnapshotWriter(tmp_path) as writer:
            for step, side in enumerate((6, 6, 7)):
                writer.save(step, {"w": np.eye(side)})
        given = Given(batch=1, mu=0.1, weight_decay=0.1, inputs=1)
        found = certify(tmp_path, given)
        assert [(row["step"], row["n"]) for row in found.pairs] == [(1, 1)]
        assert not found.incomplete


def test_hdf5_runs_are_checked_in_another_process(run: Run, small: Path, tmp_path: Path) -> None:
    other = tmp_path / "hdf5"
    with SnapshotWriter(other, format="hdf5") as writer:
        for path in snapshots(small)[:3]:
            writer.save(int(path.stem[5:]), safetensors.numpy.load_file(path))
    shutil.copy(small / "run.json", other)
    assert json.loads(run("certify", other, "--json").out)["holds"] is True


def test_without_decay_in_reach_a_remark_says_so(run: Run, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    weights = {"w": rng.standard_normal((8, 8)).astype(np.float32)}
    with SnapshotWriter(tmp_path) as writer:
        for step in range(3):
            writer.save(step, weights)
    stated = ["--B", 1, "--mu", 1e-9, "--lambda", 0.5, "--m", 1]
    ended = run("certify", tmp_path, *stated)
    assert ended.code == 0
    assert "the decay is below the rounding in every pair" in ended.out


def test_refusals_are_errors_in_python_too(small: Path) -> None:
    record(small, "optimiser", name="adamw")
    with pytest.raises(InputRejected, match="no bound for adamw"):
        certify(small)


def test_progress_reaches_the_end(small: Path) -> None:
    seen: list[tuple[float, float]] = []
    certify(small, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1][0] == pytest.approx(seen[-1][1])
    assert len(seen) > 1

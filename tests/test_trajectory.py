"""Norm ratios and bounds of whole runs, against plain loops over the recorded schedule."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from safetensors.numpy import save_file

from rankscope.training import Given
from rankscope.trajectory import TOLERANCE, convergence
from tests.rundirs import Array, Recipe, ask, column, notes, shown, write_run

BOUNDS = ("bound_closed", "bound_exact", "bound_measured", "vacuous")


def shrinking(
    steps: Sequence[int], shapes: Mapping[str, tuple[int, ...]], seed: int = 0
) -> dict[int, dict[str, Array]]:
    """Random matrices whose norms wander around a decay to 1."""
    rng = np.random.default_rng(seed)
    found: dict[int, dict[str, Array]] = {}
    for step in steps:
        found[step] = {
            name: rng.normal(size=shape) * (0.3 + rng.random() + 3 * math.exp(-step / 9))
            for name, shape in shapes.items()
        }
    return found


def size(matrix: Array, norm: str) -> float:
    return float(np.linalg.norm(matrix, 2 if norm == "spectral" else "fro"))


@pytest.mark.parametrize("norm", ["frobenius", "spectral", "none"])
def test_norm_ratio_is_that_of_the_saved_weights(
    tmp_path: Path, norm: Literal["frobenius", "spectral", "none"]
) -> None:
    saved = shrinking([0, 3, 10, 11], {"a": (6, 4), "b": (5, 5)})
    table = ask(write_run(tmp_path / "run", saved), norm=norm)
    for name in ("a", "b"):
        sizes = [size(one[name], norm) for one in saved.values()]
        expected = [before / after for before, after in pairwise(sizes)]
        assert column(table, name, "norm_ratio")[1:] == pytest.approx(expected, rel=1e-6)
        assert column(table, name, "norm_ratio")[0] is None
        assert notes(table, name, "norm_ratio") == ["the first snapshot", "", "", ""]


def test_a_zero_matrix_has_no_ratio_and_the_one_after_it_is_zero(tmp_path: Path) -> None:
    saved = {0: {"a": np.eye(3)}, 1: {"a": np.zeros((3, 3))}, 2: {"a": np.eye(3)}}
    table = ask(write_run(tmp_path / "run", saved))
    assert column(table, "a", "norm_ratio") == [None, None, 0.0]
    assert notes(table, "a", "norm_ratio")[1] == "the matrix is zero"


@pytest.mark.parametrize("lacking", ["nan", "absent", "unreadable"])
def test_a_gap_is_no_ratio_over_two_intervals(tmp_path: Path, lacking: str) -> None:
    saved = {step: {"a": np.eye(3) * 2.0**-step, "b": np.eye(3)} for step in range(4)}
    if lacking == "nan":
        saved[1]["a"] = np.full((3, 3), np.nan)
    elif lacking == "absent":
        del saved[1]["a"]
    run = write_run(tmp_path / "run", saved)
    if lacking == "unreadable":
        (run / "snapshots" / "step-00000001.safetensors").write_bytes(b"damaged")
    table = ask(run)
    assert table.incomplete is (lacking != "absent")
    rows = {row["step"]: row for row in table.matrices if row["name"] == "a"}
    found = {step: row["norm_ratio"] for step, row in rows.items()}
    assert found == {
        0: None,
        **({1: None} if lacking == "nan" else {}),
        2: None,
        3: pytest.approx(2.0),
    }
    assert rows[2]["notes"]["norm_ratio"] == "no spectrum at step 1, the snapshot before"
    # Where the snapshot is unreadable, the other matrix has no norm there either.
    other = column(table, "b", "norm_ratio")[1:]
    assert other == ([None, 1.0] if lacking == "unreadable" else [1.0, 1.0, 1.0])


def test_a_matrix_that_appears_later_has_no_ratio_at_first(tmp_path: Path) -> None:
    saved = {0: {"a": np.eye(3)}, 1: {"a": np.eye(3), "b": np.eye(2)}, 2: {"b": np.eye(2)}}
    table = ask(write_run(tmp_path / "run", saved))
    assert column(table, "b", "norm_ratio") == [None, 1.0]
    assert notes(table, "b", "norm_ratio") == ["no spectrum at step 0, the snapshot before", ""]


@dataclass(frozen=True)
class Updates:
    """A recorded run, one update after the other; everything below is loops over it."""

    recipe: Recipe

    def mu(self, update: int) -> float:
        found = self.recipe.lr
        for start, value in self.recipe.schedule or ():
            if start <= update:
                found = value
        return found

    @property
    def samples(self) -> int:
        return self.recipe.batch * self.recipe.world_size * self.recipe.accumulation

    def left(self, earlier: int, later: int) -> float:
        return math.prod(
            1 - self.mu(update) * self.recipe.weight_decay for update in range(earlier, later)
        )

    def memory(self, earlier: int, later: int) -> tuple[float, float]:
        """(a, b) of W_later = a W_earlier + b W_(earlier - 1) + gradients; b is 0 at the start."""
        beta, decay = self.recipe.momentum, self.recipe.weight_decay
        phi = np.eye(2)
        for update in range(earlier, later):
            mu = self.mu(update)
            if self.recipe.nesterov:
                one = [[1 - mu * decay * (1 + beta), -mu * beta * beta], [decay, beta]]
            else:
                one = [[1 - mu * decay, -mu * beta], [decay, beta]]
            phi = np.array(one) @ phi
        if earlier == 0:
            return float(phi[0, 0]), 0.0
        mu = self.mu(earlier - 1)
        if not self.recipe.nesterov:
            # mu v = W_(earlier - 1) - W_earlier
            return float(phi[0, 0] - phi[0, 1] / mu), float(phi[0, 1] / mu)
        # beta mu v = W_(earlier - 1) - W_earlier - mu wd W_(earlier - 1) - mu g
        share = phi[0, 1] / (mu * beta)
        return float(phi[0, 0] - share), float(share * (1 - mu * decay))

    def count(self, earlier: int, later: int) -> int:
        more = 1 if self.recipe.nesterov and self.recipe.momentum and earlier > 0 else 0
        return (later - earlier + more) * self.samples


def exact(updates: Updates, step: int, eps: float, inputs: int) -> int | None:
    """The fewest samples of the last updates after which at most eps / 2 is left."""
    for earlier in reversed(range(step)):
        if updates.recipe.momentum:
            a, b = updates.memory(earlier, step)
        else:
            a, b = updates.left(earlier, step), 0.0
        if abs(a) + abs(b) <= eps / 2:
            return inputs * updates.count(earlier, step)
    return None


def measured(
    updates: Updates, norms: Mapping[int, float], step: int, eps: float, inputs: int
) -> int | None:
    """Lemma 3.2 with the norms of the run, over the snapshots that there are."""
    for earlier in sorted((one for one in norms if one < step), reverse=True):
        if not updates.recipe.momentum:
            left = updates.left(earlier, step) * norms[earlier]
        elif earlier == 0:
            left = abs(updates.memory(0, step)[0]) * norms[0]
        elif earlier - 1 in norms:
            a, b = updates.memory(earlier, step)
            left = abs(a) * norms[earlier] + abs(b) * norms[earlier - 1]
        else:
            continue
        if left <= eps * norms[step]:
            return inputs * updates.count(earlier, step)
    return None


PLAIN = Recipe(batch=2, lr=0.2, weight_decay=0.5, inputs=3)
RECIPES = {
    "plain": PLAIN,
    "schedule": replace(PLAIN, schedule=((0, 0.4), (7, 0.05), (20, 0.3))),
    "pause": replace(PLAIN, schedule=((5, 0.0), (9, 0.4))),
    "devices": replace(PLAIN, world_size=3, accumulation=2),
    "heavy ball": replace(PLAIN, momentum=0.3, lr=0.4, weight_decay=0.6),
    "nesterov": replace(PLAIN, momentum=0.3, lr=0.4, weight_decay=0.6, nesterov=True),
    "heavy ball, schedule": replace(PLAIN, momentum=0.2, schedule=((4, 0.5), (21, 0.1))),
}
EPS = (0.5, 0.05, 1e-3)
BURSTS = [0, 1, 2, 8, 9, 10, 18, 19, 20, 29, 30, 40]


@pytest.mark.parametrize("norm", ["frobenius", "spectral"])
@pytest.mark.parametrize("case", RECIPES)
def test_bounds_of_every_row_are_those_of_plain_loops(
    tmp_path: Path, case: str, norm: Literal["frobenius", "spectral"]
) -> None:
    recipe = RECIPES[case]
    saved = shrinking(BURSTS, {"a": (40, 30), "b": (4, 90)})
    table = ask(write_run(tmp_path / "run", saved, recipe), eps=EPS, norm=norm)
    updates = Updates(recipe)
    compared = 0
    for name in ("a", "b"):
        norms = {step: size(one[name], norm) for step, one in saved.items()}
        for row in [row for row in table.matrices if row["name"] == name]:
            for eps in EPS:
                wanted = exact(updates, row["step"], eps, 3)
                assert row[f"bound_exact@{eps:g}"] == wanted, (name, row["step"], eps)
                by_norms = measured(updates, norms, row["step"], eps, 3)
                assert row[f"bound_measured@{eps:g}"] == by_norms, (name, row["step"], eps)
                vacuous = wanted is None or wanted >= min(saved[0][name].shape)
                assert row[f"vacuous@{eps:g}"] is vacuous
                compared += wanted is not None
                compared += by_norms is not None
                closed = row[f"bound_closed@{eps:g}"]
                mu = updates.mu(max(0, row["step"] - 1))
                if recipe.momentum or mu == 0:
                    assert closed is None
                    assert row["notes"][f"bound_closed@{eps:g}"]
                else:
                    # m B log(2 / eps) / (2 mu lambda), and lambda is half of the weight decay
                    lambda_ = recipe.weight_decay / 2
                    expected = 3 * updates.samples * math.log(2 / eps) / (2 * mu * lambda_)
                    assert closed == pytest.approx(expected)
    assert compared > 20


def test_with_momentum_a_snapshot_needs_the_one_before_it(tmp_path: Path) -> None:
    saved = {step: {"a": np.eye(4)} for step in (0, 19, 20, 38, 40)}
    recipe = Recipe(momentum=0.3, lr=0.4, weight_decay=0.6)
    table = ask(write_run(tmp_path / "run", saved, recipe), eps=0.05)
    # 38 is nearer to 40 but stands alone; 20 follows 19.
    assert column(table, "a", "bound_measured")[-1] == 2 * 20
    del saved[19]
    table = ask(write_run(tmp_path / "other", saved, recipe), eps=0.05)
    assert column(table, "a", "bound_measured")[-1] == 2 * 40  # from step 0, whose buffer is 0


def test_a_gap_hides_the_momentum_too(tmp_path: Path) -> None:
    saved = {step: {"a": np.eye(4)} for step in (0, 18, 19, 20, 40)}
    saved[19] = {"a": np.full((4, 4), np.nan)}
    recipe = Recipe(momentum=0.3, lr=0.4, weight_decay=0.6)
    table = ask(write_run(tmp_path / "run", saved, recipe), eps=0.05)
    assert column(table, "a", "bound_measured")[-1] == 2 * 40


@pytest.mark.parametrize("recipe", [Recipe(weight_decay=0.0), Recipe(lr=0.0)], ids=["wd", "mu"])
def test_without_decay_the_bound_is_infinite_and_says_so(tmp_path: Path, recipe: Recipe) -> None:
    saved = {step: {"a": np.eye(4)} for step in range(4)}
    table = ask(write_run(tmp_path / "run", saved, recipe))
    for key in ("bound_closed", "bound_exact"):
        assert column(table, "a", key)[1:] == [None] * 3
        assert notes(table, "a", key)[1:] == ["infinite: mu or weight decay is 0"] * 3
        assert table.summary[-1][key] is None
    assert column(table, "a", "vacuous") == [True] * 4
    assert column(table, "a", "bound_measured") == [None] * 4
    assert "bound on the rank: none, infinite: mu or weight decay is 0" in shown(table)


def test_a_zero_matrix_at_the_end_is_measured_as_kept(tmp_path: Path) -> None:
    saved = {0: {"a": np.eye(4)}, 1: {"a": np.zeros((4, 4))}, 2: {"a": np.zeros((4, 4))}}
    table = ask(write_run(tmp_path / "run", saved))
    # Nothing is within 0 of the zero matrix but another one.
    assert column(table, "a", "bound_measured") == [None, None, 2]
    assert table.runs[0]["bound_kept"]["violated"] == 0


@pytest.mark.parametrize(
    ("recipe", "options", "reason"),
    [
        (Recipe(optimiser="adam"), {}, "adam"),
        (Recipe(optimiser="rmsprop"), {}, "rmsprop"),
        (Recipe(inputs=None), {}, "m_l is not recorded; give --m"),
        (Recipe(), {"eps": 2.0}, "the theorem needs eps above 0 and below 2"),
        (Recipe(), {"eps": 5.0}, "the theorem needs eps above 0 and below 2"),
        (Recipe(), {"eps": 0.0}, "the theorem needs eps above 0 and below 2"),
        (Recipe(), {"norm": "none"}, "another --norm"),
        (Recipe(lr=2.0, weight_decay=0.5), {}, "mu lambda"),
    ],
)
def test_where_there_is_no_bound_every_row_says_why(
    tmp_path: Path, recipe: Recipe, options: dict[str, Any], reason: str
) -> None:
    saved = {step: {"a": np.eye(4)} for step in range(3)}
    table = ask(write_run(tmp_path / "run", saved, recipe), **options)
    for key in BOUNDS:
        assert column(table, "a", key) == [None] * 3
        assert all(reason in note.lower() for note in notes(table, "a", key))
    assert column(table, "a", "norm_ratio") == [None, 1.0, 1.0]
    assert table.runs[0]["bound_kept"] is None


def test_of_several_thresholds_only_those_in_range_have_a_bound(tmp_path: Path) -> None:
    saved = {step: {"a": np.eye(4)} for step in (0, 90)}
    table = ask(write_run(tmp_path / "run", saved), eps=[0.1, 3.0])
    last = table.matrices[-1]
    assert last["bound_exact@0.1"] is not None
    assert last["bound_exact@3"] is None
    assert "eps" in last["notes"]["bound_exact@3"]


def test_a_bound_as_large_as_the_matrix_says_nothing(tmp_path: Path) -> None:
    saved = {step: {"a": np.eye(56), "b": np.eye(57)} for step in (0, 60)}
    table = ask(write_run(tmp_path / "run", saved, Recipe(lr=0.1, weight_decay=0.5)), eps=0.5)
    assert column(table, "a", "bound_exact")[-1] == 56  # 0.95^28 = 0.238 is the first below 0.25
    assert column(table, "a", "vacuous")[-1] is True
    assert column(table, "b", "vacuous")[-1] is False


def test_stacked_experts_have_the_m_of_their_tensor(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    saved = {step: {"experts": rng.normal(size=(2, 5, 6))} for step in (0, 40)}
    recipe = Recipe(inputs=7, unmarked=("experts",))
    table = ask(write_run(tmp_path / "run", saved, recipe), eps=0.5)
    for name in ("experts[0]", "experts[1]"):
        wanted = exact(Updates(recipe), 40, 0.5, 7)
        assert column(table, name, "bound_exact")[-1] == wanted
        assert column(table, name, "averaged") == [False, False]


class TestWithoutARecord:
    @pytest.fixture
    def foreign(self, tmp_path: Path) -> Path:
        folder = tmp_path / "foreign"
        folder.mkdir()
        for step, size in ((0, 4.0), (20, 2.0), (40, 1.0)):
            save_file({"a": np.eye(5) * size}, folder / f"step-{step}.safetensors")
        return folder

    def test_a_series_has_the_ratio_only(self, foreign: Path) -> None:
        table = ask(foreign)
        assert table.columns == ("rank", "norm_ratio")
        assert column(table, "a", "norm_ratio") == [None, 2.0, 2.0]

    def test_what_is_stated_makes_the_bounds(self, foreign: Path) -> None:
        given = Given(batch=4, mu=0.2, weight_decay=0.5, inputs=3)
        table = ask(foreign, given=given, eps=0.3)
        updates = Updates(Recipe(batch=4, lr=0.2, weight_decay=0.5))
        for step, found in zip((0, 20, 40), column(table, "a", "bound_exact"), strict=True):
            assert found == exact(updates, step, 0.3, 3)
        norms = {0: 4.0, 20: 2.0, 40: 1.0}
        for step, found in zip((0, 20, 40), column(table, "a", "bound_measured"), strict=True):
            assert found == measured(updates, norms, step, 0.3, 3)

    @pytest.mark.parametrize("left_out", ["batch", "mu", "weight_decay", "inputs"])
    def test_what_is_not_stated_is_asked_for(self, foreign: Path, left_out: str) -> None:
        given = replace(Given(4, 0.2, 0.5, inputs=3), **{left_out: None})
        table = ask(foreign, given=given)
        option = {"batch": "--B", "mu": "--mu", "weight_decay": "--weight-decay", "inputs": "--m"}
        assert column(table, "a", "bound_exact") == [None] * 3
        assert option[left_out] in notes(table, "a", "bound_exact")[-1]

    def test_a_single_file_has_the_bound_long_after_the_start(self, foreign: Path) -> None:
        given = Given(batch=4, mu=0.2, weight_decay=0.5, inputs=3)
        path = foreign / "final.safetensors"
        save_file({"a": np.eye(5)}, path)
        row = ask(path, given=given, eps=0.3).matrices[0]
        assert row["bound_exact"] == exact(Updates(Recipe(4, 0.2, 0.5)), 10_000, 0.3, 3)
        assert row["norm_ratio"] is None
        assert row["bound_measured"] is None
        assert row["notes"]["norm_ratio"] == "needs a series of snapshots"
        assert row["notes"]["bound_measured"] == "needs a series of snapshots"

    def test_a_single_file_without_flags_is_as_ever(self, foreign: Path) -> None:
        table = ask(foreign / "step-0.safetensors")
        assert table.columns == ("rank",)
        assert table.runs == ()


def test_what_is_stated_wins_over_the_record(tmp_path: Path) -> None:
    saved = {step: {"a": np.eye(4)} for step in (0, 60)}
    run = write_run(tmp_path / "run", saved, Recipe(batch=2, lr=0.1, weight_decay=0.5))
    for given, recipe in (
        (Given(batch=5), Recipe(batch=5)),
        (Given(mu=0.3), Recipe(lr=0.3)),
        (Given(weight_decay=0.2), Recipe(weight_decay=0.2)),
        (Given(momentum=0.4), Recipe(momentum=0.4)),
        (Given(momentum=0.4, nesterov=True), Recipe(momentum=0.4, nesterov=True)),
    ):
        table = ask(run, given=given, eps=0.3)
        wanted = exact(Updates(recipe), 60, 0.3, 1)
        assert column(table, "a", "bound_exact")[-1] == wanted
    # m_l that a run records is not overridden by that of layers which are not recorded.
    assert column(ask(run, given=Given(inputs=9), eps=0.3), "a", "bound_exact")[-1] == exact(
        Updates(Recipe()), 60, 0.3, 1
    )


def sequences() -> Iterator[list[tuple[int, float]]]:
    rng = np.random.default_rng(0)
    for length in (1, 2, 5, 9):
        for _ in range(30):
            near = rng.choice([1.0, 1.0, 1.005, 0.992, 1.2, 0.5], size=length)
            yield [(10 * (i + 1), float(ratio)) for i, ratio in enumerate(near)]


def test_convergence_is_the_first_step_after_which_all_are_near() -> None:
    for pairs in sequences():
        starts = [
            step
            for i, (step, _) in enumerate(pairs)
            if all(abs(ratio - 1) <= TOLERANCE for _, ratio in pairs[i:])
        ]
        found = convergence({"a": pairs, "b": [(10, 1.0), (20, 1.0)], "empty": []})
        assert found is not None
        assert found.since == {"a": starts[0] if starts else None, "b": 10}
        assert found.converged is bool(starts)
        assert found.since_step == (max(starts[0], 10) if starts else None)
        assert found.not_converged == (() if starts else ("a",))
    assert convergence({"a": []}) is None
    assert convergence({}) is None

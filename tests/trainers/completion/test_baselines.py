"""The baselines: cases with a known answer, other solvers, and their papers' conditions."""

from __future__ import annotations

import itertools
import re
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import scipy.optimize
from numpy.typing import NDArray

import rankscope
from rankscope.errors import UsageError
from rankscope.runrecord import read_run_record
from trainers.__main__ import main
from trainers.completion.baselines import METHODS, complete, nuclear, softimpute
from trainers.completion.comparison import compare
from trainers.completion.problem import draw

Matrix = NDArray[np.float64]
Mask = NDArray[np.bool_]

needs_cvxpy = pytest.mark.skipif(find_spec("cvxpy") is None, reason="needs cvxpy")
EACH = [pytest.param(m, marks=needs_cvxpy if m == "nuclear" else ()) for m in METHODS]


def problem(shape: tuple[int, int], rank: int, observed: int, seed: int) -> tuple[Matrix, Mask]:
    drawn = draw(shape, rank, observed, seed)
    return drawn.target.numpy(), drawn.observed.numpy()


def nuclear_norm(matrix: Matrix) -> float:
    return float(np.linalg.norm(matrix, "nuc"))


def solved(objective: Any, constraints: list[Any]) -> float:
    """The optimum by an interior-point method, which the baselines do not use."""
    import cvxpy

    task = cvxpy.Problem(objective, constraints)
    task.solve(solver=cvxpy.CLARABEL)  # type: ignore[no-untyped-call]
    assert task.status == cvxpy.OPTIMAL
    return float(task.value)


class TestEveryMethod:
    @pytest.mark.parametrize("method", EACH)
    def test_what_is_not_observed_is_not_read(self, method: str) -> None:
        target, observed = problem((9, 7), 2, 52, 0)
        hidden = np.where(observed, target, np.nan)
        expected = complete(method, target, observed, 2)
        found = complete(method, hidden, observed, 2)
        assert np.array_equal(found.estimate, expected.estimate)
        assert (found.iterations, found.note) == (expected.iterations, expected.note)

    @pytest.mark.parametrize("method", EACH)
    def test_the_unit_of_the_entries_does_not_matter(self, method: str) -> None:
        target, observed = problem((9, 7), 2, 52, 1)
        expected = complete(method, target, observed, 2).estimate
        # A power of two, so that nothing is rounded differently on the way.
        found = complete(method, target * 2.0**-20, observed, 2).estimate
        np.testing.assert_allclose(found * 2.0**20, expected, rtol=0, atol=1e-8)

    @pytest.mark.parametrize("method", EACH)
    def test_zeros_are_completed_by_zeros(self, method: str) -> None:
        observed = np.eye(4, 5, dtype=bool)
        found = complete(method, np.zeros((4, 5)), observed, 2)
        assert found.converged
        assert not found.estimate.any()

    @pytest.mark.parametrize("method", EACH)
    def test_bad_observations_are_refused(self, method: str) -> None:
        target, observed = problem((5, 4), 2, 12, 0)
        for wrong, mask in (
            (target, observed.T),
            (target, observed.astype(float)),
            (target[0], observed[0]),
            (target, np.zeros_like(observed)),
            (np.where(observed, np.inf, 0.0), observed),
        ):
            with pytest.raises(UsageError, match="expected"):
                complete(method, wrong, mask, 1)

    def test_an_unknown_method_is_refused(self) -> None:
        with pytest.raises(UsageError, match="expected one of nuclear, softimpute"):
            complete("magic", np.ones((2, 2)), np.eye(2, dtype=bool), 1)


@needs_cvxpy
class TestNuclear:
    def test_p3s_problem_has_its_known_answer(self) -> None:
        # ||[[x, 1], [1, 0]]||_* = sqrt(x^2 + 4): the product of the singular values is 1.
        target, observed = np.array([[np.nan, 1.0], [1.0, 0.0]]), np.array([[False, True]] * 2)
        observed[1, 0] = True
        found = nuclear.complete(target, observed)
        assert found.converged
        assert found.estimate[0, 0] == pytest.approx(0, abs=1e-4)
        assert nuclear_norm(found.estimate) == pytest.approx(2, rel=1e-8)

    @pytest.mark.parametrize("seed", range(6))
    def test_one_missing_entry_against_a_search(self, seed: int) -> None:
        target = np.random.default_rng(seed).standard_normal((2, 2))
        observed = np.array([[False, True], [True, True]])

        def norm(entry: float) -> float:
            return nuclear_norm(np.where(observed, target, entry))

        best = scipy.optimize.minimize_scalar(norm, bounds=(-20, 20), options={"xatol": 1e-10})
        found = nuclear.complete(target, observed)
        assert found.estimate[0, 0] == pytest.approx(best.x, abs=1e-4)
        assert nuclear_norm(found.estimate) == pytest.approx(best.fun, rel=1e-7)

    @pytest.mark.parametrize("seed", range(3))
    def test_the_norm_is_the_optimum_of_the_dual(self, seed: int) -> None:
        import cvxpy

        target, observed = problem((6, 5), 3, 18, seed)
        dual = cvxpy.Variable(target.shape)
        value = solved(
            cvxpy.Maximize(cvxpy.sum(cvxpy.multiply(dual, target))),  # type: ignore[attr-defined]
            [cvxpy.sigma_max(dual) <= 1, dual[np.nonzero(~observed)] == 0],  # type: ignore[attr-defined]
        )
        found = nuclear.complete(target, observed)
        assert found.converged
        assert nuclear_norm(found.estimate) == pytest.approx(value, rel=1e-6)
        assert np.array_equal(found.estimate[observed], target[observed])

    def test_the_gap_bounds_the_distance_to_the_minimum(self) -> None:
        target, observed = problem((8, 8), 2, 40, 0)
        minimum = nuclear_norm(nuclear.complete(target, observed, tolerance=1e-10).estimate)
        gaps = []
        for iterations in (3, 30, 2000):
            found = nuclear.complete(target, observed, max_iterations=iterations)
            stated = re.search(r"within (\S+) of", found.note)
            assert stated is not None
            gaps.append(float(stated[1]))
            norm = nuclear_norm(found.estimate)
            assert -1e-9 <= (norm - minimum) / norm <= gaps[-1] * 1.1 + 1e-9
            assert found.converged == (iterations == 2000)
        assert gaps[0] > 1e-3
        assert gaps[-1] < 1e-6

    def test_enough_observations_give_the_target_back(self) -> None:
        target, observed = problem((20, 16), 1, 200, 0)
        found = nuclear.complete(target, observed)
        assert np.mean((found.estimate - target) ** 2) < 1e-12

    def test_without_cvxpy_the_extra_is_named(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        monkeypatch.setitem(sys.modules, "cvxpy", None)
        assert main(["baseline", "--method", "nuclear", "--out", str(tmp_path / "run")]) == 2
        assert "pip install 'rankscope[baselines]'" in capsys.readouterr().err
        assert not (tmp_path / "run").exists()


class TestSoftImpute:
    @pytest.mark.parametrize("seed", range(3))
    def test_the_answer_is_a_fixed_point(self, seed: int) -> None:
        target, observed = problem((12, 9), 2, 70, seed)
        found = softimpute.complete(target, observed, tolerance=1e-12, max_iterations=100_000)
        assert found.converged
        filled = np.where(observed, target, found.estimate)
        left, sigma, right = np.linalg.svd(filled)
        lambda_ = np.linalg.svd(np.where(observed, target, 0))[1][0] / 50
        shrunk = left[:, :9] @ np.diag(np.maximum(sigma - lambda_, 0)) @ right
        np.testing.assert_allclose(found.estimate, shrunk, atol=1e-9)

    @needs_cvxpy
    @pytest.mark.parametrize("share", [0.5, 0.1])
    def test_it_minimises_the_penalised_problem(self, share: float) -> None:
        import cvxpy
        from cvxpy.atoms.norm_nuc import normNuc

        target, observed = problem((6, 5), 2, 18, 0)
        found = softimpute.complete(
            target, observed, final_share=share, tolerance=1e-11, max_iterations=50_000
        )
        assert found.converged
        lambda_ = share * np.linalg.norm(np.where(observed, target, 0), 2)
        W = cvxpy.Variable(target.shape)
        misfit = cvxpy.sum_squares(cvxpy.multiply(observed, W - target))  # type: ignore[attr-defined]
        optimum = solved(cvxpy.Minimize(0.5 * misfit + lambda_ * normNuc(W)), [])
        fit = np.sum((found.estimate - target)[observed] ** 2) / 2
        assert fit + lambda_ * nuclear_norm(found.estimate) == pytest.approx(optimum, rel=1e-7)
        assert W.value is not None
        np.testing.assert_allclose(found.estimate, np.asarray(W.value, np.float64), atol=1e-4)

    @needs_cvxpy
    def test_small_lambdas_lead_to_the_minimum_nuclear_norm(self) -> None:
        target, observed = problem((8, 7), 2, 36, 0)
        found = softimpute.complete(
            target, observed, final_share=1e-5, tolerance=1e-8, max_iterations=20_000
        )
        limit = nuclear.complete(target, observed)
        np.testing.assert_allclose(found.estimate, limit.estimate, atol=1e-3)

    def test_the_largest_lambda_that_says_anything(self) -> None:
        target, observed = problem((8, 7), 2, 36, 0)
        assert not softimpute.complete(target, observed, final_share=1.0).estimate.any()
        just_below = softimpute.complete(target, observed, final_share=0.99, steps=1)
        assert np.linalg.matrix_rank(just_below.estimate) == 1

    def test_the_path_changes_the_way_and_not_the_answer(self) -> None:
        target, observed = problem((12, 9), 2, 70, 0)
        answers = [
            softimpute.complete(
                target, observed, steps=steps, tolerance=1e-11, max_iterations=50_000
            )
            for steps in (1, 7)
        ]
        np.testing.assert_allclose(answers[0].estimate, answers[1].estimate, atol=1e-7)
        assert answers[0].iterations != answers[1].iterations

    def test_every_iteration_descends(self) -> None:
        target, observed = problem((12, 9), 3, 60, 0)
        lambda_ = np.linalg.norm(np.where(observed, target, 0), 2) / 50
        values = []
        for iterations in range(1, 30):
            found = softimpute.complete(target, observed, steps=1, max_iterations=iterations)
            assert (found.iterations, found.converged) == (iterations, False)
            fit = np.sum((found.estimate - target)[observed] ** 2) / 2
            values.append(fit + lambda_ * nuclear_norm(found.estimate))
        assert (np.diff(values) < 0).all()

    def test_debiased_values_are_those_of_least_squares(self) -> None:
        target, observed = problem((20, 15), 2, 220, 0)
        shrunk = softimpute.complete(target, observed, final_share=0.2).estimate
        fitted = softimpute.complete(target, observed, final_share=0.2, debias=True).estimate
        rank = np.linalg.matrix_rank(shrunk)
        assert np.linalg.matrix_rank(fitted) == rank
        left, _, right = np.linalg.svd(shrunk)
        residual = np.where(observed, fitted - target, 0.0)
        for number in range(rank):
            assert left[:, number] @ residual @ right[number] == pytest.approx(0, abs=1e-10)
        assert np.mean((fitted - target) ** 2) < np.mean((shrunk - target) ** 2) / 2

    @pytest.mark.parametrize("wrong", [{"final_share": 0.0}, {"final_share": 1.5}, {"steps": 0}])
    def test_no_such_path_is_refused(self, wrong: dict[str, Any]) -> None:
        target, observed = problem((5, 4), 2, 12, 0)
        with pytest.raises(UsageError, match="expected"):
            softimpute.complete(target, observed, **wrong)

    def test_as_p2_is_the_plain_loop(self) -> None:
        target, observed = problem((20, 15), 3, 120, 0)
        filled = np.where(observed, target, 0.0)
        threshold = np.linalg.norm(filled, 2) / 50
        for _ in range(100):
            left, sigma, right = np.linalg.svd(filled, full_matrices=False)
            shrunk = left @ np.diag(np.maximum(sigma - threshold, 0)) @ right
            filled = np.where(observed, target, shrunk)
        found = complete("softimpute-as-p2", target, observed, 3)
        assert (found.iterations, found.converged) == (100, False)
        np.testing.assert_allclose(found.estimate, filled, atol=1e-10)


def test_optspace_as_p2_stops_after_fifty() -> None:
    target, observed = problem((30, 24), 4, 330, 0)
    found = complete("optspace-as-p2", target, observed, 4)
    assert (found.iterations, found.converged) == (50, False)


def test_the_comparison_says_what_the_estimates_say() -> None:
    methods = ("softimpute", "optspace")
    records = compare([170, 200], [3, 4], 2, (16, 14), methods)
    assert [(r.observed, r.seed, r.method) for r in records] == list(
        itertools.product((170, 200), (3, 4), methods)
    )
    for record in records:
        target, observed = problem((16, 14), 2, record.observed, record.seed)
        found = complete(record.method, target, observed, 2)
        wrong = [
            (found.estimate[i, j] - target[i, j]) ** 2
            for i, j in zip(*np.nonzero(~observed), strict=True)
        ]
        assert record.error_unobserved == pytest.approx(np.mean(wrong))
        assert record.error_all == pytest.approx(np.mean((found.estimate - target) ** 2))
        sigma = np.linalg.svd(found.estimate)[1]
        share = sigma[sigma > 1e-14] / sigma.sum()
        entropy = -np.sum(share * np.log(share))
        assert record.effective_rank == pytest.approx(np.exp(entropy), rel=1e-6)
        assert record.converged == found.converged
        assert record.seconds > 0


def test_the_driver_writes_a_run_of_one_snapshot(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    command = ["baseline", "--method", "optspace-as-p2", "--observed", "3000", "--seed", "1"]
    assert main([*command, "--rank", "3", "--out", str(out)]) == 0
    shown = capsys.readouterr()
    assert shown.out == f"rankscope analyze {out}\n"

    target, observed = problem((100, 100), 3, 3000, 1)
    found = complete("optspace-as-p2", target, observed, 3)
    (snapshot,) = (out / "snapshots").iterdir()
    saved = safetensors.numpy.load_file(snapshot)["product"]
    assert np.array_equal(saved, found.estimate)
    error = np.mean((saved - target)[~observed] ** 2)
    assert f"{error:.2e} over the unobserved" in shown.err
    record = read_run_record(out)
    assert record is not None
    assert record.data == "3000 entries of a 100x100 matrix of rank 3, scaled to a mean square of 1"
    (row,) = rankscope.analyze(out).matrices
    assert row["effective_rank"] == pytest.approx(3, abs=0.5)

    assert main([*command, "--out", str(out)]) == 2
    assert "exists already" in capsys.readouterr().err

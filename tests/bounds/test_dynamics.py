"""The bounds as numbers: against loops in exact arithmetic, at ties, and the paper's own."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import mpmath
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from rankscope.bounds.closed import check_eps, check_rates, closed_form
from rankscope.bounds.dynamics import Dynamics, Memory, Phase
from rankscope.bounds.transfer import Row, Transfer
from rankscope.errors import UsageError


def constant(
    mu: float, weight_decay: float, momentum: float = 0.0, *, nesterov: bool = False
) -> Dynamics:
    return Dynamics((Phase(0, mu, weight_decay, 8),), momentum, nesterov)


def written(number: float) -> Fraction:
    """0.1 for 0.1, not the binary fraction next to it."""
    return Fraction(repr(number))


def plain_loop(dynamics: Dynamics, step: int, eps: float) -> int | None:
    """n* by its definition, with fractions."""
    left = Fraction(1)
    for n in range(1, step + 1):
        one = dynamics.phase(step - n)
        left *= 1 - written(one.mu) * written(one.weight_decay)
        if left <= written(eps) / 2:
            return n
    return None


def momentum_loop(dynamics: Dynamics, step: int, eps: float) -> int | None:
    """n* by its definition: Phi, then v_{T-n} as two weights, at each n; 50 digits."""
    with mpmath.workdps(50):
        beta = mpmath.mpf(repr(dynamics.momentum))
        x, y = mpmath.mpf(1), mpmath.mpf(0)
        for n in range(1, step + 1):
            mu, wd = rates(dynamics, step - n)
            if dynamics.nesterov:
                a, b = 1 - mu * wd * (1 + beta), -mu * beta * beta
            else:
                a, b = 1 - mu * wd, -mu * beta
            x, y = x * a + y * wd, x * b + y * beta
            if size(dynamics, step - n, x, y, beta) <= mpmath.mpf(repr(eps)) / 2:
                return n
    return None


def rates(dynamics: Dynamics, update: int) -> tuple[Any, Any]:
    one = dynamics.phase(update)
    return mpmath.mpf(repr(one.mu)), mpmath.mpf(repr(one.weight_decay))


def size(dynamics: Dynamics, t: int, x: Any, y: Any, beta: Any) -> Any:
    """|a| + |b| of x W_t + y v_t = a W_t + b W_{t-1} + gradients."""
    if t == 0:
        return abs(x)
    mu, wd = rates(dynamics, t - 1)
    if mu == 0:
        return mpmath.inf
    # mu v_t = W_{t-1} - W_t; Nesterov: mu beta v_t = (1 - mu wd) W_{t-1} - W_t - mu g.
    if dynamics.nesterov:
        b = y * (1 - mu * wd) / (mu * beta)
        return abs(x - y / (mu * beta)) + abs(b)
    return abs(x - y / mu) + abs(y / mu)


@st.composite
def schedules(draw: st.DrawFn, momentum: bool) -> Dynamics:
    """Up to 4 phases, also raised, without step (mu = 0) and without decay."""
    starts = sorted({0, *draw(st.lists(st.integers(1, 120), max_size=3))})
    mus = st.sampled_from((0.0, 1e-3, 0.01, 0.1, 0.5, 1.0))
    decays = st.sampled_from((0.0, 1e-3, 0.01, 0.1, 0.5))
    return Dynamics(
        tuple(Phase(start, draw(mus), draw(decays), draw(st.integers(1, 9))) for start in starts),
        draw(st.sampled_from((0.3, 0.5, 0.9, 0.95))) if momentum else 0.0,
        draw(st.booleans()) if momentum else False,
    )


# Written with few digits, as people write them, and mu wd < 1.
mus = st.builds(
    lambda digits, power: float(f"{digits}e{power}"), st.integers(1, 99), st.integers(-5, -2)
)
epsilons = st.builds(
    lambda digits, power: float(f"{digits}e{power}"), st.integers(1, 1999), st.integers(-9, -3)
)


def hundredths(least: int) -> st.SearchStrategy[float]:
    """Up to 0.99: so few digits keep powers of fractions short."""
    return st.builds(lambda count: count / 100, st.integers(least, 99))


shares = st.floats(1e-6, 1 - 1e-6)


class TestPlain:
    @given(hundredths(3), hundredths(5), epsilons)
    def test_is_the_least_n_whose_power_is_small_enough(
        self, mu: float, weight_decay: float, eps: float
    ) -> None:
        n = constant(mu, weight_decay).steps_needed(None, eps)
        assert n is not None
        left = 1 - written(mu) * written(weight_decay)
        assert left**n <= written(eps) / 2 < left ** (n - 1)

    @given(hundredths(20), hundredths(20), epsilons)
    def test_is_what_a_loop_finds(self, mu: float, weight_decay: float, eps: float) -> None:
        dynamics = constant(mu, weight_decay)
        assert dynamics.steps_needed(None, eps) == plain_loop(dynamics, 10_000, eps)

    @given(st.integers(1, 999), st.integers(1, 5))
    def test_a_tie_is_reached(self, share: int, n: int) -> None:
        eps = 2 * (1 - Fraction(share, 1000)) ** n
        assume(written(float(eps)) == eps)
        for mu, weight_decay in ((share / 1000, 1.0), (1.0, share / 1000), (share / 100, 0.1)):
            assert constant(mu, weight_decay).steps_needed(None, float(eps)) == n

    @pytest.mark.parametrize(
        ("share", "eps", "n"),
        [(0.2, 1.024, 3), (0.001, 1.998, 1), (0.001, 1.996002, 2), (0.5, 2.0**-29, 30)],
    )
    def test_a_tie_is_reached_where_numbers_round_badly(
        self, share: float, eps: float, n: int
    ) -> None:
        assert constant(share, 1.0).steps_needed(None, eps) == n
        assert constant(share, 1.0).steps_needed(None, eps * (1 - 1e-14)) == n + 1

    @given(schedules(momentum=False), st.integers(1, 200), epsilons)
    def test_with_a_schedule_is_what_a_loop_finds(
        self, dynamics: Dynamics, step: int, eps: float
    ) -> None:
        assert dynamics.steps_needed(step, eps) == plain_loop(dynamics, step, eps)

    @given(st.integers(1, 999), st.integers(1, 999), st.integers(1, 3), st.integers(1, 3))
    def test_a_tie_across_a_change_is_reached(
        self, later: int, earlier: int, n: int, more: int
    ) -> None:
        eps = 2 * (1 - Fraction(later, 1000)) ** n * (1 - Fraction(earlier, 1000)) ** more
        assume(written(float(eps)) == eps)
        phases = (Phase(0, earlier / 1000, 1.0, 8), Phase(50, later / 1000, 1.0, 8))
        assert Dynamics(phases).steps_needed(50 + n, float(eps)) == n + more

    def test_too_few_updates_are_not_enough(self) -> None:
        # 0.8^3 = 0.512
        dynamics = constant(0.2, 1.0)
        assert [dynamics.steps_needed(step, 1.024) for step in (1, 2, 3, 4)] == [None, None, 3, 3]

    def test_without_decay_there_is_none(self) -> None:
        for mu, weight_decay in ((0.0, 0.1), (0.1, 0.0), (1e-200, 1e-200)):
            assert constant(mu, weight_decay).steps_needed(None, 1.9) is None
            assert constant(mu, weight_decay).steps_needed(10**9, 1.9) is None

    @given(mus, mus, epsilons, mus, mus, epsilons)
    def test_never_rises_with_mu_decay_or_eps(
        self, mu: float, wd: float, eps: float, mu2: float, wd2: float, eps2: float
    ) -> None:
        low, high = (
            constant(pick(mu, mu2), pick(wd, wd2)).steps_needed(None, pick(eps, eps2))
            for pick in (min, max)
        )
        assert low is not None
        assert high is not None
        assert high <= low

    def test_the_ceiling_of_the_known_example(self) -> None:
        # mu lambda = 0.1, eps = 0.5: 6.93 B against 7 B.
        assert constant(0.1, 2.0).steps_needed(None, 0.5) == 7

    def test_the_extremes_of_eps_and_decay_are_answered(self) -> None:
        assert constant(0.1, 0.1).steps_needed(None, 5e-324) == 74139
        assert constant(0.1, 0.1).steps_needed(None, math.nextafter(2, 0)) == 1
        assert constant(1.0, math.nextafter(1, 0)).steps_needed(None, 1e-15) == 1
        n = constant(1e-6, 1e-6).steps_needed(None, 2 * math.exp(-1))
        assert n == pytest.approx(1e12, rel=1e-9)


class TestMomentum:
    @given(schedules(momentum=True), st.integers(1, 200), epsilons)
    @example(
        # Found only inside a phase without decay.
        Dynamics((Phase(0, 0.5, 0.0, 8), Phase(31, 1.0, 0.01, 8)), 0.95, nesterov=True),
        *(57, 0.8417445793856293),
    )
    @example(
        # A sign changes after the learning rate was raised.
        Dynamics((Phase(0, 0.001, 0.5, 8), Phase(100, 1.0, 0.001, 8)), 0.9),
        *(110, 0.9),
    )
    def test_with_a_schedule_is_what_a_loop_finds(
        self, dynamics: Dynamics, step: int, eps: float
    ) -> None:
        assert dynamics.steps_needed(step, eps) == momentum_loop(dynamics, step, eps)

    @given(
        st.sampled_from((1e-4, 0.01, 0.3)),
        st.sampled_from((0.05, 0.3, 1.0)),
        st.sampled_from((1e-3, 0.1)),
        st.sampled_from((0.5, 0.9)),
        st.booleans(),
        st.integers(1, 60),
        epsilons,
    )
    def test_after_the_learning_rate_was_raised(
        self,
        warm: float,
        mu: float,
        wd: float,
        momentum: float,
        nesterov: bool,
        since: int,
        eps: float,
    ) -> None:
        dynamics = Dynamics((Phase(0, warm, wd, 8), Phase(150, mu, wd, 8)), momentum, nesterov)
        step = 150 + since
        assert dynamics.steps_needed(step, eps) == momentum_loop(dynamics, step, eps)

    @pytest.mark.parametrize("nesterov", [False, True])
    @pytest.mark.parametrize("warm", [0.03, 1.0])
    def test_v_at_a_change_comes_from_the_phase_before(self, warm: float, nesterov: bool) -> None:
        # eps is such that n would reach just to the change, had it been the same phase before.
        for since in range(300, 304):
            same = constant(0.3, 0.005, 0.9, nesterov=nesterov).memory(10**6, since)
            assert same is not None
            eps = 2 * total(same) * (1 + 1e-9)
            phases = (Phase(0, warm, 0.005, 8), Phase(50, 0.3, 0.005, 8))
            dynamics, step = Dynamics(phases, 0.9, nesterov), 50 + since
            assert dynamics.steps_needed(step, eps) == momentum_loop(dynamics, step, eps)

    @given(
        st.sampled_from((0.1, 0.5, 1.0)),
        st.sampled_from((0.01, 0.1, 0.9)),
        st.sampled_from((0.3, 0.9, 0.99)),
        st.booleans(),
        st.floats(0.05, 1.99),
    )
    def test_without_a_step_is_that_of_any_late_step(
        self, mu: float, wd: float, momentum: float, nesterov: bool, eps: float
    ) -> None:
        dynamics = constant(mu, wd, momentum, nesterov=nesterov)
        n = dynamics.steps_needed(None, eps)
        assert n is not None
        assert n == dynamics.steps_needed(10**9, eps) == dynamics.steps_needed(n + 1, eps)
        assert n == momentum_loop(dynamics, n + 1, eps)

    @pytest.mark.parametrize("nesterov", [False, True])
    @pytest.mark.parametrize(("share", "eps"), [(0.1, 1.8), (0.3, 1.4), (0.005, 1.99)])
    def test_a_tie_is_reached(self, share: float, eps: float, nesterov: bool) -> None:
        # From the start one update leaves 1 - mu wd, with Nesterov's momentum 1 - mu wd (1 + beta).
        mu = share / 1.25 if nesterov else share
        assert constant(mu, 1.0, 0.25, nesterov=nesterov).steps_needed(1, eps) == 1
        assert constant(mu, 1.0, 0.25, nesterov=nesterov).steps_needed(1, eps - 1e-14) is None

    @pytest.mark.parametrize("nesterov", [False, True])
    def test_a_billion_updates_are_not_walked_through(
        self, nesterov: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # The learning rate is raised at the end, so that the signs of a and b change on the way.
        warm, mu, wd, since = 1e-4, 1.0, 1e-6, 30
        phases = (Phase(0, warm, wd, 8), Phase(10**10, mu, wd, 8))
        dynamics = Dynamics(phases, 0.99, nesterov)
        step = 10**10 + since
        applied = 0
        after = Transfer.after

        def counted(self: Transfer, row: Row) -> Row:
            nonlocal applied
            applied += 1
            return after(self, row)

        monkeypatch.setattr(Transfer, "after", counted)
        n = dynamics.steps_needed(step, 1e-3)
        assert applied < 5000  # some hundred for each change of a sign, not one a step
        assert n is not None
        assert n > 10**9
        found, before = dynamics.memory(step, n), dynamics.memory(step, n - 1)
        assert found is not None
        assert before is not None
        assert total(found) == pytest.approx(5e-4, rel=1e-6)
        assert total(found) <= 5e-4 < total(before)

    def test_a_tiny_momentum_is_nearly_none(self) -> None:
        for eps in (0.01, 0.5, 1.5):
            assert constant(0.1, 0.2, 1e-9).steps_needed(None, eps) == constant(
                0.1, 0.2
            ).steps_needed(None, eps)

    def test_mu_and_decay_count_1_over_1_minus_momentum_times(self) -> None:
        # The slow eigenvalue is 1 - mu wd / (1 - beta) to first order.
        n = constant(0.01, 1e-4, 0.9).steps_needed(None, 1e-9)
        plain = constant(0.1, 1e-4).steps_needed(None, 1e-9)
        assert n == pytest.approx(plain, rel=0.15)

    @pytest.mark.parametrize("nesterov", [False, True])
    def test_without_decay_there_is_none(self, nesterov: bool) -> None:
        for mu, weight_decay in ((0.0, 0.1), (0.1, 0.0), (1e-200, 1e-200)):
            dynamics = constant(mu, weight_decay, 0.9, nesterov=nesterov)
            assert dynamics.steps_needed(None, 1.9) is None
            assert dynamics.steps_needed(10**9, 1.9) is None

    def test_the_momentum_before_an_update_without_step_is_hidden(self) -> None:
        phases = (Phase(0, 0.1, 0.5, 8), Phase(10, 0.0, 0.5, 8), Phase(12, 0.1, 0.5, 8))
        dynamics = Dynamics(phases, 0.9)
        hidden = [n for n in range(1, 21) if dynamics.memory(20, n) is None]
        assert hidden == [8, 9]  # T - n = 12 and 11
        assert Dynamics(phases).memory(20, 8) is not None


def total(memory: Memory) -> float:
    return abs(memory.current) + abs(memory.previous)


class TestMemory:
    PHASES = (Phase(0, 0.5, 0.1, 2), Phase(4, 0.25, 0.4, 3), Phase(9, 0.1, 0.0, 5))

    def test_a_phase_lasts_until_the_next(self) -> None:
        starts = [Dynamics(self.PHASES).phase(update).start for update in (0, 3, 4, 8, 9, 10**9)]
        assert starts == [0, 0, 4, 4, 9, 9]

    def test_plain_is_the_product_over_the_updates(self) -> None:
        dynamics = Dynamics(self.PHASES)
        for step in range(1, 15):
            left, samples = Fraction(1), 0
            for n in range(1, step + 1):
                one = dynamics.phase(step - n)
                left *= 1 - written(one.mu) * written(one.weight_decay)
                samples += one.batch
                assert dynamics.memory(step, n) == Memory(float(left), 0.0, samples)

    @pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.9, False), (0.9, True)])
    def test_counts_the_samples_of_the_updates(self, momentum: float, nesterov: bool) -> None:
        dynamics = Dynamics(self.PHASES, momentum, nesterov)
        batches = [2] * 4 + [3] * 5 + [5] * 11
        for step in range(1, 21):
            for n in range(1, step + 1):
                first = max(0, step - n - nesterov)
                assert dynamics.samples(step, n) == sum(batches[first:step])
        assert dynamics.samples(None, 7) == 5 * (7 + nesterov)

    def test_nesterov_without_momentum_is_plain(self) -> None:
        plain, same = Dynamics(self.PHASES), Dynamics(self.PHASES, 0.0, nesterov=True)
        assert plain.memory(12, 5) == same.memory(12, 5)
        assert plain.samples(None, 5) == same.samples(None, 5)
        assert plain.steps_needed(12, 1.5) == same.steps_needed(12, 1.5)


class TestClosedForm:
    def test_is_not_safe_above_2_over_e_squared(self) -> None:
        # mu lambda = 0.1, eps = 0.5
        assert closed_form(1, 1, 0.1, 2.0, 0.5) == pytest.approx(6.93, abs=0.005)
        assert constant(0.1, 2.0).steps_needed(None, 0.5) == 7

    @given(shares, st.floats(1e-12, 2 * math.exp(-2)))
    @example(1e-6, 2 * math.exp(-2))
    @example(1 - 1e-6, 2 * math.exp(-2))
    def test_is_safe_up_to_2_over_e_squared(self, share: float, eps: float) -> None:
        n = constant(1.0, share).steps_needed(None, eps)
        assert n is not None
        assert closed_form(1, 1, 1.0, share, eps) >= n

    @given(shares, epsilons)
    def test_is_never_a_whole_step_too_low(self, share: float, eps: float) -> None:
        n = constant(1.0, share).steps_needed(None, eps)
        assert n is not None
        assert closed_form(1, 1, 1.0, share, eps) > n - 1

    def test_scales_with_inputs_and_batch(self) -> None:
        one = closed_form(1, 1, 0.1, 0.01, 0.1)
        assert one == pytest.approx(math.log(20) / 1e-3)
        assert closed_form(9, 8, 0.1, 0.01, 0.1) == pytest.approx(72 * one)

    def test_is_infinite_without_decay(self) -> None:
        for mu, weight_decay in ((0.0, 0.1), (0.1, 0.0), (1e-200, 1e-200)):
            assert closed_form(1, 8, mu, weight_decay, 0.1) == math.inf


class TestFigure18:
    """MLP-BN-2-10000, B = 6, mu = 0.1, "lambda = 8e-3"; the bound is said to be below the width."""

    @staticmethod
    def as_lambda(eps: float) -> float:
        return closed_form(1, 6, 0.1, 2 * 8e-3, eps)

    @staticmethod
    def as_weight_decay(eps: float) -> float:
        """What the authors' code passes to PyTorch."""
        return closed_form(1, 6, 0.1, 8e-3, eps)

    def test_the_printed_convention_gives_the_printed_claim(self) -> None:
        assert round(self.as_lambda(0.3)) == 7114
        assert self.as_lambda(0.3) < 10000

    def test_the_executed_convention_does_not(self) -> None:
        assert round(self.as_weight_decay(0.3)) == 14228
        assert self.as_weight_decay(0.3) > 10000

    @pytest.mark.parametrize(
        ("convention", "eps"), [("as_lambda", 0.139), ("as_weight_decay", 0.527)]
    )
    def test_from_which_eps_on_each_is_below_the_width(self, convention: str, eps: float) -> None:
        bound: Callable[[float], float] = getattr(self, convention)
        low, high = 1e-6, 1.999
        while high - low > 1e-9:
            middle = (low + high) / 2
            low, high = (middle, high) if bound(middle) > 10000 else (low, middle)
        assert round(high, 3) == eps

    def test_the_exact_counts_say_the_same(self) -> None:
        counts = [constant(0.1, wd).steps_needed(None, 0.3) for wd in (16e-3, 8e-3)]
        assert counts == [1185, 2371]
        assert [6 * n < 10000 for n in counts if n is not None] == [True, False]


class TestRefusals:
    @pytest.mark.parametrize(
        ("mu", "weight_decay", "message"),
        [
            (0.1, 10.0, "mu lambda is 0.5, expected less than 0.5"),
            (0.3, 1 / 0.3, "expected less than 0.5"),
            (2.0, 3.0, r"lambda has to be below 0.25 \(weight decay below 0.5\)"),
            (-0.1, 0.1, "mu is -0.1, expected a number from 0"),
            (0.1, -1e-9, "weight decay is -1e-09, expected a number from 0"),
            (math.nan, 0.1, "mu is nan"),
            (0.1, math.nan, "weight decay is nan"),
            (math.inf, 0.0, "mu is inf"),
            (0.1, math.inf, "weight decay is inf"),
            (1e200, 1e200, "mu lambda is inf, expected less than 0.5"),
        ],
    )
    def test_rates(self, mu: float, weight_decay: float, message: str) -> None:
        for refused in (
            lambda: check_rates(mu, weight_decay),
            lambda: closed_form(1, 8, mu, weight_decay, 0.1),
            lambda: constant(mu, weight_decay),
            lambda: Dynamics((Phase(0, 0.1, 0.1, 8), Phase(5, mu, weight_decay, 8))),
        ):
            with pytest.raises(UsageError, match=message):
                refused()

    def test_what_is_1_only_in_floating_point_does_not_crash(self) -> None:
        for digits in range(1, 2000):
            mu, weight_decay = digits / 100, 100 / digits
            try:
                dynamics = constant(mu, weight_decay)
            except UsageError:
                continue
            assert dynamics.steps_needed(None, 0.1) == 1

    @pytest.mark.parametrize("eps", [0.0, -0.1, 2.0, 3.0, math.nan, math.inf, -math.inf])
    def test_eps(self, eps: float) -> None:
        for refused in (
            lambda: check_eps(eps),
            lambda: closed_form(1, 8, 0.1, 0.1, eps),
            lambda: constant(0.1, 0.1).steps_needed(None, eps),
            lambda: constant(0.1, 0.1, 0.9).steps_needed(5, eps),
        ):
            with pytest.raises(UsageError, match="expected a number between 0 and 2"):
                refused()

    @pytest.mark.parametrize("momentum", [-0.1, 1.0, 2.0, math.nan, math.inf])
    def test_momentum(self, momentum: float) -> None:
        with pytest.raises(UsageError, match="expected a number from 0 below 1"):
            constant(0.1, 0.1, momentum)

    @pytest.mark.parametrize("momentum", [0.99991, 0.9999999999999999])
    def test_momentum_that_would_take_too_long(self, momentum: float) -> None:
        with pytest.raises(UsageError, match=r"expected at most 0\.9999: the count"):
            constant(0.1, 0.1, momentum)

    @pytest.mark.parametrize("batch", [0, -8])
    def test_batch(self, batch: int) -> None:
        with pytest.raises(UsageError, match=f"batch size is {batch}, expected at least 1"):
            Dynamics((Phase(0, 0.1, 0.1, batch),))

    def test_the_borders_are_accepted(self) -> None:
        check_rates(0.0, 0.0)
        check_rates(1.0, math.nextafter(1, 0))
        check_eps(5e-324)
        check_eps(math.nextafter(2, 0))
        constant(0.1, 0.1, 0.9999)

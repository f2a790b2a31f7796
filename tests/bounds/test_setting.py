"""One choice of hyperparameters: its bound by brute force, and one of them from the bound."""

from __future__ import annotations

import math
from dataclasses import replace
from decimal import Decimal, localcontext

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rankscope.bounds.setting import Setting, Unknown, solve
from rankscope.errors import UsageError

MUS = st.floats(1e-3, 1.5)
DECAYS = st.floats(1e-4, 0.5)
LEVELS = st.floats(1e-4, 1.9)


def brute_force(setting: Setting, updates: list[float]) -> tuple[int, int] | None:
    """n* and the exact bound of plain SGD, from the step size of each update, the latest last."""
    with localcontext(prec=40):
        # A number as it is written; what is equal but for floating point's rounding is equal.
        left, target = Decimal(1), Decimal(repr(setting.eps)) / 2 * (1 + Decimal(2) ** -50)
        for n, mu in enumerate(reversed(updates), start=1):
            left *= 1 - Decimal(repr(mu)) * Decimal(repr(setting.weight_decay))
            if left <= target:
                samples = setting.batch * setting.world_size * setting.accumulation
                return n, n * samples * setting.inputs
    return None


def brute_force_momentum(setting: Setting) -> tuple[int, int]:
    """The same with momentum, long after the start: weights by SGD's loop, without gradients."""
    beta, decay, mu = setting.momentum, setting.weight_decay, setting.mu
    # W_t = 1 and W_(t-1) = 0, and the other way round: what either of the two puts in.
    states = []
    for now, before in ((1.0, 0.0), (0.0, 1.0)):
        buffer = (before - now) / mu
        states.append((now, (buffer - decay * before) / beta if setting.nesterov else buffer))
    n = 0
    while n == 0 or sum(abs(weight) for weight, _ in states) > setting.eps / 2:
        for i, (weight, buffer) in enumerate(states):
            gradient = decay * weight
            later = beta * buffer + gradient
            moved = gradient + beta * later if setting.nesterov else later
            states[i] = weight - mu * moved, later
        n += 1
    samples = (n + setting.nesterov) * setting.batch * setting.world_size * setting.accumulation
    return n, samples * setting.inputs


class TestCount:
    @given(
        batch=st.integers(1, 50),
        mu=st.sampled_from([0.1, 0.5, 1.0]),
        decay=st.sampled_from([0.02, 0.1, 0.3]),
        eps=LEVELS,
        factors=st.tuples(*[st.integers(1, 4)] * 3),
    )
    @example(batch=1, mu=0.5, decay=0.1, eps=1.8999999999999997, factors=(1, 1, 1))
    def test_of_a_constant_step_size(
        self, batch: int, mu: float, decay: float, eps: float, factors: tuple[int, int, int]
    ) -> None:
        inputs, world, accumulation = factors
        setting = Setting(
            batch, mu, decay, eps, inputs, world_size=world, accumulation=accumulation
        )
        assert setting.count() == brute_force(setting, [mu] * 6000)
        assert setting.effective_batch == batch * world * accumulation
        closed = inputs * setting.effective_batch * math.log(2 / eps) / (mu * decay)
        assert setting.closed_form() == pytest.approx(closed)

    @given(
        lengths=st.lists(st.integers(1, 40), min_size=1, max_size=4),
        mus=st.lists(st.floats(0, 1.5), min_size=4, max_size=4),
        decay=st.floats(0.01, 0.5),
        eps=LEVELS,
        step=st.integers(1, 120),
    )
    def test_of_a_schedule_is_the_product_over_the_last_steps(
        self, lengths: list[int], mus: list[float], decay: float, eps: float, step: int
    ) -> None:
        starts = [sum(lengths[:i]) for i in range(len(lengths))]
        schedule = tuple(zip(starts, mus, strict=False))
        setting = Setting(3, weight_decay=decay, eps=eps, inputs=2, schedule=schedule, step=step)
        updates = [[mu for start, mu in schedule if start <= t][-1] for t in range(step)]
        assert setting.count() == brute_force(setting, updates)
        assert setting.last_mu == updates[-1]

    @pytest.mark.parametrize("nesterov", [False, True])
    @pytest.mark.parametrize("decay", [0.002, 0.02, 0.2])
    @pytest.mark.parametrize("momentum", [0.3, 0.9])
    def test_with_momentum(self, *, nesterov: bool, decay: float, momentum: float) -> None:
        setting = Setting(
            4, 0.3, decay, 0.1, 3, momentum, nesterov=nesterov, world_size=2, accumulation=5
        )
        assert setting.count() == brute_force_momentum(setting)
        assert setting.closed_form() is None

    def test_long_after_the_last_change_only_the_last_step_size_counts(self) -> None:
        setting = Setting(weight_decay=0.1, eps=0.1, schedule=((0, 1.0), (10, 0.5)))
        assert setting.last_mu == 0.5
        assert setting.count() == brute_force(setting, [0.5] * 100)

    def test_the_step_size_before_a_change_is_the_last_update_s(self) -> None:
        setting = Setting(weight_decay=0.1, schedule=((0, 1.0), (10, 0.5)), step=10)
        assert setting.last_mu == 1.0
        assert replace(setting, step=11).last_mu == 0.5


class TestSolve:
    """The answer brings the exact bound below the width, and the number before it does not."""

    @given(mu=MUS, decay=DECAYS, width=st.integers(2, 5000), batch=st.integers(1, 64))
    @example(mu=1.5, decay=0.5, width=539, batch=1)
    @settings(max_examples=40)
    def test_eps(self, mu: float, decay: float, width: int, batch: int) -> None:
        check("eps", Setting(batch, mu, decay, width=width))

    @given(mu=MUS, eps=LEVELS, width=st.integers(2, 5000), batch=st.integers(1, 64))
    @example(mu=1.0, eps=1e-17, width=3, batch=1)
    @settings(max_examples=40)
    def test_lambda(self, mu: float, eps: float, width: int, batch: int) -> None:
        check("lambda", Setting(batch, mu, eps=eps, width=width))

    @given(decay=DECAYS, eps=LEVELS, width=st.integers(2, 5000), batch=st.integers(1, 64))
    @settings(max_examples=40)
    def test_mu(self, decay: float, eps: float, width: int, batch: int) -> None:
        check("mu", Setting(batch, weight_decay=decay, eps=eps, width=width))

    @given(mu=MUS, decay=DECAYS, eps=LEVELS, width=st.integers(2, 10**6), inputs=st.integers(1, 5))
    @settings(max_examples=40)
    def test_batch(self, mu: float, decay: float, eps: float, width: int, inputs: int) -> None:
        check("B", Setting(1, mu, decay, eps, inputs, world_size=2, accumulation=3, width=width))

    @given(mu=MUS, decay=DECAYS, eps=LEVELS)
    def test_width(self, mu: float, decay: float, eps: float) -> None:
        check("width", Setting(8, mu, decay, eps))

    @pytest.mark.parametrize("nesterov", [False, True])
    @pytest.mark.parametrize("unknown", ["eps", "lambda", "mu", "B", "width"])
    @given(width=st.integers(40, 3000), momentum=st.sampled_from([0.5, 0.9]))
    @settings(max_examples=8, deadline=None)
    def test_with_momentum(
        self, *, unknown: Unknown, nesterov: bool, width: int, momentum: float
    ) -> None:
        one = Setting(1, 0.3, 0.01, 0.2, momentum=momentum, nesterov=nesterov)
        check(unknown, one if unknown == "width" else replace(one, width=width))

    @pytest.mark.parametrize("step", [None, 5, 25, 200])
    @pytest.mark.parametrize("momentum", [0.0, 0.8])
    @pytest.mark.parametrize("unknown", ["eps", "lambda", "B", "width"])
    @given(width=st.integers(10, 3000))
    @settings(max_examples=6, deadline=None)
    def test_with_a_schedule(
        self, *, unknown: Unknown, momentum: float, step: int | None, width: int
    ) -> None:
        schedule = ((0, 0.05), (20, 1.0), (100, 0.2))
        one = Setting(2, 1.0, 0.1, 0.3, momentum=momentum, schedule=schedule, step=step)
        check(unknown, one if unknown == "width" else replace(one, width=width))

    @pytest.mark.parametrize("width", [60, 61, 62, 66, 70])
    def test_momentum_makes_the_bound_go_up_and_down(self, width: int) -> None:
        """At the largest lambda it is 61: a search that looks only there finds none below 60."""
        one = Setting(1, 0.5, eps=0.1, momentum=0.9, width=width)
        assert replace(one, weight_decay=1.999999).count() == (61, 61)
        assert replace(one, weight_decay=0.2).count() == (58, 58)
        assert solve(one, "lambda").weight_decay < 2

    def test_the_answer_is_the_theorem_s_question(self) -> None:
        """The weight decay that brings the bound under width 4096 at eps 0.1."""
        solved = solve(Setting(8, 0.5, eps=0.1, width=4096), "lambda")
        # 511 steps of 8 samples are the most below 4096: (1 - mu wd)^511 = 0.05.
        assert solved.weight_decay == pytest.approx((1 - 0.05 ** (1 / 511)) / 0.5, rel=1e-12)
        assert solved.count() == (511, 4088)

    def test_a_batch_that_just_reaches_the_width_is_too_large(self) -> None:
        assert Setting(1, 0.5, 0.1, 0.1).count() == (59, 59)
        widths = {589: 9, 590: 9, 591: 10}
        for width, batch in widths.items():
            assert solve(Setting(1, 0.5, 0.1, 0.1, width=width), "B").batch == batch

    @pytest.mark.parametrize(
        ("unknown", "setting", "why"),
        [
            ("lambda", Setting(4, 0.5, eps=0.1, width=4), "one step alone adds m B = 4"),
            ("mu", Setting(2, weight_decay=0.5, eps=0.1, inputs=3, width=5), "adds m B = 6"),
            ("eps", Setting(4, 0.5, 0.1, width=3), "no eps .* one step alone"),
            ("lambda", Setting(4, 1.0, eps=1e-300, width=20), "largest possible it is 80"),
            ("B", Setting(7, 0.5, 0.1, 0.1, width=5), "no B .* with B 1 it is 59"),
            ("B", Setting(7, 0.5, 0.0, 0.1, width=5), "nothing of the initial weights"),
            ("mu", Setting(7, 0.5, 0.0, 0.1, width=5), "nothing of the initial weights"),
            ("lambda", Setting(7, 0.0, 0.1, 0.1, width=5), "nothing of the initial weights"),
            ("eps", Setting(8, 1.0, 2e-308, width=99), "lambda 1e-308 a step forgets too little"),
            ("width", Setting(8, 1.0, 1e-30), "lambda 5e-31 a step forgets too little"),
            ("lambda", Setting(1, 0.5, eps=0.1, momentum=0.9, width=40), "stays at some 61"),
            (
                "width",
                Setting(1, 1.0, 0.1, 0.1, schedule=((0, 0.1),), step=7),
                "no bound yet: 7 steps",
            ),
        ],
    )
    def test_the_impossible_says_why(self, unknown: Unknown, setting: Setting, why: str) -> None:
        with pytest.raises(UsageError, match=why) as raised:
            solve(setting, unknown)
        assert "\n" not in str(raised.value)

    @pytest.mark.parametrize("tiny", [5e-324, 1e-308, 1e-300])
    def test_numbers_at_the_end_of_floating_point(self, tiny: float) -> None:
        """1 / 5e-324 overflows; the search stays inside."""
        wide = Setting(1, tiny, tiny, 0.5, width=10**17)
        check("lambda", wide)
        check("mu", wide)


def check(unknown: Unknown, setting: Setting) -> None:
    try:
        solved = solve(setting, unknown)
    except UsageError:
        # Then not the end of the range either. With momentum that is not the best one.
        assert not given_number(setting, unknown, end(setting, unknown)).below
        return
    assert solved.below
    less = before(solved, unknown)
    # Of steps that forget nearly everything, even the least positive eps is enough.
    assert less == 0 or not given_number(solved, unknown, less).below


def given_number(setting: Setting, unknown: Unknown, value: float) -> Setting:
    match unknown:
        case "lambda":
            return replace(setting, weight_decay=value)
        case "mu":
            return replace(setting, mu=value)
        case "eps":
            return replace(setting, eps=value)
        case "B":
            return replace(setting, batch=int(value))
        case "width":
            return replace(setting, width=int(value))


def end(setting: Setting, unknown: Unknown) -> float:
    """What a bound is smallest with."""
    fastest = max(mu for _, mu in setting.schedule or ((0, setting.mu),))
    if unknown in ("B", "width"):
        return 1
    rate = {"eps": 1.0, "lambda": fastest, "mu": setting.weight_decay}[unknown]
    return (1 - 1e-14) / rate


def before(solved: Setting, unknown: Unknown) -> float:
    """The number before the answer, or after it for B."""
    match unknown:
        case "lambda":
            return math.nextafter(solved.weight_decay, 0)
        case "mu":
            return math.nextafter(solved.mu, 0)
        case "eps":
            return math.nextafter(solved.eps, 0)
        case "B":
            return solved.batch + 1
        case "width":
            assert solved.width is not None
            return solved.width - 1

"""The proof of Lemma 3.2 on real training: networks trained by torch's own SGD in double precision.

What n updates leave of the weights is subtracted; the rest has to be a sum of gradients of single
samples, each of rank at most m_l. The schedules change everything that may change: learning rate
(0 at first, raised, lowered), weight decay, batch size.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

from rankscope.bounds.dynamics import Dynamics, Memory, Phase
from rankscope.bounds.transfer import IDENTITY, precisely, update

Array = npt.NDArray[np.float64]

# mu, weight decay, and half of the batch or all of it, of update 0, 1, ...
SCHEDULE = (
    (0.0, 0.3, 1),
    *[(0.05, 0.3, 1)] * 4,
    *[(0.5, 0.3, 1)] * 4,
    *[(0.5, 0.3, 2)] * 3,
    *[(0.1, 0.05, 2)] * 4,
    *[(0.3, 0.0, 1)] * 2,
    *[(0.3, 0.2, 1)] * 4,
)
RULES = {"plain": (0.0, False), "heavy ball": (0.9, False), "nesterov": (0.9, True)}
NETS = ("mlp", "conv", "attention")
# Matrices whose gradient of one sample has rank m_l in general. Others have less, by their place:
# batch normalisation takes one direction off a batch, softmax one off the queries of a sample.
TIGHT = {"mlp": "3.weight", "conv": "0.weight", "attention": "value.weight"}


class Attention(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.query, self.key, self.value, self.output = (
            nn.Linear(width, width, bias=False) for _ in range(4)
        )

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        scores = self.query(tokens) @ self.key(tokens).transpose(1, 2)
        mixed = torch.softmax(scores, dim=2) @ self.value(tokens)
        return torch.tanh(self.output(torch.tanh(mixed)))


def network(name: str) -> tuple[nn.Module, tuple[int, ...], int, dict[str, int]]:
    """The network, the shape of a sample, samples per unit of batch, and each matrix's m_l."""
    if name == "mlp":
        model: nn.Module = nn.Sequential(
            *(nn.Linear(24, 40), nn.BatchNorm1d(40), nn.ReLU()),
            *(nn.Linear(40, 40), nn.Tanh(), nn.Linear(40, 20)),
        )
        return model, (24,), 2, {"0.weight": 1, "3.weight": 1, "5.weight": 1}
    if name == "conv":
        # 6 x 6, kernel 3, stride 2, padding 0: (6 - 3) // 2 + 1 = 2 a side.
        convolution = nn.Conv2d(4, 32, 3, stride=2)
        model = nn.Sequential(convolution, nn.Tanh(), nn.Flatten(), nn.Linear(32 * 4, 20))
        return model, (4, 6, 6), 1, {"0.weight": 4, "3.weight": 1}
    names = ("query", "key", "value", "output")
    return Attention(32), (3, 32), 1, {f"{layer}.weight": 3 for layer in names}


@dataclass(frozen=True)
class Trained:
    """A run: weights[name][t] is W_t, buffers[name][t] is v_t."""

    dynamics: Dynamics
    inputs: dict[str, int]
    weights: dict[str, list[Array]]
    buffers: dict[str, list[Array]]


@cache
def trained(net: str, rule: str) -> Trained:
    torch.manual_seed(5)
    model, shape, unit, inputs = network(net)
    model = model.double()
    momentum, nesterov = RULES[rule]
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1, momentum=momentum, nesterov=nesterov)
    parameters = {name: one for name, one in model.named_parameters() if name in inputs}
    weights = {name: [matrix(one)] for name, one in parameters.items()}
    buffers = {name: [np.zeros_like(weights[name][0])] for name in parameters}
    for mu, weight_decay, units in SCHEDULE:
        optimiser.param_groups[0].update(lr=mu, weight_decay=weight_decay)
        optimiser.zero_grad()
        output = model(torch.randn(units * unit, *shape, dtype=torch.float64))
        (output - torch.randn_like(output)).pow(2).mean().backward()
        optimiser.step()
        for name, one in parameters.items():
            weights[name].append(matrix(one))
            if momentum:
                buffers[name].append(matrix(optimiser.state[one]["momentum_buffer"]))
    return Trained(Dynamics(phases(unit), momentum, nesterov), inputs, weights, buffers)


def matrix(tensor: torch.Tensor) -> Array:
    return tensor.detach().clone().flatten(1).numpy()


def phases(unit: int) -> tuple[Phase, ...]:
    starts = [t for t, now in enumerate(SCHEDULE) if t == 0 or now != SCHEDULE[t - 1]]
    return tuple(
        Phase(t, mu, weight_decay, units * unit)
        for t, (mu, weight_decay, units) in ((t, SCHEDULE[t]) for t in starts)
    )


def gradients(weights: list[Array], step: int, n: int, memory: Memory) -> Array:
    """W_T without what is left of the weights before: the proof's U."""
    rest: Array = weights[step] - memory.current * weights[step - n]
    if memory.previous:
        rest = rest - memory.previous * weights[step - n - 1]
    return rest


def rounding(weights: list[Array], step: int, n: int, terms: float) -> float:
    """How large the rounding errors of n updates may be in any one direction of U.

    An update of PyTorch rounds each entry up to 5 times (decay, momentum, step, and the gradient's
    own sum), by 2^-53 of a number that is not above the largest weight, all but the learning rate
    and its inverse; U adds 3 roundings, of numbers up to `terms` times as large. A matrix of such
    entries has no larger singular value than sqrt(rows * columns) of them.
    """
    largest = max(float(np.abs(one).max()) for one in weights[max(0, step - n - 1) : step + 1])
    entries = math.sqrt(weights[step].size)
    return 2.0**-53 * (5 * (n + 1) + 3) * (1 + terms) * largest * entries


def remainder_rank(weights: list[Array], step: int, n: int, memory: Memory) -> int:
    rest = gradients(weights, step, n, memory)
    noise = rounding(weights, step, n, abs(memory.current) + abs(memory.previous))
    return int(np.linalg.matrix_rank(rest, tol=noise))


def windows(run: Trained, name: str) -> Iterator[tuple[int, int, Memory]]:
    """Each (T, n) whose bound is below the width, with what these updates leave."""
    width = min(run.weights[name][0].shape)
    for step in range(1, len(SCHEDULE) + 1):
        for n in range(1, step + 1):
            memory = run.dynamics.memory(step, n)
            if run.inputs[name] * run.dynamics.samples(step, n) >= width:
                break
            if memory is not None:
                yield step, n, memory


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("net", NETS)
class TestEveryRun:
    def test_what_is_left_has_the_rank_of_its_samples(self, net: str, rule: str) -> None:
        run = trained(net, rule)
        for name, inputs in run.inputs.items():
            checked = 0
            for step, n, memory in windows(run, name):
                rank = remainder_rank(run.weights[name], step, n, memory)
                assert rank <= inputs * memory.samples, (name, step, n)
                checked += 1
            assert checked >= 20

    def test_no_smaller_count_of_samples_would_do(self, net: str, rule: str) -> None:
        run, name = trained(net, rule), TIGHT[net]
        for step, n, memory in windows(run, name):
            rank = remainder_rank(run.weights[name], step, n, memory)
            # Update 0 has mu = 0: its gradient does not show, except later through momentum.
            hidden = step == n and (rule == "plain" or n == 1)
            unseen = run.dynamics.phase(0).batch if hidden else 0
            assert rank == run.inputs[name] * (memory.samples - unseen), (step, n)

    def test_the_weights_are_as_near_to_low_rank_as_lemma_3_2_says(
        self, net: str, rule: str
    ) -> None:
        run = trained(net, rule)
        for name, inputs in run.inputs.items():
            weights, binding = run.weights[name], 0
            for step, n, memory in windows(run, name):
                sigma = singular(weights[step])[inputs * memory.samples :]
                before = weights[max(step - n - 1, 0)]
                for norm in (spectral, frobenius):
                    right = abs(memory.current) * norm(singular(weights[step - n]))
                    right += abs(memory.previous) * norm(singular(before))
                    assert norm(sigma) <= right * (1 + 1e-12), (name, step, n)
                    # It is no matter of course: from 1 on, W = 0 would be near enough.
                    binding += right < norm(singular(weights[step]))
            assert binding > 10 or rule != "plain"

    def test_all_updates_need_no_weights_before_the_first(self, net: str, rule: str) -> None:
        run = trained(net, rule)
        for name, inputs in run.inputs.items():
            for n in range(1, 7):
                memory = run.dynamics.memory(n, n)
                assert memory is not None
                assert memory.previous == 0
                assert memory.samples == sum(run.dynamics.phase(t).batch for t in range(n))
                rank = remainder_rank(run.weights[name], n, n, memory)
                assert rank <= inputs * memory.samples

    def test_a_wrong_weight_decay_leaves_more(self, net: str, rule: str) -> None:
        run, name = trained(net, rule), TIGHT[net]
        for factor in (0.5, 2, 1.0001):
            wrong = tuple(
                replace(one, weight_decay=one.weight_decay * factor) for one in run.dynamics.phases
            )
            assert too_high(run, name, replace(run.dynamics, phases=wrong))

    @pytest.mark.parametrize("late", [1, -1])
    def test_a_change_one_update_off_leaves_more(self, net: str, rule: str, late: int) -> None:
        run, name = trained(net, rule), TIGHT[net]
        for moved in range(2, len(run.dynamics.phases)):
            phases = list(run.dynamics.phases)
            phases[moved] = replace(phases[moved], start=phases[moved].start + late)
            before, after = run.dynamics.phases[moved - 1 : moved + 1]
            if (before.mu, before.weight_decay) != (after.mu, after.weight_decay):
                wrong = replace(run.dynamics, phases=tuple(phases))
                assert too_high(run, name, wrong), moved


def singular(weights: Array) -> Array:
    return np.asarray(np.linalg.svd(weights, compute_uv=False), dtype=np.float64)


def spectral(sigma: Array) -> float:
    return float(sigma[0])


def frobenius(sigma: Array) -> float:
    return math.hypot(*sigma)


def too_high(run: Trained, name: str, wrong: Dynamics) -> int:
    """In how many windows the rank is above the bound when `wrong` is believed."""
    return sum(
        remainder_rank(run.weights[name], step, n, memory) > run.inputs[name] * memory.samples
        for step, n, _ in windows(run, name)
        if (memory := wrong.memory(step, n)) is not None
    )


@pytest.mark.parametrize("rule", ["heavy ball", "nesterov"])
class TestMomentum:
    def test_a_product_of_2_x_2_matrices_leaves_what_torch_leaves(self, rule: str) -> None:
        run = trained("mlp", rule)
        name = TIGHT["mlp"]
        weights, buffers = run.weights[name], run.buffers[name]
        for step, n, _ in windows(run, name):
            phi = naive_product(run.dynamics, step, n)
            rest = weights[step] - phi[0, 0] * weights[step - n] - phi[0, 1] * buffers[step - n]
            samples = sum(run.dynamics.phase(t).batch for t in range(step - n, step))
            largest = abs(phi[0, 0]) + abs(phi[0, 1]) * float(np.abs(buffers[step - n]).max())
            noise = rounding(weights, step, n, largest)
            assert np.linalg.matrix_rank(rest, tol=noise) <= samples, (step, n)

    def test_the_code_multiplies_as_numpy_does(self, rule: str) -> None:
        dynamics = trained("mlp", rule).dynamics
        for step in range(1, len(SCHEDULE) + 1):
            for n in range(1, step + 1):
                phi = naive_product(dynamics, step, n)
                with precisely():
                    row = IDENTITY
                    for t in reversed(range(step - n, step)):
                        one = dynamics.phase(t)
                        matrix = update(one.mu, one.weight_decay, 0.9, nesterov=rule == "nesterov")
                        row = matrix.after(row)
                np.testing.assert_allclose([float(x) for x in row], phi[0], rtol=1e-12, atol=1e-14)
                self.check_memory(dynamics, step, n, phi[0])

    @staticmethod
    def check_memory(dynamics: Dynamics, step: int, n: int, row: Array) -> None:
        """Against v_t written as two weights and, for Nesterov, one gradient."""
        memory, before = dynamics.memory(step, n), dynamics.phase(max(step - n - 1, 0))
        if n == step:
            expected = (row[0], 0.0)
        elif before.mu == 0:
            assert memory is None
            return
        elif dynamics.nesterov:
            share = row[1] / (0.9 * before.mu)
            expected = (row[0] - share, share - share * before.mu * before.weight_decay)
        else:
            expected = (row[0] - row[1] / before.mu, row[1] / before.mu)
        assert memory is not None
        assert (memory.current, memory.previous) == pytest.approx(expected, rel=1e-11, abs=1e-13)

    def test_a_wrong_momentum_leaves_more(self, rule: str) -> None:
        run, name = trained("mlp", rule), TIGHT["mlp"]
        assert too_high(run, name, replace(run.dynamics, momentum=0.8999))
        assert too_high(run, name, replace(run.dynamics, momentum=0.0))
        assert too_high(run, name, replace(run.dynamics, nesterov=not run.dynamics.nesterov))


def naive_product(dynamics: Dynamics, step: int, n: int) -> Array:
    """A_{T-1} ... A_{T-n}, each as the theory writes it."""
    product, beta = np.eye(2), dynamics.momentum
    for t in reversed(range(step - n, step)):
        mu, wd = SCHEDULE[t][:2]
        first = [1 - mu * wd, -mu * beta]
        if dynamics.nesterov:
            first = [1 - mu * wd * (1 + beta), -mu * beta**2]
        product = product @ np.array([first, [wd, beta]])
    return product


class TestNesterov:
    def test_needs_the_gradient_of_one_update_more(self) -> None:
        run, name = trained("mlp", "nesterov"), TIGHT["mlp"]
        for step, n, memory in windows(run, name):
            inside = sum(run.dynamics.phase(t).batch for t in range(step - n, step))
            before = run.dynamics.phase(step - n - 1).batch if n < step else 0
            assert memory.samples == inside + before
            if before:
                assert remainder_rank(run.weights[name], step, n, memory) > inside


class TestTheProofsPrint:
    def test_1_minus_mu_lambda_must_read_1_minus_2_mu_lambda(self) -> None:
        # P1, proof of Theorem 3.3: "(1 - mu lambda)^n"; its Lemma 3.2 has the factor 2.
        run, name = trained("mlp", "plain"), TIGHT["mlp"]
        weights = run.weights[name]
        step, n = 9, 4  # within one phase
        one = run.dynamics.phase(step - n)
        assert one == run.dynamics.phase(step - 1)
        mu_lambda = one.mu * one.weight_decay / 2
        samples = one.batch * n
        printed = Memory((1 - mu_lambda) ** n, 0, samples)
        corrected = Memory((1 - 2 * mu_lambda) ** n, 0, samples)
        assert remainder_rank(weights, step, n, printed) == min(weights[0].shape) == 40
        assert remainder_rank(weights, step, n, corrected) == samples == 8
        memory = run.dynamics.memory(step, n)
        assert memory is not None
        assert memory.current == pytest.approx(corrected.current, rel=1e-14)

"""Networks: gradients against autograd, initialisations against their definitions."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from rankscope.errors import UsageError
from trainers.completion.cell import Initialisation, StartName
from trainers.completion.factors import gradients, imbalance, initialise, partial_products

WIDTHS = [(5, 4), (5, 3, 4), (5, 7, 3, 4), (4, 4, 4, 4, 4), (6, 5, 8, 5, 7, 4)]


def random_layers(widths: tuple[int, ...], batch: int = 3) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(after, before) for before, after in itertools.pairwise(widths)]
    return [torch.randn(batch, *s, generator=generator, dtype=torch.float64) for s in shapes]


@pytest.mark.parametrize("widths", WIDTHS)
def test_gradients_are_those_of_autograd(widths: tuple[int, ...]) -> None:
    layers = [layer.requires_grad_() for layer in random_layers(widths)]
    products = partial_products(layers)
    weights = torch.randn(3, widths[-1], widths[0], dtype=torch.float64)
    expected = torch.autograd.grad((products[-1].sin() * weights).sum(), layers)
    found = gradients(layers, products, products[-1].cos() * weights)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("widths", WIDTHS)
def test_the_product_is_last_layer_first(widths: tuple[int, ...]) -> None:
    layers = random_layers(widths)
    expected = np.eye(widths[0])
    for layer in layers:
        expected = layer[1].numpy() @ expected
    np.testing.assert_allclose(partial_products(layers)[-1][1], expected, atol=1e-12)


class TestInitialisation:
    def layers(
        self, kind: StartName, size: float, widths: tuple[int, ...], seed: int = 0
    ) -> list[Tensor]:
        return initialise(Initialisation(kind, size), widths, seed)

    def product(self, kind: StartName, size: float, widths: tuple[int, ...], seed: int) -> Tensor:
        return partial_products(self.layers(kind, size, widths, seed))[-1]

    def test_one_deviation_for_every_layer(self) -> None:
        for layer in self.layers("std", 1e-3, (200, 100, 300)):
            assert layer.std().item() == pytest.approx(1e-3, rel=0.02)
            assert layer.mean().item() == pytest.approx(0, abs=5e-5)

    @pytest.mark.parametrize("kind", ["scale", "balanced"])
    @pytest.mark.parametrize("widths", [(8, 8), (6, 9, 4), (5, 8, 7, 6)])
    def test_the_product_has_the_norm_in_the_mean(
        self, kind: StartName, widths: tuple[int, ...]
    ) -> None:
        draws = [self.product(kind, 0.3, widths, seed) for seed in range(1500)]
        mean = torch.stack(draws).square().sum((1, 2)).mean().item()
        assert math.sqrt(mean) == pytest.approx(0.3, rel=0.06)

    def test_all_layers_of_a_scale_have_one_deviation(self) -> None:
        deviations = [layer.std().item() for layer in self.layers("scale", 1e-2, (300, 200, 400))]
        assert deviations[0] == pytest.approx(deviations[1], rel=0.02)

    @pytest.mark.parametrize("widths", [(5, 5), (5, 6, 8, 5), (7, 4, 4), (4, 6, 9)])
    def test_balanced_is_balanced(self, widths: tuple[int, ...]) -> None:
        layers = self.layers("balanced", 2.0, widths)
        for before, after in itertools.pairwise(layers):
            np.testing.assert_allclose(after.T @ after, before @ before.T, atol=1e-12)

    def test_identity(self) -> None:
        product = self.product("identity", 8e-3, (2, 2, 2, 2), 0)
        np.testing.assert_allclose(product, 8e-3 * np.eye(2), atol=1e-16)
        layers = self.layers("identity", 8e-3, (2, 2, 2, 2))
        np.testing.assert_allclose(layers[1], 0.2 * np.eye(2))

    @pytest.mark.parametrize("kind", ["balanced", "identity"])
    def test_too_narrow(self, kind: StartName) -> None:
        with pytest.raises(UsageError, match=r"widths 5-3-4.*at least 4"):
            self.layers(kind, 1.0, (5, 3, 4))

    def test_the_seed_decides_and_differs_from_the_problems_draws(self) -> None:
        one, same, other = (self.product("std", 1.0, (6, 6), seed) for seed in (3, 3, 4))
        assert torch.equal(one, same)
        assert not torch.equal(one, other)
        direct = torch.randn(6, 6, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
        assert not torch.equal(one, direct)


def test_imbalance_by_its_definition() -> None:
    layers = random_layers((5, 3, 6, 4))
    found = imbalance(layers)
    assert found is not None
    for row in range(3):
        one = [layer[row].numpy() for layer in layers]
        gaps = [np.linalg.norm(one[j + 1].T @ one[j + 1] - one[j] @ one[j].T) for j in range(2)]
        largest = max(np.linalg.norm(layer) ** 2 for layer in one)
        assert found[row].item() == pytest.approx(max(gaps) / largest)
    assert imbalance(layers[:1]) is None

"""The loop, against single problems trained by autograd and PyTorch's optimisers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from rankscope.errors import UsageError
from trainers.completion.cell import Cell, Initialisation, OptimiserName
from trainers.completion.descent import Batch, End, Plan, Task, descend, subnormals_flushed
from trainers.completion.factors import partial_products
from trainers.completion.optimisers import CLASSES
from trainers.completion.plateau import Plateau
from trainers.completion.running import task

SMALL = Cell(shape=(7, 6), width=8, rank=2, observed=20, lr=1e-2, start=Initialisation("std", 0.3))


def plan(cell: Cell, iterations: int, **other: object) -> Plan:
    known = Plan(cell.optimiser, cell.lr, iterations, None, dtype=torch.float64)
    return replace(known, **other)  # type: ignore[arg-type]


def endings(
    tasks: Sequence[Task], how: Plan
) -> tuple[dict[int, Tensor], dict[int, tuple[int, End]]]:
    """The last product of each task, and when and why it was the last."""
    products, reasons = {}, {}
    for visit in descend(tasks, how):
        for row, number in enumerate(visit.numbers):
            if number in visit.ended:
                products[number] = visit.product[row].clone()
                reasons[number] = (visit.step, visit.ended[number])
    return products, reasons


def penalty(name: str, matrix: Tensor) -> Tensor:
    sigma: Tensor = torch.linalg.svdvals(matrix)
    if name == "none":
        return sigma.sum() * 0
    if name == "nuclear":
        return sigma.sum()
    p, q = (1.0, 2.0) if name == "ratio" else (0.5, 2 / 3)
    above, below = sigma.pow(p).sum() ** (1 / p), sigma.pow(q).sum() ** (1 / q)
    return above / below


def product_of(layers: Sequence[Tensor]) -> Tensor:
    product = layers[0]
    for layer in layers[1:]:
        product = layer @ product
    return product


def naive(cell: Cell, steps: int) -> Tensor:
    """One problem by autograd, the loss written as in P2's Eq. 1."""
    made = task(cell)
    layers = [torch.nn.Parameter(layer.clone()) for layer in made.layers]
    options: dict[str, Any] = {"momentum": {"momentum": 0.9}, "amsgrad": {"amsgrad": True}}
    optimiser = CLASSES[cell.optimiser](layers, lr=cell.lr, **options.get(cell.optimiser, {}))  # type: ignore[call-arg]
    for _ in range(steps):
        product = product_of(layers)
        squares = (product - made.problem.target)[made.problem.observed] ** 2
        loss = {"sum": squares.sum(), "half-sum": squares.sum() / 2, "mean": squares.mean()}
        optimiser.zero_grad()
        total = loss[cell.loss] + cell.strength * penalty(cell.penalty, product)
        total.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return product_of(layers).detach()


@pytest.mark.parametrize("optimiser", get_args(OptimiserName))
@pytest.mark.parametrize("depth", [1, 3])
def test_a_batch_does_what_each_does_alone_by_autograd(
    optimiser: OptimiserName, depth: int
) -> None:
    base = replace(SMALL, optimiser=optimiser, depth=depth)
    cells = [
        replace(base, penalty="ratio", seed=0),
        replace(base, penalty="none", seed=1, observed=25),
        replace(base, penalty="nuclear", seed=2, strength=0.2),
        replace(base, penalty="schatten:1/2:2/3", seed=0, strength=0.01, loss="half-sum"),
        replace(base, penalty="ratio", seed=3, strength=0.3, loss="mean"),
    ]
    steps = 15  # later, RMSProp's steps of 0.01 make 1e-16 a different course
    products, _ = endings([task(cell) for cell in cells], plan(base, steps))
    for number, cell in enumerate(cells):
        moved = (products[number] - naive(cell, 0)).abs().max()
        assert moved > 1e-4 or optimiser == "adadelta"
        torch.testing.assert_close(products[number], naive(cell, steps), rtol=1e-10, atol=1e-10)


def test_the_names_are_those_of_the_classes() -> None:
    assert set(CLASSES) == set(get_args(OptimiserName))


@pytest.mark.parametrize("optimiser", get_args(OptimiserName))
def test_those_that_stay_go_on_as_if_nothing_had_left(optimiser: OptimiserName) -> None:
    base = replace(SMALL, optimiser=optimiser, depth=2)
    kinds = ("ratio", "none", "nuclear", "none")
    tasks = [task(replace(base, seed=i, penalty=kinds[i])) for i in range(4)]
    batch = Batch.of(tasks, plan(base, 40))
    updated(batch, 20)
    batch.drop({0, 3})
    updated(batch, 20)
    assert sorted(batch.numbers) == [1, 2]
    for row, number in enumerate(batch.numbers):
        alone, _ = endings([tasks[number]], plan(base, 40))
        product = partial_products(batch.layers)[-1][row]
        torch.testing.assert_close(product, alone[0], rtol=1e-10, atol=1e-10)


def updated(batch: Batch, steps: int) -> None:
    for _ in range(steps):
        batch.update(partial_products(batch.layers))


class TestEnding:
    def test_at_the_limit(self) -> None:
        _, reasons = endings([task(SMALL)], plan(SMALL, 37))
        assert reasons == {0: (37, "iterations")}

    def test_at_a_plateau(self) -> None:
        cell = replace(SMALL, shape=(4, 4), observed=8, lr=0.05)
        how = plan(cell, 10_000, plateau=Plateau(window=100), record_every=25)
        _, reasons = endings([task(cell)], how)
        # 0.9^n of the error is left after n updates: two level windows follow after some 50.
        step, why = reasons[0]
        assert why == "plateau"
        assert 200 <= step <= 350

    def test_what_diverges_leaves_the_others_alone(self) -> None:
        cells = [replace(SMALL, penalty="nuclear", strength=x, seed=1) for x in (1e200, 0.1)]
        how = plan(SMALL, 100, record_every=10)
        products, reasons = endings([task(cell) for cell in cells], how)
        assert reasons == {0: (10, "diverged"), 1: (100, "iterations")}
        alone, _ = endings([task(cells[1])], how)
        torch.testing.assert_close(products[1], alone[0], rtol=1e-12, atol=1e-12)

    def test_a_window_has_several_readings(self) -> None:
        with pytest.raises(UsageError, match="record_every is 300, expected at most 250"):
            Plan("gd", 0.1, 1000, Plateau(window=1000), record_every=300)


def test_it_is_read_when_it_is_due() -> None:
    how = plan(SMALL, 25, record_every=10, also=frozenset({3, 20, 22}))
    visits = list(descend([task(SMALL)], how))
    assert [visit.step for visit in visits] == [0, 3, 10, 20, 22, 25]
    assert [visit.readings[0].step for visit in visits] == [0, 3, 10, 20, 22, 25]


def test_float32_stays_float32() -> None:
    how = plan(replace(SMALL, penalty="ratio"), 2, dtype=torch.float32)
    visits = list(descend([task(replace(SMALL, penalty="ratio"))], how))
    assert {visit.product.dtype for visit in visits} == {torch.float32}


def test_subnormals_are_flushed_within_only() -> None:
    tiny = torch.tensor([1e-39])
    with subnormals_flushed():
        assert (tiny * 1.0).item() == 0
    assert (tiny * 1.0).item() > 0

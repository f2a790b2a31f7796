"""What makes training fast changes no number, or only the last digits of some."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file
from torch import Generator, Tensor, nn
from torch.nn.functional import batch_norm, cross_entropy, linear
from torch.utils._python_dispatch import TorchDispatchMode

from rankscope.errors import UsageError
from trainers import classify, images, imagestate, speed
from trainers.classify import Step, Update, score, train_epoch
from trainers.data import P1_POLICY, Augment, Images, Task, load, synthetic
from trainers.imageargs import Args
from trainers.imagestate import STATE, Keeper
from trainers.networks import build
from trainers.speed import Replayed, accelerated, channels_last, settle, warm_up

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

B = 8
RATES = (0.1, 0.1, 0.02)  # of the epochs of `trained`

# Momentum, and whether it is Nesterov's.
MOMENTA = [(0.0, False), (0.9, False), (0.9, True)]


@pytest.fixture(autouse=True)
def _settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What `settle` sets for the process goes back to what it was."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    products, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
    tf32 = products.allow_tf32, convolutions.allow_tf32
    yield
    products.allow_tf32, convolutions.allow_tf32 = tf32


def few(device: str = "cpu") -> Images:
    """Three batches of images and one more."""
    return synthetic(Task(train=3 * B + 1, test=B, side=8)).to(device)


def rehearsed(step: Callable[[], None], update: Update) -> Callable[[], None]:
    """What `recorded` does, but for the graph: the step itself is called each time."""
    warm_up(step, update)
    return step


def trained(
    arch: str,
    make: Callable[[Update], Step] = lambda update: update,
    *,
    at: int = 0,
    momentum: float = 0.9,
    device: str = "cpu",
) -> dict[str, Tensor]:
    """The state after three epochs of augmented images; the step is `make`'s from one on."""
    data = few(device)
    torch.manual_seed(3)
    model = build(arch, (3, 8, 8), 10).to(device)
    optimiser = torch.optim.SGD(
        model.parameters(), momentum=momentum, weight_decay=0.01, fused=device == "cuda" or None
    )
    batch = Augment(data, Generator().manual_seed(1), P1_POLICY)
    order = Generator().manual_seed(2)
    update = Update(model, optimiser)
    step: Step = update
    torch.manual_seed(4)  # of dropout
    for epoch, rate in enumerate(RATES):
        if epoch == at:
            step = make(update)
        update.set_rate(rate)
        for _ in train_epoch(model, step, batch, data.train_labels, B, order):
            pass
    return dict(model.state_dict())


def differing(found: Mapping[str, Any], expected: Mapping[str, Any]) -> list[str]:
    assert found.keys() == expected.keys()
    return [name for name in found if not (found[name] == expected[name]).all()]


def last(run: Path) -> dict[str, NDArray[Any]]:
    return load_file(sorted((run / "snapshots").iterdir())[-1])


def run(out: Path, **chosen: Any) -> dict[str, NDArray[Any]]:
    """The weights at the end."""
    small: dict[str, Any] = {"data": "synthetic", "limit": 16, "epochs": 2, "snapshots": 1}
    images.run(Args(out, **(small | {"batch_size": B} | chosen)))
    return last(out)


def interrupted(out: Path, **chosen: Any) -> tuple[dict[str, NDArray[Any]], ...]:
    """The weights of a run, and as they are when all after its first epoch is done again."""
    chosen = {"augment": True, "momentum": 0.9, **chosen}
    states: list[bytes] = []

    keep = Keeper.keep

    def keep_each(*args: Any) -> None:
        keep(*args)
        states.append((out / STATE).read_bytes())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(imagestate, "KEPT_SHARE", 1e9)
        patch.setattr(Keeper, "keep", keep_each)
        once = run(out, **chosen)
    (out / STATE).write_bytes(states[1])
    sorted((out / "snapshots").iterdir())[-1].unlink()
    return once, run(out, **chosen)


class TestReplayed:
    # The ViT's dropout draws random numbers; at epoch 1 there are momenta already.
    @pytest.mark.parametrize(("arch", "at"), [("mlp-bn-2-16", 0), ("mlp-bn-2-16", 1), ("vit", 0)])
    def test_the_same_to_the_bit(self, arch: str, at: int) -> None:
        found = trained(arch, partial(Replayed, record=rehearsed), at=at)
        assert differing(found, trained(arch)) == []

    def test_without_momentum(self) -> None:
        found = trained("mlp-bn-2-16", partial(Replayed, record=rehearsed), momentum=0)
        assert differing(found, trained("mlp-bn-2-16", momentum=0)) == []

    def test_what_was_recorded_is_what_is_trained(self) -> None:
        """A graph holds addresses: of inputs, labels, rate, weights, statistics, momenta."""
        torch.manual_seed(0)
        model = build("mlp-bn-2-16", (3, 8, 8), 10)
        optimiser = torch.optim.SGD(model.parameters(), momentum=0.9)
        update = Update(model, optimiser)
        seen: list[list[int]] = []

        class Watched(Update):
            def __call__(self, inputs: Tensor, truth: Tensor) -> None:
                super().__call__(inputs, truth)
                momenta = [state["momentum_buffer"] for state in optimiser.state.values()]
                rate = optimiser.param_groups[0]["lr"]
                used = [inputs, truth, rate, *model.state_dict().values(), *momenta]
                seen.append([tensor.data_ptr() for tensor in used])

        update = Watched(model, optimiser)
        step = Replayed(update, rehearsed)
        for rate in (0.1, 0.1, 0.01):
            update.set_rate(rate)
            step(torch.randn(B, 3, 8, 8), torch.randint(10, (B,)))
        assert len(seen) == 3 + 3  # three of them to warm up
        assert all(addresses == seen[0] for addresses in seen)

    def test_recorded_once(self) -> None:
        records = []

        def record(step: Callable[[], None], update: Update) -> Callable[[], None]:
            records.append(step)
            return step

        trained("mlp-bn-1-8", partial(Replayed, record=record))
        assert len(records) == 1

    def test_resumed_to_the_bit(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A run records its step anew when it goes on."""
        once, twice = interrupted(tmp_path / "plain")
        assert differing(twice, once) == []
        replayed = lambda update, *_: Replayed(update, rehearsed)  # noqa: E731
        monkeypatch.setattr(speed, "accelerated", replayed)
        for found in interrupted(tmp_path / "replayed"):
            assert differing(found, once) == []

    def test_not_on_the_cpu(self) -> None:
        model = build("mlp-bn-1-8", (3, 8, 8), 10)
        update = Update(model, torch.optim.SGD(model.parameters()))
        assert accelerated(update, "none") is update
        assert accelerated(update, "compile") is update


@needs_cuda
class TestOnTheDevice:
    @pytest.mark.parametrize("at", [0, 1])
    @pytest.mark.parametrize("arch", ["mlp-bn-2-16", "resnet18", "vgg16", "vit"])
    def test_a_graph_gives_the_same_to_the_bit(self, arch: str, at: int) -> None:
        settle("cuda", "fp32", "cuda-graph")
        make = partial(accelerated, graph="cuda-graph")
        found = trained(arch, make, at=at, device="cuda")
        assert differing(found, trained(arch, device="cuda")) == []

    @pytest.mark.parametrize("graph", ["none", "cuda-graph"])
    def test_resumed_to_the_bit(self, tmp_path: Path, graph: str) -> None:
        once, twice = interrupted(tmp_path / "run", arch="vit", device="cuda", graph=graph)
        assert differing(twice, once) == []

    @pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
    @pytest.mark.parametrize("graph", ["none", "cuda-graph"])
    def test_every_combination_trains(self, tmp_path: Path, precision: str, graph: str) -> None:
        chosen: dict[str, Any] = {"precision": precision, "graph": graph, "channels_last": True}
        found = run(tmp_path / "run", arch="resnet18", device="cuda", **chosen)
        assert all(np.isfinite(array).all() for array in found.values())

    def test_nothing_waits_for_the_device(self) -> None:
        data = few("cuda")
        model = build("resnet18", (3, 8, 8), 10).cuda()
        update = Update(model, torch.optim.SGD(model.parameters(), fused=True))
        inputs, truth = data.train_images[:B].float(), data.train_labels[:B]
        update(inputs, truth)
        torch.cuda.set_sync_debug_mode("error")
        try:
            update.set_rate(0.5)
            update(inputs, truth)
        finally:
            torch.cuda.set_sync_debug_mode("default")


class Waits(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts what would wait for a device: reading a number off it."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        self.calls[func.name()] += 1
        return func(*args, **(kwargs or {}))

    @property
    def count(self) -> int:
        return sum(
            self.calls[f"aten::{name}"] for name in ("_local_scalar_dense", "equal", "nonzero")
        )


class TestNothingWaits:
    def test_in_a_step(self) -> None:
        model = build("mlp-bn-1-8", (3, 8, 8), 10)
        update = Update(model, torch.optim.SGD(model.parameters(), momentum=0.9, fused=True))
        with Waits() as waits:
            update.set_rate(0.5)
            update(torch.randn(B, 3, 8, 8), torch.randint(10, (B,)))
        assert waits.calls["aten::_fused_sgd_.tensor_lr"] == 1
        assert waits.count == 0

    def test_in_scoring_but_at_the_end(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(classify, "SCORED", 2)
        model = build("mlp-bn-1-8", (3, 8, 8), 10)
        with Waits() as waits:
            score(model, torch.randn(B, 3, 8, 8), torch.randint(10, (B,)))
        assert waits.calls["aten::argmax"] == B // 2
        assert waits.count == 0  # .tolist() is a copy of both sums

    def test_the_counter_counts(self) -> None:
        with Waits() as waits:
            torch.ones(1).item()
        assert waits.count == 1


def test_scores_are_those_of_the_samples_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classify, "SCORED", 3)
    torch.manual_seed(0)
    model = build("mlp-bn-1-8", (3, 8, 8), 10).eval()
    samples, labels = torch.randn(B, 3, 8, 8), torch.randint(10, (B,))
    logits = model(samples).detach().double().numpy()
    losses = [
        np.log(np.exp(row).sum()) - row[label] for row, label in zip(logits, labels, strict=True)
    ]
    hits = [row.argmax() == label for row, label in zip(logits, labels, strict=True)]
    loss, accuracy = score(model, samples, labels)
    assert loss == pytest.approx(np.mean(losses), rel=1e-6)
    assert accuracy == np.mean(hits)


class TestEpoch:
    def seen(self, prepared: int, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Tensor, Tensor]]:
        """The batches of two epochs."""
        monkeypatch.setattr(classify, "PREPARED", prepared)
        data = few()
        batch = Augment(data, Generator().manual_seed(1), P1_POLICY)
        order = Generator().manual_seed(2)
        found: list[tuple[Tensor, Tensor]] = []
        for _ in range(2):
            step = lambda *pair: found.append(pair)  # noqa: E731
            for _ in train_epoch(nn.Identity(), step, batch, data.train_labels, B, order):
                pass
        return found

    def test_as_when_each_batch_is_made_by_itself(self, monkeypatch: pytest.MonkeyPatch) -> None:
        one_by_one, at_once = (self.seen(number, monkeypatch) for number in (1, 1000))
        assert len(one_by_one) == len(at_once) == 6
        for one, other in zip(one_by_one, at_once, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))

    def test_every_sample_once_in_a_new_order(self) -> None:
        labels = torch.arange(3 * B + 1)
        order = Generator().manual_seed(0)
        epochs: list[list[int]] = []
        for _ in range(2):
            batches: list[Tensor] = []
            step = lambda *pair: batches.append(pair[1])  # noqa: B023, E731
            for _ in train_epoch(nn.Identity(), step, labels.__getitem__, labels, B, order):
                pass
            assert [len(truth) for truth in batches] == [B] * 3
            epochs.append(torch.cat(batches).tolist())
        assert all(len(set(seen)) == 3 * B for seen in epochs)
        assert epochs[0] != epochs[1]
        assert epochs[0] != sorted(epochs[0])


class TestRate:
    @pytest.mark.parametrize(("momentum", "nesterov"), MOMENTA)
    def test_as_a_number_to_the_bit(self, momentum: float, nesterov: bool) -> None:
        torch.manual_seed(0)
        models = [build("mlp-bn-2-16", (3, 8, 8), 10) for _ in range(2)]
        models[1].load_state_dict(models[0].state_dict())
        first, second = (
            torch.optim.SGD(
                model.parameters(), momentum=momentum, nesterov=nesterov, weight_decay=0.01
            )
            for model in models
        )
        update = Update(models[0], first)
        for rate in (0.3, 0.3, 0.1, 1e-3):  # no float32 is one of these
            inputs, truth = torch.randn(B, 3, 8, 8), torch.randint(10, (B,))
            update.set_rate(rate)
            update(inputs, truth)
            second.param_groups[0]["lr"] = rate
            second.zero_grad()
            cross_entropy(models[1](inputs), truth).backward()  # type: ignore[no-untyped-call]
            second.step()
        assert differing(models[0].state_dict(), models[1].state_dict()) == []

    def test_a_state_with_another_rate_is_restored(self) -> None:
        model = build("mlp-bn-1-8", (3, 8, 8), 10)
        optimiser = torch.optim.SGD(model.parameters(), lr=0.5)
        state = optimiser.state_dict()
        update = Update(model, optimiser)
        optimiser.load_state_dict(state)
        update.set_rate(0.25)
        weight = model.get_parameter("output.weight")
        before = weight.detach().clone()
        update(torch.randn(B, 3, 8, 8), torch.randint(10, (B,)))
        assert weight.grad is not None
        assert torch.allclose(before - weight, 0.25 * weight.grad, atol=1e-7)


def by_hand(
    weights: dict[str, Tensor], rates: list[float], momentum: float, nesterov: bool
) -> dict[str, Tensor]:
    """MLP-BN-1-8 trained in float64 with tensor operations alone, 16 of 48 images a step."""
    data = load("digits", limit=48)
    pixels = data.train_images.double().flatten(1)
    pixels = (pixels - pixels.mean()) / pixels.std(correction=0)
    order = Generator().manual_seed(0)
    values = {name: tensor.double().requires_grad_() for name, tensor in weights.items()}
    velocity: dict[str, Tensor] = {}
    for rate in rates:
        for chosen in torch.randperm(48, generator=order).view(3, 16):
            hidden = pixels[chosen] @ values["hidden.0.weight"].T + values["hidden.0.bias"]
            centred = hidden - hidden.mean(0)
            normal = centred / (centred.square().mean(0) + 1e-5).sqrt()
            active = (normal * values["norm.0.weight"] + values["norm.0.bias"]).clamp(min=0)
            logits = active @ values["output.weight"].T + values["output.bias"]
            own = logits[torch.arange(16), data.train_labels[chosen]]
            loss = (logits.exp().sum(1).log() - own).mean()
            gradients = torch.autograd.grad(loss, list(values.values()))
            for (name, value), gradient in zip(values.items(), gradients, strict=True):
                step = gradient + 0.05 * value.detach()
                velocity[name] = momentum * velocity.get(name, torch.zeros_like(step)) + step
                step = step + momentum * velocity[name] if nesterov else velocity[name]
                values[name] = (value.detach() - rate * step).requires_grad_()
    return {name: value.detach() for name, value in values.items()}


@pytest.mark.parametrize(("momentum", "nesterov"), MOMENTA)
def test_schedule_and_weight_decay_are_those_of_sgd_by_hand(
    tmp_path: Path, momentum: float, nesterov: bool
) -> None:
    """P1's drops, at 12, 20 and 40 percent of the epochs."""
    rates = [0.2] + [0.02] + [0.002] * 2 + [0.0002] * 6
    sizes: dict[str, Any] = {"data": "digits", "limit": 48, "batch_size": 16, "epochs": 10}
    chosen: dict[str, Any] = {"mu": 0.2, "weight_decay": 0.05, "momentum": momentum}
    found = run(tmp_path / "run", arch="mlp-bn-1-8", nesterov=nesterov, **sizes, **chosen)
    torch.manual_seed(0)
    model = build("mlp-bn-1-8", (1, 8, 8), 10)
    started = {name: weight.detach() for name, weight in model.named_parameters()}
    expected = by_hand(started, rates, momentum, nesterov)
    for name, weight in expected.items():
        np.testing.assert_allclose(found[name], weight.numpy(), rtol=1e-4, atol=1e-5)


class TestPrecision:
    def test_bf16_is_a_float32_update_of_a_rounded_pass(self, tmp_path: Path) -> None:
        """What goes into matrix products is rounded, written out; the weights are not."""
        chosen: dict[str, Any] = {"limit": B, "epochs": 1, "mu": 0.5, "weight_decay": 0.1}
        found = run(tmp_path / "run", arch="mlp-bn-1-8", precision="bf16", **chosen)
        torch.manual_seed(0)
        data = load("synthetic", limit=B)
        weights = dict(build("mlp-bn-1-8", (3, 32, 32), 10).named_parameters())
        short = {name: weight.bfloat16() for name, weight in weights.items()}
        chosen_first = torch.randperm(B, generator=Generator().manual_seed(0))
        images = Augment(data, Generator()).standardise(data.train_images[chosen_first])
        hidden = linear(
            images.flatten(1).bfloat16(), short["hidden.0.weight"], short["hidden.0.bias"]
        )
        scale, shift = weights["norm.0.weight"], weights["norm.0.bias"]
        active = batch_norm(hidden, None, None, scale, shift, training=True).relu()
        logits = linear(active, short["output.weight"], short["output.bias"])
        loss = cross_entropy(logits.float(), data.train_labels[chosen_first])
        loss.backward()  # type: ignore[no-untyped-call]
        for name, weight in weights.items():
            assert weight.grad is not None
            expected = weight - 0.5 * (weight.grad + 0.1 * weight)
            assert found[name].dtype == np.float32
            np.testing.assert_allclose(found[name], expected.detach().numpy(), rtol=1e-5, atol=1e-7)

    def test_bf16_rounds_the_logits_and_not_the_loss(self) -> None:
        torch.manual_seed(0)
        model = build("mlp-bn-1-8", (3, 8, 8), 10)
        inputs, truth = torch.randn(B, 3, 8, 8), torch.randint(10, (B,))
        update = Update(model, torch.optim.SGD(model.parameters()), bf16=True)
        logits: list[Tensor] = []
        model.get_submodule("output").register_forward_hook(lambda *call: logits.append(call[2]))
        loss = update.loss(inputs, truth)
        assert logits[0].dtype == torch.bfloat16
        assert torch.equal(loss, cross_entropy(logits[0].float(), truth))

    @pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
    def test_float32_is_rounded_for_tf32_only(self, precision: Any) -> None:
        settle("cpu", precision, "none")
        rounds = precision == "tf32"
        assert torch.backends.cuda.matmul.allow_tf32 is rounds
        assert torch.backends.cudnn.allow_tf32 is rounds


class TestMemoryFormat:
    def test_the_same_to_round_off(self) -> None:
        """In float64, whose round-off three steps of a deep network leave small."""
        states = []
        data = few()
        for memory_format in (torch.contiguous_format, torch.channels_last):
            torch.manual_seed(0)
            model = build("resnet18", (3, 8, 8), 10).double()
            model.to(memory_format=memory_format)  # type: ignore[call-overload]
            update = Update(model, torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9))
            standardised = Augment(data, Generator()).standardise
            images = data.train_images.double()
            batch = lambda some: standardised(images[some]).double()  # noqa: B023, E731
            if memory_format == torch.channels_last:
                batch = channels_last(batch)
            order = Generator().manual_seed(0)
            for _ in train_epoch(model, update, batch, data.train_labels, B, order):
                pass
            states.append(model.state_dict())
        assert states[0].keys() == states[1].keys()
        for name, tensor in states[0].items():
            torch.testing.assert_close(tensor, states[1][name], rtol=1e-9, atol=1e-9)

    def test_weights_and_images_lie_so(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen = []

        class Watched(Update):
            def __call__(self, inputs: Tensor, truth: Tensor) -> None:
                weights = [w for w in self.model.parameters() if w.ndim == 4 and w.shape[2] > 1]
                seen.extend([inputs, *weights])

        monkeypatch.setattr(classify, "Update", Watched)
        run(tmp_path / "run", arch="resnet18", channels_last=True, limit=B, epochs=1)
        assert len(seen) == 18
        assert all(t.is_contiguous(memory_format=torch.channels_last) for t in seen)


class TestCompiled:
    def test_the_step_is_that_of_the_compiled_function(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Traced, and then run operation by operation."""
        graphs = []

        def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
            graphs.append(graph)
            return graph.forward

        monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
        monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
        found = run(tmp_path / "compiled", graph="compile")
        assert len(graphs) == 1
        assert differing(found, run(tmp_path / "plain")) == []
        assert len(graphs) == 1


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"precision": "fp16"}, "precision is 'fp16', expected one of fp32, tf32, bf16"),
        ({"graph": "on"}, "graph is 'on', expected one of none, cuda-graph, compile"),
        ({"precision": "tf32"}, "precision is tf32, which needs a CUDA device, and device is cpu"),
        ({"graph": "cuda-graph"}, "graph is cuda-graph, which needs a CUDA device"),
    ],
)
def test_what_cannot_be_is_refused(chosen: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Args(Path("run"), **chosen)


def test_without_a_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(UsageError, match="there is no compiler no-such-compiler"):
        run(tmp_path / "run", graph="compile")
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a CUDA device")
def test_without_a_device(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="finds no CUDA device: choose cpu"):
        run(tmp_path / "run", device="cuda", graph="cuda-graph")
    assert not (tmp_path / "run").exists()


def test_the_workspace_is_fixed_before_anything_is_on_a_device(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    run(tmp_path / "run")
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] in (":4096:8", ":16:8")

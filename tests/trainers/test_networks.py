"""P1's networks: published sizes, naive reimplementations, and what a run says of them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - its usual name

import rankscope
from rankscope import Analysis, Selection
from rankscope.errors import UsageError
from rankscope.how import How
from rankscope.snapshots import RunRecord, SnapshotWriter
from trainers.networks import ARCHITECTURES, Network, Vit, build, records
from trainers.networks.vit import Layer

CIFAR, MNIST, DIGITS = (3, 32, 32), (1, 28, 28), (1, 8, 8)
ARCHS = ["resnet18", "vgg16", "mlp-bn-3-12", "res-bn-2-12", "vit"]


@pytest.fixture(autouse=True)
def _same_numbers() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def trained_a_little(model: nn.Module) -> None:
    """Give what starts as 0 or 1 other numbers: gains, shifts, running statistics, biases."""
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            if tensor.ndim == 1 and tensor.is_floating_point():
                tensor.uniform_(0.5, 1.5)


def arrays(model: nn.Module) -> dict[str, np.ndarray]:
    return {name: tensor.numpy().copy() for name, tensor in model.state_dict().items()}


class TestSizes:
    def test_resnet18_of_cifar10(self) -> None:
        assert parameters(build("resnet18", CIFAR, 10)) == 11_173_962

    def test_vgg16_with_batch_norm(self) -> None:
        model = build("vgg16", CIFAR, 10)
        assert parameters(model) - parameters(model.get_submodule("output")) == 14_723_136
        assert parameters(model) == 14_728_266

    def test_mlp(self) -> None:
        first, others, norms, output = 3073 * 100, 9 * 101 * 100, 10 * 200, 1010
        assert parameters(build("mlp-bn-10-100", CIFAR, 10)) == first + others + norms + output

    def test_residual(self) -> None:
        block = 2 * 500 * 500 + 2 * 2 * 500
        assert parameters(build("res-bn-5-500", CIFAR, 10)) == 3073 * 500 + 5 * block + 5010

    def test_vit_has_the_layers_of_torch(self) -> None:
        tokens = 48 * 512 + 512 + 512 + 65 * 512
        expected = tokens + 6 * parameters(torch_layer()) + 2 * 512 + 5130
        assert parameters(build("vit", CIFAR, 10)) == expected


class TestAnyNetwork:
    @pytest.mark.parametrize("arch", ARCHS)
    @pytest.mark.parametrize("shape", [CIFAR, MNIST, DIGITS])
    def test_takes_images_of_every_data_set(self, arch: str, shape: tuple[int, int, int]) -> None:
        model = build(arch, shape, 7)
        logits = model(torch.randn(2, *shape))
        assert logits.shape == (2, 7)
        assert logits.isfinite().all()

    @pytest.mark.parametrize("arch", ARCHS)
    def test_every_parameter_gets_a_gradient(self, arch: str) -> None:
        model = build(arch, DIGITS, 10)
        F.cross_entropy(model(torch.randn(6, *DIGITS)), torch.arange(6)).backward()  # type: ignore[no-untyped-call]
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
            # A bias in front of batch norm has none, but for rounding.
            assert parameter.grad.any() or parameter.ndim == 1, name

    @pytest.mark.parametrize("arch", ARCHS)
    def test_a_seed_makes_one_model(self, arch: str) -> None:
        def state(seed: int) -> dict[str, Tensor]:
            torch.manual_seed(seed)
            return build(arch, DIGITS, 10).state_dict()

        first, same, other = state(3), state(3), state(4)
        assert all(torch.equal(first[name], same[name]) for name in first)
        assert any(not torch.equal(first[name], other[name]) for name in first)

    @pytest.mark.parametrize("arch", [arch for arch in ARCHS if arch != "vit"])
    def test_leaky_reaches_every_activation(self, arch: str) -> None:
        model = build(arch, DIGITS, 10, leaky_relu=True)
        slopes = {m.negative_slope for m in model.modules() if isinstance(m, nn.LeakyReLU)}
        assert slopes == {0.01}
        assert not [m for m in model.modules() if isinstance(m, nn.ReLU)]
        plain = build(arch, DIGITS, 10)
        assert not [m for m in plain.modules() if isinstance(m, nn.LeakyReLU)]

    def test_leaky_is_no_other_initialisation(self) -> None:
        plain = build("resnet18", DIGITS, 10).state_dict()
        torch.manual_seed(0)
        leaky = build("resnet18", DIGITS, 10, leaky_relu=True).state_dict()
        assert plain.keys() == leaky.keys()
        assert all(torch.equal(plain[name], leaky[name]) for name in plain)


class TestBuild:
    @pytest.mark.parametrize(
        "arch",
        [
            *("", "resnet-18", "ResNet18", "vgg", "mlp-bn-10", "mlp-bn-0-5", "res-bn-5-0"),
            *("mlp-bn-10-100\n", "mlp-bn--1-5", "mlp-bn-٣-10", "xres-bn-1-2", "mlp-bn-L-H"),
            "mlp-bn-1-" + 5000 * "9",
        ],
    )
    def test_an_unknown_name_is_told_the_known_ones(self, arch: str) -> None:
        with pytest.raises(UsageError) as caught:
            build(arch, CIFAR, 10)
        assert all(name in str(caught.value) for name in (repr(arch), *ARCHITECTURES))
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        ("arch", "shape", "message"),
        [
            ("vgg16", (3, 33, 32), "images are 33x32, vgg16 expects at most 32x32"),
            ("vit", (3, 32, 30), "images are 32x30, vit expects multiples of 4"),
            ("mlp-bn-1-1", (0, 8, 8), "expected positive numbers"),
        ],
    )
    def test_images_that_do_not_fit(
        self, arch: str, shape: tuple[int, int, int], message: str
    ) -> None:
        with pytest.raises(UsageError, match=message):
            build(arch, shape, 10)

    def test_no_classes(self) -> None:
        with pytest.raises(UsageError, match="classes 0, expected positive numbers"):
            build("vit", CIFAR, 0)

    def test_a_vit_has_no_relu_to_leak(self) -> None:
        with pytest.raises(UsageError, match="vit has GELUs"):
            build("vit", CIFAR, 10, leaky_relu=True)


class Naive:
    """Networks of P1, appendix B.1, computed number by number from the tensors of a snapshot."""

    def __init__(self, model: Network, slope: float, training: bool) -> None:
        self.state = arrays(model)
        self.slope = slope
        self.training = training

    def linear(self, name: str, sample: np.ndarray) -> np.ndarray:
        weight = self.state[f"{name}.weight"]
        bias = self.state.get(f"{name}.bias", np.zeros(len(weight)))
        return np.array([row @ sample + b for row, b in zip(weight, bias, strict=True)])

    def sigma(self, sample: np.ndarray) -> np.ndarray:
        return np.array([x if x > 0 else self.slope * x for x in sample])

    def norm(self, name: str, batch: list[np.ndarray]) -> list[np.ndarray]:
        mean, variance = (self.state[f"{name}.running_{what}"] for what in ("mean", "var"))
        if self.training:
            mean = np.stack(batch).mean(axis=0)
            variance = ((np.stack(batch) - mean) ** 2).mean(axis=0)
        gain, shift = self.state[f"{name}.weight"], self.state[f"{name}.bias"]
        return [gain * (sample - mean) / np.sqrt(variance + 1e-5) + shift for sample in batch]

    def half(self, linear: str, norm: str, batch: list[np.ndarray]) -> list[np.ndarray]:
        """sigma(n(W z)) of each sample."""
        normed = self.norm(norm, [self.linear(linear, sample) for sample in batch])
        return [self.sigma(sample) for sample in normed]

    def residual(self, depth: int, batch: list[np.ndarray]) -> list[np.ndarray]:
        values = [self.linear("input", sample) for sample in batch]
        for i in range(depth):
            inner = self.half(f"blocks.{i}.linear1", f"blocks.{i}.norm1", values)
            outer = self.half(f"blocks.{i}.linear2", f"blocks.{i}.norm2", inner)
            values = [z + added for z, added in zip(values, outer, strict=True)]
        return [self.linear("output", sample) for sample in values]

    def mlp(self, depth: int, batch: list[np.ndarray]) -> list[np.ndarray]:
        for i in range(depth):
            batch = self.half(f"hidden.{i}", f"norm.{i}", batch)
        return [self.linear("output", sample) for sample in batch]


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("leaky_relu", [False, True])
@pytest.mark.parametrize("family", ["mlp", "res"])
def test_mlps_are_what_the_paper_writes(family: str, leaky_relu: bool, training: bool) -> None:
    model = build(f"{family}-bn-3-7", (2, 3, 4), 5, leaky_relu=leaky_relu).double()
    trained_a_little(model)
    model.train(training)
    naive = Naive(model, 0.01 if leaky_relu else 0.0, training)
    images = torch.randn(6, 2, 3, 4, dtype=torch.float64)
    samples = list(images.numpy().reshape(6, 24))
    expected = naive.mlp(3, samples) if family == "mlp" else naive.residual(3, samples)
    np.testing.assert_allclose(model(images).detach().numpy(), np.stack(expected), rtol=1e-10)


def convolved(images: Tensor, weight: Tensor, bias: Tensor | None, stride: int) -> Tensor:
    """A convolution as patches times a matrix; a 3x3 one pads by 1."""
    side = weight.shape[-1]
    patches = F.unfold(images, side, padding=side // 2, stride=stride)
    values = weight.flatten(1) @ patches
    if bias is not None:
        values = values + bias[:, None]
    height = -(-images.shape[2] // stride)
    return values.reshape(len(images), len(weight), height, -1)


def normed(values: Tensor, state: dict[str, Tensor], name: str) -> Tensor:
    gain, shift, mean, variance = (
        state[f"{name}.{what}"][:, None, None]
        for what in ("weight", "bias", "running_mean", "running_var")
    )
    return gain * (values - mean) / (variance + 1e-5).sqrt() + shift


class TestVgg:
    def test_is_five_stages_of_convolutions_and_poolings(self) -> None:
        model = build("vgg16", (3, 31, 32), 10, leaky_relu=True).double().eval()
        trained_a_little(model)
        images = torch.randn(1, 3, 31, 32, dtype=torch.float64)
        state = model.state_dict()
        values = torch.cat([images, torch.zeros(1, 3, 1, 32)], dim=2)
        layer = 0
        for convolutions in (2, 2, 3, 3, 3):
            for _ in range(convolutions):
                name = f"convolutions.{layer}"
                values = convolved(values, state[f"{name}.weight"], state[f"{name}.bias"], 1)
                values = normed(values, state, f"norm.{layer}")
                values = values.maximum(0.01 * values)
                layer += 1
            side = values.shape[2] // 2
            values = values.reshape(1, -1, side, 2, side, 2).amax((3, 5))
        expected = values.flatten(1) @ state["output.weight"].T + state["output.bias"]
        torch.testing.assert_close(model(images), expected)

    @pytest.mark.parametrize("side", [28, 8])
    def test_small_images_stand_in_the_middle(self, side: int) -> None:
        model = build("vgg16", (1, side, side), 10).eval()
        images, edge = torch.randn(2, 1, side, side), (32 - side) // 2
        whole = torch.zeros(2, 1, 32, 32)
        whole[:, :, edge : edge + side, edge : edge + side] = images
        assert torch.equal(model(images), model(whole))


def test_resnet_is_that_of_he_et_al() -> None:
    model = build("resnet18", (3, 10, 12), 10, leaky_relu=True).double().eval()
    trained_a_little(model)
    images = torch.randn(2, 3, 10, 12, dtype=torch.float64)
    state = model.state_dict()

    def step(values: Tensor, weight: str, norm: str, stride: int = 1) -> Tensor:
        return normed(convolved(values, state[weight], None, stride), state, norm)

    def leaky(values: Tensor) -> Tensor:
        return values.maximum(0.01 * values)

    values = leaky(step(images, "stem.weight", "norm"))
    for i in range(8):
        block, stride = f"blocks.{i}", 2 if i in (2, 4, 6) else 1
        inner = leaky(step(values, f"{block}.conv1.weight", f"{block}.norm1", stride))
        inner = step(inner, f"{block}.conv2.weight", f"{block}.norm2")
        if stride == 2:
            values = step(values, f"{block}.shortcut.0.weight", f"{block}.shortcut.1", 2)
        values = leaky(inner + values)
        assert values.shape[1] == 64 * 2 ** (i // 2)
    assert values.shape[2:] == (2, 2)
    expected = values.mean((2, 3)) @ state["output.weight"].T + state["output.bias"]
    torch.testing.assert_close(model(images), expected)


def torch_layer() -> nn.TransformerEncoderLayer:
    return nn.TransformerEncoderLayer(
        512, 8, 512, dropout=0.1, activation="gelu", batch_first=True, norm_first=True
    )


def as_torch_layer(layer: Layer) -> nn.TransformerEncoderLayer:
    """PyTorch's layer with the same weights, and dropout in the MLP only."""
    theirs, state = torch_layer(), layer.state_dict()
    heads = [f"attention.{name}" for name in ("query", "key", "value")]
    same = {"self_attn.out_proj": "attention.out", "linear1": "mlp.up", "linear2": "mlp.down"}
    names = {**same, "norm1": "norm1", "norm2": "norm2"}
    content = {}
    for kind in ("weight", "bias"):
        content[f"self_attn.in_proj_{kind}"] = torch.cat([state[f"{h}.{kind}"] for h in heads])
        content.update({f"{a}.{kind}": state[f"{b}.{kind}"] for a, b in names.items()})
    theirs.load_state_dict(content)
    theirs.self_attn.dropout = 0.0
    theirs.dropout1.p = 0.0
    return theirs.double()


class TestVit:
    @pytest.fixture
    def model(self) -> Vit:
        model = build("vit", (3, 8, 12), 10).double()
        assert isinstance(model, Vit)
        trained_a_little(model)
        return model

    @pytest.mark.parametrize("training", [False, True])
    def test_is_torchs_encoder_between_patches_and_an_output(
        self, model: Vit, training: bool
    ) -> None:
        images = torch.randn(5, 3, 8, 12, dtype=torch.float64)
        state = model.state_dict()
        # 2 x 3 patches of 3 x 4 x 4 numbers, row by row.
        patches = images.reshape(5, 3, 2, 4, 3, 4).permute(0, 2, 4, 1, 3, 5)
        embedded = patches.reshape(5, 6, 48) @ state["patch_embedding.weight"].flatten(1).T
        embedded = embedded + state["patch_embedding.bias"]
        first = state["class_token"].expand(5, 1, 512)
        values = torch.cat([first, embedded], dim=1) + state["position_embedding"]
        theirs = [as_torch_layer(layer) for layer in model.layers if isinstance(layer, Layer)]
        assert len(theirs) == 6
        torch.manual_seed(1)  # in training, the same numbers are dropped in the same places
        for layer in theirs:
            values = layer.train(training)(values)
        values = F.layer_norm(values[:, 0], (512,), state["norm.weight"], state["norm.bias"])
        expected = values @ state["output.weight"].T + state["output.bias"]
        torch.manual_seed(1)
        torch.testing.assert_close(model.train(training)(images), expected)

    def test_drops_a_tenth_of_the_mlp(self, model: Vit) -> None:
        dropouts = {n: m.p for n, m in model.named_modules() if isinstance(m, nn.Dropout)}
        assert dropouts == {f"layers.{layer}.mlp.dropout": 0.1 for layer in range(6)}
        images = torch.randn(2, 3, 8, 12, dtype=torch.float64)
        assert not torch.equal(model(images), model(images))
        model.eval()
        assert torch.equal(model(images), model(images))


def places(model: Network, shape: tuple[int, int, int]) -> dict[str, int]:
    """Height times width of what each convolution returns, seen from outside."""
    found: dict[str, int] = {}
    hooks = [
        module.register_forward_hook(
            lambda _, __, out, name=name: found.update({f"{name}.weight": out[0, 0].numel()})
        )
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d)
    ]
    model(torch.randn(2, *shape))
    for hook in hooks:
        hook.remove()
    return found


class TestRecords:
    @pytest.mark.parametrize(
        ("arch", "shape"), [("resnet18", MNIST), ("resnet18", DIGITS), ("vgg16", MNIST)]
    )
    def test_a_convolution_has_an_input_for_each_place(
        self, arch: str, shape: tuple[int, int, int]
    ) -> None:
        model = build(arch, shape, 10)
        counted = {r.name: r.inputs_per_sample for r in records(model, shape)}
        assert counted == {**places(model, shape), "output.weight": 1}

    def test_of_cifar(self) -> None:
        found = {r.name: r for r in records(build("resnet18", CIFAR, 10), CIFAR)}
        blocks = [[found[f"blocks.{i}.conv{j}.weight"] for j in (1, 2)] for i in range(8)]
        counts = [[record.inputs_per_sample for record in block] for block in blocks]
        assert counts == [[1024] * 2] * 2 + [[256] * 2] * 2 + [[64] * 2] * 2 + [[16] * 2] * 2
        assert found["stem.weight"].inputs_per_sample == 1024
        assert found["blocks.2.shortcut.0.weight"].inputs_per_sample == 256
        assert found["stem.weight"].kind == "convolution"
        assert found["output.weight"].kind == "linear"

    def test_a_vit_has_an_input_for_each_token(self) -> None:
        found = {r.name: r for r in records(build("vit", CIFAR, 10), CIFAR)}
        others = {"patch_embedding.weight": 64, "position_embedding": None, "output.weight": 1}
        assert {name: found.pop(name).inputs_per_sample for name in others} == others
        assert len(found) == 36
        assert {(r.kind, r.inputs_per_sample, r.averaged) for r in found.values()} == {
            ("linear", 65, True)
        }

    @pytest.mark.parametrize(
        ("arch", "averaged", "others"),
        [
            ("resnet18", 17, [*(f"blocks.{i}.shortcut.0.weight" for i in (2, 4, 6))]),
            ("vgg16", 13, []),
            ("mlp-bn-10-100", 10, []),
            ("res-bn-5-50", 11, []),
            ("vit", 37, ["position_embedding"]),
        ],
    )
    def test_the_trunk_is_averaged(self, arch: str, averaged: int, others: list[str]) -> None:
        model = build(arch, DIGITS, 10)
        found = records(model, DIGITS)
        assert {r.name for r in found if not r.averaged} == {"output.weight", *others}
        assert {r.name for r in found if r.averaged} == model.averaged()
        assert len(model.averaged()) == averaged

    @pytest.mark.parametrize("training", [False, True])
    @pytest.mark.parametrize("arch", ["resnet18", "mlp-bn-3-12", "vit"])
    def test_nothing_is_left_behind(self, arch: str, training: bool) -> None:
        model = build(arch, DIGITS, 10).train(training)
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        numbers = torch.get_rng_state()
        records(model, DIGITS)
        assert torch.equal(torch.get_rng_state(), numbers)
        after = model.state_dict()
        assert all(torch.equal(before[name], after[name]) for name in before)
        assert all(module.training is training for module in model.modules())


def analysed(
    run: Path, arch: str, shape: tuple[int, int, int], include: tuple[str, ...] = ()
) -> Analysis:
    """The initialisation of a network as it comes back from a run directory."""
    model = build(arch, shape, 10)
    with SnapshotWriter(run, RunRecord(model=arch, matrices=records(model, shape))) as writer:
        writer.save(0, model)
    return rankscope.analyze(
        run,
        metrics=("rank", "numerical_rank"),
        selection=Selection(include=include),
        how=How(workers=1, store=False),
    )


class TestRoundTrip:
    @pytest.mark.parametrize(
        ("arch", "matrices", "averaged", "full"),
        [
            # The first convolution has 27 columns; the others have fewer rows than columns.
            ("resnet18", 21, 17, (27 + 4 * 64 + 4 * 128 + 4 * 256 + 4 * 512) / 17),
            ("vgg16", 14, 13, (27 + 64 + 2 * 128 + 3 * 256 + 6 * 512) / 13),
            ("mlp-bn-10-100", 11, 10, 100),
            ("res-bn-3-60", 8, 7, 60),
        ],
    )
    def test_starts_with_full_rank(
        self, tmp_path: Path, arch: str, matrices: int, averaged: int, full: float
    ) -> None:
        table = analysed(tmp_path, arch, CIFAR)
        (summary,) = table.summary
        assert (summary["matrices"], summary["averaged"]) == (matrices, averaged)
        assert summary["unmeasured"] == 0
        assert summary["numerical_rank"] == pytest.approx(full, abs=1e-9)
        # At eps 1e-3 a random H x H matrix lacks some directions. Of its singular values over
        # sqrt(H) times the deviation of its entries, a share of 2/pi per unit lies near 0 (the
        # quarter-circle law), and in that unit eps times the Frobenius norm is 1e-3 sqrt(H).
        square = int(arch.rpartition("-")[2]) if "-" in arch else 0
        lack = 2 / math.pi * 1e-3 * square**1.5
        assert full - 3 * lack - 1e-9 <= summary["rank"] <= full + 1e-9

    def test_known_averages(self) -> None:
        shapes = {"resnet18": 227.5, "vgg16": 322.1, "mlp-bn-10-100": 100.0}
        for arch, known in shapes.items():
            model = build(arch, CIFAR, 10)
            weights = [model.state_dict()[name].flatten(1) for name in model.averaged()]
            mean = sum(min(weight.shape) for weight in weights) / len(weights)
            assert round(mean, 1) == known

    def test_a_vit(self, tmp_path: Path) -> None:
        few = ("layers.5.attention.value.weight", "*embedding*", "output.weight")
        table = analysed(tmp_path, "vit", CIFAR, few)
        rows = {row["name"]: row for row in table.matrices}
        marks = {name: (row["averaged"], row["numerical_rank"]) for name, row in rows.items()}
        assert marks == {
            "layers.5.attention.value.weight": (True, 512),
            "patch_embedding.weight": (True, 48),
            "position_embedding": (False, 65),
            "output.weight": (False, 10),
        }
        value = rows["layers.5.attention.value.weight"]
        assert (value["role"], value["depth"]) == ("attention.v", 5)

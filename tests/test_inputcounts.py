"""Inputs per sample: closed formulas, the rank of gradients by brute force, nothing left behind."""

from __future__ import annotations

import functools
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - its usual name

from rankscope import open_checkpoint
from rankscope.errors import UsageError
from rankscope.inputcounts import matrix_records
from rankscope.matrices import Selection, fold, select
from rankscope.records import TensorInfo
from rankscope.runrecord import MatrixRecord, RunRecord
from rankscope.snapshots import SnapshotWriter

BATCH = 4  # samples; what matrix_records needs


@pytest.fixture(autouse=True)
def _same_numbers() -> None:
    torch.manual_seed(0)


def counts(model: nn.Module, batch: Any) -> dict[str, int | None]:
    """Inputs per sample by name; `batch` is the model's input, samples first."""
    records = matrix_records(model, lambda n: model(batch[:n]))
    return {record.name: record.inputs_per_sample for record in records}


def positions(sizes: tuple[int, ...], kernel: int, stride: int, pad: int, dilation: int) -> int:
    """How often a kernel fits, over all axes."""
    reach = dilation * (kernel - 1) + 1
    return math.prod((size + 2 * pad - reach) // stride + 1 for size in sizes)


class Apply(nn.Module):
    """Parts, and what is done with them and a batch."""

    def __init__(self, function: Callable[..., Tensor], **parts: nn.Module | Tensor) -> None:
        super().__init__()
        for name, part in parts.items():
            is_weight = isinstance(part, Tensor) and part.is_floating_point()
            setattr(self, name, nn.Parameter(torch.as_tensor(part)) if is_weight else part)
        self.function = function

    def forward(self, batch: Tensor) -> Tensor:
        return self.function(self, batch)


class Residual(nn.Module):
    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.shortcut = nn.Conv2d(channels, out, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + self.shortcut(x))


def resnet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        Residual(4, 8, 2),
        Residual(8, 16, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 10),
    )


class ViT(nn.Module):
    """Patches of 4 x 4 on images of 3 x 12 x 12: 9 tokens and the class token."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 4, 4)
        self.token = nn.Parameter(torch.randn(1, 1, 16))
        self.position = nn.Parameter(torch.randn(1, 10, 16))
        layer = nn.TransformerEncoderLayer(16, 4, 32, 0.1, "gelu", batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 2)
        self.head = nn.Linear(16, 10)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.patches(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(images), -1, -1), tokens], 1) + self.position
        logits: Tensor = self.head(self.layers(tokens)[:, 0])
        return logits


class TestFormulas:
    def test_linear(self) -> None:
        layer = nn.Linear(5, 3)
        assert counts(layer, torch.randn(BATCH, 5)) == {"weight": 1}
        assert counts(layer, torch.randn(BATCH, 7, 5)) == {"weight": 7}
        assert counts(layer, torch.randn(BATCH, 2, 7, 5)) == {"weight": 14}
        assert counts(layer, torch.randn(BATCH, 5, 7).transpose(1, 2)) == {"weight": 7}
        one_by_one = Apply(lambda m, x: torch.stack([m.layer(v) for v in x]), layer=layer)
        assert counts(one_by_one, torch.randn(BATCH, 5)) == {"layer.weight": 1}

    @pytest.mark.parametrize("bias", [True, False])
    @pytest.mark.parametrize("groups", [1, 2, 4])
    @pytest.mark.parametrize(("stride", "pad", "dilation"), [(1, 0, 1), (2, 1, 1), (1, 2, 2)])
    @pytest.mark.parametrize("axes", [1, 2, 3])
    def test_convolution(
        self, axes: int, stride: int, pad: int, dilation: int, groups: int, bias: bool
    ) -> None:
        kind = [nn.Conv1d, nn.Conv2d, nn.Conv3d][axes - 1]
        sizes = (9, 8, 7)[:axes]
        layer = kind(4, 8, 3, stride, pad, dilation, groups, bias)
        expected = groups * positions(sizes, 3, stride, pad, dilation)
        assert counts(layer, torch.randn(BATCH, 4, *sizes)) == {"weight": expected}

    @pytest.mark.parametrize("groups", [1, 2])
    @pytest.mark.parametrize("stride", [1, 2, 3])
    def test_transposed_convolution(self, stride: int, groups: int) -> None:
        layer = nn.ConvTranspose2d(4, 6, 3, stride, 1, groups=groups)
        assert counts(layer, torch.randn(BATCH, 4, 5, 7)) == {"weight": groups * 35}

    def test_channels_last(self) -> None:
        layer: Any = nn.Conv2d(4, 8, 3).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        assert counts(layer, torch.randn(BATCH, 4, 6, 6)) == {"weight": 16}

    @pytest.mark.parametrize("train", [True, False])
    @pytest.mark.parametrize("batch_first", [True, False])
    def test_attention(self, train: bool, batch_first: bool) -> None:
        layer = nn.MultiheadAttention(8, 2, batch_first=batch_first).train(train)
        tokens = torch.randn(BATCH, 7, 8)

        def forward(n: int) -> object:
            x = tokens[:n] if batch_first else tokens[:n].transpose(0, 1)
            return layer(x, x, x)

        records = matrix_records(layer, forward)
        assert [(r.name, r.inputs_per_sample) for r in records] == [
            ("in_proj_weight", 7),
            ("out_proj.weight", 7),
        ]

    @pytest.mark.parametrize("train", [True, False])
    def test_attention_to_something_else(self, train: bool) -> None:
        queries, keys = torch.randn(BATCH, 3, 8), torch.randn(BATCH, 5, 8)
        fused = nn.MultiheadAttention(8, 2, batch_first=True).train(train)
        records = matrix_records(fused, lambda n: fused(queries[:n], k := keys[:n], k))
        # The rows that make queries see 3 tokens, those that make keys and values 5.
        assert [r.inputs_per_sample for r in records] == [3 + 5, 3]
        separate = nn.MultiheadAttention(8, 2, kdim=6, vdim=4, batch_first=True).train(train)
        keys, values = torch.randn(BATCH, 5, 6), torch.randn(BATCH, 5, 4)
        records = matrix_records(separate, lambda n: separate(queries[:n], keys[:n], values[:n]))
        assert {r.name: r.inputs_per_sample for r in records} == {
            "q_proj_weight": 3,
            "k_proj_weight": 5,
            "v_proj_weight": 5,
            "out_proj.weight": 3,
        }

    @pytest.mark.parametrize("train", [True, False])
    def test_transformer_layer(self, train: bool) -> None:
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).train(train)
        found = counts(layer, torch.randn(BATCH, 6, 8))
        assert found == dict.fromkeys(found, 6)
        assert len(found) == 4

    @pytest.mark.parametrize("train", [True, False])
    def test_vit(self, train: bool) -> None:
        found = counts(ViT().train(train), torch.randn(BATCH, 3, 12, 12))
        assert found.pop("patches.weight") == 9
        assert found.pop("head.weight") == 1
        assert found.pop("position") is None  # added, not multiplied
        assert found == dict.fromkeys(found, 10)
        assert len(found) == 8

    @pytest.mark.parametrize("train", [True, False])
    def test_resnet(self, train: bool) -> None:
        assert counts(resnet().train(train), torch.randn(BATCH, 3, 16, 12)) == {
            "0.weight": 16 * 12,
            "3.conv1.weight": 8 * 6,
            "3.conv2.weight": 8 * 6,
            "3.shortcut.weight": 8 * 6,
            "4.conv1.weight": 4 * 3,
            "4.conv2.weight": 4 * 3,
            "4.shortcut.weight": 4 * 3,
            "7.weight": 1,
        }

    def test_embedding(self) -> None:
        tokens = torch.randint(0, 20, (BATCH, 6))
        assert counts(nn.Embedding(20, 4), tokens) == {"weight": 6}
        assert counts(nn.EmbeddingBag(20, 4), tokens) == {"weight": 6}

    @pytest.mark.parametrize(
        ("pick", "expected"),
        [
            (lambda w: w[[4, 1, 1]], 3),
            (lambda w: w[:, [0, 2]], 2),
            (lambda w: w.index_select(0, torch.tensor([5])), 1),
            (lambda w: w.index_select(-1, torch.tensor([3, 4, 5, 6])), 4),
        ],
    )
    def test_lines_picked_from_a_table(
        self, pick: Callable[[Tensor], Tensor], expected: int
    ) -> None:
        model = Apply(
            lambda m, x: m.layer(x) + pick(m.w).sum(), layer=nn.Linear(5, 3), w=torch.randn(6, 9)
        )
        assert counts(model, torch.randn(BATCH, 5)) == {"w": expected, "layer.weight": 1}

    def test_recurrent(self) -> None:
        layer = nn.LSTM(5, 4, bidirectional=True, batch_first=True)
        found = counts(layer, torch.randn(BATCH, 6, 5))
        assert found == dict.fromkeys(found, 6)
        assert len(found) == 4

    def test_tied_names_share_one_sum(self) -> None:
        model: Any = Apply(lambda m, x: m.head(m.embed(x)), embed=nn.Embedding(20, 4))
        model.head = nn.Linear(4, 20, bias=False)
        model.head.weight = model.embed.weight
        tokens = torch.randint(0, 20, (BATCH, 6))
        assert counts(model, tokens) == {"embed.weight": 12, "head.weight": 12}
        for left_out, averaged in (
            ([], [True, False]),
            (["embed.weight"], [False, True]),
            (["embed.weight", "head.weight"], [False, False]),
        ):
            records = matrix_records(model, lambda n: model(tokens[:n]), not_averaged=left_out)
            assert [one.averaged for one in records] == averaged

    def test_several_uses_add_up(self) -> None:
        model = Apply(lambda m, x: m.layer(x[:, 0]) - m.layer(x[:, 1]), layer=nn.Linear(5, 3))
        assert counts(model, torch.randn(BATCH, 2, 5)) == {"layer.weight": 2}

    def test_what_is_done_once_a_pass_is_not_divided(self) -> None:
        """Five learned queries, projected once, and one projection of each sample."""
        model = Apply(
            lambda m, x: m.layer(x) @ m.layer(m.queries).T,
            layer=nn.Linear(8, 8),
            queries=torch.randn(5, 8),
        )
        assert counts(model, torch.randn(BATCH, 8))["layer.weight"] == 6

    def test_weights_in_one_memory(self) -> None:
        flat = torch.randn(60)

        def forward(model: Any, x: Tensor) -> Tensor:
            whole = model.a.as_strided((12, 5), (5, 1), 0)  # of all three
            return torch.as_tensor(
                (x @ model.b.T).sum() + (x[:, 0] @ model.c.T) @ (x[:, 0] @ whole.T).T[:4]
            )

        model = Apply(
            forward, a=flat[:20].view(4, 5), b=flat[20:40].view(4, 5), c=flat[40:].view(4, 5)
        )
        assert counts(model, torch.randn(BATCH, 7, 5)) == {"a": 1, "b": 8, "c": 2}

    def test_the_most_used_matrix_of_a_stack_counts(self) -> None:
        def forward(model: Any, x: Tensor) -> Tensor:
            every = torch.einsum("bti,eoi->beto", x, model.w)
            one = x @ model.w[1].T
            copy = model.w[1:].clone()  # of the last two
            return torch.as_tensor(every.sum() + one + x @ copy[0].T)

        model = Apply(forward, w=torch.randn(3, 17, 16))
        assert counts(model, torch.randn(BATCH, 7, 16)) == {"w": 14 + 7}

    @pytest.mark.parametrize("shape", [(0, 5), (5, 0)], ids=str)
    def test_a_weight_without_elements(self, shape: tuple[int, int]) -> None:
        model = Apply(
            lambda m, x: m.layer(x).sum() + (x[:, : shape[1]] @ m.w.T).sum(),
            layer=nn.Linear(5, 3),
            w=torch.empty(shape),
        )
        assert counts(model, torch.randn(BATCH, 5))["layer.weight"] == 1

    def test_sparse_operands(self) -> None:
        def forward(model: Any, x: Tensor) -> Tensor:
            neighbours = torch.eye(len(x)).to_sparse()
            return torch.as_tensor(torch.sparse.mm(neighbours, model.a(x)) @ model.b.to_sparse().T)

        model = Apply(forward, a=nn.Linear(5, 3), b=torch.randn(3, 3))
        assert counts(model, torch.randn(BATCH, 5)) == {"b": None, "a.weight": 1}
        model = Apply(lambda m, x: x.to_sparse() @ m.a, a=torch.randn(5, 3))
        assert counts(model, torch.randn(BATCH, 5)) == {"a": 1}

    @pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
    def test_nested_operands(self) -> None:
        def forward(model: Any, x: Tensor) -> Tensor:
            nested = torch.nested.nested_tensor(list(x))
            every = torch.bmm(nested, model.c.expand(len(x), 5, 3))
            return torch.as_tensor(model.b(x) + (model.a(nested) + every).to_padded_tensor(0.0))

        model = Apply(forward, a=nn.Linear(5, 3), b=nn.Linear(5, 3), c=torch.randn(5, 3))
        found = counts(model, torch.randn(BATCH, 7, 5))
        assert found == {"c": None, "a.weight": None, "b.weight": 7}

    @pytest.mark.parametrize("layer", [nn.Linear(5, 3), nn.Conv1d(5, 3, 1)], ids=type)
    def test_autocast(self, layer: nn.Linear | nn.Conv1d) -> None:
        def forward(model: Any, batch: Tensor) -> Tensor:
            with torch.autocast("cpu"):
                return torch.as_tensor(model.layer(batch) + model.layer(2 * batch))

        batch = torch.randn(BATCH, 5, 5)
        with torch.autocast("cpu"):
            layer(batch)  # leaves a cast weight in autocast's cache
            assert counts(Apply(forward, layer=layer), batch) == {"layer.weight": 10}
            layer(batch).sum().backward()
        assert layer.weight.grad is not None

    def test_inference_mode(self) -> None:
        with torch.inference_mode():
            assert counts(resnet().eval(), torch.randn(BATCH, 3, 16, 12))["7.weight"] == 1

    @pytest.mark.filterwarnings("ignore::DeprecationWarning")  # from PyTorch's own imports
    @pytest.mark.parametrize("used", [False, True])
    def test_compiled(self, used: bool) -> None:
        model: Any = torch.compile(nn.Sequential(nn.Linear(5, 3), nn.ReLU()), backend="eager")
        batch = torch.randn(BATCH, 7, 5)
        if used:
            model(batch)
        assert counts(model, batch) == {"_orig_mod.0.weight": 7}


def attention(function: Callable[..., Any], **options: Any) -> nn.Module:
    layer = nn.MultiheadAttention(8, 2, batch_first=True, **options)
    return Apply(lambda m, x: function(m.layer, x)[0], layer=layer)


OF_ONE_VECTOR: dict[str, Callable[..., Tensor]] = {
    "mm": lambda m, x: torch.mm(m.w, x.T).T,
    "mv": lambda m, x: torch.stack([torch.mv(m.w, v) for v in x]),
    "addmm": lambda m, x: torch.addmm(x[:, :7], x, m.w.T),
    "addmv": lambda m, x: torch.stack([torch.addmv(v[:7], m.w, v) for v in x]),
    "addbmm": lambda m, x: torch.addbmm(x[:1, :7], x[:, None], m.w.T.expand(len(x), 9, 7)),
    "baddbmm": lambda m, x: torch.baddbmm(x[:, None, :7], x[:, None], m.w.T.expand(len(x), 9, 7)),
}

# Each with the shape of a sample. In these, random gradients have the largest rank that inputs
# and shape allow.
TIGHT: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "mlp": (lambda: nn.Sequential(nn.Linear(9, 7), nn.Tanh(), nn.Linear(7, 5)), (9,)),
    "per token": (lambda: nn.Sequential(nn.Linear(9, 7), nn.Tanh(), nn.Linear(7, 8)), (3, 9)),
    "conv1d": (lambda: nn.Conv1d(4, 9, 3, dilation=2), (4, 9)),
    "conv2d": (lambda: nn.Conv2d(3, 12, 3, 2, 1), (3, 5, 5)),
    "conv2d, more inputs than rows": (lambda: nn.Conv2d(3, 4, 3), (3, 6, 6)),
    "conv3d": (lambda: nn.Conv3d(2, 9, 2), (2, 3, 3, 2)),
    "grouped": (lambda: nn.Conv2d(4, 12, 3, 2, groups=2), (4, 5, 3)),
    "grouped transposed": (lambda: nn.ConvTranspose2d(12, 4, 3, 2, groups=2), (12, 1, 2)),
    "depthwise": (lambda: nn.Conv2d(4, 4, 3, groups=4), (4, 3, 3)),
    "depthwise transposed": (lambda: nn.ConvTranspose2d(4, 4, 3, groups=4), (4, 1, 1)),
    "transposed": (lambda: nn.ConvTranspose2d(12, 5, 3, 2), (12, 2, 2)),
    "transposed 1d": (lambda: nn.ConvTranspose1d(9, 6, 4, 3), (9, 5)),
    "cross attention": (
        lambda: attention(lambda a, x: a(x[:, :2], k := x[:, 2:], k)),
        (5, 8),
    ),
    "siamese": (
        lambda: Apply(lambda m, x: m.layer(x[:, 0]) * m.layer(x[:, 1]), layer=nn.Linear(8, 6)),
        (2, 8),
    ),
    "experts": (
        lambda: Apply(
            lambda m, x: torch.bmm(x.transpose(0, 1), m.experts).transpose(0, 1),
            experts=torch.randn(3, 16, 17),
        ),
        (3, 16),
    ),
    "experts at once": (
        lambda: Apply(
            lambda m, x: torch.einsum("bti,eoi->beto", x, m.experts),
            experts=torch.randn(3, 17, 16),
        ),
        (4, 16),
    ),
    "einsum": (
        lambda: Apply(
            lambda m, x: torch.einsum("bti,hdi->bhtd", x, m.weight.view(2, 4, 9)),
            weight=torch.randn(8, 9),
        ),
        (3, 9),
    ),
    "from the left": (lambda: Apply(lambda m, x: m.w @ x, w=torch.randn(7, 9)), (9, 4)),
    "copied parts": (
        lambda: Apply(
            lambda m, x: x[:, :, 3:] @ m.w[1:6, 3:].T.contiguous().clone(),
            w=torch.randn(7, 9),
        ),
        (3, 9),
    ),
    "patches by hand": (
        lambda: Apply(lambda m, x: F.conv2d(x, m.w.view(10, 2, 2, 2)), w=torch.randn(10, 8)),
        (2, 3, 3),
    ),
    **{
        f"{name} of one vector": (functools.partial(Apply, product, w=torch.randn(7, 9)), (9,))
        for name, product in OF_ONE_VECTOR.items()
    },
    "vector": (lambda: Apply(lambda m, x: x @ m.w[2], w=torch.randn(4, 5)), (5,)),
}

# Here the bound is right and can be larger than the rank.
LOOSE: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    # Keys come through a softmax, which does not see what all of them have in common.
    "separate projections": (
        lambda: attention(lambda a, x: a(x[:, :2], x[:, 2:, :6], x[:, 2:, 4:]), kdim=6, vdim=4),
        (5, 8),
    ),
    "self attention": (lambda: attention(lambda a, x: a(x, x, x)), (4, 8)),
    "transformer layer": (
        lambda: nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True),
        (3, 8),
    ),
    "resnet": (lambda: resnet().eval(), (3, 6, 5)),
    # The first state is zero.
    "recurrent": (
        lambda: Apply(lambda m, x: m.cell(x)[0], cell=nn.RNN(7, 9, batch_first=True)),
        (3, 7),
    ),
    # What is done to weights is done once, and gets as many inputs as the result has columns.
    "product": (
        lambda: Apply(
            lambda m, x: m.layer(x) @ (m.b @ m.a),
            layer=nn.Linear(8, 8),
            a=torch.randn(4, 9),
            b=torch.randn(8, 4),
        ),
        (8,),
    ),
    "picked": (
        lambda: Apply(
            lambda m, x: m.layer(x) @ m.w[[4, 1, 1]].T + m.w.index_select(1, m.two).sum(),
            layer=nn.Linear(8, 9),
            w=torch.randn(6, 9),
            two=torch.tensor([0, 2]),
        ),
        (8,),
    ),
    "queries": (
        lambda: Apply(
            lambda m, x: torch.tanh(m.layer(x)) @ torch.tanh(m.layer(m.queries)).T,
            layer=nn.Linear(8, 8),
            queries=torch.randn(3, 8),
        ),
        (8,),
    ),
}
NETWORKS = TIGHT | LOOSE


def ranks(model: nn.Module, batch: Tensor) -> dict[str, int]:
    """By name, the rank of the gradient of a loss that depends on all outputs in its own way.

    Of a stack, the largest.
    """
    output = model(batch)
    mixture = torch.randn(output.shape[1:], dtype=torch.float64)
    model.zero_grad()
    torch.sin(output * mixture + mixture).sum().backward()  # type: ignore[no-untyped-call]
    found = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if parameter.ndim > 1 and parameter.grad is not None:
            specs = fold(TensorInfo(name, tuple(parameter.shape), "float64"))
            gradients = [parameter.grad[spec.index].reshape(spec.shape) for spec in specs]
            found[name] = max(int(torch.linalg.matrix_rank(matrix)) for matrix in gradients)
    return found


def ceiling(record: MatrixRecord) -> int:
    """The largest rank that inputs and shape allow."""
    spec = next(iter(fold(TensorInfo(record.name, record.shape, "float64"))))
    assert record.inputs_per_sample is not None
    return min(record.inputs_per_sample, *spec.shape)


class TestMeaning:
    """The rank of gradients in float64."""

    @pytest.mark.parametrize("name", NETWORKS)
    def test_of_one_sample(self, name: str) -> None:
        build, shape = NETWORKS[name]
        model = build().double()
        batch = torch.randn(BATCH, *shape, dtype=torch.float64)
        records = matrix_records(model, lambda n: model(batch[:n]))
        found = [ranks(model, batch[i : i + 1]) for i in range(BATCH)]
        assert records
        for record in records:
            most = max(each[record.name] for each in found)
            if name in TIGHT:
                assert most == ceiling(record), record
            else:
                assert most <= ceiling(record), record

    @pytest.mark.parametrize("samples", [2, 3])
    @pytest.mark.parametrize("name", [*NETWORKS, "resnet in training", "mlp with batch norm"])
    def test_of_a_batch(self, name: str, samples: int) -> None:
        build, shape = {
            **NETWORKS,
            "resnet in training": (resnet, (3, 6, 5)),
            "mlp with batch norm": (
                lambda: nn.Sequential(nn.Linear(9, 7), nn.BatchNorm1d(7), nn.Linear(7, 5)),
                (9,),
            ),
        }[name]
        model = build().double()
        batch = torch.randn(BATCH, *shape, dtype=torch.float64)
        records = matrix_records(model, lambda n: model(batch[:n]))
        found = ranks(model, batch[:samples])
        for record in records:
            assert record.inputs_per_sample is not None
            assert found[record.name] <= samples * record.inputs_per_sample, record

    def test_of_picked_rows(self) -> None:
        model = nn.Embedding(30, 9).double()
        tokens = torch.tensor([[1, 2, 3, 4], [5, 5, 6, 7], [8, 8, 8, 8], [9, 10, 9, 10]])
        assert counts(model, tokens) == {"weight": 4}
        found = [ranks(model, tokens[i : i + 1])["weight"] for i in range(BATCH)]
        assert found == [4, 3, 1, 2]  # the different ones among four

    def test_of_tied_weights(self) -> None:
        model: Any = Apply(lambda m, x: m.head(torch.tanh(m.embed(x))), embed=nn.Embedding(30, 9))
        model.head = nn.Linear(9, 30, bias=False)
        model.head.weight = model.embed.weight
        model.double()
        tokens = torch.arange(3 * BATCH).reshape(BATCH, 3)
        assert counts(model, tokens) == {"embed.weight": 6, "head.weight": 6}
        assert ranks(model, tokens[:1]) == {"embed.weight": 6, "head.weight": 6}


class Mixture(nn.Module):
    """Each sample goes to one of two experts, as its first number says."""

    def __init__(self) -> None:
        super().__init__()
        self.experts = nn.ModuleList(nn.Linear(8, 8) for _ in range(2))
        self.out = nn.Linear(8, 8)

    def forward(self, batch: Tensor) -> Tensor:
        parts = [e(batch[(batch[:, 0] > 0) == i]) for i, e in enumerate(self.experts)]
        mixed: Tensor = self.out(torch.cat(parts))
        return mixed


# What has no bound: a network whose matrix `w` is applied to one vector, or looks as if it were,
# and whose gradient has a larger rank.
SKEWED = (torch.arange(8) + torch.arange(8)[:, None]) % 8
WITHOUT_BOUND: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "penalised": lambda m, x: x @ m.w + (m.w**4).sum(),
    "normalised": lambda m, x: x @ (m.w / m.w.norm(dim=0)),
    "added": lambda m, x: (x @ m.w).unsqueeze(1) + m.w,
    "added by addmm": lambda m, x: torch.addmm(m.w, x.T @ x, m.w),
    "joined": lambda m, x: x @ torch.cat([m.w, m.w.T], 1),
    "picked by two indices": lambda m, x: x @ m.w[SKEWED, torch.arange(8)],
    "used in another shape": lambda m, x: x[:, :4] @ m.w.view(4, 16),
    "transposed, in another shape": lambda m, x: x[:, :4] @ m.w.T.reshape(4, 16),
    "picked by element": lambda m, x: x @ m.w.flatten()[5 * torch.arange(64) % 64].view(8, 8),
    "as the input of a convolution": lambda m, x: F.conv2d(m.w[None, None], x.view(-1, 1, 2, 4)),
}


class TestUnknown:
    @pytest.mark.parametrize("name", WITHOUT_BOUND)
    def test_without_a_bound(self, name: str) -> None:
        function = WITHOUT_BOUND[name]
        model = Apply(
            lambda m, x: function(m, m.layer(x)).flatten(1),
            layer=nn.Linear(8, 8),
            w=torch.randn(8, 8),
        ).double()
        batch = torch.randn(BATCH, 8, dtype=torch.float64)
        assert counts(model, batch) == {"w": None, "layer.weight": 1}
        assert ranks(model, batch[:1])["w"] > 1

    def test_not_used(self) -> None:
        model = Apply(lambda m, x: m.a(x), a=nn.Linear(5, 3), b=nn.Linear(5, 3))
        assert counts(model, torch.randn(BATCH, 5)) == {"a.weight": 1, "b.weight": None}

    def test_as_many_as_the_data_say(self) -> None:
        batch = torch.tensor([[1.0], [-1.0], [-1.0], [1.0]]) * torch.ones(8)
        found = counts(Mixture(), batch)
        assert found == {
            "experts.0.weight": None,
            "experts.1.weight": None,
            "out.weight": 1,
        }

    def test_pairs_of_samples(self) -> None:
        def forward(model: Any, x: Tensor) -> Tensor:
            pairs = (x[:, None] - x[None]).flatten(0, 1)
            return torch.as_tensor(model.pair(pairs).sum() + model.each(x))

        model = Apply(forward, pair=nn.Linear(8, 8), each=nn.Linear(8, 8))
        assert counts(model, torch.randn(BATCH, 8)) == {"pair.weight": None, "each.weight": 1}

    def test_a_convolution_that_is_measured_as_a_stack(self) -> None:
        """A wide kernel with few output channels, whose matrices are (in, k)."""
        model = nn.Conv1d(16, 4, 17)
        (record,) = matrix_records(model, lambda n: model(torch.randn(n, 16, 17)))
        assert (record.kind, record.inputs_per_sample) == ("stacked", None)

    def test_tokens_less_one_in_each_pass(self) -> None:
        """3 n - 1 is not of the form a + b n: one sample alone can have 3."""
        model = Apply(
            lambda m, x: m.a(m.b(x).flatten(0, 1)[1:]), a=nn.Linear(5, 3), b=nn.Linear(5, 5)
        )
        assert counts(model, torch.randn(BATCH, 3, 5)) == {"a.weight": None, "b.weight": 3}

    def test_fewer_inputs_in_a_larger_batch(self) -> None:
        model = Apply(
            lambda m, x: m.b(x).sum() + m.a(x.new_ones(5 - len(x), 5)),
            a=nn.Linear(5, 5),
            b=nn.Linear(5, 5),
        )
        assert counts(model, torch.randn(BATCH, 5)) == {"a.weight": None, "b.weight": 1}

    def test_a_weight_whose_rows_are_interleaved(self) -> None:
        """Measured as 5 x 12, and multiplied as 20 x 3 in the order of its elements."""
        model = Apply(
            lambda m, x: m.layer(x) @ m.w.transpose(0, 1).reshape(20, 3).T,
            layer=nn.Linear(3, 3),
            w=torch.randn(4, 5, 3).transpose(0, 1),
        ).double()
        batch = torch.randn(BATCH, 3, dtype=torch.float64)
        assert counts(model, batch) == {"w": None, "layer.weight": 1}
        assert ranks(model, batch[:1])["w"] > 1

    @pytest.mark.parametrize(
        ("weights", "view"),
        [
            (torch.randn(17, 3, 16).transpose(0, 1), lambda w: w[1]),
            (torch.randn(3, 17, 16), lambda w: w.flatten(0, 1).clone()),
            (torch.randn(1, 17, 16).expand(3, 17, 16), lambda w: w[1]),
            # The rows of each matrix begin one element further than those of the one before.
            (
                torch.randn(3, 273)[:, :272].view(3, 17, 16),
                lambda w: w.as_strided((51, 16), (16, 1)),
            ),
        ],
        ids=["interleaved", "copied as one", "expanded", "out of step"],
    )
    def test_a_stack(self, weights: Tensor, view: Callable[[Tensor], Tensor]) -> None:
        model = Apply(
            lambda m, x: m.b(x).sum() + (x @ view(m.w).T).sum(), w=weights, b=nn.Linear(16, 3)
        )
        assert counts(model, torch.randn(BATCH, 16)) == {"w": None, "b.weight": 1}

    def test_a_shape_or_a_type_taken_from_a_weight_costs_nothing(self) -> None:
        model = Apply(lambda m, x: m.a(x + m.a.weight.new_zeros(5)), a=nn.Linear(5, 3))
        assert counts(model, torch.randn(BATCH, 5)) == {"a.weight": 1}


class Everything(nn.Module):
    """Changes all that a forward pass can change."""

    running: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)
        self.norm = nn.BatchNorm1d(8)
        self.dropout = nn.Dropout(0.5)
        self.embed = nn.Embedding(10, 8, max_norm=1.0)  # shrinks its rows in place
        self.scale = nn.Parameter(torch.full((8,), 3.0))
        self.register_buffer("running", torch.zeros(8))
        self.register_buffer("repeated", torch.zeros(1).expand(8))
        self.register_buffer("sparse", torch.eye(3).to_sparse())

    def forward(self, batch: Tensor) -> Tensor:
        torch.clamp(self.scale, max=2.0, out=self.scale)
        x = self.norm(self.layer(batch + self.embed(torch.arange(len(batch))))) * self.scale
        self.running = 0.9 * self.running + 0.1 * x.mean(0)
        self.get_buffer("sparse").mul_(2)
        self.register_buffer("new", x)
        return torch.as_tensor(self.dropout(x) + torch.randn(8))


class TestLeavesNoTrace:
    @pytest.mark.parametrize("fails", [False, True])
    def test_in_the_model_or_in_torch(self, fails: bool) -> None:
        model: Any = Everything()
        model.norm(torch.randn(BATCH, 8))
        model.layer.eval()
        model.layer.weight.grad = torch.ones(8, 8)
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        objects = {name: id(tensor) for name, tensor in model.state_dict(keep_vars=True).items()}
        numbers = torch.get_rng_state()
        flags = self.flags()
        batch = torch.randn(BATCH, 8, generator=torch.Generator().manual_seed(1))

        def forward(n: int) -> None:
            model(batch[:n])
            assert not torch.equal(model.embed.weight, before["embed.weight"])
            assert not torch.equal(model.norm.running_mean, before["norm.running_mean"])
            if fails:
                raise RuntimeError("by the model")

        if fails:
            with pytest.raises(RuntimeError, match="by the model"):
                matrix_records(model, forward)
        else:
            assert len(matrix_records(model, forward)) == 2
        after = model.state_dict(keep_vars=True)
        assert {name: id(tensor) for name, tensor in after.items()} == objects
        for name, tensor in before.items():
            assert torch.equal(after[name].to_dense(), tensor.to_dense()), name
        assert torch.equal(torch.get_rng_state(), numbers)
        assert self.flags() == flags
        assert model.training
        assert not model.layer.training
        assert torch.equal(model.layer.weight.grad, torch.ones(8, 8))
        assert model.embed.weight.grad is None

    @staticmethod
    def flags() -> tuple[object, ...]:
        backends: Any = torch.backends
        return (
            torch.is_grad_enabled(),
            backends.mha.get_fastpath_enabled(),
            backends.mkldnn.enabled,
            backends.cudnn.enabled,
            torch.is_autocast_cache_enabled(),
        )

    def test_what_was_switched_off_stays_off(self) -> None:
        before = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            counts(nn.Linear(5, 3), torch.randn(BATCH, 5))
            assert not torch.backends.mha.get_fastpath_enabled()
        finally:
            torch.backends.mha.set_fastpath_enabled(before)


class TestRecords:
    def test_of_a_small_network(self) -> None:
        model = resnet()
        batch = torch.randn(BATCH, 3, 8, 8)
        records = matrix_records(model, lambda n: model(batch[:n]), not_averaged={"7.weight"})
        assert records[0] == MatrixRecord("0.weight", "convolution", (4, 3, 3, 3), 64)
        assert records[-1] == MatrixRecord("7.weight", "linear", (10, 16), 1, averaged=False)

    @pytest.mark.filterwarnings("ignore::DeprecationWarning")  # from PyTorch's own imports
    @pytest.mark.parametrize("wrap", [None, nn.DataParallel, "compile", "tied"])
    def test_are_of_what_a_snapshot_holds(self, tmp_path: Path, wrap: Any) -> None:
        model: Any = nn.Sequential(nn.Embedding(10, 8), nn.Linear(8, 10, bias=False))
        if wrap == "tied":
            model[1].weight = model[0].weight
        elif wrap == "compile":
            model = torch.compile(model, backend="eager")
        elif wrap is not None:
            model = wrap(model)
        tokens = torch.zeros(BATCH, 3, dtype=torch.int64)
        records = matrix_records(model, lambda n: model(tokens[:n]))
        with SnapshotWriter(tmp_path, RunRecord(matrices=records)) as writer:
            writer.save(1, model)
        with open_checkpoint(tmp_path / "snapshots" / "step-00000001.safetensors") as checkpoint:
            specs, _ = select(checkpoint.listing, Selection())
        assert {(r.name, r.kind, r.shape) for r in records} == {
            (spec.tensor, spec.kind, spec.shape) for spec in specs
        }

    def test_of_parameters_only(self) -> None:
        model = nn.Linear(5, 3)
        model.register_buffer("table", torch.zeros(4, 4))
        assert counts(model, torch.randn(BATCH, 5)) == {"weight": 1}

    def test_of_a_model_without_matrices(self) -> None:
        assert counts(nn.BatchNorm1d(5), torch.randn(BATCH, 5)) == {}


class TestRefuses:
    def test_an_unknown_name(self) -> None:
        model = resnet()
        with pytest.raises(UsageError, match=r"no matrix '7\.weigth'; nearest: 7\.weight"):
            matrix_records(model, model, not_averaged=["7.weigth"])

    def test_a_name_alone(self) -> None:
        model = resnet()
        with pytest.raises(UsageError, match=r"expected a collection: \['7\.weight'\]"):
            matrix_records(model, model, not_averaged="7.weight")

    @pytest.mark.parametrize(
        "model",
        [nn.LazyLinear(3), nn.Linear(5, 3, device="meta"), nn.LazyBatchNorm1d(affine=False)],
        ids=str,
    )
    def test_weights_without_numbers(self, model: nn.Module) -> None:
        with pytest.raises(
            UsageError, match=r"(weight|mean) has no numbers yet: run the model once"
        ):
            counts(model, torch.randn(BATCH, 5))

    @pytest.mark.parametrize("kind", ["the same batch", "too few samples", "another model"])
    def test_a_forward_that_does_not_run_the_model_on_n_samples(self, kind: str) -> None:
        model, batch = ViT(), torch.randn(BATCH, 3, 12, 12)
        other = nn.Linear(12, 3)
        forward = {
            "the same batch": lambda _: model(batch),
            "too few samples": lambda n: model(batch[:3][:n]),
            "another model": lambda n: other(batch[:n]),
        }[kind]
        with pytest.raises(UsageError, match=r"forward\(n\) has to run it on n samples"):
            matrix_records(model, forward)


def test_importing_it_does_not_import_torch() -> None:
    code = "import rankscope.inputcounts, sys; print({'torch', 'numpy'} & set(sys.modules))"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout == "set()\n"

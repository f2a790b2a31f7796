"""From tensors to matrices: folding, selecting, reading in blocks."""

from __future__ import annotations

import fnmatch
from collections import Counter
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rankscope import analyze
from rankscope.checkpoints.memory import MemoryCheckpoint
from rankscope.errors import UsageError
from rankscope.matrices import MAX_STACK, Selection, check_selection, fold, names_in, select
from rankscope.records import Listing, MatrixSpec, Part, Skipped, TensorInfo
from rankscope.storedmatrix import StoredMatrix


def listing(*tensors: TensorInfo, skipped: tuple[Skipped, ...] = ()) -> Listing:
    return Listing("memory", "memory", tensors, skipped)


def f32(name: str, *shape: int) -> TensorInfo:
    return TensorInfo(name, shape, "float32")


def selected(found: Listing, *, include: str = "", exclude: str = "") -> list[str]:
    selection = Selection(tuple(include.split()), tuple(exclude.split()))
    return [spec.name for spec in select(found, selection)[0]]


def reasons(found: Listing) -> dict[str, str]:
    return {item.name: item.reason for item in select(found, Selection())[1]}


class TestFold:
    """Against reshapes written out by hand."""

    @pytest.mark.parametrize(
        ("shape", "folded"),
        [
            ((10, 20), (10, 20)),
            ((64, 32, 5), (64, 160)),  # convolution over one axis: (out, in * k)
            ((64, 32, 3, 3), (64, 288)),
            ((64, 1, 3, 3), (64, 9)),  # depthwise
            ((16, 8, 2, 3, 3), (16, 144)),
            ((3, 3, 3, 3), (3, 27)),
        ],
    )
    def test_convolutions_by_output_channel(
        self, shape: tuple[int, ...], folded: tuple[int, int]
    ) -> None:
        (spec,) = fold(f32("conv.weight", *shape))
        assert (spec.shape, spec.index, spec.split) == (folded, (), 1)
        assert spec.kind == ("linear" if len(shape) == 2 else "convolution")
        array = np.arange(float(np.prod(shape))).reshape(shape)
        rows = [array[out].ravel() for out in range(shape[0])]
        np.testing.assert_array_equal(whole(array, spec), np.stack(rows))

    @pytest.mark.parametrize("shape", [(5, 8, 4), (3, 3, 8, 16), (2, 2, 2, 4, 8)])
    def test_convolutions_stored_channels_last(self, shape: tuple[int, ...]) -> None:
        (spec,) = fold(TensorInfo("kernel", shape, "float64", channels_last=True))
        assert spec.kind == "convolution"
        array = np.arange(float(np.prod(shape))).reshape(shape)
        columns = [array[..., out].ravel() for out in range(shape[-1])]
        np.testing.assert_array_equal(whole(array, spec), np.stack(columns, axis=1))

    def test_channels_last_of_two_axes_is_as_stored(self) -> None:
        (spec,) = fold(TensorInfo("kernel", (8, 3), "float32", channels_last=True))
        assert (spec.shape, spec.kind) == ((8, 3), "linear")

    @pytest.mark.parametrize(
        ("name", "shape"),
        [("experts.gate_up", (8, 16, 6)), ("attn.heads", (4, 32, 16)), ("expert", (9, 3, 3))],
    )
    def test_stacks_are_taken_apart(self, name: str, shape: tuple[int, ...]) -> None:
        specs = list(fold(f32(name, *shape)))
        assert [spec.name for spec in specs] == [f"{name}[{i}]" for i in range(shape[0])]
        array = np.arange(float(np.prod(shape))).reshape(shape)
        for i, spec in enumerate(specs):
            assert (spec.tensor, spec.index, spec.kind) == (name, (i,), "stacked")
            np.testing.assert_array_equal(whole(array, spec), array[i])

    @pytest.mark.parametrize(
        ("name", "shape"),
        [
            ("layers.0.mlp.experts.gate_up_proj", (128, 64, 32)),
            ("layers.0.feed_forward.experts.down_proj", (16, 8, 16)),
            ("layers.0.block_sparse_moe.input_linear.weight", (40, 32, 16)),
        ],
    )
    def test_more_experts_than_rows(self, name: str, shape: tuple[int, ...]) -> None:
        specs = list(fold(f32(name, *shape)))
        assert [spec.index for spec in specs] == [(i,) for i in range(shape[0])]
        assert {spec.shape for spec in specs} == {shape[1:]}

    def test_what_has_parts_or_an_orientation_is_a_stack(self) -> None:
        """Of a name and shape that would make a convolution of it."""
        name, shape = "mlp.input_linear.weight", (40, 32, 16)
        assert [spec.kind for spec in fold(f32(name, *shape))] == ["convolution"]
        halves = (Part("gate", 1, 32, 0, 16), Part("up", 1, 32, 16, 32))
        for tensor in (
            TensorInfo(name, shape, "float32", parts=halves),
            TensorInfo(name, shape, "float32", transposed=True),
        ):
            assert {spec.kind for spec in fold(tensor)} == {"stacked"}

    @pytest.mark.parametrize(
        ("name", "shape", "folded", "kind"),
        [
            ("conv1d.weight", (4, 64, 5), (4, 320), "convolution"),
            ("conv1d.weight", (1, 80, 5), (1, 400), "convolution"),
            ("pos_embed", (1, 197, 768), (197, 768), "embedding"),
            ("blocks.0.weight", (1, 32, 64), (32, 64), "linear"),
        ],
    )
    def test_short_kernels_and_a_first_axis_of_one(
        self, name: str, shape: tuple[int, ...], folded: tuple[int, int], kind: str
    ) -> None:
        (spec,) = fold(f32(name, *shape))
        assert (spec.name, spec.shape, spec.kind) == (name, folded, kind)
        array = np.arange(float(np.prod(shape))).reshape(shape)
        np.testing.assert_array_equal(whole(array, spec), array.reshape(folded))

    def test_a_class_token_is_a_vector(self) -> None:
        listing = Listing("x", "x", (f32("cls_token", 1, 1, 768),))
        specs, skipped = select(listing, Selection())
        assert specs == ()
        assert [(item.name, item.reason) for item in skipped] == [("cls_token", "vector")]

    def test_a_selection_that_is_one_string_is_refused(self) -> None:
        with pytest.raises(UsageError, match="expected a tuple"):
            Selection(include="*mlp*")  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        ("name", "kind"),
        [
            ("model.embed_tokens.weight", "embedding"),
            ("transformer.wte.weight", "embedding"),
            ("transformer.wpe.weight", "embedding"),
            ("shared.weight", "embedding"),
            ("bert.embeddings.word_embeddings.weight", "embedding"),
            ("lm_head.weight", "linear"),
            ("shared_expert.up.weight", "linear"),
            ("towte.weight", "linear"),
        ],
    )
    def test_embeddings_by_name(self, name: str, kind: str) -> None:
        (spec,) = fold(f32(name, 50, 8))
        assert spec.kind == kind

    @pytest.mark.parametrize("shape", [(0, 3, 4), (2**40, 5, 0), (5, 0, 4)])
    def test_without_elements_there_is_one_empty_matrix(self, shape: tuple[int, ...]) -> None:
        (spec,) = fold(f32("experts", *shape))
        assert 0 in spec.shape


def whole(array: Any, spec: MatrixSpec) -> Any:
    checkpoint = MemoryCheckpoint({spec.tensor: array})
    return checkpoint.read(spec, slice(0, spec.shape[0]), slice(0, spec.shape[1]))


class TestSelect:
    MODEL = listing(
        f32("a.weight", 4, 3),
        f32("a.bias", 4),
        f32("scale"),
        f32("experts.w", 3, 4, 5),
        TensorInfo("ids", (4, 4), "int64"),
        f32("b.weight", 5, 4),
        skipped=(Skipped("odd", "an odd thing"),),
    )
    ALL = ("a.weight", "experts.w[0]", "experts.w[1]", "experts.w[2]", "b.weight")

    def test_everything_has_its_place(self) -> None:
        assert selected(self.MODEL) == list(self.ALL)
        assert reasons(self.MODEL) == {
            "odd": "an odd thing",
            "a.bias": "vector",
            "scale": "scalar",
            "ids": "int64: quantised or an index, no scales",
        }

    def test_tables_of_biases_are_no_weights(self) -> None:
        names = ("mlp.experts.down_proj_bias", "h.0.attn.bias", "bias")
        found = listing(
            *(f32(name, 8, 64) for name in names),
            f32("relative_attention_bias.weight", 32, 8),
            f32("unbias", 4, 4),
        )
        assert reasons(found) == dict.fromkeys(names, "biases")
        assert selected(found) == ["relative_attention_bias.weight", "unbias"]

    def test_what_is_skipped_anyway_may_be_left_out(self) -> None:
        check_selection(Selection((), ("od*",)), [self.MODEL])

    @pytest.mark.parametrize(
        ("include", "exclude", "expected"),
        [
            ("a.*", "", ["a.weight"]),
            ("a.* b.*", "", ["a.weight", "b.weight"]),
            ("*", "*.weight", ["experts.w[0]", "experts.w[1]", "experts.w[2]"]),
            ("experts.w", "", ["experts.w[0]", "experts.w[1]", "experts.w[2]"]),
            ("experts.*", "experts.w[1]", ["experts.w[0]", "experts.w[2]"]),
            ("experts.w[2]", "", ["experts.w[2]"]),
            ("experts.w[[]2]", "", ["experts.w[2]"]),
            ("[ab].weight", "", ["a.weight", "b.weight"]),
            ("A.*", "", []),
        ],
    )
    def test_globs(self, include: str, exclude: str, expected: list[str]) -> None:
        assert selected(self.MODEL, include=include, exclude=exclude) == expected

    def test_what_is_not_wanted_is_listed(self) -> None:
        _, skipped = select(self.MODEL, Selection(("experts.*",), ("*[[]1]",)))
        found = {item.name: item.reason for item in skipped}
        assert found["a.weight"] == "not selected by --include"
        assert found["experts.w[1]"] == "excluded by --exclude"
        assert "experts.w[0]" not in found

    def test_a_name_pasted_from_the_table(self) -> None:
        weights = {"experts.w": np.ones((4, 3, 5)), "experts.w3": np.ones((2, 3))}
        for name in ("experts.w[3]", "experts.w[0]"):
            # `[3]` is a character class to fnmatch, which finds another matrix, or none.
            assert not fnmatch.fnmatchcase(name, name)
            result = analyze(weights, selection=Selection((name,)))
            assert name in [row["name"] for row in result.matrices]

    def test_two_matrices_of_one_name(self) -> None:
        weights = {"e": np.ones((2, 16, 17)), "e[0]": np.eye(3)}
        result = analyze(weights, metrics=["rank"])
        assert [(row["name"], row["rank"]) for row in result.matrices] == [("e[1]", 1), ("e[0]", 3)]
        assert [row["reason"] for row in result.skipped] == ["another tensor has this name"]

    def test_a_stack_of_millions(self) -> None:
        model = listing(f32("experts", MAX_STACK + 1, 1, 1))
        assert selected(model) == []
        assert reasons(model) == {"experts": "a stack of 65537 matrices, expected at most 65536"}

    @given(data=st.data())
    @settings(deadline=None)
    def test_every_matrix_is_in_exactly_one_of_the_two(self, data: st.DataObject) -> None:
        names = st.sampled_from(["w", "experts", "w_scale", "e.weight", "e.scales"])
        dtypes = st.sampled_from(["float32", "float8_e4m3fn", "int8", "bool", "complex64"])
        sizes = st.lists(st.integers(0, 4), max_size=5).map(tuple)
        tensors = st.builds(TensorInfo, names, sizes, dtypes, st.booleans())
        model = listing(*data.draw(st.lists(tensors, unique_by=lambda tensor: tensor.name)))
        globs = st.lists(st.sampled_from(["w*", "*", "e*", "w[0]", "*[[]1]", "x"]), max_size=2)
        selection = Selection(tuple(data.draw(globs)), tuple(data.draw(globs)))
        specs, skipped = select(model, selection)
        counts = Counter([spec.name for spec in specs] + [item.name for item in skipped])
        for tensor in model.tensors:
            folded = [spec.name for spec in fold(tensor)] if len(tensor.shape) > 1 else []
            as_a_whole = counts[tensor.name] == 1
            one_by_one = bool(folded) and all(counts[name] == 1 for name in folded)
            if folded == [tensor.name] or not folded:
                assert as_a_whole
            else:
                assert as_a_whole != one_by_one
        order = [tensor.name for tensor in model.tensors]
        places = [order.index(spec.tensor) for spec in specs]
        assert places == sorted(places)


class TestCheckSelection:
    MODEL = listing(f32("model.up.weight", 4, 3), f32("model.up.bias", 4), f32("e", 2, 16, 17))

    def test_globs_that_match(self) -> None:
        selection = Selection(("*.up.*", "e[1]", "e"), ("model.up.weight", "*.bias"))
        check_selection(selection, [self.MODEL])
        check_selection(Selection(), [])

    @pytest.mark.parametrize(
        ("selection", "message"),
        [
            (
                Selection(("model.upp.weight",)),
                "--include 'model.upp.weight' matches no matrix; nearest: model.up.weight",
            ),
            (Selection(("model.*", "zzz")), "--include 'zzz' matches no matrix"),
            (Selection(("*.bias",)), "--include '*.bias' matches no matrix"),
            (Selection((), ("e[7]",)), r"--exclude 'e[7]' matches no matrix; nearest: e["),
        ],
    )
    def test_one_that_matches_nothing(self, selection: Selection, message: str) -> None:
        with pytest.raises(UsageError) as caught:
            check_selection(selection, [self.MODEL])
        assert str(caught.value).startswith(message)

    def test_one_listing_that_has_it_is_enough(self) -> None:
        check_selection(Selection(("late.*",)), [self.MODEL, listing(f32("late.weight", 3, 3))])

    def test_the_command_and_memory_refuse_it_alike(self) -> None:
        with pytest.raises(UsageError, match="matches no matrix"):
            analyze({"w": np.eye(3)}, selection=Selection(("v",)))
        result = analyze({"w": np.eye(3), "b": np.ones(3)}, selection=Selection((), ("b",)))
        assert [row["name"] for row in result.matrices] == ["w"]

    def test_names_are_those_of_tensors_and_of_matrices(self) -> None:
        assert list(dict.fromkeys(names_in(self.MODEL))) == [
            "model.up.weight", "e", "e[0]", "e[1]",
        ]  # fmt: skip


class TestBlocks:
    @given(
        st.integers(1, 9),
        st.integers(1, 9),
        st.sampled_from([0, 1]),
        st.integers(1, 100),
    )
    @settings(deadline=None)
    def test_of_either_axis(self, rows: int, columns: int, axis: Any, most: int) -> None:
        array = np.arange(float(rows * columns)).reshape(rows, columns)
        (spec,) = fold(TensorInfo("w", (rows, columns), "float64"))
        stored = StoredMatrix(MemoryCheckpoint({"w": array}), spec)
        assert (stored.shape, stored.dtype) == ((rows, columns), "float64")
        blocks = list(stored.blocks(axis, most))
        np.testing.assert_array_equal(np.concatenate(blocks, axis), array)
        across = array.shape[1 - axis]
        assert all(block.size <= max(most, across) for block in blocks)
        pieces = list(stored.row_major(most))
        np.testing.assert_array_equal(
            np.concatenate([piece.ravel() for piece in pieces]), array.ravel()
        )
        assert all(piece.size <= most for piece in pieces)

    @pytest.mark.parametrize("shape", [(2**62, 0), (0, 2**62), (0, 0)])
    def test_of_nothing_there_are_none(self, shape: tuple[int, int]) -> None:
        spec = MatrixSpec("w", "w", (), 1, shape, "float64", "linear")
        stored = StoredMatrix(MemoryCheckpoint({}), spec)
        assert list(stored.blocks(0, 10)) == list(stored.blocks(1, 10)) == []
        assert list(stored.row_major(10)) == []


def part_of(draw: Any) -> tuple[Part, ...]:
    """Parts that share a period, as a layout of heads does, in any order."""
    heights = draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    groups = draw(st.integers(1, 4))
    ends = np.cumsum(heights).tolist()
    period = ends[-1]
    return tuple(
        Part(f"p{i}", groups, period, end - height, end)
        for i, (height, end) in enumerate(zip(heights, ends, strict=True))
    )


def rows_of(part: Part, array: Any) -> Any:
    """The rows of a part, picked one by one."""
    return array[
        [
            group * part.period + row
            for group in range(part.groups)
            for row in range(part.start, part.stop)
        ]
    ]


class TestTransposedAndParts:
    """Windows of what is stored another way, against NumPy on the whole array."""

    def test_a_matrix_stored_as_in_and_out(self) -> None:
        array = np.arange(6.0).reshape(2, 3)
        tensor = TensorInfo("c_fc.weight", (2, 3), "float64", transposed=True)
        (spec,) = fold(tensor)
        assert (spec.name, spec.shape, spec.stored.shape) == ("c_fc.weight", (3, 2), (2, 3))
        stored = StoredMatrix(MemoryCheckpoint({"c_fc.weight": array}), spec)
        np.testing.assert_array_equal(stored.read(slice(1, 3), slice(0, 1)), [[1.0], [2.0]])

    def test_names_of_parts(self) -> None:
        halves = (Part("gate", 1, 4, 0, 2), Part("up", 1, 4, 2, 4))
        flat = TensorInfo("gate_up_proj.weight", (4, 3), "float32", parts=halves)
        stack = TensorInfo("experts.gate_up_proj", (2, 3, 4), "float32", False, True, halves)
        assert [spec.name for spec in fold(flat)] == [
            "gate_up_proj.weight:gate",
            "gate_up_proj.weight:up",
        ]
        assert [(spec.name, spec.shape) for spec in fold(stack)] == [
            ("experts.gate_up_proj[0]:gate", (2, 3)),
            ("experts.gate_up_proj[0]:up", (2, 3)),
            ("experts.gate_up_proj[1]:gate", (2, 3)),
            ("experts.gate_up_proj[1]:up", (2, 3)),
        ]

    @pytest.mark.parametrize("name", ["w:q", "w:*", "w", "*:q"])
    def test_parts_are_selected_by_name(self, name: str) -> None:
        parts = (Part("q", 1, 4, 0, 2), Part("k", 1, 4, 2, 4))
        model = listing(TensorInfo("w", (4, 4), "float32", parts=parts))
        expected = ["w:q"] if name.endswith("q") else ["w:q", "w:k"]
        assert selected(model, include=name) == expected

    @given(data=st.data())
    @settings(deadline=None)
    def test_every_window(self, data: st.DataObject) -> None:
        """Of one matrix or a stack, as stored or transposed, whole or in parts."""
        parts = part_of(data.draw) if data.draw(st.booleans()) else ()
        outputs = parts[0].whole if parts else data.draw(st.integers(1, 9))
        inputs, stack = data.draw(st.integers(1, 5)), data.draw(st.integers(0, 3))
        transposed = data.draw(st.booleans())
        shape = (stack,) * bool(stack) + (outputs, inputs)[:: -1 if transposed else 1]
        array = np.arange(float(np.prod(shape))).reshape(shape)
        tensor = TensorInfo("experts", shape, "float64", transposed=transposed, parts=parts)
        checkpoint = MemoryCheckpoint({"experts": array})
        specs = list(fold(tensor))
        assert len(specs) == max(stack, 1) * max(len(parts), 1)
        for spec in specs:
            whole = array[spec.index].T if transposed else array[spec.index]
            expected = rows_of(spec.part, whole) if spec.part else whole
            stored = StoredMatrix(checkpoint, spec)
            assert stored.shape == expected.shape
            first, last = sorted(data.draw(st.tuples(*[st.integers(0, len(expected))] * 2)))
            left, right = sorted(data.draw(st.tuples(*[st.integers(0, inputs)] * 2)))
            window = stored.read(slice(first, last), slice(left, right))
            np.testing.assert_array_equal(window, expected[first:last, left:right])
            for axis in (0, 1):
                blocks = list(stored.blocks(axis, data.draw(st.integers(1, 12))))
                np.testing.assert_array_equal(np.concatenate(blocks, axis), expected)

    @given(data=st.data())
    @settings(deadline=None)
    def test_parts_take_a_matrix_apart(self, data: st.DataObject) -> None:
        parts = part_of(data.draw)
        array = np.arange(parts[0].whole)[:, None] * np.ones((1, 2))
        tensor = TensorInfo("w", array.shape, "float64", parts=parts)
        checkpoint = MemoryCheckpoint({"w": array})
        read = [
            StoredMatrix(checkpoint, spec).read(slice(0, spec.shape[0]), slice(0, 2))
            for spec in fold(tensor)
        ]
        np.testing.assert_array_equal(np.sort(np.concatenate(read)[:, 0]), array[:, 0])

    @pytest.mark.parametrize("height", [1, 8])
    def test_no_more_is_read_than_twice_what_is_wanted(self, height: int) -> None:
        """A gate in every other row at once; one head of keys in ten of queries by itself."""
        period = 2 if height == 1 else 10 * height
        part = Part("k", 6, period, period - height, period)
        array = np.arange(part.whole * 3.0).reshape(part.whole, 3)
        counting = Counting(array)
        tensor = TensorInfo("w", array.shape, "float64", parts=(part,))
        (spec,) = fold(tensor)
        wanted = StoredMatrix(counting, spec).read(slice(1, part.rows - height), slice(0, 3))
        np.testing.assert_array_equal(wanted, rows_of(part, array)[1:-height])
        assert counting.elements <= 2 * wanted.size
        assert counting.calls == (1 if height == 1 else part.groups - 1)

    def test_the_type_is_kept(self) -> None:
        part = Part("k", 2, 8, 6, 8)
        array = np.arange(16).reshape(16, 1).astype(ml_dtypes.bfloat16)
        (spec,) = fold(TensorInfo("w", (16, 1), "bfloat16", parts=(part,)))
        read = StoredMatrix(MemoryCheckpoint({"w": array}), spec).read(slice(0, 4), slice(0, 1))
        assert read.dtype == ml_dtypes.bfloat16
        assert read[:, 0].tolist() == [6, 7, 14, 15]


class Counting(MemoryCheckpoint):
    """Counts what is asked for."""

    def __init__(self, array: Any) -> None:
        super().__init__({"w": array})
        self.calls = 0
        self.elements = 0

    def read(self, spec: MatrixSpec, rows: slice, columns: slice) -> Any:
        window = super().read(spec, rows, columns)
        self.calls += 1
        self.elements += window.size
        return window

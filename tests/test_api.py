"""What the package offers to Python, and how a question is put to it."""

from __future__ import annotations

import json
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pandas as pd
import pytest
import safetensors.numpy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import rankscope
from rankscope.errors import InputRejected, OutputFailed, UsageError
from rankscope.how import How
from rankscope.matrices import Selection
from rankscope.metrics import METRICS
from rankscope.question import MAX_TEXT, Column, Question
from rankscope.table import SCHEMA, Table
from tests.matrix import Array, low_rank, with_sigma

RNG = np.random.default_rng(23)
NO_STORE = How(store=False, workers=1)


BAD_ROWS: tuple[Any, ...] = (None, 3, "text", {}, ["row"], [{}], [None])


def rows(result: rankscope.Analysis) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in result.matrices}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    tensors: dict[str, Array] = {
        "a.weight": RNG.standard_normal((9, 6)).astype(np.float32),
        "b.weight": low_rank(8, 7, 2),
        "zero": np.zeros((3, 3)),
        "nan": np.full((2, 2), np.nan),
        "bias": np.ones(4),
    }
    safetensors.numpy.save_file(tensors, path)
    return path


class TestSources:
    def test_tied_weights_of_a_module_are_measured_once(self) -> None:
        module = torch.nn.Sequential(torch.nn.Embedding(9, 4), torch.nn.Linear(4, 9, bias=False))
        module[1].weight = module[0].weight
        result = rankscope.analyze(module)
        assert [row["name"] for row in result.matrices] == ["0.weight"]
        (skipped,) = result.skipped
        assert skipped["name"].endswith("1.weight")
        assert skipped["reason"] == "the same weights as 0.weight, where they are measured"

    def test_views_of_one_memory_are_not_tied(self) -> None:
        both = torch.randn(8, 4)
        result = rankscope.analyze({"all": both, "half": both[:4], "turned": both.T})
        assert [row["name"] for row in result.matrices] == ["all", "half", "turned"]

    def test_a_path_as_text_or_as_path(self, model: Path) -> None:
        one = rankscope.analyze(model, how=NO_STORE)
        assert rankscope.analyze(str(model), how=NO_STORE).matrices == one.matrices
        assert set(rows(one)) == {"a.weight", "b.weight", "zero", "nan"}

    def test_several_paths(self, model: Path, tmp_path: Path) -> None:
        other = tmp_path / "other.safetensors"
        safetensors.numpy.save_file({"c": np.eye(3)}, other)
        result = rankscope.analyze(model, other, how=NO_STORE)
        assert [row["source"] for row in result.summary] == [str(model), str(other)]
        assert rows(result)["c"]["source"] == str(other)

    def test_numpy_arrays_are_as_their_file(self, model: Path) -> None:
        arrays = safetensors.numpy.load_file(model)
        found = rows(rankscope.analyze(arrays))
        expected = rows(rankscope.analyze(model, how=NO_STORE))
        assert found.keys() == expected.keys()
        for name, row in expected.items():
            for key, value in row.items():
                if key != "source":
                    near = pytest.approx(value, rel=1e-9) if isinstance(value, float) else value
                    assert found[name][key] == near

    def test_numpy_arrays_of_any_memory_order(self) -> None:
        base = RNG.standard_normal((6, 8))
        wide = np.zeros((12, 8))
        wide[::2] = base
        stack = RNG.standard_normal((2, 3, 8, 5))
        arrays = {
            "c": base,
            "f": np.asfortranarray(base),
            "strided": wide[::2],
            "swapped": base.astype(">f8"),
            "turned": base.T,
            "conv": np.moveaxis(stack, 0, 3),
        }
        found = rows(rankscope.analyze(arrays, metrics=("nuclear_norm",)))
        expected = np.linalg.svd(base, compute_uv=False).sum()
        for name in ("c", "f", "strided", "swapped", "turned"):
            assert found[name]["nuclear_norm"] == pytest.approx(expected, rel=1e-12)
        folded = np.moveaxis(stack, 0, 3).reshape(3, -1)
        expected = np.linalg.svd(folded, compute_uv=False).sum()
        assert found["conv"]["nuclear_norm"] == pytest.approx(expected, rel=1e-12)

    @pytest.mark.parametrize(
        "dtype",
        [
            torch.float64,
            torch.float32,
            torch.float16,
            torch.bfloat16,
            torch.float8_e4m3fn,
            torch.float8_e5m2,
        ],
    )
    def test_torch_tensors(self, dtype: torch.dtype) -> None:
        plain = torch.randn(6, 10, generator=torch.Generator().manual_seed(0)).to(dtype)
        exact = plain.to(torch.float64).numpy()
        tensors = {"plain": plain, "turned": plain.t(), "parameter": torch.nn.Parameter(plain)}
        if dtype.itemsize > 1:
            tensors["sliced"] = torch.cat([plain, plain], dim=1)[:, :10]
        found = rows(rankscope.analyze(tensors, metrics=("spectral_norm",)))
        assert found.keys() == tensors.keys()
        for row in found.values():
            assert row["spectral_norm"] == pytest.approx(np.linalg.norm(exact, 2), rel=1e-12)
            assert row["dtype"] == str(dtype).removeprefix("torch.")

    def test_a_module(self) -> None:
        module = torch.nn.Sequential(
            torch.nn.Conv2d(3, 8, 3), torch.nn.Linear(5, 4), torch.nn.BatchNorm1d(4)
        )
        result = rankscope.analyze(module)
        found = rows(result)
        assert {name: row["kind"] for name, row in found.items()} == {
            "0.weight": "convolution",
            "1.weight": "linear",
        }
        assert found["0.weight"]["shape"] == [8, 27]
        weight = module.state_dict()["0.weight"].reshape(8, -1).numpy()
        sigma = np.linalg.svd(weight.astype(np.float64), compute_uv=False)
        assert found["0.weight"]["nuclear_norm"] == pytest.approx(sigma.sum(), rel=1e-9)
        assert {row["name"] for row in result.skipped} >= {"0.bias", "2.running_mean"}
        assert all(one.requires_grad for one in module.parameters())

    def test_what_is_no_array_is_listed(self) -> None:
        mixed = {
            "w": np.eye(3),
            "epoch": 3,
            "sparse": torch.eye(3).to_sparse(),
            "i": np.eye(3, dtype=int),
        }
        result = rankscope.analyze(mixed)
        assert set(rows(result)) == {"w"}
        assert {row["name"] for row in result.skipped} == {"epoch", "sparse", "i"}

    @pytest.mark.parametrize(
        ("sources", "said"),
        [
            ((), "nothing to analyse"),
            ((3,), "int is no path"),
            ((None,), "NoneType is no path"),
            (([np.eye(2)],), "list is no path"),
            (({"w": np.eye(2)}, {"v": np.eye(2)}), "one source at a time"),
            (({"w": np.eye(2)}, "path"), "one source at a time"),
        ],
    )
    def test_what_makes_no_sense(self, sources: tuple[Any, ...], said: str) -> None:
        with pytest.raises(UsageError, match=said):
            rankscope.analyze(*sources)

    def test_selection(self, model: Path) -> None:
        for source in (model, safetensors.numpy.load_file(model)):
            chosen = Selection(include=("*.weight",), exclude=("b*",))
            assert set(rows(rankscope.analyze(source, selection=chosen, how=NO_STORE))) == {
                "a.weight"
            }
            with pytest.raises(UsageError, match="nearest"):
                rankscope.analyze(source, selection=Selection(("a.wieght",)), how=NO_STORE)

    def test_routes(self) -> None:
        weights = {"w": low_rank(96, 64, 3).astype(np.float32)}
        routes = {
            route: rows(rankscope.analyze(weights, how=How(route=route)))["w"]
            for route in ("auto", "gram", "direct")
        }
        assert [row["route"] for row in routes.values()] == ["direct", "gram", "direct"]
        assert routes["auto"]["numerical_rank"] == 3
        assert "numerical_rank" not in routes["auto"]["notes"]
        assert "not exact by the gram route" in routes["gram"]["notes"]["numerical_rank"]


class TestResult:
    def test_a_data_frame_is_what_pandas_makes_of_the_document(self, model: Path) -> None:
        result = rankscope.analyze(model, how=NO_STORE)
        expected = pd.DataFrame(json.loads(json.dumps(result.to_document()))["matrices"])
        found = result.to_pandas()
        assert list(found) == list(expected)
        whole = expected.columns[expected.notna().all()]
        pd.testing.assert_frame_equal(found[whole], expected[whole])
        assert result.to_pandas()["rank"].max() == 6

    @pytest.mark.parametrize("suffix", [".json", ".csv", ".md", ".html", ".JSON"])
    def test_files(self, model: Path, tmp_path: Path, suffix: str) -> None:
        result = rankscope.analyze(model, how=NO_STORE)
        target = tmp_path / f"out{suffix}"
        target.write_text("old")
        result.save(target)
        text = target.read_text(encoding="utf-8")
        assert "a.weight" in text.replace("\\", "")
        if suffix.lower() == ".json":
            again = Table.from_document(json.loads(text))
            assert again.to_document() == result.to_document()
            assert again.columns == result.columns
            assert rankscope.Analysis.from_document(json.loads(text)) == result
        if suffix == ".csv":
            frame = pd.read_csv(target, keep_default_na=False)
            assert list(frame["name"]) == [row["name"] for row in result.matrices]

    def test_names_that_are_no_text(self, tmp_path: Path) -> None:
        result = rankscope.analyze({"\ud800.weight": np.eye(3), "a\x1b[31m": np.eye(2)})
        assert "\x1b" not in str(result)
        for suffix in (".json", ".csv", ".md", ".html"):
            target = tmp_path / f"out{suffix}"
            result.save(str(target))
            assert "\x1b" not in target.read_text(encoding="utf-8")

    def test_files_that_cannot_be(self, model: Path, tmp_path: Path) -> None:
        result = rankscope.analyze(model, how=NO_STORE)
        with pytest.raises(UsageError, match=r"expected one of \.json"):
            result.save(tmp_path / "out.xlsx")
        with pytest.raises(OutputFailed):
            result.save(tmp_path / "no" / "out.json")

    def test_it_shows_itself(self, model: Path) -> None:
        result = rankscope.analyze(model, how=NO_STORE)
        assert "a.weight" in str(result)
        assert "a.weight" in result._repr_html_()

    @pytest.mark.parametrize(
        "document",
        [
            None,
            [],
            "text",
            {},
            {"schema": "rankscope/analysis/2"},
            {"schema": SCHEMA},
            {"schema": SCHEMA, "provenance": 3, "matrices": [], "skipped": [], "summary": []},
            {"schema": SCHEMA, "provenance": {}, "matrices": [], "skipped": [], "summary": []},
            *(
                {
                    "schema": SCHEMA,
                    "provenance": {"columns": []},
                    "matrices": [],
                    "skipped": [],
                    "summary": [],
                    part: value,
                }
                for part in ("matrices", "skipped", "summary")
                for value in BAD_ROWS
            ),
        ],
    )
    def test_what_is_no_analysis_is_rejected(self, document: Any) -> None:
        with pytest.raises(InputRejected, match=r"^f\.json: (schema is|is not a whole analysis)"):
            Table.from_document(document, "f.json")

    def test_provenance_can_be_written(self, model: Path) -> None:
        levels: Any = [np.float32(0.1), np.float32(0.2)]
        result = rankscope.analyze(model, eps=levels, metrics="rank", how=NO_STORE)
        assert json.loads(json.dumps(result.to_document()))["provenance"]["eps"] == [
            float(level) for level in levels
        ]


class TestSpectrum:
    @pytest.mark.parametrize(
        "array",
        [
            [[3.0, 0.0], [0.0, 4.0]],
            [[3, 0], [0, 4]],
            ((3, 0), (0, 4)),
            np.diag([3, 4]),
            np.diag([3, 4]).astype(np.uint8),
            np.diag([3.0, 4.0]).astype(np.float16),
            np.diag([3.0, 4.0]).astype(ml_dtypes.float8_e5m2),
            np.diag([3.0, 4.0]).astype(">f4"),
            torch.diag(torch.tensor([3.0, 4.0])),
            torch.diag(torch.tensor([3.0, 4.0])).bfloat16(),
            torch.diag(torch.tensor([3, 4])),
            torch.diag(torch.tensor([3.0, 4.0])).requires_grad_(),
        ],
    )
    def test_anything_that_is_a_matrix(self, array: Any) -> None:
        for route in ("auto", "gram", "direct"):
            found = rankscope.spectrum(array, route=route)
            np.testing.assert_allclose(found.sigma, [4, 3], rtol=1e-14)
            assert found.shape == (2, 2)

    def test_booleans(self) -> None:
        np.testing.assert_allclose(rankscope.spectrum(np.eye(3, dtype=bool)).sigma, 1)

    @pytest.mark.parametrize("shape", [(6, 3, 2, 2), (2, 3, 4), (1, 1, 7)])
    def test_more_axes_fold_to_the_first_and_the_rest(self, shape: tuple[int, ...]) -> None:
        array = RNG.standard_normal(shape)
        found = rankscope.spectrum(array)
        expected = np.linalg.svd(array.reshape(shape[0], -1), compute_uv=False)
        np.testing.assert_allclose(found.sigma, expected, rtol=1e-12)
        assert found.shape == (shape[0], int(np.prod(shape[1:])))

    @pytest.mark.parametrize(
        ("array", "said"),
        [
            ([1.0, 2.0], "1 axes, expected at least 2"),
            (3.0, "0 axes"),
            ([[1.0, float("nan")]], "NaN or infinity"),
            ([[1.0, float("inf")]], "NaN or infinity"),
            (np.zeros((0, 3)), "no entries"),
            (np.zeros((3, 0, 2)), "no entries"),
            ([[1.0, 2.0], [3.0]], "no array of numbers"),
            ([["a", "b"]], "not a floating-point type"),
            ([[object()]], "not a floating-point type"),
            (None, "not a floating-point type"),
            (np.array([[1 + 2j]]), "complex128: not a floating-point type"),
            (np.ones((2, 2), np.longdouble), "not a floating-point type"),
            (torch.eye(2, dtype=torch.complex64), "not a floating-point type"),
            (torch.eye(2).to_sparse(), "no array of numbers"),
            (np.full((2, 2), 1.7e308), "beyond the range of float64"),
        ],
    )
    def test_what_has_no_spectrum(self, array: Any, said: str) -> None:
        with pytest.raises(InputRejected, match=said):
            rankscope.spectrum(array)

    def test_auto_resolves_every_value(self) -> None:
        found = rankscope.spectrum(low_rank(30, 20, 3))
        assert found.route == "direct"
        assert found.sigma[3] < 1e-13 * found.sigma[0]
        assert rankscope.spectrum(RNG.standard_normal((30, 20))).route == "gram"

    def test_a_direct_route_that_fails_leaves_the_gram_spectrum(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def diverges(*_: object, **__: object) -> None:
            raise np.linalg.LinAlgError("did not converge")

        monkeypatch.setattr(np.linalg, "svd", diverges)
        assert rankscope.spectrum(low_rank(30, 20, 3)).route == "gram"


class TestQuestion:
    def keys(self, *metrics: str, **more: Any) -> list[str]:
        return [column.key for column in Question(tuple(metrics), **more).columns()]

    def test_keys(self) -> None:
        assert self.keys() == [metric.name for metric in METRICS if metric.default]
        assert self.keys("rank", "rank") == ["rank"]
        assert self.keys(" schatten_norm( 1/2 ) ") == ["schatten_norm(p=0.5)"]
        assert self.keys("schatten_norm(2)", "schatten_norm(p=2.0)") == ["schatten_norm(p=2)"]
        assert self.keys("numerical_rank(numpy)", "numerical_rank(rule='numpy')") == [
            "numerical_rank(rule=numpy)"
        ]
        assert self.keys("rank", eps=(0.1, 1e-5, 0.1)) == ["rank@0.1", "rank@1e-05"]
        assert self.keys("distance_to_rank(1234567)") == ["distance_to_rank(r=1234567)"]

    def test_numbers_that_differ_are_columns_that_differ(self) -> None:
        close = (0.12345671, 0.12345672)
        assert len(self.keys("rank", eps=close)) == 2
        assert len(self.keys(*(f"schatten_norm({p})" for p in close))) == 2
        for key in self.keys(*(f"schatten_norm({p})" for p in close)):
            assert float(key[len("schatten_norm(p=") : -1]) in close

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("", "there are rank, "),
            ("rnk", "did you mean rank?"),
            ("rank(0.1)", "expected rank"),
            ("schatten_norm", r"expected schatten_norm\(p\)"),
            ("schatten_norm()", r"expected schatten_norm\(p\)"),
            ("schatten_norm(1, 2)", r"expected schatten_norm\(p\)"),
            ("schatten_norm(1, p=2)", r"expected schatten_norm\(p\)"),
            ("schatten_norm(q=2)", r"expected schatten_norm\(p\)"),
            ("schatten_norm(**x)", r"expected schatten_norm\(p\)"),
            ("schatten_norm(*x)", "neither a number nor a word"),
            ("schatten_norm([1])", "neither a number nor a word"),
            ("schatten_norm(1+1)", "neither a number nor a word"),
            ("schatten_norm(True)", "neither a number nor a word"),
            ("schatten_norm(1/0)", "neither a number nor a word"),
            ("schatten_norm(1e999)", "too large for a number"),
            ("distance_to_rank(1/1e-320)", "too large for a number"),
            ("schatten_norm(0)", "p is 0, expected a finite number above 0"),
            ("schatten_norm(x)", "of the wrong kind"),
            ("schatten_norm(" + "9" * 180 + ")" * 9, "is not known"),
            ("energy_rank(2)", "expected a share within"),
            ("numerical_rank(3)", "expected storage or numpy"),
            ("rank" * 1000, "is not known"),
            ("-" * 10_000 + "1", "is not known"),
            ("(" * 10_000, "is not known"),
            ("rank\0", "is not known"),
            ("'\\d'", "is not known"),
        ],
    )
    def test_mistakes_are_explained(self, text: str, said: str) -> None:
        with pytest.raises(UsageError, match=said) as error:
            Question((text,)).columns()
        assert len(str(error.value)) < 3 * MAX_TEXT

    def test_mistakes_in_eps(self) -> None:
        for eps in (-1.0, float("nan"), float("inf")):
            with pytest.raises(UsageError, match="expected a number of at least 0"):
                Question(("rank",), (eps,)).columns()
        with pytest.raises(UsageError, match="no eps given"):
            Question(("rank",), ()).columns()
        with pytest.raises(UsageError, match="norm is 'nuclear'"):
            Question(("rank",), (0.1,), "nuclear").columns()  # type: ignore[arg-type]
        for given_eps in ("0.1", [[0.1]], None, True):
            with pytest.raises(UsageError, match="expected a number or several"):
                rankscope.analyze({"w": np.eye(2)}, eps=given_eps)  # type: ignore[arg-type]

    @settings(deadline=None)
    @given(st.text(max_size=60))
    def test_any_text(self, text: str) -> None:
        self.only_usage_errors(text)

    numbers = st.one_of(
        st.integers().map(str),
        st.integers(10**150, 10**180).map(str),
        st.floats().map(repr),
        st.sampled_from(
            ["1e999", "x", "'x'", "storage", "numpy", "None", "1j", "[]", "*a", "b''", "1/3"]
        ),
    )
    arguments = st.lists(
        st.builds(
            "{}{}{}".format,
            st.sampled_from(["", "p=", "q=", "r=", "rule=", "-", "1/"]),
            numbers,
            st.sampled_from(["", "/2", "/0", "/1e-320", "+1", "()"]),
        ),
        max_size=3,
    )

    @settings(max_examples=400, deadline=None)
    @given(st.sampled_from([metric.name for metric in METRICS]), arguments)
    def test_anything_like_a_metric(self, name: str, arguments: list[str]) -> None:
        self.only_usage_errors(f"{name}({', '.join(arguments)})")

    spectra = (
        with_sigma([3.0, 1.0, 1e-9]),
        with_sigma([0.0, 0.0]),
        with_sigma([1e-300, 1e-310]),
        with_sigma([2.0, 1.0, 1e-12], route="gram"),
    )

    def only_usage_errors(self, text: str) -> None:
        """What is accepted can be read off any spectrum, without a warning."""
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            columns: tuple[Column, ...] = ()
            with suppress(UsageError):
                columns = Question((text,)).columns()
            for column in columns:
                for spectrum in self.spectra:
                    column.read(spectrum)
                json.dumps(column.key)


def test_a_list_of_paths_is_several_paths(tmp_path: Path) -> None:
    paths = [tmp_path / "a.npy", tmp_path / "b.npy"]
    for path in paths:
        np.save(path, np.eye(3))
    assert len(rankscope.analyze(paths, how=How(store=False)).summary) == 2


def test_an_unknown_route_is_refused_at_once() -> None:
    with pytest.raises(UsageError, match="expected one of auto, gram, direct"):
        How(route="grm")  # type: ignore[arg-type]


def test_the_result_is_short_in_a_prompt_and_its_averages_are_a_frame() -> None:
    result = rankscope.analyze({"w": np.eye(3)})
    assert repr(result) == "<Analysis of 1 matrices in 1 snapshots>"
    assert list(result.to_pandas("summary")["rank"]) == [3.0]


def test_a_checkpoint_closes_itself(tmp_path: Path) -> None:
    path = tmp_path / "w.npy"
    np.save(path, np.eye(3))
    with rankscope.open_checkpoint(path) as checkpoint:
        assert [tensor.name for tensor in checkpoint.listing.tensors] == ["w"]

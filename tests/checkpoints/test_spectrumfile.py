"""Files of singular values that somebody made, or damaged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

import rankscope
from rankscope.checkpoints import open_checkpoint, reader_for
from rankscope.checkpoints.spectrumfile import SCHEMA
from rankscope.errors import InputRejected
from rankscope.records import MatrixSpec

SIGMA = np.array([4.0, 3.0, 0.0])
PART = {"name": "q", "groups": 1, "period": 3, "start": 0, "stop": 3}


def matrix(**changed: Any) -> dict[str, Any]:
    told = {
        "name": "w", "key": "0a" * 32, "status": "ok", "route": "direct", "zeros": 0,
        "frobenius_norm": 5.0, "max_row_norm": 4.0, "max_column_norm": 4.0, "resolution": 1e-14,
    }  # fmt: skip
    return {key: value for key, value in {**told, **changed}.items() if value is not ...}


def tensor(*matrices: dict[str, Any], **changed: Any) -> dict[str, Any]:
    told = {"name": "w", "shape": [3, 5], "dtype": "float32", "matrices": list(matrices)}
    return {**told, **changed}


def write(
    path: Path, *tensors: dict[str, Any], sigma: np.ndarray[Any, Any] = SIGMA, name: str = "w"
) -> Path:
    file = path / "step-1.spectra.safetensors"
    save_file({name: sigma}, file, {SCHEMA: json.dumps({"tensors": list(tensors)})})
    return file


def rank(path: Path) -> Any:
    (row,) = rankscope.analyze(path, metrics=["rank"]).matrices
    return row["rank"] if row["status"] == "ok" else f"{row['status']}: {row['notes']['status']}"


def test_a_sound_one(tmp_path: Path) -> None:
    path = write(tmp_path, tensor(matrix()))
    assert reader_for(path).name == "spectra"
    assert rank(path) == 2


def test_the_content_decides_whatever_the_name(tmp_path: Path) -> None:
    path = write(tmp_path, tensor(matrix())).rename(tmp_path / "model.safetensors")
    assert reader_for(path).name == "spectra"
    save_file({SCHEMA: np.ones((2, 2))}, tmp_path / "weights.safetensors", {"format": "pt"})
    assert reader_for(tmp_path / "weights.safetensors").name == "safetensors"


def test_a_vector_is_listed_without_numbers(tmp_path: Path) -> None:
    bias = {"name": "b", "shape": [3], "dtype": "float32", "matrices": []}
    result = rankscope.analyze(write(tmp_path, tensor(matrix()), bias))
    assert [(item["name"], item["reason"]) for item in result.skipped] == [("b", "vector")]


@pytest.mark.parametrize(
    ("sigma", "told", "reason"),
    [
        ([3.0, 4.0, 0.0], {}, "not descending"),
        ([4.0, np.nan, 0.0], {}, "not descending"),
        ([4.0, 3.0, -1.0], {}, "not descending"),
        ([np.inf, 3.0, 0.0], {"frobenius_norm": 1e300}, "not descending"),
        ([4.0, 3.0, 0.0], {"frobenius_norm": 5.1}, "squared Frobenius norm"),
        ([4.0, 3.0, 0.0], {"frobenius_norm": 0.0}, "zero entries with a singular value"),
    ],
)
def test_what_cannot_be_a_spectrum_is_not_shown(
    tmp_path: Path, sigma: list[float], told: dict[str, Any], reason: str
) -> None:
    found = rank(write(tmp_path, tensor(matrix(**told)), sigma=np.array(sigma)))
    assert found.startswith("failed: ")
    assert reason in found


def test_why_there_is_none(tmp_path: Path) -> None:
    told = {"name": "w", "status": "nonfinite", "reason": "holds NaN or infinity"}
    path = tmp_path / "step-1.spectra.safetensors"
    save_file({}, path, {SCHEMA: json.dumps({"tensors": [tensor(told)]})})
    assert rank(path) == "nonfinite: holds NaN or infinity"


@pytest.mark.parametrize(
    ("tensors", "sigma", "reason"),
    [
        ([tensor(matrix(), shape=[3, -5])], SIGMA, "shape is .*, expected a list of sizes"),
        ([tensor(matrix(), shape="3x5")], SIGMA, "expected a list"),
        ([tensor(matrix())], SIGMA.astype(np.float32), "of float32, expected one axis of float64"),
        ([tensor(matrix())], np.stack([SIGMA] * 2), r"\[2, 3\] of float64, expected one axis"),
        ([tensor(matrix(), matrix())], SIGMA, "a matrix stands twice"),
        ([tensor(matrix(name="v"))], SIGMA, "v: the metadata lists it, and no singular values"),
        ([tensor(matrix()), tensor(name="v"), tensor(name="v")], SIGMA, "a tensor stands twice"),
        ([tensor(matrix(key="0A"))], SIGMA, 'key is "0A", expected 64 hexadecimal digits'),
        (
            [tensor(matrix(), parts=[PART | {"stop": 9}])],
            SIGMA,
            "stop is 9, expected rows of each 3",
        ),
        ([tensor(matrix(), parts=[PART | {"name": 3}])], SIGMA, "name is 3, expected a string"),
        ([tensor(matrix(), transposed="no")], SIGMA, "transposed is .*, expected true or false"),
        ([], SIGMA, "w: singular values of what the metadata does not list"),
        ([tensor(matrix(route="magic"))], SIGMA, 'route is "magic", expected one of gram'),
        ([tensor(matrix(status="fine"))], SIGMA, 'status is "fine", expected one of ok'),
        ([tensor(matrix(zeros=4))], SIGMA, "zeros is 4, expected at most 3"),
        ([tensor(matrix(zeros=-1))], SIGMA, "zeros is -1"),
        ([tensor(matrix(resolution=...))], SIGMA, "resolution is missing"),
        ([tensor(matrix(max_row_norm=-1.0))], SIGMA, "max_row_norm is -1.0"),
        ([tensor(matrix(frobenius_norm="5"))], SIGMA, 'frobenius_norm is "5", expected a number'),
        ([{"shape": [3, 5]}], SIGMA, "name is missing"),
        ([3], SIGMA, r"tensors\[0\] is 3, expected an object"),
    ],
)
def test_a_contradiction_is_refused(
    tmp_path: Path, tensors: list[Any], sigma: np.ndarray[Any, Any], reason: str
) -> None:
    with pytest.raises(InputRejected, match=reason):
        open_checkpoint(write(tmp_path, *tensors, sigma=sigma))


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"tensors": {}}', '{"tensors": 3}', "[" * 100_000]
)
def test_metadata_that_is_no_list_of_tensors(tmp_path: Path, text: str) -> None:
    path = tmp_path / "m.safetensors"
    save_file({"w": SIGMA}, path, {SCHEMA: text})
    with pytest.raises(InputRejected):
        open_checkpoint(path)


def test_a_matrix_that_nobody_solved_is_unreadable(tmp_path: Path) -> None:
    """Of shape 6x7, without singular values: what the bytes of another name say is not asked."""
    path = write(tmp_path, tensor(matrix()), tensor(name="v", shape=[6, 7]))
    rows = rankscope.analyze(path, metrics=["rank"]).matrices
    assert {row["name"]: row["status"] for row in rows} == {"w": "ok", "v": "unreadable"}


@pytest.mark.parametrize("shape", [[4, 5], [2**62, 5], [2**62, 2**62], [3, 5, 7]])
def test_of_another_number_of_values_it_is_no_spectrum(tmp_path: Path, shape: list[int]) -> None:
    found = rank(write(tmp_path, tensor(matrix(), shape=shape), sigma=SIGMA[:2]))
    assert "2 singular values are stored, expected" in found


def test_what_folds_to_more_matrices_than_are_told(tmp_path: Path) -> None:
    path = write(tmp_path, tensor(matrix(), shape=[2, 30, 50]))
    rows = rankscope.analyze(path, metrics=["rank"]).matrices
    assert [row["status"] for row in rows] == ["failed", "unreadable"]


def test_weights_cannot_be_read(tmp_path: Path) -> None:
    with open_checkpoint(write(tmp_path, tensor(matrix()))) as checkpoint:
        spec = MatrixSpec("w", "w", (), 1, (3, 5), "float32", "linear")
        with pytest.raises(InputRejected, match="no singular values are saved"):
            checkpoint.read(spec, slice(0, 3), slice(0, 5))


@pytest.mark.parametrize("cut", [1, 8, 24])
def test_truncated(tmp_path: Path, cut: int) -> None:
    path = write(tmp_path, tensor(matrix()))
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(InputRejected, match="truncated"):
        open_checkpoint(path)


def test_bytes_that_are_no_json(tmp_path: Path) -> None:
    path = write(tmp_path, tensor(matrix()))
    path.write_bytes(path.read_bytes().replace(b'\\"tensors\\":', b'\\"tensors\\" '))
    with pytest.raises(InputRejected, match="not JSON"):
        open_checkpoint(path)

"""A device that is not there: one line, and nothing is written."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from rankscope.errors import UsageError
from trainers.__main__ import main
from trainers.devices import check_device

without_cuda = pytest.mark.skipif(torch.cuda.is_available(), reason="needs no CUDA device")

# Names that PyTorch knows, of devices that its builds for the CPU have not.
ABSENT = [pytest.param("cuda", marks=without_cuda), "cuda:99", "xpu", "hpu", "xla", "privateuseone"]


def test_the_cpu_is_there() -> None:
    check_device("cpu")
    check_device("cpu:0")


@pytest.mark.parametrize("device", [*ABSENT, "gpu", "", "cuda:x", "meta"])
def test_others_are_refused_in_one_line(device: str) -> None:
    with pytest.raises(UsageError, match=rf"^device is {device}, ") as caught:
        check_device(device)
    assert "choose cpu" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("device", ["gpu", pytest.param("cuda", marks=without_cuda)])
@pytest.mark.parametrize(
    "driver",
    [
        ["complete"],
        ["table", "P2-T1"],
        ["curves", "P2-F1"],
        ["movielens", "--data", "nowhere"],
        ["classify", "--data", "synthetic"],
    ],
    ids=lambda words: str(words[0]),
)
def test_drivers_make_nothing_for_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], driver: list[str], device: str
) -> None:
    out = tmp_path / "run"
    assert main([*driver, "--out", str(out), "--device", device]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: device is {device}, and PyTorch ")
    assert not out.exists()

"""How figures become files, and that matplotlib is left as it was."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from rankscope.errors import OutputFailed, UsageError
from rankscope.figures import draw, legend_below, save, styled
from rankscope.figures.house import digits
from tests.figures import made

BEGINNINGS = {".png": b"\x89PNG\r\n", ".pdf": b"%PDF-", ".svg": b"<?xml"}
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def figure(tmp_path_factory: pytest.TempPathFactory) -> Figure:
    arrays = {name: made.matrix(6, 5, 3, i) for i, name in enumerate(made.HOSTILE[:5])}
    path = made.saved(tmp_path_factory.mktemp("model") / "m.safetensors", arrays)
    return draw(made.scene(path), "spectrum")


def again(figure: Figure, tmp_path: Path, suffix: str) -> list[bytes]:
    targets = [tmp_path / f"{name}{suffix}" for name in ("one", "other")]
    for target in targets:
        save(figure, target)
    return [target.read_bytes() for target in targets]


class TestFiles:
    @pytest.mark.parametrize("suffix", BEGINNINGS)
    def test_the_same_figure_is_the_same_file(
        self, figure: Figure, tmp_path: Path, suffix: str
    ) -> None:
        one, other = again(figure, tmp_path, suffix)
        assert one == other
        assert one.startswith(BEGINNINGS[suffix])
        assert len(list(tmp_path.iterdir())) == 2

    @pytest.mark.parametrize("suffix", BEGINNINGS)
    def test_no_file_says_when_it_was_made(
        self, figure: Figure, tmp_path: Path, suffix: str
    ) -> None:
        content = again(figure, tmp_path, suffix)[0]
        assert b"CreationDate" not in content
        assert b"<dc:date>" not in content

    def test_an_svg_has_its_text_as_text(self, figure: Figure, tmp_path: Path) -> None:
        content = again(figure, tmp_path, ".svg")[0]
        texts = ["".join(one.itertext()) for one in ET.fromstring(content).iter(f"{SVG}text")]
        for name in ("$a$b", "$\\frac{", "_legend", "\\x1b[31mred\\x1b[0m", "a\\nb"):
            assert name in texts
        assert b"\x1b" not in content

    def test_a_pdf_has_fonts_that_printers_take(self, figure: Figure, tmp_path: Path) -> None:
        content = again(figure, tmp_path, ".pdf")[0]
        kinds = set(re.findall(rb"/Subtype\s*/(Type\d|CIDFontType\d|TrueType)", content))
        assert b"Type3" not in kinds
        assert kinds & {b"CIDFontType2", b"TrueType", b"Type0"}

    def test_a_png_is_as_wide_as_asked_and_not_blank(self, tmp_path: Path) -> None:
        path = made.saved(tmp_path / "m.safetensors", {"w": made.matrix(6, 5, 3)})
        save(draw(made.scene(path), width=3.5), tmp_path / "f.png")
        pixels = imread(tmp_path / "f.png")
        assert pixels.shape[1] == 700
        assert len(np.unique(pixels.reshape(-1, pixels.shape[2]), axis=0)) > 20

    def test_another_suffix_is_no_picture(self, figure: Figure, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=r"suffix of no picture, expected one of \.png"):
            save(figure, tmp_path / "f.gif")
        assert not list(tmp_path.iterdir())

    def test_an_old_file_stays_where_the_new_one_cannot_be_written(
        self, figure: Figure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "f.svg").write_text("old")

        def full(*_: object, **__: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(figure, "savefig", full)
        with pytest.raises(OutputFailed, match="No space left"):
            save(figure, tmp_path / "f.svg")
        assert [file.read_text() for file in tmp_path.iterdir()] == ["old"]


class TestStyle:
    def test_the_users_own_settings_neither_matter_nor_change(self, tmp_path: Path) -> None:
        scene = made.scene(made.saved(tmp_path / "m.safetensors", {"w": made.matrix(6, 5, 3)}))
        save(draw(scene), tmp_path / "usual.svg")
        with mpl.rc_context({"axes.titlecolor": "red", "lines.marker": "x", "font.size": 30}):
            before = str(mpl.rcParams)
            save(draw(scene), tmp_path / "own.svg")
            assert str(mpl.rcParams) == before
        assert (tmp_path / "own.svg").read_bytes() == (tmp_path / "usual.svg").read_bytes()

    def test_names_that_begin_with_an_underscore_are_in_the_legend(self) -> None:
        with styled():
            figure = Figure()
            (line,) = figure.subplots().plot([1, 2])
            legend_below(figure, {"_hidden": line})
        assert list(made.legend_of(figure)) == ["_hidden"]


@pytest.mark.parametrize(
    "value", [0.0, 0.004, 0.25, 1.0, 9.99, 31.4, 315.2, 1234.0, 123456.0, 1e-9]
)
def test_digits_fit_a_cell_and_are_the_value(value: float) -> None:
    text = digits(value)
    assert len(text) <= 4
    assert float(text) == pytest.approx(value, rel=0.5 if "e" in text else 0.02, abs=0.005)

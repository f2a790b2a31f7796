"""Colours that are told apart: on their grounds, by the colour-blind, in grey."""

from __future__ import annotations

from itertools import combinations

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.colors import to_hex, to_rgb
from numpy.typing import NDArray

from rankscope.palette import DARK, LIGHT, ON_BOTH, PAPER, UNORDERED, VIRIDIS, contrast, ink, shades

Vector = NDArray[np.float64]

# Machado, Oliveira & Fernandes (2009), severity 1: on linear RGB.
SIGHTS = {
    "normal": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}


def linear(colour: str) -> Vector:
    part = np.array(to_rgb(colour))
    return np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)


def oklab(light: Vector) -> Vector:
    """Ottosson (2020); distances in it are about as large as they look."""
    cones = np.array(
        [
            [0.4122214708, 0.5363325363, 0.0514459929],
            [0.2119034982, 0.6806995451, 0.1073969566],
            [0.0883024619, 0.2817188376, 0.6299787005],
        ]
    ) @ np.clip(light, 0, 1)
    return np.asarray(
        np.array(
            [
                [0.2104542553, 0.7936177850, -0.0040720468],
                [1.9779984951, -2.4285922050, 0.4505937099],
                [0.0259040371, 0.7827717662, -0.8086757660],
            ]
        )
        @ np.cbrt(cones)
    )


def nearest(colours: tuple[str, ...], sight: str) -> float:
    """The distance of the two that look most alike."""
    seen = [oklab(np.asarray(SIGHTS[sight]) @ linear(colour)) for colour in colours]
    return float(min(np.linalg.norm(one - other) for one, other in combinations(seen, 2)))


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_all_stand_out_from_their_ground(theme: object) -> None:
    assert theme in (LIGHT, DARK)
    one = LIGHT if theme is LIGHT else DARK
    for colour in (*one.unordered, *shades(20, one.span)):
        assert contrast(colour, one.background) >= 3, colour
    for colour in (one.text, one.muted):
        assert contrast(colour, one.background) >= 4.5
    for colour in (ON_BOTH, *UNORDERED[:4]):
        assert contrast(colour, one.background) >= 3


@pytest.mark.parametrize("sight", SIGHTS)
def test_those_of_a_theme_are_as_far_apart_as_okabe_and_itos(sight: str) -> None:
    least = nearest(UNORDERED, sight)
    for theme in (LIGHT, DARK):
        assert len(set(theme.unordered)) == 7
        assert nearest(theme.unordered, sight) >= least - 0.01


def test_the_contrast_is_that_of_the_luminances() -> None:
    def luminance(colour: str) -> float:
        return float(linear(colour) @ np.array([0.2126, 0.7152, 0.0722]))

    for one, other in (("#777777", "#ffffff"), ("#0072B2", "#0d1117"), ("#123456", "#abcdef")):
        low, high = sorted((luminance(one), luminance(other)))
        assert contrast(one, other) == pytest.approx((high + 0.05) / (low + 0.05))
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)  # WCAG's own example


def test_viridis_is_matplotlibs() -> None:
    assert list(VIRIDIS) == [to_hex(mpl.colormaps["viridis"](i)) for i in range(256)]


@pytest.mark.parametrize("count", [1, 2, 3, 7, 100])
def test_shades_go_along_it_from_dark_to_light(count: int) -> None:
    gap = PAPER[1] / max(1, count - 1)
    assert shades(count) == [to_hex(mpl.colormaps["viridis"](i * gap)) for i in range(count)]
    light = [float(oklab(linear(colour))[0]) for colour in shades(count, LIGHT.span)]
    assert light == sorted(light)


def test_ink_is_read_on_every_shade() -> None:
    assert all(contrast(ink(area), area) >= 4.5 for area in VIRIDIS)

"""The colours of all pictures: figures on paper, the report page, the live view.

Nothing is imported here, so that a page can have the colours of a figure without matplotlib.

What has no order has Okabe and Ito's colours, which the colour-blind tell apart. What has an order
goes along viridis (CC0, by Smith, van der Walt and Firing), from dark to light, which the
colour-blind see as well and which prints in grey in the same order.

Every colour of a theme stands out from its background by at least 3:1, which WCAG 2.2 (success
criterion 1.4.11) asks of what a picture is made of; text and muted text by 4.5:1 (1.4.3).
"""

from __future__ import annotations

from dataclasses import dataclass

# Okabe and Ito (2008), yellow left out. On white paper; orange and sky blue are pale there, and
# on a dark screen black is none: a theme has others in their places.
UNORDERED = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")

_VIRIDIS = (
    "44015444025645045745055946075a46085c460a5d460b5e470d60470e61471063471164471365481467481668"
    "48176948186a481a6c481b6d481c6e481d6f481f70482071482173482374482475482576482677482878482979"
    "472a7a472c7a472d7b472e7c472f7d46307e46327e46337f463480453581453781453882443983443a83443b84"
    "433d84433e85423f854240864241864142874144874045884046883f47883f48893e49893e4a893e4c8a3d4d8a"
    "3d4e8a3c4f8a3c508b3b518b3b528b3a538b3a548c39558c39568c38588c38598c375a8c375b8d365c8d365d8d"
    "355e8d355f8d34608d34618d33628d33638d32648e32658e31668e31678e31688e30698e306a8e2f6b8e2f6c8e"
    "2e6d8e2e6e8e2e6f8e2d708e2d718e2c718e2c728e2c738e2b748e2b758e2a768e2a778e2a788e29798e297a8e"
    "297b8e287c8e287d8e277e8e277f8e27808e26818e26828e26828e25838e25848e25858e24868e24878e23888e"
    "23898e238a8d228b8d228c8d228d8d218e8d218f8d21908d21918c20928c20928c20938c1f948c1f958b1f968b"
    "1f978b1f988b1f998a1f9a8a1e9b8a1e9c891e9d891f9e891f9f881fa0881fa1881fa1871fa28720a38620a486"
    "21a58521a68522a78522a88423a98324aa8325ab8225ac8226ad8127ad8128ae8029af7f2ab07f2cb17e2db27d"
    "2eb37c2fb47c31b57b32b67a34b67935b77937b87838b9773aba763bbb753dbc743fbc7340bd7242be7144bf70"
    "46c06f48c16e4ac16d4cc26c4ec36b50c46a52c56954c56856c66758c7655ac8645cc8635ec96260ca6063cb5f"
    "65cb5e67cc5c69cd5b6ccd5a6ece5870cf5773d05675d05477d1537ad1517cd2507fd34e81d34d84d44b86d549"
    "89d5488bd6468ed64590d74393d74195d84098d83e9bd93c9dd93ba0da39a2da37a5db36a8db34aadc32addc30"
    "b0dd2fb2dd2db5de2bb8de29bade28bddf26c0df25c2df23c5e021c8e020cae11fcde11dd0e11cd2e21bd5e21a"
    "d8e219dae319dde318dfe318e2e418e5e419e7e419eae51aece51befe51cf1e51df4e61ef6e620f8e621fbe723"
    "fde725"
)

# From dark to light, as matplotlib has it; the whole of it is for areas, such as heat maps.
VIRIDIS = tuple(f"#{_VIRIDIS[start : start + 6]}" for start in range(0, len(_VIRIDIS), 6))

# Between the places of the first and the last shade on viridis, in [0, 1].
Span = tuple[float, float]

PAPER: Span = (0.0, 0.82)  # the yellow beyond is lost on white paper


@dataclass(frozen=True, slots=True)
class Theme:
    """The colours on one background; all as `#rrggbb`.

    Attributes:
        background: what they are told from.
        text: of words and numbers.
        muted: of words and lines that stand back, such as a full rank.
        grid: of lines that may be overlooked.
        unordered: of what has no order; the first four are the same in both themes.
        span: where on viridis the shades of what has an order lie.
    """

    background: str
    text: str
    muted: str
    grid: str
    unordered: tuple[str, ...]
    span: Span


# Brown and navy instead of orange and sky blue: dark enough to stand out from white, and no closer
# to the others than these are to each other (OKLab; normal sight and, after Machado, Oliveira and
# Fernandes (2009), protanopia, deuteranopia and tritanopia).
LIGHT = Theme(
    "#ffffff",
    "#1f2328",
    "#59636e",
    "#e6e6e6",
    (*UNORDERED[:4], "#773300", "#334477", "#000000"),
    (0.0, 0.59),
)

DARK = Theme(
    "#0d1117",
    "#e6edf3",
    "#9198a1",
    "#30363d",
    (*UNORDERED[:6], "#ffffff"),
    (0.33, 1.0),
)

# Grey that is read on both, 4.3:1 each: for a picture that does not know where it will be shown.
ON_BOTH = "#7a7a7a"


def shades(count: int, span: Span = PAPER) -> list[str]:
    """So many colours in an order, the first the darkest, evenly apart on viridis.

    >>> shades(3, LIGHT.span)
    ['#440154', '#355e8d', '#21a685']
    """
    first, last = span
    gap = (last - first) / max(1, count - 1)
    return [_viridis(first + index * gap) for index in range(count)]


def ink(area: str) -> str:
    """Black or white, whichever is read better on an area of that colour.

    >>> ink("#440154"), ink("#fde725")
    ('#ffffff', '#000000')
    """
    return "#000000" if contrast(area, "#000000") > contrast(area, "#ffffff") else "#ffffff"


def contrast(one: str, other: str) -> float:
    """The contrast ratio of two colours, 1 to 21 (WCAG 2.2).

    >>> contrast("#000000", "#ffffff")
    21.0
    """
    darker, lighter = sorted((_luminance(one), _luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def _viridis(place: float) -> str:
    return VIRIDIS[min(int(place * len(VIRIDIS)), len(VIRIDIS) - 1)]


def _luminance(colour: str) -> float:
    """Relative luminance of an sRGB colour (WCAG 2.2)."""
    parts = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    ]
    return sum(w * part for w, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

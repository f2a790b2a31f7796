"""A figure that a notebook shows by itself, which it does for pyplot's figures only."""

from __future__ import annotations

import io

from matplotlib.figure import Figure

PIXELS = 96  # of a browser, on an inch


class ShownFigure(Figure):
    """A `Figure`, as any other."""

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        """The picture in twice the resolution of a usual screen, and the size to show it in."""
        file = io.BytesIO()
        self.savefig(file, format="png", dpi=2 * PIXELS)
        width, height = self.get_size_inches()
        return file.getvalue(), {"width": round(PIXELS * width), "height": round(PIXELS * height)}

"""The document and its assets as one HTML file that loads nothing."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from html import escape
from importlib.resources import files

from rankscope.extras import needs
from rankscope.pages.colours import properties
from rankscope.pages.payload import document
from rankscope.pages.section import Section, Subject
from rankscope.rows import Row

# In the order in which they run: each uses only what stands before it.
SHELL = (
    "theme.js",
    "dom.js",
    "numbers.js",
    "palette.js",
    "spectrum.js",
    "metrics.js",
    "controls.js",
    "chart.js",
    "tablecolumns.js",
    "table.js",
    "page.js",
)
START = "start.js"


def render(subject: Subject, sections: Sequence[Section]) -> str:
    """The whole page.

    Raises:
        UsageError: plotly, whose script draws the charts, is not installed.
    """
    data = document(subject, sections)
    shown = [one for one in sections if one.name in data["parts"]]
    own = [name for section in shown for name in section.assets]
    scripts = [asset(name) for name in (*SHELL, *dict.fromkeys(own))]
    return assembled(data, [*scripts, asset(START)], plotly_script())


def assembled(data: Row, scripts: Sequence[str], library: str = "") -> str:
    """The page's HTML. What is not a script or a style in it is in its data.

    Args:
        data: the document.
        scripts: in the order in which they run.
        library: a script that one of them has run when it is needed.
    """
    title = escape(data["title"])
    body = "\n".join(f"<script>{script}</script>" for script in scripts)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy([*scripts, library])}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="RankScope {escape(data["provenance"]["rankscope"])}">
<meta name="referrer" content="no-referrer">
<title>{title} - RankScope</title>
<style>{properties()}{asset("page.css")}</style>
</head>
<body>
<noscript>This page needs JavaScript to show what it holds.</noscript>
<script type="application/json" id="data">{as_script(data)}</script>
<script type="text/plain" id="plotly">{library}</script>
{body}
</body>
</html>
"""


def policy(scripts: Sequence[str]) -> str:
    """A Content-Security-Policy under which nothing is loaded and only these scripts run."""
    digests = " ".join(f"'sha256-{_digest(script)}'" for script in scripts)
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src {digests}",
            "style-src 'unsafe-inline'",  # Plotly writes styles of its own
            "img-src data:",  # and draws a heat map as a picture that it makes
            "base-uri 'none'",
            "form-action 'none'",
        )
    )


def as_script(data: Row) -> str:
    """JSON that no HTML parser takes for anything else, and no script for the end of a line."""
    text = json.dumps(data, allow_nan=False, ensure_ascii=True, separators=(",", ":"))
    # With ensure_ascii, U+2028 and U+2029 are escapes already.
    for char in "<>&":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text


def asset(name: str) -> str:
    """The text of a file of assets/."""
    return files("rankscope.pages").joinpath("assets", name).read_text("utf-8")


def plotly_script() -> str:
    """Plotly's own script, as its Python package bundles it."""
    needs("a report", "plotly", "report")
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")

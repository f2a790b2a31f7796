"""What MkDocs calls while it builds the site; mkdocs.yml names this file."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # `mkdocs` is a script, which does not see the directory it runs in

from docs.building import examples  # noqa: E402

# Pages of the site that lie beside docs/, where everyone looks for them.
ABOVE = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Put in the pages from above docs/, and run what the pages show."""
    for source, target in ABOVE.items():
        text = (ROOT / source).read_text("utf-8")
        files.append(File.generated(config, target, content=_from_docs(text)))
    pages = [file for file in files.documentation_pages() if _commands(file)]
    pages.sort(key=_commands, reverse=True)  # so that none is waited for alone at the end
    with tempfile.TemporaryDirectory(prefix="rankscope-docs-") as folder:
        start = Path(folder) / "start"
        _make_material(start)
        with ThreadPoolExecutor() as threads:  # that wait for the processes they start
            made = threads.map(lambda one: _made(one, start), pages)
            for file, page in zip(pages, made, strict=True):
                file.content_string = page.text
                for place, content in page.files.items():
                    files.append(File.generated(config, str(place), content=content))
    return files


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:  # noqa: ARG001 - their names
    """Give a name to what the theme leaves without, for those who hear a page.

    A search box, and the corner of a table, which is no heading of anything.
    """
    dialog = 'data-md-component="search" role="dialog"'
    named = output.replace(dialog, f'{dialog} aria-label="Search"')
    return re.sub(r"<th([^>]*)></th>", r"<td\1></td>", named)


def _commands(file: File) -> int:
    return examples.how_many(file.content_string)


def _make_material(start: Path) -> None:
    """In a process of its own: it trains, prints how that goes and loads PyTorch."""
    making = [sys.executable, "-m", "docs.building.material", str(start)]
    ended = subprocess.run(making, cwd=ROOT, check=False, capture_output=True, text=True)  # noqa: S603
    if ended.returncode:
        raise PluginError(f"docs/building/material.py failed: {ended.stderr[-1000:]}")


def _made(file: File, start: Path) -> examples.Page:
    try:
        return examples.with_output(PurePosixPath(file.src_uri), file.content_string, start)
    except examples.BuildFailed as error:
        raise PluginError(str(error)) from error


def _from_docs(text: str) -> str:
    """Links from above docs/ as links within; what is in code points to the repository."""
    return re.sub(r"\]\(docs/", "](", text)

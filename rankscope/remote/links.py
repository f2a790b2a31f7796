"""The names in a directory that a web server shows as a page of links."""

from __future__ import annotations

from html.parser import HTMLParser
from urllib.parse import unquote, urljoin, urlsplit


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.targets: list[str] = []
        self.base = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.targets += [value for name, value in attrs if name == "href" and value]
        elif tag == "base" and not self.base:  # only the first counts (HTML, 4.2.3)
            self.base = dict(attrs).get("href") or ""


def names_on(page: str, url: str) -> list[str]:
    """The names of what lies directly below a URL, sorted.

    Links to elsewhere, to the directory above and to other orders of the same page are left out.

    Args:
        page: HTML.
        url: where it came from, after all redirections.

    >>> names_on('<a href="../">up</a><a href="step%3D1.pt">1</a><a href="?C=N">N</a>', "http://h/r/")
    ['step=1.pt']
    """
    links = _Links()
    links.feed(page)
    here = urlsplit(url)
    folder = _parts(here.path.rstrip("/"))
    found = set()
    for target in links.targets:
        try:
            there = urlsplit(urljoin(urljoin(url, links.base), target))
        except ValueError:
            continue
        same = (there.scheme, there.netloc) == (here.scheme, here.netloc)
        *above, last = there.path.removesuffix("/").split("/")
        if same and _parts("/".join(above)) == folder:
            found.add(_name(last))
    return sorted(found - {""})


def _parts(path: str) -> list[str]:
    """The names on the way to a directory: servers and pages quote them differently."""
    return [unquote(part) for part in path.split("/")]


def _name(quoted: str) -> str:
    """A link's last part as a name; "" of what is none."""
    plain = unquote(quoted)
    if "/" in plain or "\0" in plain or plain in (".", ".."):
        return ""
    # Put into a URL again, these would be read as something else.
    return quoted if set(plain) & set("%?#") else plain

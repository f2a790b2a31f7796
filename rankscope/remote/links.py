"""The names in a directory that a web server shows as a page of links."""

from __future__ import annotations

from html.parser import HTMLParser
from urllib.parse import unquote, urljoin, urlsplit


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.targets: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.targets += [value for name, value in attrs if name == "href" and value]


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
    folder = here.path.rstrip("/") + "/"
    found = set()
    for target in links.targets:
        try:
            there = urlsplit(urljoin(url, target))
        except ValueError:
            continue
        same = (there.scheme, there.netloc) == (here.scheme, here.netloc)
        if same and there.path.startswith(folder):
            found.add(_name(there.path.removeprefix(folder).removesuffix("/")))
    return sorted(found - {""})


def _name(quoted: str) -> str:
    """A link's last part as a name; "" of what is none."""
    plain = unquote(quoted)
    if "/" in plain or "\0" in plain or plain in (".", ".."):
        return ""
    # Put into a URL again, these would be read as something else.
    return quoted if set(plain) & set("%?#") else plain

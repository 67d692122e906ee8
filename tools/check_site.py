"""Refuses a built site with a dead link, or one that fetches something from another server: check_site.py FOLDER."""

import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

FETCHED = re.compile(
    r"""<(?:script|img|iframe|source)\b[^>]*\bsrc=["']?(?:https?:)?//[^"'\s>]*"""
    r"""|<link\b[^>]*\brel=["']?(?:stylesheet|preconnect|icon|preload)[^>]*\bhref=["']?(?:https?:)?//[^"'\s>]*"""
    r"""|<link\b[^>]*\bhref=["']?(?:https?:)?//[^"'\s>]*["']?[^>]*\brel=["']?(?:stylesheet|preconnect|icon|preload)"""
    r"""|(?:@import\s+|url\()["']?(?:https?:)?//[^"')\s]*"""
)


class _Page(HTMLParser):
    """The links and the link targets of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.targets: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect `href`, `src` and `id`."""
        for name, value in attrs:
            if name == "id" and value:
                self.targets.add(value)
            elif name in ("href", "src") and value:
                self.links.append(value)


def fetched(folder: Path) -> list[str]:
    """Return what the pages of `folder` fetch from other servers, each with its page."""
    pages = sorted(path for path in folder.rglob("*") if path.suffix in (".html", ".css", ".svg"))
    return [f"{page}: {found}" for page in pages for found in FETCHED.findall(page.read_text(encoding="utf-8"))]


def dead_links(folder: Path) -> list[str]:
    """Return the links in `folder` that lead to no file, or to no target in their page."""
    pages = {path.resolve(): _Page(path) for path in sorted(folder.rglob("*.html"))}
    # Pages of source code link back to a name's first module, which is not always the one it is documented in.
    checked = {path: page for path, page in pages.items() if "_modules" not in path.parts}
    return [f"{path}: {link}" for path, page in checked.items() for link in _dead(path, page, pages)]


def _dead(path: Path, page: _Page, pages: dict[Path, _Page]) -> Iterator[str]:
    for link in page.links:
        parts = urlsplit(link)
        if parts.scheme or parts.netloc:
            continue
        target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
        known = pages[target].targets if target in pages else set()
        if not target.is_file() or (parts.fragment and target in pages and unquote(parts.fragment) not in known):
            yield link


if __name__ == "__main__":
    site = Path(sys.argv[1])
    problems = [*fetched(site), *dead_links(site)]
    if problems or not (site / "index.html").exists():
        sys.exit("\n".join(problems) or f"{site}: no index.html")

"""Refuses a built site that would fetch anything from elsewhere when it is read: check_site.py FOLDER."""

import re
import sys
from pathlib import Path

FETCHED = re.compile(
    r"""<(?:script|img|iframe|source)\b[^>]*\bsrc=["']?(?:https?:)?//[^"'\s>]*"""
    r"""|<link\b[^>]*\brel=["']?(?:stylesheet|preconnect|icon|preload)[^>]*\bhref=["']?(?:https?:)?//[^"'\s>]*"""
    r"""|<link\b[^>]*\bhref=["']?(?:https?:)?//[^"'\s>]*["']?[^>]*\brel=["']?(?:stylesheet|preconnect|icon|preload)"""
    r"""|(?:@import\s+|url\()["']?(?:https?:)?//[^"')\s]*"""
)


def fetched(folder: Path) -> list[str]:
    """What the pages of `folder` fetch from elsewhere, each with its page."""
    pages = sorted(path for path in folder.rglob("*") if path.suffix in (".html", ".css", ".svg"))
    return [f"{page}: {found}" for page in pages for found in FETCHED.findall(page.read_text(encoding="utf-8"))]


if __name__ == "__main__":
    site = Path(sys.argv[1])
    found = fetched(site)
    if found or not (site / "index.html").exists():
        sys.exit("\n".join(found) or f"{site}: no index.html")

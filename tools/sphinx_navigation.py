"""A Sphinx extension that builds the menu from `navigation` in conf.py: captions, and the pages under each of them."""

from sphinx.application import Sphinx


def add_menu(app: Sphinx, page: str, source: list[str]) -> None:
    """Append one hidden toctree per caption to the root page."""
    if page != app.config.root_doc:
        return
    for caption, pages in app.config.navigation.items():
        source[0] += "\n".join(["", "```{toctree}", ":hidden:", f":caption: {caption}", "", *pages, "```", ""])


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the extension."""
    app.add_config_value("navigation", {}, "env", frozenset({dict}))
    app.connect("source-read", add_menu)
    return {"parallel_read_safe": True}

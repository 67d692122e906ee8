"""Sphinx configuration of the documentation site; `make docs` builds it into build/site."""

import sys
from pathlib import Path

from pygments.lexers.special import TextLexer
from sphinx.application import Sphinx

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tools"))

project = "multicompute"
html_title = "multicompute"
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_tables",
    "sphinx_navigation",
]
exclude_patterns = ["_static"]

# Pages, in the order of the menu. The menu is not in the pages, because a toctree directive is shown as code on a repository host.
navigation = {
    "Start": ["quickstart", "comparison", "concepts", "configuration"],
    "How to": [
        "how-to/size-a-model",
        "how-to/run",
        "how-to/torchrun",
        "how-to/jax",
        "how-to/mpi",
        "how-to/ray",
        "how-to/spot",
        "how-to/tpu",
        "how-to/private-networks",
        "how-to/own-machines",
        "how-to/residency",
        "how-to/prices",
        "how-to/budgets",
        "how-to/costs",
        "how-to/ci",
        "how-to/verify",
        "how-to/logs",
        "testing",
        "supervise",
        "airflow",
        "prefect",
    ],
    "Reference": [
        "cli",
        "api",
        "api-providers",
        "environment-variables",
        "accelerators",
        "what-you-get",
        "prices",
        "sizing",
        "troubleshooting",
        "permissions/README",
    ],
    "How it works": ["architecture", "leases", "reliability", "dependencies", "write-a-provider"],
    "Design notes": [
        "design/catalog",
        "design/ledger",
        "design/gcp-client",
        "design/azure-client",
        "design/monitoring-aws",
        "design/remote",
    ],
}

# Markdown: headings are link targets, as on a repository host.
myst_heading_anchors = 4

# Every reference must lead somewhere, except those to other packages and to names that are not public.
nitpicky = True
nitpick_ignore_regex = [
    ("py:.*", rf"({'|'.join(sorted(sys.stdlib_module_names))}|annotated_types|pydantic)\..*"),
    ("py:class", r"multicompute\..*\._\w+"),
    # Type variables.
    ("py:class", r"multicompute\.provider_kit\..*\.(Answer|Item|Model|Owner)"),
    ("py:class", "Arguments"),
    # Names in generated signatures that are imported for type checkers only.
    ("py:class", "AnyWorkload|Path"),
    # How a plan of a workload is found.
    ("py:class", r"multicompute\.sizing\.(performance\.OnShape|options\.Options|memory\.Footprint)"),
    # A validator in the annotation of a setting.
    ("py:class", r"multicompute\.arguments\.text_list"),
    # The doubles for tests, which docs/testing.md describes.
    ("py:class", r"(multicompute\.testing\..*|LocalCloud)"),
    # Text in single backticks: a link where it names something public, else code.
    ("py:obj", ".*"),
]
default_role = "py:obj"

autodoc_default_options = {"members": True, "member-order": "bysource", "exclude-members": "model_config"}
autodoc_typehints = "both"
autodoc_typehints_description_target = "documented"
napoleon_use_ivar = True
python_display_short_literal_types = True
python_use_unqualified_type_names = True
maximum_signature_line_length = 80
add_module_names = False

# "--option" in a sentence stays as it is.
smartquotes = False

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
# Nothing is fetched from elsewhere: system fonts, and no links that load a picture.
html_theme_options = {"source_repository": "", "top_of_page_buttons": []}


def setup(app: Sphinx) -> None:
    """Show blocks of CSV as plain text: Pygments has no lexer for them."""
    app.add_lexer("csv", TextLexer)

"""Runs examples/quickstart.py, and writes its output to docs/images/quickstart.txt and, as a picture, to quickstart.svg."""

import os
import re
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[1]
TEXT = ROOT / "docs" / "images" / "quickstart.txt"
PICTURE = TEXT.with_suffix(".svg")
WIDTH = 108
PROMPT = "$ python examples/quickstart.py"
STYLES = {
    r"^\$ .*": "bold green",
    r"^64 x .*|^notes:|^rejected offers .*|^Cheapest offer of each cloud:|^Run on all nodes:|^Left in the cloud:.*|^Get one for real.*|^h100-64-\S+: .*": "bold",
    r"^  capacity .*": "yellow",
    r"^  ready .*": "green",
}
# Rich's template loads a web font. The reader's own fonts are used instead.
FONTS = re.compile(r"@font-face \{.*?\}", re.DOTALL)


def record() -> str:
    """Return the output of the quickstart."""
    command = [sys.executable, str(ROOT / "examples" / "quickstart.py")]
    with TemporaryDirectory() as home:
        # An empty home folder, without cloud accounts: a plan shows which clouds can be used.
        environment = {"PATH": os.defpath, "HOME": home, "AWS_EC2_METADATA_DISABLED": "true"}
        done = subprocess.run(command, env=environment, cwd=home, capture_output=True, text=True, check=True)
    return f"{PROMPT}\n{done.stdout}"


def draw(text: str) -> str:
    """Return the picture of a terminal that shows `text`."""
    from io import StringIO

    from rich.console import Console
    from rich.terminal_theme import MONOKAI
    from rich.text import Text

    console = Console(record=True, width=WIDTH, file=StringIO(), force_terminal=True, color_system="truecolor")
    for line in text.splitlines():
        styled = Text(line)
        for pattern, style in STYLES.items():
            styled.highlight_regex(pattern, style)
        console.print(styled)
    drawn = FONTS.sub("", console.export_svg(title="multicompute", theme=MONOKAI, unique_id="quickstart"))
    drawn = drawn.replace("Fira Code, monospace", "ui-monospace, Menlo, Consolas, monospace")
    # Remove trailing blanks of the template.
    return "\n".join(line.rstrip() for line in drawn.splitlines()) + "\n"


if __name__ == "__main__":
    TEXT.write_text(record())
    PICTURE.write_text(draw(TEXT.read_text()))

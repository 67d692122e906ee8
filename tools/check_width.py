"""Refuses a built site whose pages scroll sideways on a wide or a narrow screen, except in code: check_width.py FOLDER.

Loads every page in headless Chromium. Without Chromium, nothing is checked, and a line on stderr says so.
"""

import json
import re
import shutil
import subprocess
import sys
from functools import partial
from html import unescape
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread

WIDTHS = (1280, 390)
# Chromium must not look for updates, nor call any server but ours.
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
# One frame per width loads each page in turn. A page is too wide if it scrolls, or if a part of it does that is not code.
SCRIPT = """<body><script>
const isWide = (element) => element.scrollWidth > element.clientWidth + 1
  && ["auto", "scroll"].includes(getComputedStyle(element).overflowX)
  && !element.querySelector(":scope > pre") && element.tagName !== "PRE";
const load = (frame, page) => new Promise((done) => { frame.onload = done; frame.src = page; });
(async () => {
  const found = [];
  for (const width of WIDTHS) {
    const frame = document.createElement("iframe");
    frame.width = width; frame.height = 900;
    document.body.append(frame);
    for (const page of PAGES) {
      await load(frame, page);
      const tree = frame.contentDocument;
      if (tree.documentElement.scrollWidth > width) found.push(`${page}: wider than ${width} px`);
      for (const element of tree.querySelectorAll("article *"))
        if (isWide(element)) found.push(`${page}: at ${width} px: ${element.outerHTML.slice(0, 100)}`);
    }
  }
  document.body.textContent = "RESULT" + JSON.stringify(found);
})();
</script>"""


class _Handler(SimpleHTTPRequestHandler):
    """A file server that also has the page with the script."""

    page = ""

    def do_GET(self) -> None:
        """Serve a file, or the script."""
        if self.path != "/-check":
            super().do_GET()
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write(self.page.encode())

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


def too_wide(folder: Path, chromium: str) -> list[str]:
    """Return the pages of `folder` that scroll sideways, each with the width and the element."""
    pages = [f"/{path.relative_to(folder)}" for path in sorted(folder.rglob("*.html")) if "_modules" not in path.parts]
    _Handler.page = SCRIPT.replace("WIDTHS", json.dumps(WIDTHS)).replace("PAGES", json.dumps(pages))
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, directory=str(folder)))
    Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_address[1]}/-check"
    with TemporaryDirectory() as profile:
        command = [chromium, *FLAGS, f"--user-data-dir={profile}", "--timeout=120000", "--dump-dom", address]
        shown = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False).stdout
    server.shutdown()
    result = re.search(r"RESULT(\[.*\])", unescape(shown), re.DOTALL)
    if result is None:
        return [f"{chromium} could not load the pages"]
    found: list[str] = json.loads(result[1])
    return found


if __name__ == "__main__":
    browser = shutil.which("chromium")
    if browser is None:
        print("check_width: Chromium is not installed, so the width of the pages is not checked", file=sys.stderr)
        sys.exit(0)
    problems = too_wide(Path(sys.argv[1]), browser)
    if problems:
        sys.exit("\n".join(problems))

"""The lines of the README that train a small model, with a real torchrun on three hosts."""

import re
from pathlib import Path

import pytest

from tests.remote.clusters import on
from tests.remote.engines.conftest import ENGINES
from tests.remote.hosts import Host

ROOT = Path(__file__).parents[3]
pytestmark = pytest.mark.timeout(300)


def test_the_lines_of_the_readme_train_a_model(
    machines: list[Host],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    block = re.search(r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    assert block is not None
    lines = block[1]
    # The hosts have no network to install from, and PyTorch already.
    install = "python3 -m venv venv && venv/bin/pip install -q torch"
    assert install in lines
    lines = lines.replace(install, f"ln -sfn {ENGINES.parent} venv")
    lines = re.sub(r"Cluster\.request\(.*\)", "request()", lines)
    assert len(lines.splitlines()) <= 12
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    # One process on each host.
    with on(machines, accelerators=1) as cluster:
        exec(compile(lines, "README.md", "exec"), {"request": lambda: cluster})  # noqa: S102 - the README's own lines
    assert "step 200 of 200 on 3 processes: loss 0.0" in capsys.readouterr().out
    assert (tmp_path / "results" / "0" / "model.pt").stat().st_size > 1000

"""The first snippet of the README type-checks for users: from outside of this project, against what is installed."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
CHECKS = {
    "mypy": ["mypy", "--strict", "--cache-dir", ".mypy", "snippet.py"],
    "pyright": ["pyright", "--pythonpath", sys.executable, "snippet.py"],
}
MORE = """
from multicompute import Candidate, Node, Plan

best: Candidate = plan.best
first: Candidate = plan[0]
count: int = len(plan)
few = [candidate.zone for candidate in plan[:3]]
heads: list[Node] = [each.head for each in Cluster.list(state="READY", tags={"team": "nlp"}, clouds=["aws"])]
again: Plan = Cluster.plan(8, "a100")
"""


@pytest.mark.parametrize("checker", CHECKS)
def test_the_first_snippet_of_the_readme_type_checks(checker: str, tmp_path: Path) -> None:
    match = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert match is not None
    (tmp_path / "snippet.py").write_text(match[1] + MORE, encoding="utf-8")
    (tmp_path / "pyrightconfig.json").write_text('{"typeCheckingMode": "strict"}', encoding="utf-8")
    environment = {
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1",
    }
    command = [str(BIN / CHECKS[checker][0]), *CHECKS[checker][1:]]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr

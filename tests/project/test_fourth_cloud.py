"""A cloud can be added from outside: the example does it, and its page shows code of the example unchanged."""

import json
import os
import re
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path

import pytest

from multicompute.plugins import GROUP, discover

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "fourth_cloud"
PAGE = ROOT / "docs" / "write-a-provider.md"
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = [(match[1], match[2]) for match in FENCE.finditer(PAGE.read_text(encoding="utf-8"))]
SHOWN = [text for language, text in BLOCKS if language != "bash"]
COMMANDS = [text for language, text in BLOCKS if language == "bash"]
SOURCES = {
    path: path.read_text(encoding="utf-8") for path in EXAMPLE.rglob("*.*") if path.suffix in (".py", ".csv", ".toml")
}
PROJECT = tomllib.loads((EXAMPLE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
SCRIPT = """
from multicompute import Cluster
from multicompute.testing import local_clouds

with local_clouds("fourth") as clouds:
    with Cluster.request(gpus=16, type="h100", clouds=["fourth"], progress=False) as cluster:
        print(cluster.provider, cluster.zone, len(cluster.nodes), len(clouds.fourth.alive()))
    print(clouds.alive())
"""


def installed(folder: Path) -> dict[str, str]:
    """Return the environment of a process in which the example is installed, from the files that an installation creates."""
    records = folder / f"{PROJECT['name'].replace('-', '_')}-{PROJECT['version']}.dist-info"
    records.mkdir(parents=True)
    (records / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {PROJECT['name']}\nVersion: {PROJECT['version']}\n"
    )
    points = "".join(f"{name} = {value}\n" for name, value in PROJECT["entry-points"][GROUP].items())
    (records / "entry_points.txt").write_text(f"[{GROUP}]\n{points}")
    return {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(folder),
        "PYTHONPATH": os.pathsep.join([str(folder), str(EXAMPLE)]),
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def run(command: list[str], environment: dict[str, str], folder: Path) -> str:
    done = subprocess.run(
        command, env=environment, cwd=folder, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.parametrize("text", SHOWN, ids=[text.strip().splitlines()[0][:50] for text in SHOWN])
def test_the_code_on_the_page_is_in_the_example(text: str) -> None:
    assert [path for path, source in SOURCES.items() if text in source], f"in no file of the example:\n{text}"


@pytest.mark.parametrize("text", COMMANDS)
def test_the_commands_on_the_page_work(text: str, tmp_path: Path) -> None:
    environment = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "HOME": str(tmp_path)}
    shown = run(["bash", "-euo", "pipefail", "-c", text], environment, ROOT)
    assert re.search(r"\d+ passed", shown) and "failed" not in shown


def test_every_member_of_the_seam_is_on_the_page() -> None:
    from multicompute.provider import Capability, Provider, ProviderPlugin

    page = PAGE.read_text(encoding="utf-8")
    members = {name for kind in (Provider, ProviderPlugin) for name in (*vars(kind), *kind.__annotations__)}
    members = {name for name in members if not name.startswith("_")} | {capability.name for capability in Capability}
    assert len(members) > 20
    assert [name for name in sorted(members) if name not in page] == []


def test_once_the_example_is_installed_multicompute_finds_it(tmp_path: Path) -> None:
    assert "fourth" not in discover()
    environment = installed(tmp_path / "site")
    shown = json.loads(
        run(["multicompute", "plan", "--type", "h100x8", "--gpus", "16", "--json"], environment, tmp_path)
    )
    best = shown["candidates"][0]
    assert (best["provider"], best["zone"], best["hourly_usd"]) == ("fourth", "north-1a", 2 * 19.12)


def test_once_the_example_is_installed_a_request_works_on_its_local_cloud(tmp_path: Path) -> None:
    shown = run([sys.executable, "-c", textwrap.dedent(SCRIPT)], installed(tmp_path / "site"), tmp_path)
    # Two servers and their firewall, and nothing after the teardown.
    assert shown.splitlines() == ["fourth north-1a 2 3", "[]"]


def test_the_example_stays_small_enough_to_copy() -> None:
    assert len(SOURCES[EXAMPLE / "fourth_cloud" / "_provider.py"].splitlines()) < 300


@pytest.mark.parametrize("path", [path for path in SOURCES if path.suffix == ".py"], ids=lambda path: path.name)
def test_the_example_uses_only_the_interfaces_for_authors(path: Path) -> None:
    private = re.findall(
        r"(?:from|import) (multicompute(?:\.\w+)*\._\w+)|from multicompute\S* import _\w+", SOURCES[path]
    )
    assert private == []
    if "tests" in path.parts:
        return
    used = set(re.findall(r"(?:from|import) multicompute\.(\w+)", SOURCES[path]))
    seam = {"errors", "node", "offer", "provider", "provider_kit", "clock"}
    assert used <= (seam | {"testing"} if "local" in path.parts else seam)

"""Provider discovery: the errors for a duplicate name, a plug-in that can't be loaded, and a missing SDK."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from multicompute import errors
from multicompute.config import load
from multicompute.plugins import discover, install_line, missing_modules
from multicompute.session import Session


def distribution(folder: Path, name: str, entry: str) -> None:
    """Create the metadata of an installed distribution with one provider."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[multicompute.providers]\n{entry}\n")


def run_plan(folder: Path) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "PYTHONPATH": str(folder), "HOME": str(folder)}
    command = [sys.executable, "-m", "multicompute", "plan", "--gpus", "8", "--type", "h100"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_two_plug_ins_of_one_name_are_refused_in_one_line(tmp_path: Path) -> None:
    distribution(tmp_path, "other", "aws = other_aws:plugin")
    done = run_plan(tmp_path)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "two providers are named 'aws'" in done.stderr
    assert "other_aws:plugin" in done.stderr
    assert "uninstall one" in done.stderr


def test_a_plug_in_that_can_not_be_loaded_is_named_in_one_line(tmp_path: Path) -> None:
    distribution(tmp_path, "broken", "broken = no_such_module:plugin")
    done = run_plan(tmp_path)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "the provider 'broken' (no_such_module:plugin) can't be loaded" in done.stderr


def test_a_provider_whose_sdk_is_not_installed_gives_the_line_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin = discover()["aws"]
    monkeypatch.setattr(plugin, "modules", ("no_such_sdk",), raising=True)
    assert missing_modules(plugin) == ("no_such_sdk",)
    config = load({"HOME": str(tmp_path), "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"})
    session = Session(config=config, plugins={"aws": plugin})
    assert install_line(plugin) == 'pip install "multicompute[aws]"'
    assert install_line(plugin) in session.usable["aws"]
    with pytest.raises(errors.ConfigError, match="not installed") as caught:
        session.provider("aws")
    assert install_line(plugin) in str(caught.value)


def test_every_packaged_provider_is_found_by_name() -> None:
    assert {"aws", "azure", "gcp"} <= set(discover())

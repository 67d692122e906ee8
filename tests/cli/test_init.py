"""`init`: a configuration file from what is found on the machine."""

import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from multicompute.config import apply_environment, load
from multicompute.plugins import discover
from multicompute.session import Session
from multicompute.testing import local_clouds

Run = Callable[..., Any]
SECRET = "kept-out-of-the-file"


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A user without any credentials, configuration or ledger."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "AZURE_", "GOOGLE_", "MULTICOMPUTE_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return tmp_path


def written(home: Path) -> Path:
    return home / ".config" / "multicompute" / "config.toml"


def test_init_reports_what_each_cloud_lacks_and_how_to_fix_it(run: Run, home: Path) -> None:
    done = run("init")
    assert done.status == 6, "nothing can be used yet, as `doctor` says"
    for name in discover():
        assert f"{name}: not found: " in done.err
        assert f"# {name}: not found: " in written(home).read_text()
    assert "az login" in done.err
    assert "`multicompute doctor`" in done.err


def test_only_its_owner_can_read_the_file(run: Run, home: Path) -> None:
    before = os.umask(0)
    try:
        run("init")
    finally:
        os.umask(before)
    assert stat.S_IMODE(written(home).stat().st_mode) == 0o600


def test_the_file_changes_nothing_until_a_line_is_enabled(run: Run, home: Path) -> None:
    before = load()
    run("init")
    assert load() == before


def test_every_line_of_the_file_can_be_enabled_as_it_is(run: Run, home: Path) -> None:
    before = load()
    run("init")
    text = re.sub(r"^# (?=\[|\w+ = )", "", written(home).read_text(), flags=re.MULTILINE)
    written(home).write_text(text)
    after = load()
    assert (after.state, after.default_ttl, after.owner) == (before.state, before.default_ttl, before.owner)
    plugins = discover()
    assert {name: tuple(keys) for name, keys in after.providers.items()} == {
        name: tuple(plugin.setting_names) for name, plugin in plugins.items()
    }
    assert set(Session(config=after, plugins=plugins).usable) == set(plugins)


def test_init_checks_what_it_found_and_names_the_next_command(run: Run, home: Path) -> None:
    with local_clouds("aws"), apply_environment({"MULTICOMPUTE_CONFIG": str(home / "here.toml")}):
        done = run("init", "--yes")
    assert done.status == 0
    assert re.search(r"^aws +yes", done.out, re.MULTILINE)
    assert "# aws: found, a local endpoint" in (home / "here.toml").read_text()
    assert "`multicompute plan" in done.err


def test_an_existing_file_is_kept_unless_forced(run: Run, home: Path) -> None:
    written(home).parent.mkdir(parents=True)
    written(home).write_text("this is no TOML")
    refused = run("init", "--yes")
    assert (refused.status, written(home).read_text()) == (2, "this is no TOML")
    assert "--force" in refused.err
    assert run("init", "--yes", "--force").status == 6
    assert "[providers." in written(home).read_text()
    assert stat.S_IMODE(written(home).stat().st_mode) == 0o600


def test_a_link_is_not_followed(run: Run, home: Path) -> None:
    written(home).parent.mkdir(parents=True)
    written(home).symlink_to(home / "elsewhere")
    assert run("init").status == 2
    assert not (home / "elsewhere").exists()


@pytest.mark.parametrize(("answer", "is_written"), [("y\n", True), ("\n", False), ("n\n", False)])
def test_on_a_terminal_init_asks(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch, answer: str, is_written: bool
) -> None:
    monkeypatch.setattr("sys.stdin", _Terminal(answer))
    done = run("init")
    assert f"Write {written(home)}?" in done.err
    assert written(home).exists() is is_written


def test_the_password_of_a_ledger_is_not_written(run: Run, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # No ledger has this scheme, so `doctor` exits before it calls a cloud.
    monkeypatch.setenv("MULTICOMPUTE_STATE", f"mysql://me:{SECRET}@127.0.0.1:1/x")
    done = run("init")
    assert "mysql://...@127.0.0.1:1/x" in written(home).read_text()
    assert SECRET not in written(home).read_text() + done.out + done.err


class _Terminal:
    """A keyboard on which this is typed."""

    def __init__(self, typed: str) -> None:
        self.typed = typed

    def isatty(self) -> bool:
        return True

    def readline(self) -> str:
        return self.typed

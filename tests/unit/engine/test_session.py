"""A session opens its parts when they are used, and refuses configuration that it does not know."""

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from multicompute import errors
from multicompute.config import apply_environment, load, scoped_variables
from multicompute.plugins import discover
from multicompute.session import Session, open_session, use_session


def session(tmp_path: Path, text: str = "", **variables: str) -> Session:
    path = tmp_path / "config.toml"
    path.write_text(text)
    config = load({"HOME": str(tmp_path), "USER": "me", "MULTICOMPUTE_CONFIG": str(path), **variables})
    return Session(config=config, plugins=discover())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[providers.awz]\nprofile = "lab"\n', ["config.toml, line 1", "providers.awz", "aws"]),
        ('[providers.aws]\nprofil = "lab"\n', ["config.toml, line 2", "providers.aws.profil", "profile"]),
    ],
)
def test_a_provider_or_key_that_does_not_exist_is_named(tmp_path: Path, text: str, words: list[str]) -> None:
    with pytest.raises(errors.ConfigError) as caught:
        session(tmp_path, text)
    assert all(word in str(caught.value) for word in words)


def test_nothing_is_created_on_disk_before_the_ledger_is_used(tmp_path: Path) -> None:
    opened = session(tmp_path, MULTICOMPUTE_STATE=f"sqlite:///{tmp_path}/ledger/state.db")
    assert not opened.has_ledger
    assert opened.catalog.offer_count > 10_000
    assert not (tmp_path / "ledger").exists()
    assert opened.ledger.clusters() == []
    assert opened.has_ledger
    opened.close()


def test_a_provider_that_is_not_installed_and_one_that_is_not_configured_are_different_errors(tmp_path: Path) -> None:
    opened = session(tmp_path)
    with pytest.raises(errors.ConfigError, match="no provider is named 'hetzner'"):
        opened.provider("hetzner")
    assert opened.usable["aws"] != ""
    with pytest.raises(errors.MulticomputeError):
        opened.provider("aws")


def test_the_session_is_kept_until_the_environment_changes(tmp_path: Path) -> None:
    with apply_environment({"MULTICOMPUTE_CONFIG": os.devnull, "MULTICOMPUTE_STATE": f"sqlite:///{tmp_path}/a"}):
        first = open_session()
        assert open_session() is first
        with apply_environment({"MULTICOMPUTE_STATE": f"sqlite:///{tmp_path}/b"}):
            assert open_session() is not first


def test_two_tasks_of_one_process_may_use_different_ledgers_at_once(tmp_path: Path) -> None:
    async def state_in_task(name: str) -> tuple[str, str]:
        with scoped_variables({"MULTICOMPUTE_STATE": f"sqlite:///{tmp_path}/{name}"}):
            before = await asyncio.to_thread(open_session)
            await asyncio.sleep(0)
            assert open_session() is before
            return before.config.state, name

    async def both() -> Sequence[tuple[str, str]]:
        return await asyncio.gather(state_in_task("a"), state_in_task("b"))

    outside = open_session()
    for state, name in asyncio.run(both()):
        assert state == f"sqlite:///{tmp_path}/{name}"
    assert open_session() is outside


def test_an_installed_session_is_the_one_that_is_used(tmp_path: Path) -> None:
    mine = session(tmp_path)
    with use_session(mine):
        assert open_session() is mine
    assert open_session() is not mine

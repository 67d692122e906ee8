"""Every test of the ledger runs on both engines: on a file, and on a real server."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from multicompute.ledger import Ledger
from tests.unit.ledger.postgres_server import server


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where an empty ledger may be made, on each engine."""
    return server().url() if request.param == "postgres" else f"sqlite:///{tmp_path}/deep/state.db"


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    ledger = Ledger(url)
    yield ledger
    ledger.close()

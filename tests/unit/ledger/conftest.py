"""Fixtures that run every test of the ledger on both engines: an SQLite file and a real PostgreSQL server."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from multicompute.ledger import Ledger
from tests.unit.ledger.postgres_server import server


@pytest.fixture(params=["sqlite", "postgres"])
def engine(request: pytest.FixtureRequest) -> str:
    """Return the engine; a module about one engine overrides this fixture."""
    return str(request.param)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return the path of the SQLite file, in a folder that does not exist yet."""
    return tmp_path / "deep" / "state.db"


@pytest.fixture
def url(engine: str, file: Path) -> str:
    """Return the URL of a ledger that does not exist yet."""
    return server().url() if engine == "postgres" else f"sqlite:///{file}"


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    """Return a new ledger."""
    ledger = Ledger(url)
    yield ledger
    ledger.close()

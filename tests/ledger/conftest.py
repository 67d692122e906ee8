"""Many processes on one ledger: on a file, and on a real server."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from postgres_server import server


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where an empty ledger may be made, on each engine."""
    return server().url() if request.param == "postgres" else f"sqlite:///{tmp_path}/state.db"

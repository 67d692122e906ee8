"""The packaged catalog, read once for the session."""

from pathlib import Path

import pytest

from multicompute.catalog import Catalog

PROVIDERS = Path(__file__).parents[3] / "providers"


@pytest.fixture(scope="session")
def catalog() -> Catalog:
    return Catalog({name: PROVIDERS / f"multicompute_{name}" / "data" for name in ("aws", "gcp", "azure")})

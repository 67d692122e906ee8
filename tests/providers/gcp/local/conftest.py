"""Fixtures for tests of the local Google Cloud: a cloud in virtual time, bare HTTP, and the real SDK."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from google.api_core.client_options import ClientOptions
from google.auth.credentials import AnonymousCredentials

from multicompute.testing.clock import FakeClock
from multicompute_gcp.local import GcpLocalCloud
from tests.providers.gcp.local.bare_google import ZONE, Api, Json, bulk

Launch = Callable[..., Json]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(datetime(2026, 11, 24, 12, tzinfo=UTC))


@pytest.fixture
def cloud(clock: FakeClock) -> Iterator[GcpLocalCloud]:
    """A local Google Cloud in virtual time."""
    cloud = GcpLocalCloud(clock=clock)
    cloud.start()
    yield cloud
    cloud.stop()


@pytest.fixture
def api(cloud: GcpLocalCloud) -> Api:
    return Api(cloud)


@pytest.fixture
def launch(api: Api) -> Launch:
    """Send a bulkInsert, and wait for its operation."""

    def launch(count: int = 2, zone: str = ZONE, *, request_id: str = "", **changes: Any) -> Json:
        query = {"requestId": request_id} if request_id else {}
        return api.done(api.compute("POST", f"zones/{zone}/instances/bulkInsert", bulk(count, **changes), **query))

    return launch


@pytest.fixture
def sdk(cloud: GcpLocalCloud) -> Json:
    """Return the arguments for Google's clients that connect them to the cloud."""
    options = ClientOptions(api_endpoint=cloud.endpoint_url)
    credentials: Callable[[], object] = AnonymousCredentials
    return {"credentials": credentials(), "client_options": options, "transport": "rest"}

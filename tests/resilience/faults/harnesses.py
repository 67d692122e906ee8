"""The local clouds of the campaign: started once, in virtual time, with a new ledger and provider for every case."""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import cache
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

from multicompute.config import Config
from multicompute.plugins import discover
from multicompute.provider import Provider, ProviderPlugin, Settings
from multicompute.session import Session, use_session
from multicompute.testing import FakeClock, FakePlugin

TTL = timedelta(hours=2)
READ_TIMEOUT = 0.25
"""Seconds after which a client stops waiting for an answer, in the cases without an answer."""


@dataclass
class Scene:
    """The cloud, ledger and session of one case."""

    harness: "ProviderHarness"
    session: Session
    memory: dict[str, Any] = field(default_factory=dict)
    """What the operation recorded before the trouble began."""

    @property
    def cloud(self) -> Any:
        return self.harness.cloud

    @property
    def clock(self) -> FakeClock:
        return self.harness.clock


class ProviderHarness:
    """A local cloud, the way to open its provider, and the request to it.

    Attributes:
        name: "aws", "gcp", "tpu" or "azure".
        provider: the name of the provider.
        spec: the arguments of a request, which at least two places can serve.
    """

    def __init__(self, name: str, provider: str, spec: Mapping[str, Any]) -> None:
        self.name = name
        self.provider = provider
        self.spec = spec
        self.accelerators: int = spec["gpus"]
        self.clock = FakeClock()
        self.cloud: Any = None
        self._open: Callable[[], Provider] | None = None
        self._short_timeouts: Callable[[], Any] | None = None
        self._cases = 0

    def start(self) -> None:
        self.cloud, self._open, self._short_timeouts = _STARTS[self.provider](self.clock)

    def stop(self) -> None:
        self.cloud.stop()

    def restart(self) -> None:
        """Restart with an empty cloud, after a case that has left something."""
        self.stop()
        self.start()

    @contextmanager
    def scene(self, *, short_timeouts: bool = False) -> Iterator[Scene]:
        """Open a new ledger, and a provider without cached answers."""
        assert self._open is not None and self._short_timeouts is not None
        self._cases += 1
        # Nodes that ended and requests of earlier cases are not listed any more.
        self.clock.advance("2d")
        self.cloud.faults.clear()
        with ExitStack() as stack:
            if short_timeouts:
                stack.enter_context(self._short_timeouts())
            provider = self._open()
            # So many polls would take minutes in a real cloud.
            provider.poll_interval, provider.consistency_window = timedelta(seconds=5), timedelta(seconds=15)
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="faults-"))
            session = self._session(folder, provider)
            stack.callback(session.close)
            stack.enter_context(use_session(session))
            yield Scene(self, session)

    def _session(self, folder: str, provider: Provider) -> Session:
        real = _plugin(self.provider)
        plugin = FakePlugin(self.provider, tables=real.tables, provider=provider, tag_limits=real.tag_limits)
        config = Config(
            state=f"sqlite:///{folder}/state.db",
            default_ttl=TTL,
            catalog=None,
            owner="tester@faults",
            path=Path(folder, "config.toml"),
        )
        # A seed for each case: the cloud would treat a token that it knows as a repeated request.
        return Session(config=config, plugins={self.provider: plugin}, clock=self.clock, random=Random(self._cases))


@cache
def _plugin(name: str) -> ProviderPlugin:
    return discover()[name]


Started = tuple[Any, Callable[[], Provider], Callable[[], Any]]


def _aws(clock: FakeClock) -> Started:
    from botocore.config import Config as SdkConfig

    from multicompute_aws import _session
    from multicompute_aws._provider import AwsProvider
    from multicompute_aws.local import AwsLocalCloud

    cloud = AwsLocalCloud(clock=clock)
    cloud.start()
    settings = Settings(values={"endpoint_url": cloud.endpoint_url, "regions": ["us-east-1"]})
    short = _session._CONFIG.merge(SdkConfig(read_timeout=READ_TIMEOUT))
    made: dict[bool, dict[Any, Any]] = {True: {}, False: {}}

    def opened() -> AwsProvider:
        provider = AwsProvider(settings, clock=clock)
        # A boto3 client takes 60 ms to create, more than a case does, and keeps no state between calls.
        provider._clients._clients = made[_session._CONFIG is short]
        return provider

    return cloud, opened, lambda: patch.object(_session, "_CONFIG", short)


def _gcp(clock: FakeClock) -> Started:
    from multicompute_gcp import _operations, _session
    from multicompute_gcp._provider import GcpProvider
    from multicompute_gcp.local import GcpLocalCloud
    from multicompute_gcp.prices import _current

    cloud = GcpLocalCloud(clock=clock)
    patience = replace(_current._PATIENCE, timeout=(10.0, READ_TIMEOUT))
    cloud.start()
    url = cloud.endpoint_url
    values = {"endpoint_url": url, "tpu_endpoint_url": url, "project": cloud.project, "api_key": cloud.api_key}
    settings = Settings(values=values)

    @contextmanager
    def short_timeouts() -> Iterator[None]:
        with (
            patch.object(_session, "_TIMEOUT", (10.0, READ_TIMEOUT)),
            patch.object(_operations, "_ONE_WAIT", READ_TIMEOUT),
            patch.object(_current, "_PATIENCE", patience),
            patch.dict(_session.CALL, timeout=READ_TIMEOUT),
        ):
            yield

    return cloud, lambda: GcpProvider(settings, clock=clock), short_timeouts


def _azure(clock: FakeClock) -> Started:
    from multicompute_azure import _http
    from multicompute_azure._provider import AzureProvider
    from multicompute_azure.local import AzureLocalCloud

    cloud = AzureLocalCloud(clock=clock)
    cloud.start()
    settings = Settings(values={"endpoint_url": cloud.endpoint_url, "subscription_id": cloud.subscription_id})
    step, patience = timedelta(seconds=1), timedelta(seconds=2)
    return (
        cloud,
        lambda: AzureProvider(settings, clock=clock, step=step, patience=patience),
        lambda: patch.object(_http, "_READ_SECONDS", READ_TIMEOUT),
    )


_STARTS: Mapping[str, Callable[[FakeClock], Started]] = {"aws": _aws, "gcp": _gcp, "azure": _azure}
HARNESSES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "aws": ("aws", {"gpus": 16, "type": "p5.48xlarge", "regions": ["us-east-1"]}),
    "gcp": ("gcp", {"gpus": 16, "type": "a3-highgpu-8g", "regions": ["us-central1"]}),
    "tpu": ("gcp", {"gpus": 8, "type": "v5p-16", "regions": ["us-central1", "us-east5"]}),
    "azure": ("azure", {"gpus": 16, "type": "h100", "regions": ["eastus", "eastus2", "westus3"]}),
}

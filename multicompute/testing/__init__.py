"""Testing: clouds in memory and on 127.0.0.1, virtual time, injected faults, and the conformance suite for providers."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from multicompute.testing.clock import FakeClock
    from multicompute.testing.conformance import ProviderConformance
    from multicompute.testing.fake.provider import FakeProvider
    from multicompute.testing.fake.session import FakeCloud, FakePlugin, fake_cloud
    from multicompute.testing.faults import Call, Fault, Faults
    from multicompute.testing.fixtures import ClusterFactory
    from multicompute.testing.local.cloud import LocalCloud
    from multicompute.testing.local.clouds import LocalClouds, local_clouds, running
    from multicompute.testing.local.harness import LocalCloudHarness, Refusal
    from multicompute.testing.moto import complete_moto
    from multicompute.testing.provider_harness import FailureKind, ProviderHarness, launch_request

__all__ = [
    "Call",
    "ClusterFactory",
    "FailureKind",
    "FakeClock",
    "FakeCloud",
    "FakePlugin",
    "FakeProvider",
    "Fault",
    "Faults",
    "LocalCloud",
    "LocalCloudHarness",
    "LocalClouds",
    "ProviderConformance",
    "ProviderHarness",
    "Refusal",
    "complete_moto",
    "fake_cloud",
    "launch_request",
    "local_clouds",
    "running",
]

_MODULES = {
    "Call": "faults",
    "ClusterFactory": "fixtures",
    "FailureKind": "provider_harness",
    "FakeClock": "clock",
    "FakeCloud": "fake.session",
    "FakePlugin": "fake.session",
    "FakeProvider": "fake.provider",
    "Fault": "faults",
    "Faults": "faults",
    "LocalCloud": "local.cloud",
    "LocalCloudHarness": "local.harness",
    "LocalClouds": "local.clouds",
    "ProviderConformance": "conformance",
    "ProviderHarness": "provider_harness",
    "Refusal": "local.harness",
    "complete_moto": "moto",
    "fake_cloud": "fake.session",
    "launch_request": "provider_harness",
    "local_clouds": "local.clouds",
    "running": "local.clouds",
}


def __getattr__(name: str) -> object:
    # Lazy (PEP 562): every pytest run of every user imports this package for the pytest plug-in.
    from importlib import import_module

    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"multicompute.testing.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)

"""Fake clouds for code that uses multicompute: every installed provider is replaced by a fake provider."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from random import Random  # noqa: TID251 - seeded, so that every run of a test is the same
from types import MappingProxyType
from typing import TYPE_CHECKING

from multicompute.config import Config
from multicompute.errors import ConfigError
from multicompute.offer import Purchase
from multicompute.plugins import discover
from multicompute.provider import (
    TAG_CLUSTER,
    Configured,
    LifetimeLimit,
    Provider,
    ProviderPlugin,
    Resource,
    Settings,
    TagLimits,
)
from multicompute.session import Session, use_session
from multicompute.testing.clock import FakeClock
from multicompute.testing.fake.provider import FakeProvider

if TYPE_CHECKING:
    from multicompute.testing.local.cloud import LocalCloud

_ANY_TAGS = TagLimits(count=50, key_length=128, value_length=256)


class FakePlugin:
    """The plug-in of a fake cloud, with the name, offer tables, limits and billing minimum of the real plug-in."""

    extra = "testing"
    modules: tuple[str, ...] = ()
    can_launch = True

    def __init__(
        self,
        name: str,
        *,
        tables: Path | None = None,
        provider: Provider,
        tag_limits: TagLimits = _ANY_TAGS,
        setting_names: tuple[str, ...] = (),
        billing_minimum: timedelta = timedelta(0),
        lifetime_limits: tuple[LifetimeLimit, ...] = (),
        fabric_limits: Mapping[str, int] = MappingProxyType({}),
        image_required: tuple[str, ...] = (),
    ) -> None:
        """Replace the plug-in called `name`; `open` returns `provider`."""
        self.name = name
        self.tables = tables
        self.tag_limits = tag_limits
        self.setting_names = setting_names
        self.billing_minimum = billing_minimum
        self.lifetime_limits = lifetime_limits
        self.fabric_limits = fabric_limits
        self.image_required = image_required
        self._provider = provider

    def configured(self, settings: Settings) -> Configured:
        """Return that the provider is configured."""
        return Configured(ok=True)

    def open(self, settings: Settings) -> Provider:
        """Return the provider that was given to the constructor."""
        return self._provider

    def local(self) -> "LocalCloud | None":
        """Return None: a fake cloud has no server."""
        return None


class FakeCloud:
    """The fake clouds that code under test uses, each an attribute with the name of its provider.

    Attributes:
        clock: The clock of all clouds; time passes only by a sleep or `clock.advance`.
        providers: Provider's name -> its fake provider.
        session: The session of the code under test.

    Example:
        >>> with fake_cloud() as cloud:
        ...     cloud.set_capacity("p5.48xlarge", "us-east-1", 0)
        ...     cloud.aws.faults.fail("launch", "quota", where={"region": "us-west-2"})
        ...     cloud.alive()
        []
    """

    def __init__(self, providers: Mapping[str, FakeProvider], *, clock: FakeClock, session: Session) -> None:
        """Give access to the parts of fake clouds; see `fake_cloud`."""
        self.providers: Mapping[str, FakeProvider] = MappingProxyType(dict(providers))
        self.clock = clock
        self.session = session

    def __getitem__(self, name: str) -> FakeProvider:
        """Return the fake provider called `name`."""
        return self.providers[name]

    def __getattr__(self, name: str) -> FakeProvider:
        """Return the fake provider called `name`."""
        providers: Mapping[str, FakeProvider] = self.__dict__.get("providers", {})
        if name not in providers:
            raise AttributeError(f"no fake cloud is called {name!r}; there are {', '.join(providers)}")
        return providers[name]

    def alive(self) -> list[Resource]:
        """Return everything that exists in any of these clouds."""
        return [resource for provider in self.providers.values() for resource in provider.alive()]

    def clusters_alive(self) -> list[str]:
        """Return the names of the clusters that have any resource."""
        return sorted({name for resource in self.alive() if (name := resource.tags.get(TAG_CLUSTER))})

    def set_capacity(
        self, instance_type: str, place: str, nodes: int | None, *, purchase: Purchase | None = None
    ) -> None:
        """Limit in all clouds how many nodes each matching zone has; see `FakeProvider.set_capacity`."""
        for provider in self.providers.values():
            provider.set_capacity(instance_type, place, nodes, purchase=purchase)

    def advance(self, by: str | timedelta) -> datetime:
        """Advance the clock by "90m", "12h" or a timedelta, and return the new time."""
        return self.clock.advance(by)


@contextmanager
def fake_cloud(
    *names: str, clock: FakeClock | None = None, default_ttl: timedelta | None = timedelta(hours=24)
) -> Iterator[FakeCloud]:
    """Use fake clouds for everything in this process that uses multicompute, while the block runs.

    Offers and prices are those of the installed providers. The ledger is empty and in a temporary folder. The user's
    configuration, environment, files and clouds are neither read nor changed.

    Args:
        names: The providers; all clouds that are installed if none is named. Plans use no others.
        clock: The clock of the clouds; by default one that starts on 2027-01-01.
        default_ttl: The ttl of a cluster whose request has none; None for no expiry.

    Yields:
        The fake clouds.

    Raises:
        ConfigError: No provider of this name is installed.
    """
    real = discover()
    for name in names:
        if name not in real:
            raise ConfigError(f"no provider is called {name!r}", hint=f"installed are {', '.join(real)}")
    clock = clock or FakeClock()
    # A fake of own machines would need an inventory: without one they are in no plan.
    clouds = [name for name, plugin in real.items() if not getattr(plugin, "has_hosts", False)]
    chosen = {name: real[name] for name in names or clouds}
    providers = {
        name: FakeProvider(
            name,
            clock=clock,
            tag_limits=plugin.tag_limits,
            lifetime_limits=getattr(plugin, "lifetime_limits", ()),
        )
        for name, plugin in chosen.items()
    }
    plugins = {name: _fake_plugin(plugin, providers[name]) for name, plugin in chosen.items()}
    with tempfile.TemporaryDirectory(prefix="multicompute-fake-") as folder:
        config = Config(
            state=f"sqlite:///{folder}/state.db",
            default_ttl=default_ttl,
            catalog=None,
            owner="tester@fake",
            path=Path(folder, "config.toml"),
            environment={"XDG_DATA_HOME": folder},
        )
        # Seeded, so that names, tokens and waits are the same in every run of a test.
        session = Session(config=config, plugins=plugins, clock=clock, random=Random(0))
        try:
            with use_session(session):
                yield FakeCloud(providers, clock=clock, session=session)
        finally:
            session.close()


def _fake_plugin(plugin: ProviderPlugin, provider: FakeProvider) -> ProviderPlugin:
    return FakePlugin(
        plugin.name,
        tables=plugin.tables,
        provider=provider,
        tag_limits=plugin.tag_limits,
        billing_minimum=plugin.billing_minimum,
        lifetime_limits=getattr(plugin, "lifetime_limits", ()),
        fabric_limits=getattr(plugin, "fabric_limits", {}),
        image_required=getattr(plugin, "image_required", ()),
    )

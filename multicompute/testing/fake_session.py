"""Whole clouds in memory: every installed provider replaced by its double, under the code that uses multicompute."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from random import Random  # noqa: TID251 - a seeded one, so that there is no chance in a test
from types import MappingProxyType

from multicompute.config import Config
from multicompute.errors import ConfigError
from multicompute.offer import Purchase
from multicompute.plugins import discover
from multicompute.provider import (
    TAG_CLUSTER,
    Configured,
    Provider,
    ProviderPlugin,
    Resource,
    Settings,
    TagLimits,
)
from multicompute.session import Session, use_session
from multicompute.testing.clock import FakeClock
from multicompute.testing.fake import FakeProvider
from multicompute.testing.local.cloud import LocalCloud

_ANY_TAGS = TagLimits(count=50, key_length=128, value_length=256)


class FakePlugin:
    """The plug-in object of a cloud in memory: it takes name, offer tables, tag limits and billing minimum of the real one."""

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
    ) -> None:
        """Stand in for the plug-in called `name`; `open` gives `provider`."""
        self.name = name
        self.tables = tables
        self.tag_limits = tag_limits
        self.setting_names = setting_names
        self.billing_minimum = billing_minimum
        self._provider = provider

    def configured(self, settings: Settings) -> Configured:
        """Always well."""
        return Configured(ok=True)

    def open(self, settings: Settings) -> Provider:
        """The provider that it was made with."""
        return self._provider

    def local(self) -> LocalCloud | None:
        """None: there is nothing to start."""
        return None


class FakeCloud:
    """All the clouds that code under test sees; each is an attribute by its provider's name.

    Attributes:
        clock: the time of all of them; it passes only when somebody sleeps or calls `clock.advance`.
        providers: provider's name -> its double.
        session: what the code under test works with.

    Example:
        >>> with fake_cloud() as cloud:
        ...     cloud.set_capacity("p5.48xlarge", "us-east-1", 0)
        ...     cloud.aws.faults.fail("launch", "quota", where={"region": "us-west-2"})
        ...     cloud.alive()
        []
    """

    def __init__(self, providers: Mapping[str, FakeProvider], *, clock: FakeClock, session: Session) -> None:
        self.providers: Mapping[str, FakeProvider] = MappingProxyType(dict(providers))
        self.clock = clock
        self.session = session

    def __getitem__(self, name: str) -> FakeProvider:
        """The double of the provider called `name`."""
        return self.providers[name]

    def __getattr__(self, name: str) -> FakeProvider:
        providers: Mapping[str, FakeProvider] = self.__dict__.get("providers", {})
        if name not in providers:
            raise AttributeError(f"no fake cloud is named {name!r}; there are {', '.join(providers)}")
        return providers[name]

    def alive(self) -> list[Resource]:
        """Everything that exists in any of them: the ground truth."""
        return [resource for provider in self.providers.values() for resource in provider.alive()]

    def clusters_alive(self) -> list[str]:
        """The names of the clusters of which anything exists."""
        return sorted({name for resource in self.alive() if (name := resource.tags.get(TAG_CLUSTER))})

    def set_capacity(
        self, instance_type: str, place: str, nodes: int | None, *, purchase: Purchase | None = None
    ) -> None:
        """Say in all clouds how many nodes each matching zone has; see `FakeProvider.set_capacity`."""
        for provider in self.providers.values():
            provider.set_capacity(instance_type, place, nodes, purchase=purchase)

    def advance(self, by: str | timedelta) -> datetime:
        """Let time pass: "90m", "12h" or a timedelta; returns the new instant."""
        return self.clock.advance(by)


@contextmanager
def fake_cloud(
    *names: str, clock: FakeClock | None = None, default_ttl: timedelta | None = timedelta(hours=24)
) -> Iterator[FakeCloud]:
    """Let everything in this process that uses multicompute work on clouds in memory while the block runs.

    Offers and prices are those of the installed providers; clusters are kept in a ledger of their own, in a temporary
    folder. Nothing is read from the configuration, and no cloud, file or variable of the user's is touched.

    Args:
        names: which providers; all that are installed when none is named. The others stay out of every plan.
        clock: whose time they live in, by default one that begins on 2027-01-01.
        default_ttl: the end of life of clusters that name none; None for none.

    Yields:
        The clouds, to make them scarce or unreliable and to ask what is left.

    Raises:
        ConfigError: no provider of that name is installed.
    """
    real = discover()
    for name in names:
        if name not in real:
            raise ConfigError(f"no provider is named {name!r}", hint=f"installed are {', '.join(real)}")
    clock = clock or FakeClock()
    chosen = {name: real[name] for name in names or real}
    providers = {name: FakeProvider(name, clock=clock, tag_limits=plugin.tag_limits) for name, plugin in chosen.items()}
    plugins = {name: _stand_in(plugin, providers[name]) for name, plugin in chosen.items()}
    with tempfile.TemporaryDirectory(prefix="multicompute-fake-") as folder:
        config = Config(
            state=f"sqlite:///{folder}/state.db",
            default_ttl=default_ttl,
            catalog=None,
            owner="tester@fake",
            path=Path(folder, "config.toml"),
        )
        # Seeded, so that names, tokens and waits are the same in every run of a test.
        session = Session(config=config, plugins=plugins, clock=clock, random=Random(0))
        try:
            with use_session(session):
                yield FakeCloud(providers, clock=clock, session=session)
        finally:
            session.close()


def _stand_in(plugin: ProviderPlugin, provider: FakeProvider) -> ProviderPlugin:
    return FakePlugin(
        plugin.name,
        tables=plugin.tables,
        provider=provider,
        tag_limits=plugin.tag_limits,
        billing_minimum=plugin.billing_minimum,
    )

"""The session: configuration, providers, catalog, ledger, clock and randomness, each opened when first used."""

import os
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, cast

from multicompute.clock import Clock, Random, SystemClock, process_id, system_random
from multicompute.config import Source, checked, data_folder, read, state_file
from multicompute.errors import ConfigError, SpecError
from multicompute.validation import unknown_name

if TYPE_CHECKING:
    from multicompute.catalog import Catalog
    from multicompute.config import Config
    from multicompute.hosts import OwnOffers
    from multicompute.ledger import Ledger
    from multicompute.provider import HostPlugin, LifetimeLimit, Provider, ProviderPlugin, Settings
    from multicompute.resolver.discounts import KnownDiscount

_LOCAL_LAUNCH: Final = timedelta(seconds=2)
"""The usual time of a launch in a local cloud."""
_EXCLUDED: Final = "not one of `clouds` in the configuration"
_KEPT: Final = 8
"""The number of configurations that a process can alternate between without reopening their ledgers and SDK clients."""


class Session:
    """The ledger, catalog, providers and clock that operations use. Cheap to create: each part is loaded or opened when it is first used."""

    def __init__(
        self,
        *,
        config: "Config | Source",
        plugins: "Mapping[str, ProviderPlugin] | None" = None,
        clock: Clock | None = None,
        random: Random | None = None,
    ) -> None:
        """Combine the parts.

        Args:
            config: The configuration; a source is checked when it is first used for more than opening the ledger.
            plugins: The providers; those that are installed if omitted.
            clock: The clock; the system's if omitted.
            random: The source of randomness; the system's if omitted.

        Raises:
            ConfigError: The configuration has settings that no provider in `plugins` knows.
        """
        self._configured = config
        self.clock: Clock = clock or SystemClock()
        self.random = random or system_random()
        self._providers: dict[str, Provider] = {}
        self._lock = threading.RLock()
        self._catalog: Catalog | None = None
        self._versions: tuple[str | None, ...] | None = None
        if plugins is not None:
            self.plugins = self._checked(plugins)

    @cached_property
    def config(self) -> "Config":
        """The configuration.

        Raises:
            ConfigError: A value is wrong.
        """
        return checked(self._configured) if isinstance(self._configured, Source) else self._configured

    @cached_property
    def plugins(self) -> "Mapping[str, ProviderPlugin]":
        """The providers, by name.

        Raises:
            ConfigError: A provider can't be loaded, or the configuration has settings that none knows.
        """
        from multicompute.plugins import discover

        return self._checked(discover())

    @property
    def catalog(self) -> "Catalog":
        """The offer tables of all providers: those that the configuration names, else the refreshed ones, else the packaged ones.

        It is another one after a refresh, also one by another process, because versions that were replaced are deleted after a day.
        """
        with self._lock:
            refreshed = () if self.config.catalog is not None else self._refreshed()
            if self._catalog is None or (refreshed != self._versions and self._versions is not None):
                self._catalog, self._versions = self._open_catalog(refreshed), refreshed
            return self._catalog

    @catalog.setter
    def catalog(self, catalog: "Catalog") -> None:
        """Use this catalog from now on, for tests."""
        self._catalog, self._versions = catalog, None

    @cached_property
    def refreshed_folder(self) -> Path:
        """The folder of refreshed tables, whether or not it exists."""
        return data_folder(self.config.environment) / "catalog"

    def _refreshed(self) -> tuple[str | None, ...]:
        """Return the folder of the refreshed tables of each provider that has tables."""
        folder = self._folder_text
        # One call where nothing was ever refreshed.
        if not os.path.isdir(folder):
            return ()
        from multicompute.catalog.location import in_use

        return tuple(in_use(folder, name) for name, plugin in self.plugins.items() if plugin.tables is not None)

    @cached_property
    def _folder_text(self) -> str:
        return str(self.refreshed_folder)

    def _open_catalog(self, refreshed: tuple[str | None, ...]) -> "Catalog":
        from multicompute.catalog import Catalog

        own = self._own_offers()
        if self.config.catalog is not None:
            return Catalog.at(self.config.catalog, own=own)
        packaged = {name: plugin.tables for name, plugin in self.plugins.items() if plugin.tables is not None}
        found = zip(packaged.items(), refreshed or (None,) * len(packaged), strict=True)
        return Catalog({name: Path(path) if path else tables for (name, tables), path in found}, own=own)

    def _own_offers(self) -> "Mapping[str, OwnOffers]":
        today = self.clock.now().date()
        offers = {
            name: plugin.own_offers(self.settings(name), today=today)
            for name, plugin in self.host_plugins.items()
            if not self._is_excluded(name)
        }
        return {name: found for name, found in offers.items() if found is not None}

    @cached_property
    def host_plugins(self) -> "Mapping[str, HostPlugin]":
        """The providers whose machines belong to the user, by name."""
        # The attribute is younger than the first release, so the plug-ins of third parties may lack it.
        found = {name: plugin for name, plugin in self.plugins.items() if getattr(plugin, "has_hosts", False)}
        return MappingProxyType(cast("Mapping[str, HostPlugin]", found))

    @property
    def ledger(self) -> "Ledger":
        """The ledger, created if it does not exist.

        Raises:
            LedgerError: It can't be opened or created.
        """
        with self._lock:
            return self._ledger

    @property
    def has_ledger(self) -> bool:
        """Return whether the ledger exists; does not create it."""
        file = state_file(self._configured.state)
        return "_ledger" in self.__dict__ or file is None or file.exists()

    @cached_property
    def _ledger(self) -> "Ledger":
        # Imported here, so that a plan without a ledger does not load sqlite3.
        from multicompute.ledger import Ledger

        return Ledger(self._configured.state)

    @cached_property
    def usable(self) -> Mapping[str, str]:
        """Provider -> "" if it can launch here, else why not; found without a network call."""
        return MappingProxyType({name: self._unusable_reason(plugin) for name, plugin in self.plugins.items()})

    @cached_property
    def clouds(self) -> tuple[str, ...]:
        """The only providers to use; () for all.

        Raises:
            ConfigError: The configuration names a provider that is not installed.
        """
        for name in self.config.clouds:
            if name not in self.plugins:
                raise ConfigError(f"{self.config.where('clouds')}: {unknown_name(name, self.plugins, what='cloud')}")
        return self.config.clouds

    @cached_property
    def only(self) -> Mapping[str, tuple[str, ...]]:
        """Provider -> the only regions to use, for providers whose configuration names some.

        Raises:
            ConfigError: A provider has no such region.
        """
        configured = {name: self._regions_of(plugin) for name, plugin in self.plugins.items()}
        return MappingProxyType({name: regions for name, regions in configured.items() if regions})

    def _regions_of(self, plugin: "ProviderPlugin") -> tuple[str, ...]:
        regions = plugin.configured(self.settings(plugin.name)).regions
        if not regions:
            return ()
        # Imported here, and the tables are read: few configurations name regions.
        from multicompute.resolver import unknown_entry

        unknown = unknown_entry(plugin.name, regions, self.catalog)
        if unknown is None:
            return regions
        values = self.config.providers.get(plugin.name, {})
        key = next((key for key, value in values.items() if unknown.entry in str(value)), "regions")
        where = self.config.where(f"providers.{plugin.name}.{key}")
        raise ConfigError(
            f"{where}: providers.{plugin.name}.{key}: {unknown.entry!r}: {plugin.name} has no such region",
            provider=plugin.name,
            hint=unknown.hint,
        )

    @cached_property
    def discounts(self) -> "tuple[KnownDiscount, ...]":
        """The configured discounts, with their regions.

        Raises:
            ConfigError: A cloud is not installed, or a region does not exist.
        """
        if not self.config.discounts:
            return ()
        from multicompute.resolver.discounts import known_discounts

        try:
            return known_discounts(self.config.discounts, self.catalog, tuple(self.plugins))
        except SpecError as error:
            argument = error.argument or ""
            text = f"{self.config.where(argument)}: {argument.partition('.')[0]}: {error.message}"
            raise ConfigError(text, argument=argument, hint=error.hint) from None

    @cached_property
    def lifetime_limits(self) -> "Mapping[str, tuple[LifetimeLimit, ...]]":
        """Provider -> its limits on how long machines live."""
        # The attribute is younger than the first release, so the plug-ins of third parties may lack it.
        return MappingProxyType(
            {name: tuple(getattr(plugin, "lifetime_limits", ())) for name, plugin in self.plugins.items()}
        )

    @cached_property
    def fabric_limits(self) -> Mapping[str, Mapping[str, int]]:
        """Provider -> fabric -> the most nodes that can share one."""
        # As above.
        return MappingProxyType({name: getattr(plugin, "fabric_limits", {}) for name, plugin in self.plugins.items()})

    @cached_property
    def usual_launches(self) -> Mapping[str, timedelta]:
        """Provider -> how long a launch usually takes; those for which it is unknown are missing."""
        # As above.
        usual = {name: getattr(plugin, "usual_launch", None) for name, plugin in self.plugins.items()}
        return MappingProxyType(
            {
                name: min(time, _LOCAL_LAUNCH) if plugin.configured(self.settings(name)).is_local else time
                for name, plugin in self.plugins.items()
                if (time := usual[name])
            }
        )

    @cached_property
    def image_required(self) -> Mapping[str, tuple[str, ...]]:
        """Provider -> globs on the names of its instance types without a default image."""
        # As above.
        return MappingProxyType({name: getattr(plugin, "image_required", ()) for name, plugin in self.plugins.items()})

    def provider(self, name: str) -> "Provider":
        """Return the provider of this name, opened on first use.

        Raises:
            ConfigError: No provider has this name, or its SDK is not installed.
            AuthError: It is not configured.
        """
        with self._lock:
            if name not in self._providers:
                self._providers[name] = self._open(name)
            return self._providers[name]

    def close(self) -> None:
        """Close the ledger, if it is open."""
        if "_ledger" in self.__dict__:
            self._ledger.close()

    def _open(self, name: str) -> "Provider":
        from multicompute.plugins import install_line, missing_modules

        plugin = self.plugins.get(name)
        if plugin is None:
            raise ConfigError(f"no provider is named {name!r}", hint=f"installed are {', '.join(self.plugins)}")
        if self._is_excluded(name):
            where = self.config.where("clouds")
            raise ConfigError(f"{name}: {_EXCLUDED}", hint=f"add {name!r} to `clouds` in {where}", provider=name)
        if missing_modules(plugin):
            raise ConfigError(f"{name}: its SDK is not installed", hint=install_line(plugin), provider=name)
        self._regions_of(plugin)
        return plugin.open(self.settings(name))

    def settings(self, name: str) -> "Settings":
        """Return the settings that the plug-in of this name is opened with."""
        from multicompute.provider import Settings

        return Settings(
            values=self.config.providers.get(name, {}),
            environment=self.config.environment,
            host_book=lambda: self.ledger.host_book(name),
        )

    def _is_excluded(self, name: str) -> bool:
        return bool(self.clouds) and name not in self.clouds

    def _unusable_reason(self, plugin: "ProviderPlugin") -> str:
        from multicompute.plugins import install_line, missing_modules

        if self._is_excluded(plugin.name):
            return _EXCLUDED
        if plugin.can_launch and missing_modules(plugin):
            return f"its SDK is not installed: {install_line(plugin)}"
        configured = plugin.configured(self.settings(plugin.name))
        return "" if configured.ok else configured.why or "not configured"

    def _checked(self, plugins: "Mapping[str, ProviderPlugin]") -> "Mapping[str, ProviderPlugin]":
        """Return `plugins`, after a check that each configured setting belongs to one of them."""
        for name, values in self._configured.providers.items():
            if name not in plugins:
                where = self._configured.where(f"providers.{name}")
                raise ConfigError(f"{where}: {unknown_name(f'providers.{name}', _sections(plugins), what='provider')}")
            for key in values:
                known = plugins[name].setting_names
                if key not in known:
                    where = self._configured.where(f"providers.{name}.{key}")
                    raise ConfigError(f"{where}: providers.{name}.{unknown_name(key, known, what='key')}")
        return MappingProxyType(dict(plugins))


def _sections(plugins: "Mapping[str, ProviderPlugin]") -> list[str]:
    return [f"providers.{name}" for name in plugins]


class _Current:
    """The session installed for this process, if any, and the last ones opened from configurations."""

    def __init__(self) -> None:
        self.installed: list[Session] = []
        self.recent: deque[tuple[object, Session]] = deque(maxlen=_KEPT)
        self.lock = threading.Lock()


_current = _Current()


def open_session() -> Session:
    """Return the installed session, or else one for the configuration and the environment as they are now.

    A new one is created only if they have changed, so that SDK clients and the ledger stay open between calls.

    Raises:
        ConfigError: The configuration can't be read.
    """
    if _current.installed:
        return _current.installed[-1]
    source = read()
    # The process is part of the key: an SQLite connection must not be used on both sides of a fork.
    key = (process_id(), source)
    with _current.lock:
        for known, session in _current.recent:
            if known == key:
                return session
        session = Session(config=source)
        _current.recent.append((key, session))
        return session


@contextmanager
def use_session(session: Session) -> Iterator[Session]:
    """Install `session` as the one that all code of this process uses inside the block, for tests."""
    _current.installed.append(session)
    try:
        yield session
    finally:
        _current.installed.remove(session)

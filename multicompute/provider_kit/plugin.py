"""A plug-in object that imports the modules of its adapter only when a method needs them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from multicompute.errors import AuthError
from multicompute.provider import Configured, LifetimeLimit, Settings, TagLimits

if TYPE_CHECKING:
    from multicompute.price_feed import PriceFeed
    from multicompute.provider import LocalCloud, Provider


@dataclass(kw_only=True)
class Plugin:
    """The plug-in object of an adapter: a `multicompute.provider.ProviderPlugin` described by data.

    Every command imports the plug-in objects of all providers, and most commands need neither an SDK nor pydantic. So the classes of the
    adapter are given as text, "package.module:Class", and imported by the first method that needs them.

    Attributes:
        name, extra, modules, can_launch, tables, tag_limits, billing_minimum, lifetime_limits, fabric_limits: See
            `ProviderPlugin`.
        settings: The settings model, with a class method `of(settings)` that reads it and a method `configured()`.
        provider: The class of the provider, which is called with the settings.
        price_feed: The class of the price feed, which is called with the settings; "" for none.
        image_required, usual_launch, has_hosts: See `ProviderPlugin`.
        local_cloud: The class of the local cloud, which is called without arguments; "" for none.
        sign_in: How to sign in, for the hint of the error if no credentials are found.
    """

    name: str
    extra: str = ""
    modules: tuple[str, ...] = ()
    can_launch: bool = True
    tables: Path | None
    tag_limits: TagLimits
    billing_minimum: timedelta
    lifetime_limits: tuple[LifetimeLimit, ...] = ()
    fabric_limits: Mapping[str, int] = field(default_factory=dict)
    settings: str
    provider: str
    price_feed: str = ""
    local_cloud: str = ""
    image_required: tuple[str, ...] = ()
    usual_launch: timedelta = timedelta(0)
    has_hosts: bool = False
    sign_in: str

    @cached_property
    def setting_names(self) -> tuple[str, ...]:
        """The keys that the provider's table of the configuration may have."""
        from multicompute.provider_kit.settings import setting_names

        return setting_names(_load(self.settings))

    def configured(self, settings: Settings) -> Configured:
        """Return whether credentials or a local endpoint are found, from variables and files only, without a network call.

        Raises:
            ConfigError: A setting is malformed, or an endpoint is plain http to another machine.
        """
        found: Configured = _load(self.settings).of(settings).configured()
        return found

    def open(self, settings: Settings) -> "Provider":
        """Open the provider.

        Raises:
            AuthError: Neither credentials nor a local endpoint were found.
            ConfigError: A setting is malformed, or an endpoint is plain http to another machine.
        """
        found = self.configured(settings)
        if not found.ok:
            raise AuthError(f"{self.name}: {found.why}", provider=self.name, hint=self.sign_in)
        provider: Provider = _load(self.provider)(settings)
        return provider

    def open_price_feed(self, settings: Settings) -> "PriceFeed | None":
        """Open the vendor's price interfaces, see `ProviderPlugin`."""
        feed: PriceFeed | None = _load(self.price_feed)(settings) if self.price_feed else None
        return feed

    def local(self) -> "LocalCloud | None":
        """Return a local cloud on 127.0.0.1 that has not been started, None if the provider has none."""
        cloud: LocalCloud | None = _load(self.local_cloud)() if self.local_cloud else None
        return cloud


def _load(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)

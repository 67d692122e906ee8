"""Fourth, a cloud that does not exist: an example of a provider, complete and small enough to copy."""

from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from multicompute.errors import AuthError
from multicompute.provider import Configured, Settings, TagLimits

if TYPE_CHECKING:
    from multicompute.provider import LocalCloud, Provider, ProviderPlugin


class FourthPlugin:
    """The plug-in object. Every command imports it, so neither it nor what it imports may import the SDK or pydantic."""

    name = "fourth"
    # Both are for SDKs that are an extra of multicompute itself. This distribution depends on its SDK, which is always installed.
    extra = ""
    modules: tuple[str, ...] = ()
    can_launch = True
    tables: Path | None = Path(__file__).parent / "data"
    # Fourth accepts 32 labels, five of which are ours.
    tag_limits = TagLimits(count=27, key_length=63, value_length=255, key_pattern=r"[A-Za-z0-9._/-]+")
    # Fourth's price list: "by the second, from the first".
    billing_minimum = timedelta(0)

    @cached_property
    def setting_names(self) -> tuple[str, ...]:
        """The keys that `[providers.fourth]` may have."""
        from fourth_cloud._settings import FourthSettings
        from multicompute.provider_kit.settings import setting_names

        return setting_names(FourthSettings)

    def configured(self, settings: Settings) -> Configured:
        """Return whether there is a key, or a local cloud, which needs none; no network call is made."""
        from fourth_cloud._settings import configured

        return configured(settings)

    def open(self, settings: Settings) -> "Provider":
        """Open the provider.

        Raises:
            AuthError: there is no key.
            ConfigError: a setting is malformed, or the endpoint is plain http to another machine.
        """
        found = self.configured(settings)
        if not found.ok:
            raise AuthError(f"fourth: {found.why}", provider=self.name, hint="export FOURTH_API_KEY=...")
        from fourth_cloud._provider import FourthProvider

        return FourthProvider(settings)

    def local(self) -> "LocalCloud | None":
        """Return a cloud on 127.0.0.1 for tests that has not been started."""
        from fourth_cloud.local import FourthLocalCloud

        return FourthLocalCloud()


# Annotated, so that a type checker compares it with the protocol.
plugin: "ProviderPlugin" = FourthPlugin()

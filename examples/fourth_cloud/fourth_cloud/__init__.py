"""Fourth, a cloud that does not exist: an example of a provider, complete and small enough to copy."""

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from multicompute.errors import AuthError, ConfigError
from multicompute.provider import Configured, Settings, TagLimits

if TYPE_CHECKING:
    from multicompute.provider import LocalCloud, Provider, ProviderPlugin

ENDPOINT = "https://api.fourth.example"
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class FourthPlugin:
    """The plug-in object. Neither it nor what it imports may import the SDK: a plan of prices must not pay for it."""

    name = "fourth"
    # Both are for SDKs that are an extra of multicompute itself; this distribution depends on its SDK, so it is always there.
    extra = ""
    modules: tuple[str, ...] = ()
    can_launch = True
    tables: Path | None = Path(__file__).parent / "data"
    # Fourth takes 32 labels, five of which are ours.
    tag_limits = TagLimits(count=27, key_length=63, value_length=255, key_pattern=r"[A-Za-z0-9._/-]+")
    setting_names: tuple[str, ...] = ("endpoint_url",)
    # Fourth's price list: "by the second, from the first".
    billing_minimum = timedelta(0)

    def configured(self, settings: Settings) -> Configured:
        """Whether there is a key, or a local cloud, which needs none; asks nobody."""
        if settings.environment.get("FOURTH_API_KEY") or is_on_loopback(endpoint_of(settings)):
            return Configured(ok=True)
        return Configured(ok=False, why="no key: FOURTH_API_KEY is not set")

    def open(self, settings: Settings) -> "Provider":
        """Open the provider.

        Raises:
            AuthError: there is no key.
            ConfigError: the endpoint would carry the key in the clear.
        """
        found = self.configured(settings)
        if not found.ok:
            raise AuthError(f"fourth: {found.why}", provider=self.name, hint="export FOURTH_API_KEY=...")
        endpoint = endpoint_of(settings)
        if urlsplit(endpoint).scheme != "https" and not is_on_loopback(endpoint):
            raise ConfigError(f"fourth: endpoint_url={endpoint!r}: must be https, except on this machine")
        from fourth_sdk import Client

        from fourth_cloud._provider import FourthProvider

        key = settings.environment.get("FOURTH_API_KEY", "anonymous")
        return FourthProvider(Client(endpoint, key), is_local=is_on_loopback(endpoint))

    def local(self) -> "LocalCloud | None":
        """A cloud on 127.0.0.1 for tests, not started yet."""
        from fourth_cloud.local import FourthLocalCloud

        return FourthLocalCloud()


def endpoint_of(settings: Settings) -> str:
    """Where the API is: the configuration's word, else the environment's, else the vendor's."""
    return str(settings.values.get("endpoint_url") or settings.environment.get("FOURTH_ENDPOINT_URL") or ENDPOINT)


def is_on_loopback(endpoint: str) -> bool:
    """Whether it is on this machine: then it is a test cloud, which needs neither a key nor https."""
    return urlsplit(endpoint).hostname in _LOOPBACK


# Annotated, so that a type checker holds it against the protocol.
plugin: "ProviderPlugin" = FourthPlugin()

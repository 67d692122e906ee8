"""Reads the settings, and tells from variables and files whether and where Azure can be reached; imports no SDK."""

import ipaddress
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from multicompute.errors import ConfigError
from multicompute.provider import Configured, Settings

SETTING_NAMES = (
    "subscription_id",
    "tenant_id",
    "endpoint_url",
    "locations",
    "resource_group",
    "vnet",
    "subnet",
    "identity",
    "ssh_from",
)

# What a local cloud is asked for where nobody named a subscription: it has one, and it does not matter which.
_LOCAL_SUBSCRIPTION: Final = "00000000-0000-0000-0000-000000000000"
_RESOURCE_ID: Final = re.compile(r"/subscriptions/[^/]+/resourceGroups/[^/]+/providers/.+", re.IGNORECASE)
# The identity comes to stand in a script that the node runs as root: nothing in it may mean something to a shell or in a URL.
_PLAIN: Final = re.compile(r"[\w.()/-]+")
_SECRETS: Final = ("AZURE_CLIENT_SECRET", "AZURE_CLIENT_CERTIFICATE_PATH", "AZURE_FEDERATED_TOKEN_FILE")
# The tag that the firmware of an Azure machine carries ("Azure Instance Metadata Service" documentation): the cheap way to know where we are.
_CHASSIS_FILE: Final = Path("/sys/class/dmi/id/chassis_asset_tag")
_CHASSIS: Final = "7783-7084-3265-9085-8269-3286-77"


@dataclass(frozen=True, slots=True)
class AzureSettings:
    """The table `[providers.azure]`, checked, and the environment to look for credentials in.

    Attributes:
        subscription_id, tenant_id: whose account it is; the environment and the Azure CLI's default count where they are not set.
        endpoint_url: instead of Azure Resource Manager's own endpoint.
        locations: the only regions to use and to look in; empty for everywhere.
        resource_group: an existing group to put everything into, instead of one made per cluster and region.
        vnet: name or id of an existing virtual network; its subnet is `subnet`.
        subnet: name of a subnet in `vnet`, or the id of one.
        identity: id of a user-assigned managed identity that the nodes get.
        ssh_from: CIDR blocks from which port 22 is reachable; empty for the caller's own address.
    """

    subscription_id: str | None = None
    tenant_id: str | None = None
    endpoint_url: str | None = None
    locations: tuple[str, ...] = ()
    resource_group: str | None = None
    vnet: str | None = None
    subnet: str | None = None
    identity: str | None = None
    ssh_from: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, settings: Settings) -> "AzureSettings":
        """Check the configured values.

        Raises:
            ConfigError: a value is not of its kind, or the endpoint is plain http on another machine.
        """
        values = settings.values
        read = cls(
            subscription_id=_text(values, "subscription_id"),
            tenant_id=_text(values, "tenant_id"),
            endpoint_url=_text(values, "endpoint_url"),
            locations=_texts(values, "locations"),
            resource_group=_text(values, "resource_group"),
            vnet=_text(values, "vnet"),
            subnet=_text(values, "subnet"),
            identity=_text(values, "identity"),
            ssh_from=tuple(_network(item) for item in _texts(values, "ssh_from")),
            environment=settings.environment,
        )
        check_endpoint(read.endpoint_url)
        if read.identity and not (is_resource_id(read.identity) and _PLAIN.fullmatch(read.identity)):
            raise ConfigError(
                f"[providers.azure] identity={read.identity!r}: must be the resource id of a user-assigned identity",
                provider="azure",
                hint="`az identity show --query id` prints it",
            )
        if read.subnet and not read.vnet and not is_resource_id(read.subnet):
            raise ConfigError(
                f"[providers.azure] subnet={read.subnet!r}: is a name, and no vnet is named that has it",
                provider="azure",
                hint="set vnet too, or give the subnet's resource id",
            )
        return read

    @property
    def is_local(self) -> bool:
        """Whether Azure is reached on a loopback address."""
        return self.endpoint_url is not None and is_loopback(self.endpoint_url)

    @property
    def subscription(self) -> str | None:
        """The subscription to work in: the configured one, the environment's, the Azure CLI's default."""
        named = self.subscription_id or self.environment.get("AZURE_SUBSCRIPTION_ID")
        if named:
            return named
        return _LOCAL_SUBSCRIPTION if self.is_local else default_subscription(self.environment)

    @property
    def home_region(self) -> str:
        """The region to ask what is not about a region."""
        return self.locations[0] if self.locations else "eastus"


def look_for_access(settings: Settings) -> Configured:
    """Whether there is anything to reach Azure with, from where it comes, and which regions are to be used."""
    read = AzureSettings.of(settings)
    return replace(_look(read), regions=read.locations)


def _look(read: AzureSettings) -> Configured:
    if read.is_local:
        return Configured(ok=True, why=f"a local endpoint, {read.endpoint_url}")
    source = _credentials(read.environment)
    if not source:
        return Configured(
            ok=False, why="no credentials in the environment, from `az login`, or from a managed identity"
        )
    if not read.subscription:
        return Configured(
            ok=False, why="no subscription: set AZURE_SUBSCRIPTION_ID or [providers.azure] subscription_id"
        )
    return Configured(ok=True, why=f"{source}, subscription {read.subscription}")


def _credentials(env: Mapping[str, str]) -> str:
    """Where DefaultAzureCredential will find something, in its own order; "" for nowhere."""
    if env.get("AZURE_CLIENT_ID") and env.get("AZURE_TENANT_ID") and any(env.get(name) for name in _SECRETS):
        return "AZURE_CLIENT_ID"
    if env.get("IDENTITY_ENDPOINT"):
        return "the managed identity of this service"
    if _cli_subscriptions(env):
        return "the Azure CLI's sign-in"
    if env.get("HOME") and _is_on_azure():
        return "this machine runs on Azure; whether it has an identity is known when it is asked"
    return ""


def default_subscription(env: Mapping[str, str]) -> str | None:
    """The Azure CLI's default subscription, as its profile has it."""
    items = _cli_subscriptions(env)
    chosen = next((item for item in items if item.get("isDefault")), items[0] if items else None)
    return str(chosen["id"]) if chosen and chosen.get("id") else None


def _cli_subscriptions(env: Mapping[str, str]) -> list[dict[str, Any]]:
    """The subscriptions in the CLI's profile; a file that can't be read has none, the CLI tells why when it is asked."""
    home = env.get("AZURE_CONFIG_DIR") or (str(Path(env["HOME"], ".azure")) if env.get("HOME") else "")
    if not home:
        return []
    try:
        # The CLI writes a byte order mark.
        profile = json.loads(Path(home, "azureProfile.json").read_text(encoding="utf-8-sig"))
    except (OSError, ValueError):
        return []
    items = profile.get("subscriptions") if isinstance(profile, dict) else None
    return [item for item in items or () if isinstance(item, dict)]


def _is_on_azure() -> bool:
    try:
        return _CHASSIS in _CHASSIS_FILE.read_text()
    except OSError:
        return False


def is_resource_id(text: str) -> bool:
    """Whether `text` is the full id of a resource, and not just a name."""
    return _RESOURCE_ID.fullmatch(text) is not None


def is_loopback(url: str) -> bool:
    """Whether `url` leads to this machine and nowhere else."""
    host = urlsplit(url).hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_endpoint(url: str | None) -> None:
    """Refuse an endpoint over which requests and answers would travel in the open.

    Raises:
        ConfigError: not a URL, or plain http to another machine.
    """
    if url is None:
        return
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(
            f"azure: endpoint_url={url!r} is not a URL", provider="azure", hint='write "https://host:port"'
        )
    if parts.scheme == "http" and not is_loopback(url):
        raise ConfigError(
            f"azure: endpoint_url={url!r}: plain http is allowed on loopback addresses only",
            provider="azure",
            hint="use https",
        )


def _text(values: Mapping[str, object], name: str) -> str | None:
    value = values.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise ConfigError(f"[providers.azure] {name}={value!r}: must be a text", provider="azure")
    return value


def _texts(values: Mapping[str, object], name: str) -> tuple[str, ...]:
    value = values.get(name)
    if value is None:
        return ()
    items = value.split(",") if isinstance(value, str) else value
    if not isinstance(items, (list, tuple)) or not all(isinstance(item, str) for item in items):
        raise ConfigError(f"[providers.azure] {name}={value!r}: must be a list of texts", provider="azure")
    return tuple(item.strip() for item in items if item.strip())


def _network(text: str) -> str:
    try:
        return str(ipaddress.ip_network(text, strict=False))
    except ValueError as error:
        raise ConfigError(f"[providers.azure] ssh_from={text!r}: {error}", provider="azure") from error

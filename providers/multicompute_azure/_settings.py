"""The settings of Azure, and where credentials and the subscription are found; no SDK is imported and no network call made."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, Field, ValidationInfo, field_validator

from multicompute.provider import Configured, Settings
from multicompute.provider_kit.endpoints import is_loopback
from multicompute.provider_kit.settings import (
    SETTINGS,
    CidrBlocks,
    Endpoint,
    Environment,
    SshSettings,
    Texts,
    firmware_has,
    read_json,
    read_settings,
)
from multicompute_azure._names import is_resource_id, plain_region

PUBLIC_ENDPOINT: Final = "https://management.azure.com"
"""Resource Manager of public Azure."""
# "Azure Retail Prices REST API overview": no authentication; public Azure only.
_PRICES: Final = "https://prices.azure.com"
# Used on a local cloud if no subscription is configured: it accepts any.
_LOCAL_SUBSCRIPTION: Final = "00000000-0000-0000-0000-000000000000"
# The identity becomes part of a script that the node runs as root, so no character in it may have a meaning in a shell or in a URL.
_PLAIN: Final = re.compile(r"[\w.()/-]+")
_SECRETS: Final = ("AZURE_CLIENT_SECRET", "AZURE_CLIENT_CERTIFICATE_PATH", "AZURE_FEDERATED_TOKEN_FILE")
# The asset tag that the firmware of every Azure machine has ("Azure Instance Metadata Service" documentation).
_CHASSIS_FILE: Final = Path("/sys/class/dmi/id/chassis_asset_tag")
_CHASSIS: Final = "7783-7084-3265-9085-8269-3286-77"


class AzureSettings(SshSettings, BaseModel):
    """The table `[providers.azure]`, checked, and the environment to look for credentials in."""

    model_config = SETTINGS

    subscription_id: str | None = Field(
        None,
        description="The subscription to work in. Default: AZURE_SUBSCRIPTION_ID, else the default of the Azure CLI.",
    )
    tenant_id: str | None = Field(
        None, description="The tenant whose tokens are used. Default: the tenant of the credentials found."
    )
    endpoint_url: Endpoint | None = Field(
        None, description="The endpoint of every service. Default: Azure Resource Manager's own."
    )
    prices_endpoint_url: Endpoint | None = Field(
        None,
        description="The endpoint of the Retail Prices API. Default: `endpoint_url` if it is a local one, else Azure's own.",
    )
    locations: Texts = Field(
        (),
        description="The only regions to launch and to list in, or zones (eastus-1) to launch in. Default: every region.",
    )
    resource_group: str | None = Field(
        None,
        description="An existing resource group for everything. Default: one is made for each cluster and region.",
    )
    vnet: str | None = Field(
        None,
        description="The name or id of the virtual network of the nodes. Default: one is made for each cluster and region.",
    )
    subnet: str | None = Field(
        None, description='The name of a subnet of `vnet`, or the id of a subnet. Default: "default", if `vnet` is set.'
    )
    identity: str | None = Field(
        None, description="The resource id of the user-assigned managed identity of the nodes. Default: none."
    )
    bastion: str | None = Field(
        None,
        description="The resource id of the Azure Bastion host through which nodes without a public address are reached. Default: none.",
    )
    ssh_from: CidrBlocks = Field(
        (), description="The CIDR blocks from which port 22 can be reached. Default: the caller's own address."
    )
    environment: Environment = {}

    @field_validator("locations")
    @classmethod
    def _as_names(cls, locations: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(plain_region, locations))

    @field_validator("vnet")
    @classmethod
    def _is_network(cls, vnet: str | None, info: ValidationInfo) -> str | None:
        if vnet and "/" in vnet and not is_resource_id(vnet):
            raise ValueError("must be the name or the resource id of a virtual network")
        if vnet and "/" not in vnet and not info.data.get("resource_group"):
            raise ValueError("is a name, and no resource_group is set that has it; write the network's resource id")
        return vnet

    @field_validator("subnet")
    @classmethod
    def _is_subnet(cls, subnet: str | None, info: ValidationInfo) -> str | None:
        if subnet and "/" in subnet and not is_resource_id(subnet.rpartition("/subnets/")[0]):
            raise ValueError("must be the name or the resource id of a subnet")
        if subnet and "/" not in subnet and not info.data.get("vnet"):
            raise ValueError("is a name, and no vnet is set that has it; set vnet, or write the subnet's resource id")
        return subnet

    @field_validator("identity")
    @classmethod
    def _is_identity(cls, identity: str | None) -> str | None:
        if identity and not (is_resource_id(identity) and _PLAIN.fullmatch(identity)):
            raise ValueError("must be the resource id of a user-assigned identity; see `az identity show --query id`")
        return identity

    @classmethod
    def of(cls, settings: Settings) -> "AzureSettings":
        """Check what a plug-in is opened with.

        Raises:
            ConfigError: A key is unknown, a value is not of its kind, or the endpoint is plain http to another machine.
        """
        return read_settings(cls, settings, provider="azure")

    @property
    def is_local(self) -> bool:
        """Return whether Azure is reached on a loopback address."""
        return is_loopback(self.endpoint_url)

    @property
    def prices_endpoint(self) -> str | None:
        """Return the endpoint of the Retail Prices API; None for a cloud of Azure's that is not in its list, such as the one in China."""
        if self.prices_endpoint_url or self.is_local:
            return self.prices_endpoint_url or self.endpoint_url
        return _PRICES if self.endpoint_url in (None, PUBLIC_ENDPOINT) else None

    @property
    def subscription(self) -> str | None:
        """Return the subscription to work in: the setting, else the environment's, else the Azure CLI's default."""
        named = self.subscription_id or self.environment.get("AZURE_SUBSCRIPTION_ID")
        if named:
            return named
        return _LOCAL_SUBSCRIPTION if self.is_local else _default_subscription(self.environment)

    @property
    def home_region(self) -> str:
        """Return the region to name in messages about calls that are about no region."""
        return self.locations[0] if self.locations else "eastus"

    def configured(self) -> Configured:
        """Return whether Azure can be reached, with which credentials, and in which regions only."""
        return replace(_find_access(self), regions=self.locations)


def _find_access(read: AzureSettings) -> Configured:
    if read.is_local:
        return Configured(ok=True, why=f"a local endpoint, {read.endpoint_url}", is_local=True)
    source = _credentials(read.environment)
    if not source:
        why = "no credentials in the environment, from `az login`, or from a managed identity"
        return Configured(ok=False, why=why)
    if not read.subscription:
        why = "no subscription: set AZURE_SUBSCRIPTION_ID or [providers.azure] subscription_id"
        return Configured(ok=False, why=why)
    return Configured(ok=True, why=f"{source}, subscription {read.subscription}")


def _credentials(env: Mapping[str, str]) -> str:
    """Return where DefaultAzureCredential will find credentials, in the order in which it looks; "" if it finds none."""
    if env.get("AZURE_CLIENT_ID") and env.get("AZURE_TENANT_ID") and any(env.get(name) for name in _SECRETS):
        return "AZURE_CLIENT_ID"
    if env.get("IDENTITY_ENDPOINT"):
        return "the managed identity of this service"
    if _cli_subscriptions(env):
        return "the Azure CLI's sign-in"
    if env.get("HOME") and firmware_has(_CHASSIS_FILE, _CHASSIS):
        return "this machine runs on Azure; whether it has an identity is known at the first call"
    return ""


def _default_subscription(env: Mapping[str, str]) -> str | None:
    items = _cli_subscriptions(env)
    chosen = next((item for item in items if item.get("isDefault")), items[0] if items else None)
    return str(chosen["id"]) if chosen and chosen.get("id") else None


def _cli_subscriptions(env: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the subscriptions in the Azure CLI's profile."""
    home = env.get("AZURE_CONFIG_DIR") or (str(Path(env["HOME"], ".azure")) if env.get("HOME") else "")
    items = read_json(Path(home, "azureProfile.json") if home else None).get("subscriptions")
    return [item for item in items or () if isinstance(item, dict)]

"""Microsoft Azure: its offer tables. Launching there is not part of this version."""

from pathlib import Path
from typing import TYPE_CHECKING

from multicompute.errors import ProviderError
from multicompute.provider import Configured, Settings, TagLimits

if TYPE_CHECKING:
    from multicompute.provider import LocalCloud, Provider


class AzurePlugin:
    """The plug-in object of Microsoft Azure."""

    name = "azure"
    extra = "azure"
    modules: tuple[str, ...] = ()
    can_launch = False
    tables = Path(__file__).parent / "data"
    # https://learn.microsoft.com/azure/azure-resource-manager/management/tag-resources: 50 tags, five of them ours, names of 512, values of 256 characters.
    tag_limits = TagLimits(
        count=45, key_length=512, value_length=256, reserved_prefixes=("azure", "microsoft", "windows")
    )
    setting_names = (
        "subscription_id",
        "tenant_id",
        "endpoint_url",
        "locations",
        "resource_group",
        "vnet",
        "subnet",
        "identity",
    )

    def configured(self, settings: Settings) -> Configured:
        return Configured(ok=False, why="this version knows Azure's prices, but can't launch there yet")

    def open(self, settings: Settings) -> "Provider":
        raise ProviderError(self.configured(settings).why, provider=self.name)

    def local(self) -> "LocalCloud | None":
        return None


plugin = AzurePlugin()

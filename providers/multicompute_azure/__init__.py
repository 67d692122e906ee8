"""Microsoft Azure: Flexible scale sets in every public region, bought on demand, as spot or from a capacity reservation."""

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from multicompute.errors import AuthError
from multicompute.provider import Configured, Settings, TagLimits
from multicompute_azure._access import SETTING_NAMES, look_for_access
from multicompute_azure._tags import KEY_PATTERN

if TYPE_CHECKING:
    from multicompute.provider import LocalCloud, Provider


class AzurePlugin:
    """The plug-in object of Microsoft Azure; it imports without Azure's SDK."""

    name = "azure"
    extra = "azure"
    modules: tuple[str, ...] = ("azure.mgmt.compute", "azure.mgmt.network", "azure.mgmt.resource", "azure.identity")
    can_launch = True
    tables = Path(__file__).parent / "data"
    # https://learn.microsoft.com/azure/azure-resource-manager/management/tag-resources: 50 tags, five of them ours, names of 512, values of 256 characters.
    tag_limits = TagLimits(
        count=45,
        key_length=512,
        value_length=256,
        reserved_prefixes=("azure", "microsoft", "windows"),
        key_pattern=KEY_PATTERN,
    )
    setting_names = SETTING_NAMES
    # By the second, and from 2025-06-01 on for 300 seconds at least: the answer that was accepted on Microsoft's own forum
    # (https://learn.microsoft.com/answers/questions/2259765). The price page names no minimum; the dearer of the two is counted.
    billing_minimum = timedelta(minutes=5)

    def configured(self, settings: Settings) -> Configured:
        """Whether a subscription and credentials, or a local endpoint, are found; looks at variables and files only."""
        return look_for_access(settings)

    def open(self, settings: Settings) -> "Provider":
        """Open the provider; its clients are made when they are first needed.

        Raises:
            AuthError: no subscription, no credentials and no local endpoint were found.
            ConfigError: a setting is malformed, or the endpoint is plain http on another machine.
        """
        found = self.configured(settings)
        if not found.ok:
            raise AuthError(
                f"azure: {found.why}",
                provider=self.name,
                hint="`az login`, or set AZURE_SUBSCRIPTION_ID and AZURE_CLIENT_ID",
            )
        from multicompute_azure._provider import AzureProvider

        return AzureProvider(settings)

    def local(self) -> "LocalCloud | None":
        """A local cloud on 127.0.0.1, not started yet."""
        from multicompute_azure.local import AzureLocalCloud

        cloud: LocalCloud = AzureLocalCloud()
        return cloud


plugin = AzurePlugin()

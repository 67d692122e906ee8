"""Microsoft Azure: Flexible scale sets in every public region, bought on demand, as spot or from a capacity reservation."""

from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from multicompute.errors import AuthError
from multicompute.provider import Configured, Settings, TagLimits
from multicompute_azure._tags import KEY_PATTERN

if TYPE_CHECKING:
    from multicompute.provider import LocalCloud, Provider


class AzurePlugin:
    """The plug-in object of Microsoft Azure.

    Importing it loads neither Azure's SDK nor pydantic: every command imports it, and most need neither.
    """

    name = "azure"
    extra = "azure"
    modules: tuple[str, ...] = ("azure.mgmt.compute", "azure.mgmt.network", "azure.mgmt.resource", "azure.identity")
    can_launch = True
    tables = Path(__file__).parent / "data"
    # https://learn.microsoft.com/azure/azure-resource-manager/management/tag-resources: 50 tags, five of
    # which are ours; keys of 512, values of 256 characters.
    tag_limits = TagLimits(
        count=45,
        key_length=512,
        value_length=256,
        reserved_prefixes=("azure", "microsoft", "windows"),
        key_pattern=KEY_PATTERN,
    )
    # By the second, and since 2025-06-01 for 300 seconds at least, according to the accepted answer on Microsoft's own forum
    # (https://learn.microsoft.com/answers/questions/2259765). The price page has no minimum; the more expensive of the two is assumed.
    billing_minimum = timedelta(minutes=5)

    @cached_property
    def setting_names(self) -> tuple[str, ...]:
        """The keys that `[providers.azure]` may have."""
        from multicompute.provider_kit.settings import setting_names
        from multicompute_azure._settings import AzureSettings

        return setting_names(AzureSettings)

    def configured(self, settings: Settings) -> Configured:
        """Return whether a subscription and credentials, or a local endpoint, are found, from variables and files only.

        Raises:
            ConfigError: a setting is malformed, or the endpoint is plain http to another machine.
        """
        from multicompute_azure._settings import configured

        return configured(settings)

    def open(self, settings: Settings) -> "Provider":
        """Open the provider; its clients are made when they are first needed.

        Raises:
            AuthError: no subscription, no credentials and no local endpoint were found.
            ConfigError: a setting is malformed, or the endpoint is plain http to another machine.
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
        """Return a local cloud on 127.0.0.1 that has not been started."""
        from multicompute_azure.local import AzureLocalCloud

        cloud: LocalCloud = AzureLocalCloud()
        return cloud


plugin = AzurePlugin()

"""The way to log in to machines."""

import shlex
import sys
from dataclasses import replace
from typing import Final

from multicompute.node import Node
from multicompute.provider import Access
from multicompute.provider_kit.access import Tunnel, access_to, local_access
from multicompute_azure._names import arm_id
from multicompute_azure._scale_set import ADMIN
from multicompute_azure._settings import AzureSettings

_PAGE: Final = "https://learn.microsoft.com/cli/azure/install-azure-cli"
_NO_BASTION: Final = (
    "set [providers.azure] bastion to the resource id of an Azure Bastion host with native client support, set ssh_proxy_jump, "
    "or run this inside of its network"
)


def access(settings: AzureSettings, node: Node) -> Access:
    """Return how to log in to a machine."""
    if settings.is_local:
        return local_access(settings.endpoint_url or "", node.id)
    words = [sys.executable, "-m", "multicompute_azure._bastion", settings.bastion or "", arm_id(node.id)]
    command = f"{shlex.join(words).replace('%', '%%')} %p"
    tunnel = Tunnel("Azure Bastion", ("az",), command, _PAGE)
    found = access_to(node, settings, user=ADMIN, tunnel=tunnel, environment=settings.environment)
    if found.proxy_command == command and not settings.bastion:
        return replace(found, proxy_command="", remedy=_NO_BASTION)
    return found

"""Holds the SDK's clients: one per management package, imported and made when first needed, shared by all threads."""

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from multicompute.clock import Clock
from multicompute.errors import AuthError
from multicompute_azure._access import AzureSettings, is_loopback
from multicompute_azure._errors import Place, asking
from multicompute_azure._operation import Operation

if TYPE_CHECKING:
    from azure.core.credentials import AccessToken
    from azure.mgmt.compute import ComputeManagementClient
    from azure.mgmt.network import NetworkManagementClient
    from azure.mgmt.resource.resources import ResourceManagementClient

_PUBLIC: Final = "https://management.azure.com"
_CONNECT_SECONDS: Final = 10
# Longer than a listing of a thousand instances takes.
_READ_SECONDS: Final = 60
# One try per call. azure-core would ask again ten times after 408, 429 and 5xx, and repeat a PUT after a lost connection; what is worth
# another try is known to the engine, which repeats with the same token.
_TRIES: Final = {"retry_total": 0, "retry_connect": 0, "retry_read": 0, "retry_status": 0}


class Clients:
    """The SDK's clients for one set of settings.

    Attributes:
        settings: what they are made from.
        clock: by which operations are waited for.
        step: how long to wait between two looks at an operation under way.
    """

    def __init__(self, settings: AzureSettings, clock: Clock, *, step: timedelta) -> None:
        subscription = settings.subscription
        if subscription is None:
            raise AuthError("azure: no subscription is named", provider="azure", hint="set AZURE_SUBSCRIPTION_ID")
        self.settings = settings
        self.subscription: str = subscription
        self.clock = clock
        self.step = step
        self._lock = threading.Lock()
        self._made: dict[str, Any] = {}
        self._credential: Any = None

    @property
    def compute(self) -> "ComputeManagementClient":
        def make(*args: Any, **options: Any) -> Any:
            from azure.mgmt.compute import ComputeManagementClient

            return ComputeManagementClient(*args, **options)

        client: ComputeManagementClient = self._client("compute", make)
        return client

    @property
    def network(self) -> "NetworkManagementClient":
        def make(*args: Any, **options: Any) -> Any:
            from azure.mgmt.network import NetworkManagementClient

            return NetworkManagementClient(*args, **options)

        client: NetworkManagementClient = self._client("network", make)
        return client

    @property
    def resources(self) -> "ResourceManagementClient":
        def make(*args: Any, **options: Any) -> Any:
            from azure.mgmt.resource.resources import ResourceManagementClient

            return ResourceManagementClient(*args, **options)

        client: ResourceManagementClient = self._client("resources", make)
        return client

    def operation(self) -> Operation:
        """A polling method for one long-running call, which is stepped by whoever made it and sleeps for nobody."""
        return Operation(timeout=self.step.total_seconds())

    def _client(self, name: str, make: Callable[..., Any]) -> Any:
        found = self._made.get(name)
        if found is not None:
            return found
        with self._lock, asking(f"the {name} client", Place(self.settings.home_region)):
            if name not in self._made:
                self._made[name] = make(self._authorised(), self.subscription, **self._options())
            return self._made[name]

    def _options(self) -> dict[str, Any]:
        endpoint = (self.settings.endpoint_url or _PUBLIC).rstrip("/")
        options: dict[str, Any] = {
            "base_url": endpoint,
            "credential_scopes": [f"{endpoint}/.default"],
            "user_agent": "multicompute",
            "connection_timeout": _CONNECT_SECONDS,
            "read_timeout": _READ_SECONDS,
            "logging_enable": False,
            **_TRIES,
        }
        if is_loopback(endpoint):
            from azure.core.pipeline.policies import SansIOHTTPPolicy

            # A local cloud does not ask who calls, and a token must not travel over plain http; a proxy of the user's is for the world outside.
            options |= {"authentication_policy": SansIOHTTPPolicy(), "use_env_settings": False}
        return options

    def _authorised(self) -> Any:
        if self._credential is None:
            if self.settings.is_local:
                self._credential = _Nobody()
            else:
                from azure.identity import DefaultAzureCredential

                found = DefaultAzureCredential(additionally_allowed_tenants=["*"])
                self._credential = _InTenant(found, self.settings.tenant_id) if self.settings.tenant_id else found
        return self._credential


class _Nobody:
    """Stands where the SDK insists on a credential that it will not use."""

    def get_token(self, *scopes: str, **options: Any) -> "AccessToken":
        raise AuthError("azure: a local cloud is not asked for a token", provider="azure")


class _InTenant:
    """A credential whose tokens are all of the configured tenant."""

    def __init__(self, credential: Any, tenant_id: str) -> None:
        self._credential = credential
        self._tenant_id = tenant_id

    def get_token(self, *scopes: str, **options: Any) -> "AccessToken":
        token: AccessToken = self._credential.get_token(*scopes, **{**options, "tenant_id": self._tenant_id})
        return token

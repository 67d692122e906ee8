"""Holds the SDK's clients, imported and made when first needed, shared by all threads; and asks Azure for plain JSON."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlencode

from multicompute.clock import Clock
from multicompute.errors import AuthError, MulticomputeError
from multicompute_azure._access import AzureSettings, is_loopback
from multicompute_azure._errors import Place, is_gone, retryable, translate_errors
from multicompute_azure._operation import Operation

if TYPE_CHECKING:
    from azure.core.credentials import AccessToken
    from azure.core.rest import HttpRequest, HttpResponse
    from azure.mgmt.compute import ComputeManagementClient
    from azure.mgmt.core import ARMPipelineClient
    from azure.mgmt.network import NetworkManagementClient
    from azure.mgmt.resource.resources import ResourceManagementClient

COMPUTE: Final = "Microsoft.Compute"
NETWORK: Final = "Microsoft.Network"
HEALTH: Final = "Microsoft.ResourceHealth"
# What is read is read in these versions, in whichever version the installed SDK writes: they stay as they are, and so do the answers.
_VERSIONS: Final = (
    (f"providers/{COMPUTE}/skus", "2021-07-01"),
    (f"providers/{COMPUTE}/", "2024-07-01"),
    (f"providers/{NETWORK}/", "2024-05-01"),
    (f"providers/{HEALTH}/", "2025-05-01"),
    ("", "2024-03-01"),
)
_PUBLIC: Final = "https://management.azure.com"
# "Metrics Batch", Azure Monitor REST API reference: one endpoint per region, and one audience for all of them.
_MONITOR: Final = "metrics.monitor.azure.com"
_METRICS_VERSION: Final = "2024-02-01"
_BATCH_VERSION: Final = "2020-06-01"
_CONNECT_SECONDS: Final = 10
_BLOCK_BYTES: Final = 1 << 16
# Longer than a listing of a thousand instances takes.
_READ_SECONDS: Final = 60
# One try per call. azure-core would ask again ten times after 408, 429 and 5xx, and repeat a PUT after a lost connection; what is worth
# another try is known to the engine, which repeats with the same token.
_TRIES: Final = {"retry_total": 0, "retry_connect": 0, "retry_read": 0, "retry_status": 0}


def within(group: str | None, kind: str, name: str = "") -> str:
    """The path behind the subscription of a kind of resources ("Microsoft.Compute/disks"), or of one: in a group, or in all of them."""
    path = f"resourceGroups/{group}/providers/{kind}" if group else f"providers/{kind}"
    return f"{path}/{name}" if name else path


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
        self._endpoint = (settings.endpoint_url or _PUBLIC).rstrip("/")
        self._made: dict[str, Any] = {}
        self._credential: Any = None
        self._transport: Any = None
        self._pipelines: dict[str, Any] = {}

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

    # --- plain JSON ---------------------------------------------------------------------------------------------------

    def get(self, operation: str, place: Place, path: str, **query: str) -> dict[str, Any] | None:
        """One document, None where there is none.

        Read through the SDK's models, a listing costs many times as much, and half a second to import them. What signs and sends is the SDK's.

        Args:
            path: what stands in the URL behind the subscription; see `within`.
            query: the API's options; a leading "_" stands for its dollar sign.

        Raises:
            MulticomputeError: of the kind that the answer means.
        """
        return self._document(operation, place, self._url(path, query))

    def pages(self, operation: str, place: Place, path: str, **query: str) -> Iterator[dict[str, Any]]:
        """Everything in a list, to the last page; nothing where there is no such list. Arguments and errors are those of `get`."""
        url: str | None = self._url(path, query)
        while url:
            page = self._document(operation, place, url) or {}
            yield from page.get("value") or ()
            url = page.get("nextLink")

    def batch(
        self, operation: str, place: Place, requests: Sequence[Mapping[str, object]]
    ) -> Sequence[Mapping[str, Any]]:
        """What Resource Manager answers to several requests in one, each with a name and a status of its own.

        Raises:
            MulticomputeError: the whole was refused.
        """
        url = f"{self._endpoint}/batch?api-version={_BATCH_VERSION}"
        found = self._posted(operation, place, url, {"requests": requests}, self._endpoint)
        answers: Sequence[Mapping[str, Any]] = found.get("responses") or ()
        return answers

    def measured(
        self, operation: str, place: Place, document: Mapping[str, object], query: Mapping[str, str]
    ) -> dict[str, Any]:
        """What Azure Monitor, which has an endpoint in each region and tokens of its own, answers to a question about metrics.

        Raises:
            MulticomputeError: of the kind that the answer means.
        """
        # An endpoint of the user's stands for all of Azure.
        is_public = self._endpoint == _PUBLIC
        host = f"https://{place.region}.{_MONITOR}" if is_public else self._endpoint
        options = urlencode({"api-version": _METRICS_VERSION, **query}, quote_via=quote)
        url = f"{host}/subscriptions/{self.subscription}/metrics:getBatch?{options}"
        return self._posted(operation, place, url, document, f"https://{_MONITOR}")

    def _url(self, path: str, query: Mapping[str, str]) -> str:
        version = next(version for part, version in _VERSIONS if part in path)
        options = {"api-version": version, **{name.replace("_", "$", 1): text for name, text in query.items()}}
        return f"{self._endpoint}/subscriptions/{self.subscription}/{quote(path)}?{urlencode(options, quote_via=quote)}"

    def _document(self, operation: str, place: Place, url: str) -> dict[str, Any] | None:
        from azure.core.rest import HttpRequest

        try:
            return self._answer(operation, place, HttpRequest("GET", url), self._endpoint)
        except MulticomputeError as error:
            if is_gone(error.code):
                return None
            raise

    def _posted(
        self, operation: str, place: Place, url: str, document: Mapping[str, object], audience: str
    ) -> dict[str, Any]:
        from azure.core.rest import HttpRequest

        return self._answer(operation, place, HttpRequest("POST", url, json=document), audience)

    def _answer(self, operation: str, place: Place, request: "HttpRequest", audience: str) -> dict[str, Any]:
        with translate_errors(operation, place):
            body = self._send(request, audience)
        try:
            found = json.loads(body)
        except ValueError as error:
            raise retryable(f"{operation}: the answer is no JSON", "BadAnswer", place) from error
        return found if isinstance(found, dict) else {}

    # --- the SDK ------------------------------------------------------------------------------------------------------

    def _send(self, request: "HttpRequest", audience: str) -> bytes:
        from azure.core.exceptions import HttpResponseError

        # As a stream: else the pipeline takes the document apart for the SDK's models first.
        request.headers["Accept"] = "application/json"
        response = self._plain(audience).send_request(request, stream=True)
        body: bytes = response.read()
        if response.status_code != HTTPStatus.OK:
            raise HttpResponseError(response=response)
        return body

    def _plain(self, audience: str) -> "ARMPipelineClient[HttpRequest, HttpResponse]":
        def make() -> Any:
            from azure.mgmt.core import ARMPipelineClient

            return ARMPipelineClient(self._endpoint, policies=[], pipeline=self._pipeline(audience))

        client: ARMPipelineClient[HttpRequest, HttpResponse] = self._once(f"plain {audience}", make)
        return client

    def _client(self, name: str, make: Callable[..., Any]) -> Any:
        def made() -> Any:
            return make(
                self._authorised(), self.subscription, base_url=self._endpoint, pipeline=self._pipeline(self._endpoint)
            )

        with translate_errors(f"the {name} client", Place(self.settings.home_region)):
            return self._once(name, made)

    def _once(self, name: str, make: Callable[[], Any]) -> Any:
        if name not in self._made:
            with self._lock:
                if name not in self._made:
                    self._made[name] = make()
        return self._made[name]

    def _pipeline(self, audience: str) -> Any:
        """What every request goes through, with the connections that all share and the token that those to `audience` share.

        It is the SDK's own but for two policies: the one that registers a missing resource provider, which changes the subscription unasked and
        sleeps until that is through, however long it takes; and its log of requests, which `asking` keeps.
        """
        if audience not in self._pipelines:
            from azure.core.pipeline import Pipeline, policies

            steps = [
                policies.RequestIdPolicy(),
                policies.UserAgentPolicy("multicompute"),
                policies.ProxyPolicy(),
                policies.ContentDecodePolicy(),
                policies.RedirectPolicy(),
                policies.RetryPolicy(**_TRIES),
                self._signing(audience),
                policies.SensitiveHeaderCleanupPolicy(),
            ]
            self._pipelines[audience] = Pipeline(self._connections(), steps)
        return self._pipelines[audience]

    def _connections(self) -> Any:
        if self._transport is None:
            from azure.core.pipeline.transport import RequestsTransport

            self._transport = RequestsTransport(
                connection_timeout=_CONNECT_SECONDS,
                read_timeout=_READ_SECONDS,
                connection_data_block_size=_BLOCK_BYTES,
                # A proxy of the user's is for the world outside.
                use_env_settings=not is_loopback(self._endpoint),
            )
        return self._transport

    def _signing(self, audience: str) -> Any:
        if is_loopback(self._endpoint):
            from azure.core.pipeline.policies import SansIOHTTPPolicy

            # A local cloud does not ask who calls, and a token must not travel over plain http.
            return SansIOHTTPPolicy()
        from azure.mgmt.core.policies import ARMChallengeAuthenticationPolicy

        return ARMChallengeAuthenticationPolicy(self._authorised(), f"{audience}/.default")

    def _authorised(self) -> Any:
        if self._credential is None:
            if self.settings.is_local:
                self._credential = AnonymousCredential()
            else:
                from azure.identity import DefaultAzureCredential

                found = DefaultAzureCredential(additionally_allowed_tenants=["*"])
                self._credential = _InTenant(found, self.settings.tenant_id) if self.settings.tenant_id else found
        return self._credential


class AnonymousCredential:
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

"""The SDK's clients, made when first needed and shared by all threads; and reading Azure's answers as plain JSON."""

import json
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import quote, urlencode, urlsplit

from multicompute.clock import Clock
from multicompute.errors import AuthError, MulticomputeError
from multicompute.provider import Selector
from multicompute.provider_kit.call_log import note_request
from multicompute.provider_kit.calls import all_pages
from multicompute.provider_kit.endpoints import is_loopback
from multicompute.provider_kit.vendor_errors import Place, retryable
from multicompute_azure._credentials import AnonymousCredential, credential_of, is_local_authority
from multicompute_azure._errors import is_gone, translate_errors
from multicompute_azure._names import canonical
from multicompute_azure._operations import Operation, PendingOperations
from multicompute_azure._settings import AzureSettings

if TYPE_CHECKING:
    from azure.core.rest import HttpRequest, HttpResponse
    from azure.mgmt.compute import ComputeManagementClient
    from azure.mgmt.core import ARMPipelineClient
    from azure.mgmt.network import NetworkManagementClient
    from azure.mgmt.resource.resources import ResourceManagementClient

COMPUTE: Final = "Microsoft.Compute"
NETWORK: Final = "Microsoft.Network"
HEALTH: Final = "Microsoft.ResourceHealth"
# The API versions of plain reads. They are fixed, whichever version the installed SDK writes with, so the answers keep their form.
_VERSIONS: Final = (
    (f"providers/{COMPUTE}/skus", "2021-07-01"),
    (f"providers/{COMPUTE}/galleries", "2023-07-03"),
    (f"providers/{COMPUTE}/", "2024-07-01"),
    (f"providers/{NETWORK}/", "2024-05-01"),
    (f"providers/{HEALTH}/", "2025-05-01"),
    ("", "2024-03-01"),
)
# "Azure Retail Prices REST API overview": no authentication; public Azure only.
_PRICES: Final = "https://prices.azure.com"
_UNSIGNED: Final = ""
# The network provider answers for the parts of a Uniform scale set in this version only (the default of the SDK's functions for it).
_PARTS: Final = re.compile(r"/virtualMachineScaleSets/[^/]+/(networkInterfaces|publicipaddresses)$")
_PARTS_VERSION: Final = "2018-10-01"
_PUBLIC: Final = "https://management.azure.com"
# "Metrics Batch", Azure Monitor REST API reference: one endpoint per region, and one audience for all of them.
_MONITOR: Final = "metrics.monitor.azure.com"
_METRICS_VERSION: Final = "2024-02-01"
_SUBSCRIPTION_VERSION: Final = "2022-12-01"
_BATCH_VERSION: Final = "2020-06-01"
_CONNECT_SECONDS: Final = 10
_BLOCK_BYTES: Final = 1 << 16
# Longer than a listing of a thousand instances takes.
_READ_SECONDS: Final = 60
# One try per call. azure-core would repeat ten times after 408, 429 and 5xx, and repeat a PUT after a lost connection. The engine knows
# what is worth repeating, and repeats with the same token.
_TRIES: Final = {"retry_total": 0, "retry_connect": 0, "retry_read": 0, "retry_status": 0}


def path_of(group: str | None, kind: str, name: str = "") -> str:
    """Return the path, below the subscription, of a kind of resources ("Microsoft.Compute/disks") or of one resource.

    Args:
        group: The resource group, None for all groups.
        kind: The type of the resources.
        name: The name of the resource, "" for all of the kind.
    """
    path = f"resourceGroups/{group}/providers/{kind}" if group else f"providers/{kind}"
    return f"{path}/{name}" if name else path


class Clients:
    """The SDK's clients for one set of settings.

    Attributes:
        settings: The settings.
        subscription: The id of the subscription to work in.
        clock: The clock by which operations are waited for.
        step: How long to wait between two refreshes of an operation.
        launches: The operations of launches under way, by scale set.
        deletions: The deletions of resource groups under way, by group.
        instance_tokens: The tokens of instances of Uniform scale sets by their vmIds, which never change.
    """

    def __init__(self, settings: AzureSettings, clock: Clock, *, step: timedelta) -> None:
        subscription = settings.subscription
        if subscription is None:
            raise AuthError("azure: no subscription is named", provider="azure", hint="set AZURE_SUBSCRIPTION_ID")
        self.settings = settings
        self.subscription: str = subscription
        self.clock = clock
        self.step = step
        self.launches = PendingOperations()
        self.deletions = PendingOperations(has_result=True)
        self.instance_tokens: dict[str, str] = {}
        self._lock = threading.Lock()
        self._endpoint = settings.endpoint_url or _PUBLIC
        self._made: dict[str, Any] = {}
        self._credential: Any = None
        self._transport: Any = None
        self._pipelines: dict[str, Any] = {}

    @property
    def compute(self) -> "ComputeManagementClient":
        from azure.mgmt.compute import ComputeManagementClient

        return cast("ComputeManagementClient", self._client(ComputeManagementClient))

    @property
    def network(self) -> "NetworkManagementClient":
        from azure.mgmt.network import NetworkManagementClient

        return cast("NetworkManagementClient", self._client(NetworkManagementClient))

    @property
    def resources(self) -> "ResourceManagementClient":
        from azure.mgmt.resource.resources import ResourceManagementClient

        return cast("ResourceManagementClient", self._client(ResourceManagementClient))

    def operation(self) -> Operation:
        """Return the polling method for one long-running call, which the caller refreshes."""
        return Operation(timeout=self.step.total_seconds())

    def place_of(self, selector: Selector) -> Place:
        """Return the place to name in messages about what `selector` selects."""
        return Place("azure", selector.region or self.settings.home_region)

    def id_of(self, group: str, kind: str, name: str) -> str:
        """Return the id of a resource."""
        return f"/subscriptions/{self.subscription}/{path_of(group, kind, name)}"

    def canonical(self, resource_id: object) -> str:
        """Return a resource id from an answer in one spelling."""
        return canonical(str(resource_id), self.settings.resource_group)

    # --- plain JSON ---------------------------------------------------------------------------------------------------

    # Through the SDK's models a listing takes many times as long, and half a second to import them. The SDK still signs and sends.

    def find(self, operation: str, place: Place, path: str, **query: str) -> dict[str, Any] | None:
        """Return one document, or None if it does not exist.

        Args:
            operation: The name of the call, for messages.
            place: The place that the call is about.
            path: The path of the URL below the subscription; see `path_of`.
            query: The options of the call; a leading "_" stands for the API's dollar sign.

        Raises:
            MulticomputeError: The call failed, or was refused.
        """
        return self._document(operation, place, self._url(path, query))

    def find_by_id(self, operation: str, place: Place, resource_id: str) -> dict[str, Any] | None:
        """Return one document by its id, which may be in another subscription. Arguments and errors are those of `find`."""
        version = next(version for part, version in _VERSIONS if part in resource_id)
        return self._document(operation, place, f"{self._endpoint}{quote(resource_id)}?api-version={version}")

    def subscription_record(self, place: Place) -> dict[str, Any]:
        """Return what Resource Manager says of the subscription.

        Raises:
            MulticomputeError: The call failed, or was refused.
        """
        url = f"{self._endpoint}/subscriptions/{self.subscription}?api-version={_SUBSCRIPTION_VERSION}"
        return self._document("subscriptions.get", place, url) or {}

    def locations(self, place: Place) -> Sequence[Mapping[str, Any]]:
        """Return the locations that the subscription has.

        Raises:
            MulticomputeError: The call failed, or was refused.
        """
        url = f"{self._endpoint}/subscriptions/{self.subscription}/locations?api-version={_SUBSCRIPTION_VERSION}"
        found: Sequence[Mapping[str, Any]] = (
            self._answer("subscriptions.listLocations", place, self._get(url), self._endpoint).get("value") or ()
        )
        return found

    def list_all(self, operation: str, place: Place, path: str, **query: str) -> Iterator[dict[str, Any]]:
        """Yield the items of a listing to its last page, none if there is no such listing. Arguments and errors are those of `find`."""

        def fetch(url: str) -> tuple[Iterable[dict[str, Any]], str]:
            page = self._document(operation, place, url or self._url(path, query)) or {}
            return page.get("value") or (), page.get("nextLink") or ""

        return all_pages(fetch)

    def batch(
        self, operation: str, place: Place, requests: Sequence[Mapping[str, object]]
    ) -> Sequence[Mapping[str, Any]]:
        """Return Resource Manager's answers to several requests in one call, each with the request's name and a status.

        Raises:
            MulticomputeError: The call failed, or all requests were refused.
        """
        url = f"{self._endpoint}/batch?api-version={_BATCH_VERSION}"
        found = self._post(operation, place, url, {"requests": requests}, self._endpoint)
        answers: Sequence[Mapping[str, Any]] = found.get("responses") or ()
        return answers

    def metrics(
        self, operation: str, place: Place, document: Mapping[str, object], query: Mapping[str, str]
    ) -> dict[str, Any]:
        """Return Azure Monitor's answer to a batch query; it has an endpoint in each region, and tokens of its own.

        Raises:
            MulticomputeError: The call failed, or was refused.
        """
        # An endpoint of the user's replaces all of Azure's.
        is_public = self._endpoint == _PUBLIC
        host = f"https://{place.region}.{_MONITOR}" if is_public else self._endpoint
        options = urlencode({"api-version": _METRICS_VERSION, **query}, quote_via=quote)
        url = f"{host}/subscriptions/{self.subscription}/metrics:getBatch?{options}"
        return self._post(operation, place, url, document, f"https://{_MONITOR}")

    @property
    def prices_endpoint(self) -> str | None:
        """The endpoint of the Retail Prices API; None for a cloud of Azure's that is not in its list, such as the one in China."""
        if self.settings.prices_endpoint_url:
            return self.settings.prices_endpoint_url
        if self.settings.is_local:
            return self._endpoint
        return _PRICES if self._endpoint == _PUBLIC else None

    def price_rows(self, operation: str, place: Place, text: str) -> Iterator[dict[str, Any]]:
        """Yield the rows of the Retail Prices API that pass the filter `text`, to the last page. Nothing is signed.

        Raises:
            MulticomputeError: The call failed, or was refused, or the link to the next page leads to another host.
        """
        endpoint = self.prices_endpoint or _PRICES

        def fetch(url: str) -> tuple[Iterable[dict[str, Any]], str]:
            url = url or f"{endpoint}/api/retail/prices?{urlencode({'$filter': text}, quote_via=quote)}"
            if _host_of(url) != _host_of(endpoint):
                raise retryable(f"{operation}: the next page is on another host", code="BadAnswer", place=place)
            page = self._answer(operation, place, self._get(url), _UNSIGNED)
            return page.get("Items") or (), page.get("NextPageLink") or ""

        return all_pages(fetch)

    def _url(self, path: str, query: Mapping[str, str]) -> str:
        version = next(version for part, version in _VERSIONS if part in path)
        version = _PARTS_VERSION if _PARTS.search(path) else version
        options = {"api-version": version, **{name.replace("_", "$", 1): text for name, text in query.items()}}
        return f"{self._endpoint}/subscriptions/{self.subscription}/{quote(path)}?{urlencode(options, quote_via=quote)}"

    def _get(self, url: str) -> "HttpRequest":
        from azure.core.rest import HttpRequest

        return HttpRequest("GET", url)

    def _document(self, operation: str, place: Place, url: str) -> dict[str, Any] | None:
        try:
            return self._answer(operation, place, self._get(url), self._endpoint)
        except MulticomputeError as error:
            if is_gone(error.code):
                return None
            raise

    def _post(
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
            raise retryable(f"{operation}: the answer is not JSON", code="BadAnswer", place=place) from error
        if isinstance(found, list):
            # The listings of marketplace images have no envelope.
            return {"value": found}
        return found if isinstance(found, dict) else {}

    def _send(self, request: "HttpRequest", audience: str) -> bytes:
        from azure.core.exceptions import HttpResponseError

        # As a stream, because the pipeline would otherwise parse the document for the SDK's models first.
        request.headers["Accept"] = "application/json"
        response = self._plain_client(audience).send_request(request, stream=True)
        body: bytes = response.read()
        if response.status_code != HTTPStatus.OK:
            raise HttpResponseError(response=response)
        return body

    # --- the SDK ------------------------------------------------------------------------------------------------------

    def _plain_client(self, audience: str) -> "ARMPipelineClient[HttpRequest, HttpResponse]":
        def make() -> Any:
            from azure.mgmt.core import ARMPipelineClient

            return ARMPipelineClient(self._endpoint, policies=[], pipeline=self._pipeline(audience))

        client: ARMPipelineClient[HttpRequest, HttpResponse] = self._once(f"plain {audience}", make)
        return client

    def _client(self, kind: Any) -> Any:
        def make() -> Any:
            pipeline = self._pipeline(self._endpoint)
            return kind(self._authorized(), self.subscription, base_url=self._endpoint, pipeline=pipeline)

        with translate_errors(f"the {kind.__name__}", Place("azure", self.settings.home_region)):
            return self._once(kind.__name__, make)

    def renew(self) -> None:
        """Discard the credentials and all clients, so that the next call reads the credentials from their source again.

        The connections stay. Operations under way were begun with the old credentials and can't be refreshed with them.
        """
        with self._lock:
            self._made, self._pipelines, self._credential = {}, {}, None
            self.launches.abandon()
            self.deletions.abandon()

    def _once(self, name: str, make: Callable[[], Any]) -> Any:
        found = self._made.get(name)
        if found is None:
            with self._lock:
                found = self._made.get(name) or make()
                self._made[name] = found
        return found

    def _pipeline(self, audience: str) -> Any:
        """Return the pipeline of all requests that need a token for `audience`; all pipelines share their connections.

        It is the SDK's own without two policies: the one that registers a missing resource provider, which changes the subscription without
        being asked and sleeps until it has finished; and the log of requests, which `translate_errors` keeps.
        """
        found = self._pipelines.get(audience)
        if found is None:
            from azure.core.pipeline import Pipeline, policies

            steps = [
                policies.RequestIdPolicy(),
                policies.UserAgentPolicy("multicompute"),
                policies.ProxyPolicy(),
                policies.ContentDecodePolicy(),
                policies.RedirectPolicy(),
                policies.RetryPolicy(**_TRIES),
                policies.CustomHookPolicy(raw_response_hook=_note_request),
                *self._signing(audience),
                policies.SensitiveHeaderCleanupPolicy(),
            ]
            found = self._pipelines[audience] = Pipeline(self._connections(), steps)
        return found

    def _connections(self) -> Any:
        if self._transport is None:
            from azure.core.pipeline.transport import RequestsTransport

            self._transport = RequestsTransport(
                connection_timeout=_CONNECT_SECONDS,
                read_timeout=_READ_SECONDS,
                connection_data_block_size=_BLOCK_BYTES,
                # A local cloud is not behind the user's proxy.
                use_env_settings=not is_loopback(self._endpoint),
            )
        return self._transport

    def _signing(self, audience: str) -> list[Any]:
        """Return the policies that send a token, none for an audience that needs none. A local cloud gets one only if it has issued it, and needs none by default."""
        if audience == _UNSIGNED or (self.settings.is_local and not is_local_authority(self.settings)):
            return []
        from azure.core.pipeline.policies import CustomHookPolicy
        from azure.mgmt.core.policies import ARMChallengeAuthenticationPolicy

        # It also answers the challenges of continuous access evaluation: a 401 with claims for the next token.
        signing = ARMChallengeAuthenticationPolicy(self._authorized(), f"{audience}/.default")
        return [CustomHookPolicy(raw_request_hook=_allow_plain_http), signing] if self.settings.is_local else [signing]

    def _authorized(self) -> Any:
        if self._credential is None:
            self._credential = credential_of(self.settings, self._connections()) or AnonymousCredential()
        return self._credential


def _host_of(url: str) -> tuple[str, str, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or {"https": 443, "http": 80}.get(parts.scheme)


def _note_request(response: Any) -> None:
    note_request(response.http_response.headers.get("x-ms-request-id"))


def _allow_plain_http(request: Any) -> None:
    request.context.options["enforce_https"] = False

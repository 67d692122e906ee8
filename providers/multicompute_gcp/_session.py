"""The clients: the SDK's for calls that change something, and its HTTP session for reads as plain JSON.

`docs/design/gcp-client.md` gives the measurements behind this.
"""

import importlib
import threading
import warnings
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import parse_qs, quote, urlsplit

import google.auth
import requests
from google.api_core.client_options import ClientOptions
from google.auth.credentials import AnonymousCredentials, Credentials
from google.auth.transport.requests import AuthorizedSession

from multicompute.errors import AuthError
from multicompute.provider_kit.call_log import note_request
from multicompute.provider_kit.calls import all_pages
from multicompute.provider_kit.vendor_errors import Place, retryable
from multicompute_gcp._errors import answer_of_response, refusal, translate_errors
from multicompute_gcp._names import last_segment, region_of
from multicompute_gcp._settings import GcpSettings

if TYPE_CHECKING:
    from google.cloud.compute_v1 import (
        DisksClient,
        FirewallsClient,
        InstanceGroupManagerResizeRequestsClient,
        InstanceGroupManagersClient,
        InstancesClient,
        RegionInstanceTemplatesClient,
        ResourcePoliciesClient,
    )
    from google.cloud.tpu_v2 import TpuClient

_COMPUTE: Final = "https://compute.googleapis.com"
_TPU: Final = "https://tpu.googleapis.com"
_MONITORING: Final = "https://monitoring.googleapis.com"
_SCOPES: Final = ("https://www.googleapis.com/auth/cloud-platform",)
_TIMEOUT: Final = (10.0, 60.0)
_CONNECTIONS: Final = 32
# The largest page that Compute Engine gives; fewer pages, fewer calls.
PAGE: Final = 500
# Warnings in place of the items of a zone or region that mean that items may be missing. The usual warning says that there are none.
_INCOMPLETE: Final = ("UNREACHABLE", "PARTIAL_SUCCESS")
# One try per call: the engine knows what is worth repeating, and repeats with the same token.
CALL: Final[Mapping[str, Any]] = {"retry": None, "timeout": 60.0}


class Clients:
    """The clients for one set of settings, each made when it is first needed and shared by all threads."""

    def __init__(self, settings: GcpSettings) -> None:
        self.settings = settings
        self._lock = threading.RLock()
        self._clients: dict[str, Any] = {}
        self._http: AuthorizedSession | None = None
        self._credentials: Credentials | None = None
        self._project: str | None = settings.named_project
        self._zones: dict[str, tuple[str, ...]] = {}

    @property
    def project(self) -> str:
        """The project in which everything happens.

        Raises:
            AuthError: Neither the settings nor the credentials name one.
        """
        if self._project is None:
            self.credentials()
        if self._project is None:
            raise AuthError(
                "gcp: no project is named", provider="gcp", code="NoProject", hint="set GOOGLE_CLOUD_PROJECT"
            )
        return self._project

    def credentials(self) -> Credentials:
        """Return the credentials: the configured file, else the application default credentials; anonymous ones for a local cloud."""
        with self._lock:
            if self._credentials is None:
                self._credentials = self._find_credentials()
            return self._credentials

    def forget_credentials(self) -> None:
        """Discard the credentials and all clients that have them, so that the next call reads the credentials from their source again.

        The project stays: new credentials may name another one, but the resources that are known are in this one.
        """
        with self._lock:
            self._credentials, self._http = None, None
            self._clients.clear()

    def _find_credentials(self) -> Credentials:
        if self.settings.is_local and not self.settings.has_local_key:
            # google-auth has no annotations here and below.
            return AnonymousCredential()  # type: ignore[no-untyped-call] # google-auth has no annotations
        path = self.settings.credentials_path()
        with translate_errors("find credentials", Place("gcp")):
            if path is not None:
                with warnings.catch_warnings():
                    # The SDK warns, at length, of credential files from untrusted sources; the user has named this one.
                    warnings.simplefilter("ignore", DeprecationWarning)
                    found, project = google.auth.load_credentials_from_file(str(path), scopes=list(_SCOPES))  # type: ignore[no-untyped-call] # google-auth has no annotations
            else:
                found, project = google.auth.default(scopes=list(_SCOPES))
        self._project = self._project or project
        credentials: Credentials = found
        return credentials

    # --- the SDK's clients ------------------------------------------------------------------------------------------

    def instances(self) -> "InstancesClient":
        return cast("InstancesClient", self._compute("InstancesClient"))

    def disks(self) -> "DisksClient":
        return cast("DisksClient", self._compute("DisksClient"))

    def firewalls(self) -> "FirewallsClient":
        return cast("FirewallsClient", self._compute("FirewallsClient"))

    def policies(self) -> "ResourcePoliciesClient":
        return cast("ResourcePoliciesClient", self._compute("ResourcePoliciesClient"))

    def templates(self) -> "RegionInstanceTemplatesClient":
        return cast("RegionInstanceTemplatesClient", self._compute("RegionInstanceTemplatesClient"))

    def groups(self) -> "InstanceGroupManagersClient":
        return cast("InstanceGroupManagersClient", self._compute("InstanceGroupManagersClient"))

    def resize_requests(self) -> "InstanceGroupManagerResizeRequestsClient":
        name = "InstanceGroupManagerResizeRequestsClient"
        return cast("InstanceGroupManagerResizeRequestsClient", self._compute(name))

    def operations(self, scope: str) -> Any:
        """Return the client for the operations of a scope: "Zone", "Region" or "Global"."""
        return self._compute(f"{scope}OperationsClient")

    def tpu(self) -> "TpuClient":
        return cast("TpuClient", self._client("tpu_v2", "TpuClient", self.settings.tpu_endpoint or _TPU))

    def _compute(self, name: str) -> Any:
        return self._client("compute_v1", name, self.settings.endpoint_url or _COMPUTE)

    def _client(self, package: str, name: str, endpoint: str) -> Any:
        with self._lock:
            if name not in self._clients:
                # Importing compute_v1 takes over a second and 147 MB, which a process that only lists must not pay.
                make = getattr(importlib.import_module(f"google.cloud.{package}"), name)
                options = ClientOptions(api_endpoint=endpoint)
                client = make(credentials=self.credentials(), transport="rest", client_options=options)
                self._prepare(client.transport._session)
                self._clients[name] = client
            return self._clients[name]

    def _prepare(self, session: AuthorizedSession) -> AuthorizedSession:
        """Give an HTTP session enough connections for all threads; a local cloud is not behind the user's proxy."""
        adapter = requests.adapters.HTTPAdapter(pool_connections=_CONNECTIONS, pool_maxsize=_CONNECTIONS)
        session.mount("https://", adapter)
        session.mount("http://", adapter)
        session.hooks["response"].append(_note_request)
        if self.settings.is_local:
            session.trust_env = False
        return session

    # --- plain JSON -------------------------------------------------------------------------------------------------

    def session(self) -> AuthorizedSession:
        """Return the SDK's HTTP session, which signs requests with the credentials."""
        with self._lock:
            if self._http is None:
                self._http = self._prepare(AuthorizedSession(self.credentials()))  # type: ignore[no-untyped-call] # google-auth has no annotations
            return self._http

    def compute_url(self, *path: str, project: str = "") -> str:
        """Return the URL of a resource of a project, by default the own one, in Compute Engine; without a path, that of the project."""
        base = f"{self.settings.endpoint_url or _COMPUTE}/compute/v1/projects"
        return "/".join([base, *map(quote, (project or self.project, *path))])

    def url_of(self, path: str) -> str:
        """Return the URL of a resource of Compute Engine by its path, "projects/...", in whatever project."""
        return f"{self.settings.endpoint_url or _COMPUTE}/compute/v1/{quote(path)}"

    def tpu_name(self, zone: str, *path: str) -> str:
        """Return the name of a resource of the project in Cloud TPU, projects/PROJECT/locations/ZONE/...; zone "-" is every zone."""
        return "/".join(["projects", self.project, "locations", zone, *path])

    def tpu_url(self, name: str) -> str:
        """Return the URL of the resource of this name in Cloud TPU."""
        return f"{self.settings.tpu_endpoint or _TPU}/v2/{quote(name)}"

    def monitoring_url(self, *path: str) -> str:
        """Return the URL of a resource of the project in Cloud Monitoring; a local cloud serves it at the same endpoint."""
        base = self.settings.endpoint_url if self.settings.is_local else _MONITORING
        return "/".join([f"{base}/v3/projects/{quote(self.project)}", *map(quote, path)])

    def get(
        self, url: str, operation: str, place: Place, *, is_listing: bool = False, **parameters: str | int
    ) -> dict[str, Any] | None:
        """Return one answer as JSON, or None if no resource has this URL.

        For a listing, "not found" is an error: a listing always exists, and one that is not found does not prove that nothing is left
        (I4). The same holds for a 404 that has no code of Google's.
        """
        with translate_errors(operation, place):
            response: requests.Response = self.session().get(url, params=parameters, timeout=_TIMEOUT)
        if response.status_code >= 300:
            answer = answer_of_response(response)
            if response.status_code == 404 and not is_listing and answer.code:
                return None
            raise refusal(answer, operation, place)
        try:
            body = response.json()
        except ValueError as error:
            raise retryable(f"{operation}: the answer is not JSON", code="BadAnswer", place=place) from error
        return body if isinstance(body, dict) else {}

    def pages(self, url: str, operation: str, place: Place, **parameters: str | int) -> Iterator[dict[str, Any]]:
        """Yield the pages of a listing, to the last.

        Raises:
            TransientError: A zone or region of `place` could not be reached, so what is missing there may still exist (I4).
        """

        def fetch(token: str) -> tuple[list[dict[str, Any]], str]:
            more = {"pageToken": token} if token else {}
            page = self.get(url, operation, place, is_listing=True, **parameters, **more) or {}
            if missing := unreachable_in(page, place):
                raise retryable(f"{operation}: no answer from {', '.join(missing)}", code="Unreachable", place=place)
            return [page], str(page.get("nextPageToken") or "")

        return all_pages(fetch)

    def aggregated(
        self, kind: str, place: Place, *, project: str = "", **parameters: str | int
    ) -> list[dict[str, Any]]:
        """Return all resources of one kind in all zones or regions of a project, by default the own one, by one listing."""
        url, operation = self.compute_url("aggregated", kind, project=project), f"{kind}.aggregatedList"
        pages = self.pages(url, operation, place, maxResults=PAGE, **parameters)
        return [item for page in pages for scope in page.get("items", {}).values() for item in scope.get(kind, ())]

    def zones(self, region: str) -> tuple[str, ...]:
        """Return the zones of a region, which are read once."""
        if region not in self._zones:
            found = self.get(self.compute_url("regions", region), "regions.get", Place("gcp", region)) or {}
            self._zones[region] = tuple(sorted(last_segment(url) for url in found.get("zones", ())))
        return self._zones[region]


def unreachable_in(page: Mapping[str, Any], place: Place) -> list[str]:
    """Return the zones and regions of `place` that are missing from a page: the page names them, or has a warning in place of their items.

    An outage of another region must not block a teardown in this one.
    """
    named = {str(name) for name in page.get("unreachables") or page.get("unreachable") or ()}
    # A listing of one place has a list of items, a listing of all places an object by scope.
    scopes = page.get("items")
    for name, scope in scopes.items() if isinstance(scopes, dict) else ():
        if (scope.get("warning") or {}).get("code") in _INCOMPLETE:
            named.add(name)
    region = place.region
    return sorted(name for name in named if region in ("", last_segment(name), region_of(last_segment(name))))


class AnonymousCredential(AnonymousCredentials):
    """The credentials for a local cloud. After a 401 the SDK renews credentials and calls again; these can be renewed."""

    def refresh(self, request: Any) -> None:
        """Do nothing: there is no token. The SDK's own method would raise, and hide the answer of the cloud."""


def _note_request(response: requests.Response, **_: object) -> None:
    # Google gives ids to changes only, and these are the ones that the call itself has sent.
    for request_id in parse_qs(urlsplit(response.request.url or "").query).get("requestId", ()):
        note_request(str(request_id))

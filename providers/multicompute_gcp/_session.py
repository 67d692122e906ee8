"""Holds what talks to Google: the SDK's clients for calls that change something, and its HTTP session for listings as plain JSON.

`docs/design/gcp-client.md` tells with figures why there are two ways.
"""

import threading
import warnings
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import google.auth
import requests
from google.api_core.client_options import ClientOptions
from google.auth.credentials import AnonymousCredentials, Credentials
from google.auth.transport.requests import AuthorizedSession

from multicompute.errors import AuthError
from multicompute_gcp._access import COMPUTE, MONITORING, TPU, GcpSettings
from multicompute_gcp._errors import Place, refused, retryable, said_in, translate_errors
from multicompute_gcp._labels import last_of, region_of

if TYPE_CHECKING:
    from google.cloud.compute_v1 import (
        DisksClient,
        FirewallsClient,
        GlobalOperationsClient,
        InstancesClient,
        RegionOperationsClient,
        ResourcePoliciesClient,
        ZoneOperationsClient,
    )
    from google.cloud.tpu_v2 import TpuClient

_SCOPES: Final = ("https://www.googleapis.com/auth/cloud-platform",)
_TIMEOUT: Final = (10.0, 60.0)
POOL: Final = 32
# The largest page that Compute Engine gives; fewer pages, fewer calls.
PAGE: Final = 500
# Warnings that stand where a scope's items would be; the usual one says that there are none.
_NO_PROOF: Final = ("UNREACHABLE", "PARTIAL_SUCCESS")
# One answer per call: what is worth another try is known to the engine, which repeats with the same token.
CALL: Final[Mapping[str, Any]] = {"retry": None, "timeout": 60.0}


class Clients:
    """The clients for one set of settings, each made when it is first needed, shared by all threads."""

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
        """The project that everything happens in.

        Raises:
            AuthError: none is named anywhere.
        """
        if self._project is None:
            self.credentials()
        if self._project is None:
            raise AuthError(
                "gcp: no project is named", provider="gcp", code="NoProject", hint="set GOOGLE_CLOUD_PROJECT"
            )
        return self._project

    def credentials(self) -> Credentials:
        """Who asks: the configured file, else the application default credentials; nobody, of a local cloud."""
        with self._lock:
            if self._credentials is None:
                self._credentials = self._found()
            return self._credentials

    def _found(self) -> Credentials:
        if self.settings.is_local:
            return AnonymousCredential()  # type: ignore[no-untyped-call]
        path = self.settings.credentials_path()
        with translate_errors("find credentials", Place()):
            if path is not None:
                with warnings.catch_warnings():
                    # It warns, a page long, of files that come from strangers; this one the user has named.
                    warnings.simplefilter("ignore", DeprecationWarning)
                    found, project = google.auth.load_credentials_from_file(str(path), scopes=list(_SCOPES))  # type: ignore[no-untyped-call]
            else:
                found, project = google.auth.default(scopes=list(_SCOPES))
        self._project = self._project or project
        credentials: Credentials = found
        return credentials

    # --- the SDK's clients ------------------------------------------------------------------------------------------

    def instances(self) -> "InstancesClient":
        client: InstancesClient = self._compute("InstancesClient")
        return client

    def disks(self) -> "DisksClient":
        client: DisksClient = self._compute("DisksClient")
        return client

    def firewalls(self) -> "FirewallsClient":
        client: FirewallsClient = self._compute("FirewallsClient")
        return client

    def policies(self) -> "ResourcePoliciesClient":
        client: ResourcePoliciesClient = self._compute("ResourcePoliciesClient")
        return client

    def zone_operations(self) -> "ZoneOperationsClient":
        client: ZoneOperationsClient = self._compute("ZoneOperationsClient")
        return client

    def region_operations(self) -> "RegionOperationsClient":
        client: RegionOperationsClient = self._compute("RegionOperationsClient")
        return client

    def global_operations(self) -> "GlobalOperationsClient":
        client: GlobalOperationsClient = self._compute("GlobalOperationsClient")
        return client

    def tpu(self) -> "TpuClient":
        with self._lock:
            if "tpu" not in self._clients:
                from google.cloud import tpu_v2

                options = ClientOptions(api_endpoint=self.settings.tpu_endpoint_url or TPU)
                self._clients["tpu"] = tpu_v2.TpuClient(
                    credentials=self.credentials(), transport="rest", client_options=options
                )
                self._prepare(self._clients["tpu"])
            client: TpuClient = self._clients["tpu"]
            return client

    def _compute(self, name: str) -> Any:
        with self._lock:
            if name not in self._clients:
                # Over a second and 147 MB, which a process that only lists never pays.
                from google.cloud import compute_v1

                options = ClientOptions(api_endpoint=self.settings.endpoint_url or COMPUTE)
                made = getattr(compute_v1, name)(credentials=self.credentials(), client_options=options)
                self._prepare(made)
                self._clients[name] = made
            return self._clients[name]

    def _prepare(self, client: Any) -> None:
        """Give the client's own HTTP session room for our threads; a proxy of the user's is for the world outside."""
        _prepared(client.transport._session, is_local=self.settings.is_local)

    # --- plain JSON -------------------------------------------------------------------------------------------------

    def session(self) -> AuthorizedSession:
        """The SDK's HTTP session, signed in."""
        with self._lock:
            if self._http is None:
                made = AuthorizedSession(self.credentials())  # type: ignore[no-untyped-call]
                self._http = _prepared(made, is_local=self.settings.is_local)
            return self._http

    def compute_url(self, *path: str) -> str:
        """The URL of something of the project in Compute Engine."""
        base = self.settings.endpoint_url or COMPUTE
        return f"{base}/compute/v1/projects/{quote(self.project)}/" + "/".join(quote(part) for part in path)

    def tpu_url(self, zone: str, *path: str) -> str:
        """The URL of something of the project in Cloud TPU; zone "-" is every zone."""
        base = self.settings.tpu_endpoint_url or TPU
        return "/".join([f"{base}/v2/projects/{quote(self.project)}/locations/{quote(zone)}", *map(quote, path)])

    def monitoring_url(self, *path: str) -> str:
        """The URL of something of the project in Cloud Monitoring, which a local cloud has beside the rest."""
        base = self.settings.endpoint_url if self.settings.is_local else MONITORING
        return "/".join([f"{base}/v3/projects/{quote(self.project)}", *map(quote, path)])

    def get(
        self, url: str, operation: str, place: Place, *, is_listing: bool = False, **parameters: str | int
    ) -> dict[str, Any] | None:
        """One answer as JSON; None where there is nothing at this URL.

        Of a listing that is an error: an empty one is there, and is no proof of gone while the project can't be found (I4). So is a 404 that
        has no code of Google's.

        Raises:
            MulticomputeError: of the kind that the answer means.
        """
        with translate_errors(operation, place):
            response: requests.Response = self.session().get(url, params=parameters, timeout=_TIMEOUT)
        if response.status_code >= 300:
            said = said_in(response)
            if response.status_code == 404 and not is_listing and not said.code.isdigit():
                return None
            raise refused(said, operation=operation, place=place)
        try:
            body = response.json()
        except ValueError as error:
            raise retryable(f"{operation}: the answer is no JSON", code="BadAnswer", place=place) from error
        return body if isinstance(body, dict) else {}

    def pages(self, url: str, operation: str, place: Place, **parameters: str | int) -> Iterator[dict[str, Any]]:
        """The pages of a listing, to the last.

        Raises:
            TransientError: some part of it that `place` is about could not be reached: what is missing there is no proof of gone (I4).
            MulticomputeError: of the kind that the answer means.
        """
        more: dict[str, str | int] = {}
        while True:
            page = self.get(url, operation, place, is_listing=True, **parameters, **more) or {}
            missing = unreached(page, place)
            if missing:
                raise retryable(f"{operation}: no answer from {', '.join(missing)}", code="Unreachable", place=place)
            yield page
            if not page.get("nextPageToken"):
                return
            more = {"pageToken": page["nextPageToken"]}

    def aggregated(self, kind: str, place: Place, **parameters: str | int) -> list[dict[str, Any]]:
        """Everything of one kind in all zones, or regions: one listing, not one for each."""
        url, operation = self.compute_url("aggregated", kind), f"{kind}.aggregatedList"
        found: list[dict[str, Any]] = []
        for page in self.pages(url, operation, place, maxResults=PAGE, **parameters):
            for scope in page.get("items", {}).values():
                found += scope.get(kind, ())
        return found

    def zones(self, region: str) -> tuple[str, ...]:
        """The zones of a region, as Google tells once."""
        if region not in self._zones:
            found = self.get(self.compute_url("regions", region), "regions.get", Place(region)) or {}
            self._zones[region] = tuple(sorted(str(url).rpartition("/")[2] for url in found.get("zones", ())))
        return self._zones[region]


def unreached(page: Mapping[str, Any], place: Place) -> list[str]:
    """The zones and regions of `place` that a page says nothing about: named in the page, or in a warning where their items would be."""
    named = {str(name) for name in page.get("unreachables") or page.get("unreachable") or ()}
    # Listings of one place have a list of items, those of all places an object by scope.
    scopes = page.get("items")
    for name, scope in scopes.items() if isinstance(scopes, dict) else ():
        if (scope.get("warning") or {}).get("code") in _NO_PROOF:
            named.add(name)
    return sorted(name for name in named if _concerns(last_of(name), place.region))


def _concerns(zone_or_region: str, region: str) -> bool:
    """Whether what is missing there can be missed; another region's outage must not hold up this one's teardown."""
    return not region or zone_or_region == region or region_of(zone_or_region) == region


class AnonymousCredential(AnonymousCredentials):
    """Who asks a local cloud. One that answers 401 is asked again, as after a new token, and then believed."""

    def refresh(self, request: Any) -> None:
        """Nothing: there is no token. The SDK's own would raise, and hide what the cloud has said."""


def _prepared(session: AuthorizedSession, *, is_local: bool) -> AuthorizedSession:
    adapter = requests.adapters.HTTPAdapter(pool_connections=POOL, pool_maxsize=POOL)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    if is_local:
        session.trust_env = False
    return session

"""What `doctor` asks Google: whether the project is there, and whether the main rights are."""

from collections.abc import Callable

from multicompute.errors import MulticomputeError
from multicompute.provider import Check
from multicompute_gcp._errors import Place
from multicompute_gcp._session import Clients
from multicompute_gcp._tpu_discover import is_disabled


def checks(clients: Clients) -> tuple[Check, ...]:
    """All findings, in the order in which they matter; without a project the rest is not asked."""
    project = _finding("project", lambda: _project(clients))
    if not project.ok:
        return (project,)
    return (
        project,
        _finding("compute.instances.list", lambda: _listed(clients)),
        _finding("compute.networks.get", lambda: _network(clients)),
        _tpu(clients),
    )


def _finding(name: str, look: Callable[[], str]) -> Check:
    try:
        return Check(name, ok=True, detail=look())
    except MulticomputeError as error:
        return Check(name, ok=False, detail=error.message, hint=error.hint or "")


def _project(clients: Clients) -> str:
    found = clients.get(clients.compute_url("").rstrip("/"), "projects.get", Place())
    if found is None:
        raise MulticomputeError(
            f"gcp: there is no project {clients.project}", provider="gcp", hint="set GOOGLE_CLOUD_PROJECT"
        )
    return f"project {clients.project}"


def _listed(clients: Clients) -> str:
    url = clients.compute_url("aggregated", "instances")
    clients.get(url, "instances.aggregatedList", Place(), maxResults=1)
    return "allowed"


def _network(clients: Clients) -> str:
    """Whether the network that nodes are launched into is there: many organisations delete the default one."""
    settings = clients.settings
    if settings.subnetwork or "/" in (settings.network or ""):
        return "named in the settings"
    name = settings.network or "default"
    found = clients.get(clients.compute_url("global", "networks", name), "networks.get", Place())
    if found is None:
        raise MulticomputeError(
            f"gcp: there is no network {name} in {clients.project}", provider="gcp", hint="set [providers.gcp] network"
        )
    return f"network {name}"


def _tpu(clients: Clients) -> Check:
    """TPUs are not needed by everybody: an API that was never enabled is no fault."""
    name = "tpu.nodes.list"
    try:
        clients.get(clients.tpu_url("-", "nodes"), "nodes.list", Place(), pageSize=1)
    except MulticomputeError as error:
        if is_disabled(error.code):
            return Check(name, ok=True, detail="the TPU API is not enabled in the project; only needed for TPUs")
        return Check(name, ok=False, detail=error.message, hint=error.hint or "")
    return Check(name, ok=True, detail="allowed")

"""The checks of `doctor`: the project and the main permissions."""

from multicompute.errors import MulticomputeError
from multicompute.provider import Check
from multicompute.provider_kit.renewal import Renewal
from multicompute.provider_kit.seam import finding, optional_finding
from multicompute.provider_kit.vendor_errors import Place
from multicompute_gcp._errors import is_disabled
from multicompute_gcp._session import Clients
from multicompute_gcp.prices._current import CurrentPrices

_PLACE = Place("gcp")


def check(clients: Clients, prices: CurrentPrices, *, renewal: Renewal) -> tuple[Check, ...]:
    """Return all findings, the most important first; without a project the rest is not checked."""
    # Renewed here, because an error becomes a finding.
    project = finding("project", lambda: renewal.run(lambda: _project(clients)))
    if not project.ok:
        return (project,)
    return (
        project,
        finding("compute.instances.list", lambda: _instances(clients)),
        finding("compute.networks.get", lambda: _network(clients)),
        finding("tpu.nodes.list", lambda: _tpu(clients)),
        # A launch does without: it then takes the prices of the tables.
        optional_finding("services.skus.list", prices.probe, otherwise="not readable, so prices are not confirmed"),
    )


def _project(clients: Clients) -> str:
    if clients.get(clients.compute_url(), "projects.get", _PLACE) is None:
        raise MulticomputeError(
            f"gcp: the project {clients.project} does not exist", provider="gcp", hint="set GOOGLE_CLOUD_PROJECT"
        )
    return f"project {clients.project}"


def _instances(clients: Clients) -> str:
    clients.get(clients.compute_url("aggregated", "instances"), "instances.aggregatedList", _PLACE, maxResults=1)
    return "allowed"


def _network(clients: Clients) -> str:
    """Check that the network of the nodes exists: many organisations delete the default one."""
    settings = clients.settings
    if settings.subnetwork or "/" in (settings.network or ""):
        return "named in the settings"
    name = settings.network or "default"
    if clients.get(clients.compute_url("global", "networks", name), "networks.get", _PLACE) is None:
        raise MulticomputeError(
            f"gcp: the project {clients.project} has no network {name}",
            provider="gcp",
            hint="set [providers.gcp] network",
        )
    return f"network {name}"


def _tpu(clients: Clients) -> str:
    """Check the TPU API, which is only needed for TPUs: it passes where the API was never enabled."""
    try:
        clients.get(clients.tpu_url(clients.tpu_name("-", "nodes")), "nodes.list", _PLACE, pageSize=1)
    except MulticomputeError as error:
        if not is_disabled(error):
            raise
        return "the TPU API is not enabled in the project; it is only needed for TPUs"
    return "allowed"

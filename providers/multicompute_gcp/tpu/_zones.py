"""Reads which zones have TPUs, and which slice types they sell to this project."""

from collections.abc import Callable

from multicompute.errors import CapacityError
from multicompute.provider_kit.vendor_errors import Place
from multicompute_gcp._session import Clients


def _nothing() -> None:
    """Do nothing, where pages are not counted."""


def zones(clients: Clients, place: Place, *, on_page: Callable[[], object] = _nothing) -> list[str]:
    """Return the zones of all regions that have TPUs, sorted; some of them may sell none to this project. `on_page` is called for each page."""
    url = clients.tpu_url(f"projects/{clients.project}/locations")
    found = []
    for page in clients.pages(url, "locations.list", place):
        on_page()
        found += [str(item.get("locationId")) for item in page.get("locations", ())]
    return sorted(found)


def slice_types(
    clients: Clients, zone: str, place: Place, *, on_page: Callable[[], object] = _nothing
) -> frozenset[str]:
    """Return the slice types that a zone sells to this project, which may be none. `on_page` is called for each page."""
    url = clients.tpu_url(clients.tpu_name(zone, "acceleratorTypes"))
    found: set[str] = set()
    try:
        for page in clients.pages(url, "acceleratorTypes.list", place):
            on_page()
            found |= {str(item.get("type")) for item in page.get("acceleratorTypes", ())}
    except CapacityError as error:
        # "Location us-east1-d is not found or access is unauthorized" (https://github.com/dstackai/gpuhunt/issues/98).
        if error.is_offered:
            raise
        return frozenset()
    return frozenset(found)

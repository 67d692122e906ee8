"""Reads which zones have TPUs, and which slice types they sell to this project."""

from multicompute.errors import CapacityError
from multicompute.provider_kit.vendor_errors import Place
from multicompute_gcp._session import Clients


def zones(clients: Clients, place: Place) -> list[str]:
    """Return the zones of all regions that have TPUs, sorted; some of them may sell none to this project."""
    url = clients.tpu_url(f"projects/{clients.project}/locations")
    listed = clients.pages(url, "locations.list", place)
    return sorted(str(item.get("locationId")) for page in listed for item in page.get("locations", ()))


def slice_types(clients: Clients, zone: str, place: Place) -> frozenset[str]:
    """Return the slice types that a zone sells to this project, which may be none."""
    url = clients.tpu_url(clients.tpu_name(zone, "acceleratorTypes"))
    try:
        pages = list(clients.pages(url, "acceleratorTypes.list", place))
    except CapacityError as error:
        # "Location us-east1-d is not found or access is unauthorized" (https://github.com/dstackai/gpuhunt/issues/98).
        if error.is_offered:
            raise
        return frozenset()
    return frozenset(str(item.get("type")) for page in pages for item in page.get("acceleratorTypes", ()))

"""Reads which regions, zones and instance types the account can use."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, Final, TypeVar

from multicompute.errors import AccessDeniedError, AuthError, MulticomputeError
from multicompute.provider import Availability
from multicompute.provider_kit.vendor_errors import Place
from multicompute_aws._errors import translate_errors
from multicompute_aws._session import Clients

Part = TypeVar("Part")

# The most that one page may have (DITOMaxResults in the service model); the accelerated families of us-east-1 have some 400 offerings.
_PAGE: Final = 1000
_BY_ORGANISATION: Final = "explicit deny in a service control policy"
# The families with accelerators; no other name of a family begins with these letters. EC2's filters accept wildcards:
# https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_Filtering.html
_ACCELERATED: Final = ("p*", "g*", "trn*", "inf*", "dl*", "f*", "vt*")


def availability(clients: Clients, region: str) -> Availability:
    """Return what the account can use in `region`, see `Provider.availability`."""
    refused = ""
    notes: list[str] = []
    try:
        refused = clients.why_not(region)
    except AuthError:
        raise
    except MulticomputeError as error:
        notes.append(f"aws: whether the account has enabled {region} could not be read: {error.message}")
    if refused:
        return Availability(region, refused)
    place = Place("aws", region)
    denials: list[AccessDeniedError] = []

    def read(what: str, call: Callable[[], Part]) -> Part | None:
        try:
            with clients.refusal_of_region(region):
                return call()
        except AccessDeniedError as error:
            denials.append(error)
            notes.append(f"{place}: {what} could not be read: {error.message}")
        except AuthError:
            raise
        except MulticomputeError as error:
            notes.append(f"{place}: {what} could not be read: {error.message}")
        return None

    zones = read("zones", lambda: _zones(clients, place))
    offered = read("the instance types that are sold", lambda: _offered(clients, place))
    if refused := _refusal(denials):
        return Availability(region, refused)
    if offered is not None and zones is not None:
        # Local Zones and Wavelength Zones are no availability zones, and the account opts in to each.
        offered = {name: tuple(zone for zone in sold if zone in zones.values()) for name, sold in offered.items()}
    return Availability(region, zones=zones, offered=offered, notes=tuple(notes))


def _refusal(denials: Sequence[AccessDeniedError]) -> str:
    """Return why the region refuses every call, "" if it does not; a denial of single actions is no such reason."""
    if any(error.code == "OptInRequired" for error in denials):
        return "not enabled in this account"
    messages = [error.vendor_message or "" for error in denials]
    if len(denials) > 1 and all(_BY_ORGANISATION in message for message in messages):
        return "denied by a service control policy of the organisation"
    if any(error.code in ("AuthFailure", "UnrecognizedClientException") for error in denials):
        return "the region does not accept the account's credentials"
    return ""


def _zones(clients: Clients, place: Place) -> Mapping[str, str]:
    """Return zone id -> the zone's name in this account.

    The names of one account are not those of another: https://docs.aws.amazon.com/ram/latest/userguide/working-with-az-ids.html
    """
    with translate_errors("DescribeAvailabilityZones", place):
        answer = clients.ec2(place.region).describe_availability_zones()
    return {
        item["ZoneId"]: item["ZoneName"]
        for item in answer["AvailabilityZones"]
        if item.get("ZoneType", "availability-zone") == "availability-zone" and item.get("State") != "unavailable"
    }


def _offered(clients: Clients, place: Place) -> Mapping[str, tuple[str, ...]]:
    """Return instance type -> the zones that sell it, of the types with accelerators."""
    found = _zones_by_type(_offerings(clients, place, [{"Name": "instance-type", "Values": list(_ACCELERATED)}]))
    # No region is known that sells no accelerators, so an empty answer is checked without the filter.
    return found or _zones_by_type(_offerings(clients, place, []))


def _offerings(clients: Clients, place: Place, filters: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """Yield the instance type and the zone of every offering."""
    call: dict[str, Any] = {"LocationType": "availability-zone", **({"Filters": filters} if filters else {})}
    with translate_errors("DescribeInstanceTypeOfferings", place):
        paginator = clients.ec2(place.region).get_paginator("describe_instance_type_offerings")
        for page in paginator.paginate(**call, PaginationConfig={"PageSize": _PAGE}):
            for item in page["InstanceTypeOfferings"]:
                yield item["InstanceType"], item["Location"]


def _zones_by_type(offerings: Iterable[tuple[str, str]]) -> Mapping[str, tuple[str, ...]]:
    zones: dict[str, set[str]] = {}
    for instance_type, zone in offerings:
        if any(fnmatchcase(instance_type, glob) for glob in _ACCELERATED):
            zones.setdefault(instance_type, set()).add(zone)
    return {instance_type: tuple(sorted(found)) for instance_type, found in sorted(zones.items())}

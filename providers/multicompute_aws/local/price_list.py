"""The local price list: products of EC2 with their on-demand and reserved terms, and those that could pass for the price of a machine.

The attributes and codes are those of rows that were copied from the live files (scttfrdmn/substrate, emulator/pricing_offer_fixture*.go);
the prices are those of the packaged tables, or the ones of a test.
"""

import base64
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from multicompute_aws.local.wire import AwsError

ENDPOINTS = ("us-east-1", "eu-central-1", "ap-south-1")
"""The regions with an endpoint of the service."""
EFFECTIVE = "2026-06-01T00:00:00Z"
PUBLISHED = "2026-11-20T12:00:00Z"
_MOST = 100
_TERM, _RATE = "JRTCKXETXF", "6YS6EN2CT7"
_MACHINE, _BARE_METAL = "Compute Instance", "Compute Instance (bare metal)"
# Listed as dedicated hardware only.
_DEDICATED_ONLY = frozenset({"g5g.metal"})
# A local zone of the region is a region of its own in the list.
_LOCAL_ZONES = {
    "us-west-2": ("us-west-2-lax-1", "AWS Local Zone"),
    "us-east-1": ("us-east-1-wl1-bos1", "AWS Wavelength Zone"),
}


@dataclass(frozen=True, slots=True)
class Product:
    """A product of the list; `hourly` is None if it has no on-demand term."""

    attributes: Mapping[str, str]
    hourly: float | None
    family: str = _MACHINE
    reserved: bool = False
    term: str = _TERM

    @property
    def sku(self) -> str:
        """Its number in the list."""
        text = json.dumps([self.family, *sorted(self.attributes.items())])
        return base64.b32encode(hashlib.sha256(text.encode()).digest())[:16].decode()


def products(instance_type: str, region: str, hourly: float | None) -> Iterator[Product]:
    """Yield the products of an instance type in a region.

    Args:
        instance_type: The instance type.
        region: The region.
        hourly: Its on-demand price; None if it is sold through capacity blocks only.
    """
    plain = {
        "instanceType": instance_type,
        "regionCode": region,
        "location": f"Location of {region}",
        "locationType": "AWS Region",
        "operatingSystem": "Linux",
        "tenancy": "Shared",
        "preInstalledSw": "NA",
        "capacitystatus": "Used",
        "licenseModel": "No License required",
        "marketoption": "OnDemand",
        "operation": "RunInstances",
        "servicecode": "AmazonEC2",
        "servicename": "Amazon Elastic Compute Cloud",
        "usagetype": f"BoxUsage:{instance_type}",
    }
    if instance_type.startswith(("p", "trn")):
        yield Product({**plain, "marketoption": "CapacityBlock", "operation": "RunInstances:CB"}, 0.0)
    if hourly is None:
        return
    family = _BARE_METAL if ".metal" in instance_type else _MACHINE
    if instance_type not in _DEDICATED_ONLY:
        true = Product(plain, hourly, family, reserved=True)
        yield true
        yield Product(
            {
                **plain,
                "capacitystatus": "UnusedCapacityReservation",
                "usagetype": f"UnusedBox:{instance_type}",
                "instancesku": true.sku,
            },
            hourly,
            family,
        )
    yield Product(
        {**plain, "capacitystatus": "AllocatedCapacityReservation", "usagetype": f"Reservation:{instance_type}"},
        0.0,
        family,
    )
    yield Product(
        {**plain, "tenancy": "Dedicated", "usagetype": f"DedicatedUsage:{instance_type}"},
        hourly * _dearer(family),
        family,
    )
    yield Product({**plain, "tenancy": "Host", "usagetype": f"HostBoxUsage:{instance_type}"}, 0.0, family)
    yield from _systems(plain, hourly, family)
    if region in _LOCAL_ZONES:
        code, kind = _LOCAL_ZONES[region]
        yield Product(
            {**plain, "regionCode": code, "locationType": kind, "usagetype": f"{code}-BoxUsage"}, hourly * 1.2, family
        )


def local_zones(region: str) -> Sequence[str]:
    """Return the codes that the list has for the local zones and wavelength zones of a region."""
    return [_LOCAL_ZONES[region][0]] if region in _LOCAL_ZONES else []


def _dearer(family: str) -> float:
    return 1.0 if family == _BARE_METAL else 1.06


def _systems(plain: Mapping[str, str], hourly: float, family: str) -> Iterator[Product]:
    """Yield the machine with other systems and software, some of it at the price of Linux."""
    windows = {"operatingSystem": "Windows"}
    yield Product({**plain, **windows, "operation": "RunInstances:0002"}, hourly * 1.4, family)
    yield Product({**plain, **windows, "operation": "RunInstances:0002:box"}, hourly, family)
    yield Product(
        {**plain, **windows, "operation": "RunInstances:0800", "licenseModel": "Bring your own license"}, hourly, family
    )
    yield Product({**plain, "preInstalledSw": "SQL Std", "operation": "RunInstances:0004"}, hourly * 1.5, family)
    for system, code in (("RHEL", "0010"), ("SUSE", "000g"), ("Ubuntu Pro", "0g00")):
        yield Product({**plain, "operatingSystem": system, "operation": f"RunInstances:{code}"}, hourly * 1.1, family)


def free_tier() -> Product:
    """Return the pseudo product of the free tier, which names no instance type and no region."""
    return Product(
        {
            "regionCode": "",
            "location": "Any",
            "operatingSystem": "Linux",
            "tenancy": "Shared",
            "preInstalledSw": "NA",
            "capacitystatus": "Used",
            "servicecode": "AmazonEC2",
            "usagetype": "Global-BoxUsage:freetier.micro",
        },
        0.0,
        term="JRTCKXETXG",
    )


def document(product: Product) -> str:
    """Return a product as the service sends it."""
    sku = product.sku
    terms: dict[str, Any] = {}
    if product.hourly is not None:
        terms["OnDemand"] = {f"{sku}.{product.term}": _term(sku, product.term, product.hourly)}
    if product.reserved and product.hourly:
        # Paid upfront for a year: an hourly rate of 0.
        upfront = _term(sku, "6QCMYABX3D", 0.0, {"LeaseContractLength": "1yr", "PurchaseOption": "All Upfront"})
        upfront["priceDimensions"][f"{sku}.6QCMYABX3D.2TG2D8R56U"] = _rate(sku, "Quantity", product.hourly * 5000)
        without = _term(
            sku, "4NA7Y494T4", product.hourly * 0.6, {"LeaseContractLength": "1yr", "PurchaseOption": "No Upfront"}
        )
        terms["Reserved"] = {f"{sku}.6QCMYABX3D": upfront, f"{sku}.4NA7Y494T4": without}
    described = {"productFamily": product.family, "attributes": product.attributes, "sku": sku}
    return json.dumps(
        {
            "product": described,
            "serviceCode": "AmazonEC2",
            "terms": terms,
            "version": "20261120120000",
            "publicationDate": PUBLISHED,
        }
    )


def _term(sku: str, code: str, hourly: float, attributes: Mapping[str, str] | None = None) -> dict[str, Any]:
    return {
        "priceDimensions": {f"{sku}.{code}.{_RATE}": _rate(sku, "Hrs", hourly)},
        "sku": sku,
        "effectiveDate": EFFECTIVE,
        "offerTermCode": code,
        "termAttributes": dict(attributes or {}),
    }


def _rate(sku: str, unit: str, amount: float) -> dict[str, Any]:
    return {
        "unit": unit,
        "beginRange": "0",
        "endRange": "Inf",
        "description": f"${amount:.4f} per {unit}",
        "appliesTo": [],
        "rateCode": f"{sku}.{_TERM}.{_RATE}",
        "pricePerUnit": {"USD": f"{amount:.10f}"},
    }


_TESTS: Mapping[str, Callable[[str, str], bool]] = {
    "TERM_MATCH": lambda found, value: found == value,
    "EQUALS": lambda found, value: found == value,
    "CONTAINS": lambda found, value: value in found,
    "ANY_OF": lambda found, value: found in value.split(","),
    "NONE_OF": lambda found, value: found not in value.split(","),
}


def matches(product: Product, filters: Sequence[Mapping[str, str]]) -> bool:
    """Return whether a product has what all filters ask for; filters see the attributes of products, not those of terms."""
    seen = {**product.attributes, "productFamily": product.family, "serviceCode": "AmazonEC2", "sku": ""}
    return all(
        entry["Field"] in seen and _TESTS[entry["Type"]](seen[entry["Field"]], entry["Value"]) for entry in filters
    )


def narrowed(values: Iterable[str], field: str, filters: Sequence[Mapping[str, str]]) -> list[str]:
    """Return the values of an attribute that the filters on it let through."""
    tests = [entry for entry in filters if entry["Field"] == field]
    return [value for value in values if all(_TESTS[entry["Type"]](value, entry["Value"]) for entry in tests)]


def page(found: Iterable[Product], params: Mapping[str, Any]) -> dict[str, Any]:
    """Return a page of the products.

    Raises:
        AwsError: The token is not one of this service.
    """
    start = _start(params.get("NextToken"))
    size = int(params.get("MaxResults") or _MOST)
    listed = list(found)
    answer: dict[str, Any] = {
        "FormatVersion": "aws_v1",
        "PriceList": [document(product) for product in listed[start : start + size]],
    }
    if start + size < len(listed):
        answer["NextToken"] = base64.b64encode(f"page {start + size}".encode()).decode()
    return answer


def _start(token: str | None) -> int:
    if not token:
        return 0
    try:
        word, _, number = base64.b64decode(token, validate=True).decode().partition(" ")
        if word == "page":
            return int(number)
    except ValueError:
        pass
    raise AwsError(
        "InvalidNextTokenException", "The pagination token is invalid. Try again without a pagination token."
    )

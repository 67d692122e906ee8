"""Rows of the AWS price list: the filters of a query, and which rows are the on-demand price of a Linux machine.

The list has dozens of rows for each instance type and region, and several of them pass for the price: at $0, at the price of
dedicated hardware, or at the price of another system. The service filters, and every row is checked here again.
"""

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

# What the row of a plain Linux machine has. `capacitystatus` excludes "UnusedCapacityReservation" and "AllocatedCapacityReservation".
# aws/karpenter-provider-aws, pkg/providers/pricing/pricing.go, asks with these filters and with `marketoption`, which excludes the $0
# rows of capacity blocks. Here these rows are read and left out: where they come, the list has answered, and the type is not sold on demand.
_LINUX: Final[Mapping[str, str]] = {
    "operatingSystem": "Linux",
    "preInstalledSw": "NA",
    "capacitystatus": "Used",
}
# Attributes that only some rows have; another value than this one means another product. The operation of Linux is "RunInstances"
# alone: RHEL, SUSE, SQL Server, capacity blocks (":CB") and boxes have a suffix ("AMI billing information fields", EC2 user guide).
_IF_PRESENT: Final[Mapping[str, str]] = {
    "marketoption": "OnDemand",
    "operation": "RunInstances",
    "locationType": "AWS Region",
    "licenseModel": "No License required",
    "servicecode": "AmazonEC2",
}
_MACHINE: Final = "Compute Instance"
_BARE_METAL: Final = "Compute Instance (bare metal)"
# The codes of the term and of the hourly rate are the same in all products; a free-tier pseudo product has another term code.
_ON_DEMAND_TERM: Final = "JRTCKXETXF"
# The largest value of a filter, by the model of the service (shape Value).
_LONGEST_VALUE: Final = 1024


class UnreadableRowError(ValueError):
    """A row that should have a price which can't be read; the text says what is wrong, with the SKU."""

    def __init__(self, problem: str, sku: str, instance_type: str = "", region: str = "") -> None:
        """Store what is wrong and which type and region it is about."""
        self.problem = problem
        self.row = f"{instance_type or 'an unknown type'} in {region or 'an unknown region'} (SKU {sku or 'unknown'})"
        super().__init__(f"{problem}: {self.row}")
        self.instance_type = instance_type
        self.region = region


@dataclass(frozen=True, slots=True)
class Row:
    """An on-demand price of the list in USD per hour; `is_dedicated` for bare metal that is listed as dedicated hardware only."""

    instance_type: str
    region: str
    hourly_cost: float
    sku: str
    is_dedicated: bool = False


def filters(regions: Collection[str], types: Collection[str], *, dedicated: bool = False) -> list[dict[str, str]]:
    """Return the filters of GetProducts for the on-demand prices of Linux machines.

    Args:
        regions: The codes of the regions.
        types: The instance types, empty for all.
        dedicated: Whether to ask for the bare metal machines that are listed as dedicated hardware.
    """
    wanted = {**_LINUX, "tenancy": "Dedicated" if dedicated else "Shared"}
    if dedicated:
        wanted["productFamily"] = _BARE_METAL
    found = [{"Type": "TERM_MATCH", "Field": name, "Value": value} for name, value in wanted.items()]
    found.append(_any_of("regionCode", regions))
    return [*found, _any_of("instanceType", types)] if types else found


def _any_of(field: str, values: Collection[str]) -> dict[str, str]:
    # FilterType ANY_OF takes a list with commas; botocore data/pricing/2017-10-15. TERM_MATCH is what every reader uses.
    kind = "ANY_OF" if len(values) > 1 else "TERM_MATCH"
    return {"Type": kind, "Field": field, "Value": ",".join(sorted(values))}


def value_batches(values: Sequence[str]) -> list[list[str]]:
    """Split values into lists that fit into one filter each."""
    found: list[list[str]] = []
    length = _LONGEST_VALUE + 1
    for value in values:
        length += len(value) + 1
        if length > _LONGEST_VALUE:
            found.append([])
            length = len(value)
        found[-1].append(value)
    return found


def read_row(entry: Mapping[str, Any], now: datetime) -> Row | None:
    """Return the price of a row; None if it is the price of something else, or no price.

    Raises:
        UnreadableRowError: It is a row of a Linux machine, and its price is not understood.
    """
    product = entry.get("product")
    attributes = product.get("attributes") if isinstance(product, Mapping) else None
    if not isinstance(product, Mapping) or not isinstance(attributes, Mapping):
        raise UnreadableRowError("rows of the price list without a product", "")
    name, region, sku = attributes.get("instanceType"), attributes.get("regionCode"), str(product.get("sku") or "")
    is_dedicated = attributes.get("tenancy") == "Dedicated" and product.get("productFamily") == _BARE_METAL
    if not name or not _is_linux(product, attributes, is_dedicated=is_dedicated):
        return None
    if not region:
        raise UnreadableRowError("rows of the price list without a region", sku, str(name))
    try:
        price = _hourly(entry.get("terms"), now)
    except (ValueError, TypeError, AttributeError) as error:
        problem = f"prices that are not understood: {error}"
        raise UnreadableRowError(problem, sku, str(name), str(region)) from error
    return Row(str(name), str(region), price, sku, is_dedicated) if price else None


def prices_of(rows: Iterable[Row]) -> tuple[dict[tuple[str, str], float], list[Row]]:
    """Return (type, region) -> its price, and one row of each type and region that has several prices.

    A bare metal machine that is listed as shared hardware, too, costs what that row says.
    """
    found: dict[tuple[str, str], dict[float, Row]] = defaultdict(dict)
    dedicated: dict[tuple[str, str], dict[float, Row]] = defaultdict(dict)
    for row in rows:
        (dedicated if row.is_dedicated else found)[row.instance_type, row.region][row.hourly_cost] = row
    found |= {key: prices for key, prices in dedicated.items() if key not in found}
    unclear = [max(prices.values(), key=lambda row: row.sku) for prices in found.values() if len(prices) > 1]
    return {key: next(iter(prices)) for key, prices in found.items() if len(prices) == 1}, unclear


def region_of(entry: Mapping[str, Any]) -> str:
    """Return the region that a row is about, whatever it prices; "" if it names none."""
    product = entry.get("product")
    attributes = product.get("attributes") if isinstance(product, Mapping) else None
    return str(attributes.get("regionCode") or "") if isinstance(attributes, Mapping) else ""


def parsed(item: object) -> Mapping[str, Any]:
    """Return the object of a row, which the service sends as a string.

    Raises:
        UnreadableRowError: It is no object in JSON.
    """
    if isinstance(item, str):
        try:
            item = json.loads(item)
        except ValueError as error:
            raise UnreadableRowError("rows of the price list that are no JSON", "") from error
    if not isinstance(item, Mapping):
        raise UnreadableRowError("rows of the price list that are no object", "")
    return item


def _is_linux(product: Mapping[str, Any], attributes: Mapping[str, Any], *, is_dedicated: bool) -> bool:
    return (
        product.get("productFamily", _MACHINE) in (_MACHINE, _BARE_METAL)
        and (attributes.get("tenancy") == "Shared" or is_dedicated)
        and all(attributes.get(name) == value for name, value in _LINUX.items())
        and all(attributes.get(name, value) in (value, "") for name, value in _IF_PRESENT.items())
    )


def _hourly(terms: Any, now: datetime) -> float:
    """Return the hourly price of the on-demand terms of a product, 0 for none; its reserved terms are in another branch.

    Raises:
        ValueError: There are several prices, or none in USD.
    """
    terms = (terms or {}).get("OnDemand") or {}
    found = [term for key, term in terms.items() if _is_standard(key, term)] or list(terms.values())
    begun = [(instant, term) for term in found if (instant := _begins(term)) is None or instant <= now]
    if begun:
        # "effectiveDate" is when the price of a term began: of several, the latest that has begun holds.
        latest = max((instant for instant, _ in begun if instant is not None), default=None)
        found = [term for instant, term in begun if instant == latest]
    elif found:
        return 0.0
    prices = {price for term in found for price in _rates(term)}
    if len(prices) > 1:
        raise ValueError(f"it has {len(prices)} prices")
    if found and not prices:
        raise ValueError("it has no hourly rate")
    return prices.pop() if prices else 0.0


def _is_standard(key: str, term: Mapping[str, Any]) -> bool:
    code = term.get("offerTermCode") or (key.split(".")[1] if key.count(".") == 1 else "")
    return code in ("", _ON_DEMAND_TERM)


def _begins(term: Mapping[str, Any]) -> datetime | None:
    said = term.get("effectiveDate")
    if not said:
        return None
    instant = datetime.fromisoformat(str(said))
    if instant.tzinfo is None:
        raise ValueError(f"its date {said} has no time zone")
    return instant


def _rates(term: Mapping[str, Any]) -> list[float]:
    """Return the hourly rates of a term, without volume tiers."""
    found = []
    for dimension in (term.get("priceDimensions") or {}).values():
        if str(dimension.get("unit", "")).casefold() not in ("hrs", "hours", "hour"):
            continue
        if float(dimension.get("beginRange") or 0) > 0:
            continue
        amounts = dimension.get("pricePerUnit") or {}
        if "USD" not in amounts:
            raise ValueError(f"it is in {', '.join(sorted(amounts)) or 'no currency'}, not in USD")
        price = float(amounts["USD"])
        if not 0 <= price < float("inf"):
            raise ValueError(f"{amounts['USD']} is not a price")
        found.append(price)
    return found

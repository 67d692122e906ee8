"""Questions to the AWS price list: as few as the filters allow, and smaller ones where the service refuses a large one.

One query with lists of types and regions has only the rows that are wanted: 60 for all H100 machines in all regions, on one page. The
alternatives take more: a query for each region has ten pages where it lists all types, and the bulk offer files have every product (the
JSON of us-east-1 is 450 MB: mattrobinsonsre/terrapod issue 956).
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import chain
from typing import Final

from multicompute.errors import AccessDeniedError, AuthError, MulticomputeError
from multicompute.provider_kit.calls import in_parallel
from multicompute.provider_kit.vendor_errors import Place
from multicompute_aws._errors import member, translate_errors
from multicompute_aws._price_list import (
    Row,
    UnreadableRowError,
    filters,
    parsed,
    prices_of,
    read_row,
    region_of,
    value_batches,
)
from multicompute_aws._session import Clients

# Few enough for a query to be short, and enough to fill its pages of 100.
_ROWS_PER_QUESTION: Final = 300
# The service throttles, and nothing is published on its limits; the SDK slows down when it does.
_AT_ONCE: Final = 4
_PAGE: Final = 100
_HOPELESS: Final = 2


@dataclass(frozen=True, slots=True)
class Question:
    """A query of the price list: these types (all, if empty) in these regions."""

    types: tuple[str, ...]
    regions: tuple[str, ...]
    dedicated: bool = False


@dataclass(slots=True)
class OnDemandPrices:
    """The on-demand prices of the price list.

    Attributes:
        prices: (Instance type, region) -> USD per hour.
        rows: Region -> how many rows came, whatever they price.
        unreadable: The rows of machines whose price is not understood.
        failed: Region -> the error.
    """

    prices: dict[tuple[str, str], float] = field(default_factory=dict)
    rows: Counter[str] = field(default_factory=Counter)
    unreadable: list[UnreadableRowError] = field(default_factory=list)
    failed: dict[str, MulticomputeError] = field(default_factory=dict)


def questions(sold: Mapping[str, Sequence[str]]) -> list[Question]:
    """Return the questions that cover the types in each region, all of about the same size."""
    found = []
    types = sorted(set(chain.from_iterable(sold.values())))
    for batch in value_batches(types):
        sizes = {region: len(set(batch) & set(names)) for region, names in sorted(sold.items())}
        found += [Question(tuple(batch), tuple(part)) for group in _groups(sizes) for part in value_batches(group)]
    return found


def _groups(sizes: Mapping[str, int]) -> Iterator[list[str]]:
    group: list[str] = []
    rows = 0
    for region, size in sizes.items():
        if not size:
            continue
        if group and rows + size > _ROWS_PER_QUESTION:
            yield group
            group, rows = [], 0
        group.append(region)
        rows += size
    if group:
        yield group


class PriceList:
    """The price list of AWS, with all regions of the partition."""

    def __init__(self, clients: Clients, now: datetime) -> None:
        """Ask with these clients; prices that begin after `now` do not hold yet."""
        self._clients = clients
        self._now = now

    def ask(self, sold: Mapping[str, Sequence[str]], *, done: Callable[[float], None]) -> OnDemandPrices:
        """Return the on-demand prices of the types in each region.

        Args:
            sold: Region -> its instance types.
            done: Called with the share of the questions that are answered.
        """
        found = OnDemandPrices()
        rows: list[Row] = []
        first = questions(sold)
        for number, answer in enumerate(self._answers(first, found), start=1):
            rows += answer
            done(number / len(first))
        # Some bare metal machines are listed as dedicated hardware only, which karpenter reads.
        listed = {(row.instance_type, row.region) for row in rows}
        metal = {
            region: [name for name in names if ".metal" in name and (name, region) not in listed]
            for region, names in sold.items()
            if region not in found.failed
        }
        second = [Question(item.types, item.regions, dedicated=True) for item in questions(metal)]
        rows += chain.from_iterable(self._answers(second, found))
        found.prices, unclear = prices_of(
            row for row in rows if row.region not in found.failed and row.instance_type in sold.get(row.region, ())
        )
        found.unreadable += [
            UnreadableRowError("machines with several prices", row.sku, row.instance_type, row.region)
            for row in unclear
        ]
        return found

    def _answers(self, asked: Sequence[Question], found: OnDemandPrices) -> Iterator[list[Row]]:
        for start in range(0, len(asked), _AT_ONCE):
            part = asked[start : start + _AT_ONCE]
            yield from in_parallel(lambda question: self._rows(question, found), part, at_once=_AT_ONCE)

    def _rows(self, question: Question, found: OnDemandPrices) -> list[Row]:
        """Return the rows of a question; where a large one fails or has no rows, those of small ones."""
        is_small = len(question.regions) == 1 and len(question.types) <= 1
        items: list[object] = []
        try:
            items = self._items(question)
        except MulticomputeError as error:
            if is_small or isinstance(error, (AuthError, AccessDeniedError)):
                found.failed |= dict.fromkeys(question.regions, error)
                return []
        if items or is_small or question.dedicated:
            return list(self._read(items, found))
        return self._by_region(question, found)

    def _by_region(self, question: Question, found: OnDemandPrices) -> list[Row]:
        """Return the rows of each region, with the filters that every reader uses (aws/karpenter-provider-aws, pricing.go)."""
        types = question.types if len(question.types) == 1 else ()
        rows: list[Row] = []
        failures = 0
        for number, region in enumerate(question.regions):
            try:
                items = self._items(replace(question, types=types, regions=(region,)))
            except MulticomputeError as error:
                failures += 1
                found.failed[region] = error
                if failures == number + 1 == _HOPELESS:
                    # The service is out of order, and not the region: each attempt takes as long as the SDK repeats it.
                    found.failed |= dict.fromkeys(question.regions, error)
                    return rows
                continue
            rows += (row for row in self._read(items, found) if row.instance_type in question.types)
        return rows

    def _items(self, question: Question) -> list[object]:
        try:
            return self._pages(question)
        except MulticomputeError as error:
            if error.code != "ExpiredNextTokenException":
                raise
            return self._pages(question)

    def _pages(self, question: Question) -> list[object]:
        place = Place("aws", question.regions[0] if len(question.regions) == 1 else "")
        with translate_errors("GetProducts", place):
            pages = (
                self._clients.pricing()
                .get_paginator("get_products")
                .paginate(
                    ServiceCode="AmazonEC2",
                    Filters=filters(question.regions, question.types, dedicated=question.dedicated),
                    PaginationConfig={"PageSize": _PAGE},
                )
            )
            return [item for page in pages for item in member(page, "PriceList", place)]

    def _read(self, items: Iterable[object], found: OnDemandPrices) -> Iterator[Row]:
        for item in items:
            try:
                entry = parsed(item)
                found.rows[region_of(entry)] += 1
                row = read_row(entry, self._now)
            except UnreadableRowError as error:
                found.unreadable.append(error)
                continue
            if row is not None:
                yield row

"""The prices of AWS, for the refresh of the offer tables."""

import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import partial
from itertools import chain
from typing import Any, Final

from multicompute.clock import Clock, SystemClock
from multicompute.errors import AccessDeniedError, AuthError, MulticomputeError
from multicompute.offer import InstanceType, Purchase, Quote
from multicompute.price_feed import FailedRegion, FoundPrices, Interruption, Price, PricedType, PriceKey, PriceQuery
from multicompute.provider import Settings
from multicompute.provider_kit.calls import batches, in_parallel
from multicompute.provider_kit.vendor_errors import Place
from multicompute_aws import _advisor, _confirm
from multicompute_aws._availability import ACCELERATED
from multicompute_aws._errors import log
from multicompute_aws._feed_prices import OnDemandPrices, PriceList
from multicompute_aws._known import shard_of
from multicompute_aws._places import SpotPrices, by_price, described, spot_prices, startable
from multicompute_aws._session import Clients
from multicompute_aws._settings import AwsSettings
from multicompute_aws._shapes import UnknownShapeError, changed, purchases_of, shape_of

LIST_SOURCE: Final = "AWS price list"
SPOT_SOURCE: Final = "AWS spot price history"
_SHAPE_SOURCE: Final = "EC2 DescribeInstanceTypes"
# https://docs.aws.amazon.com/boto3/latest/guide/retries.html: "adaptive" also slows down while the service throttles. EC2 has a bucket
# of requests for each region, and is asked a handful of times in each.
_RETRIES: Final[Mapping[str, Any]] = {
    "pricing": {"mode": "adaptive", "total_max_attempts": 6},
    "ec2": {"mode": "standard", "total_max_attempts": 5},
}
_REGIONS_AT_ONCE: Final = 8
_TYPES_AT_ONCE: Final = 100
# Regions of other partitions have other accounts and other price lists.
_OTHER_PARTITIONS: Final = ("us-gov-", "cn-", "us-iso", "eusc-", "eu-isoe-")
# A region that sells so many of the wanted types has a price for at least one of them.
_MANY: Final = 10
_EXAMPLES: Final = 3

Sold = Mapping[str, tuple[str, ...]]
"""Instance type -> the zones that can start it."""


class AwsPriceFeed:
    """The price list, the spot price history and the shapes of AWS; see `multicompute.price_feed.PriceFeed`.

    Example:
        >>> feed = AwsPriceFeed(Settings())
        >>> feed.fetch(PriceQuery((), ["us-east-1"]), progress=print)
    """

    def __init__(self, settings: Settings, *, clock: Clock | None = None) -> None:
        """Open the feed with the settings of the provider; nothing is called yet."""
        self._settings = AwsSettings.of(settings)
        self._clock = clock or SystemClock()

    def fetch(self, query: PriceQuery, *, progress: Callable[[float], None]) -> FoundPrices:
        """Fetch today's prices; see `PriceFeed.fetch`."""
        self._require_credentials()
        return _Refresh(self._settings, query, progress, self._clock).run()

    def confirm(self, prices: Sequence[Price]) -> Sequence[Price]:
        """Ask again for single prices; see `PriceFeed.confirm`."""
        self._require_credentials()
        clients = Clients(self._settings, retries=_RETRIES)
        return _confirm.confirm(clients, prices, now=self._clock.now())

    def _require_credentials(self) -> None:
        found = self._settings.configured()
        if not found.ok:
            hint = "`aws configure`, or set AWS_PROFILE; docs/permissions/aws-prices-policy.json has what prices need"
            raise AuthError(f"aws: {found.why}", provider="aws", hint=hint)


class _Refresh:
    """One query of all price interfaces."""

    def __init__(
        self, settings: AwsSettings, query: PriceQuery, progress: Callable[[float], None], clock: Clock
    ) -> None:
        self._settings = settings
        self._query = query
        self._progress = progress
        self._clock = clock
        self._now = clock.now()
        self._lock = threading.Lock()
        self._calls: Counter[str] = Counter()
        self._clients = Clients(settings, retries=_RETRIES, on_request=self._count)
        self._known = {item.instance.name: item for item in query.types}
        self._count_of = {name: item.instance.accelerators for name, item in self._known.items()}
        self._first: MulticomputeError | None = None
        self._failed: dict[str, str] = {}
        self._notes: list[str] = []
        self._unreadable: dict[str, list[str]] = defaultdict(list)
        self._incomplete: set[PriceKey] = set()
        self._answered: set[tuple[str, Purchase]] = set()
        self._steps = 0.0

    def run(self) -> FoundPrices:
        regions = [name for name in self._query.regions if not name.startswith(_OTHER_PARTITIONS)]
        closed = self._closed(regions)
        sold = self._startable([name for name in regions if name not in closed])
        shapes = self._shapes(sold)
        self._count_of |= {item.instance.name: item.instance.accelerators for item in shapes}
        names = self._count_of.keys()
        wanted = {
            region: {name: zones for name, zones in found.items() if name in names} for region, found in sold.items()
        }
        prices = [*self._on_demand(wanted, closed, names)]
        prices += self._spot(wanted)
        rates = self._interruptions(regions, names)
        self._progress(1.0)
        failed = [FailedRegion(region, error) for region, error in sorted(self._failed.items())]
        if self._first is not None and not self._answered:
            raise self._first
        return FoundPrices(
            prices=prices,
            answered=frozenset(self._answered),
            incomplete=frozenset(self._incomplete),
            types=shapes,
            interruptions=rates,
            failed=failed,
            unreadable={_with_examples(what, found): len(found) for what, found in sorted(self._unreadable.items())},
            notes=self._notes,
            calls=dict(self._calls),
        )

    # --- places and shapes --------------------------------------------------------------------------------------------

    def _closed(self, regions: Sequence[str]) -> list[str]:
        """Return the regions that the account can't use; only their on-demand prices can be read.

        Raises:
            AuthError: The credentials are refused.
        """
        closed = []
        try:
            closed = [region for region in regions if self._clients.why_not(region)]
        except AuthError:
            raise
        except MulticomputeError as error:
            self._notes.append(f"Which regions the account has enabled could not be read: {error.message}")
        if closed:
            self._notes.append(
                f"Spot prices and zones of {_listed(closed)} were not read, because the account has not enabled these regions."
            )
        return closed

    def _startable(self, regions: Sequence[str]) -> dict[str, Sold]:
        """Return region -> what each of its zones can start; without the regions that could not be read."""
        families = {f"{name.partition('.')[0]}.*" for name in self._known}
        globs = sorted({*ACCELERATED, *(name for name in families if not _is_accelerated(name))})
        share = 0.4 / max(len(regions), 1)

        def read(region: str) -> Sold:
            with self._clients.refusal_of_region(region):
                found = startable(self._clients, Place("aws", region), globs)
            if not found:
                raise MulticomputeError(f"aws {region}: no instance type is listed", provider="aws", region=region)
            return found

        found = {}
        for region, sold in zip(
            regions, in_parallel(partial(self._tried, read, share), regions, at_once=_REGIONS_AT_ONCE), strict=True
        ):
            if sold is not None:
                found[region] = sold
        return found

    def _tried(self, read: Callable[[str], Any], share: float, region: str) -> Any:
        """Return what `read` returns for a region, or None if it fails, which is noted."""
        try:
            return read(region)
        except MulticomputeError as error:
            self._fail(region, error)
            return None
        finally:
            self._step(share)

    def _shapes(self, sold: Mapping[str, Sold]) -> list[PricedType]:
        """Return the types that the tables do not have, and those that they have differently."""
        offered = set(chain.from_iterable(sold.values()))
        names = [name for name in sorted(offered) if name in self._known or self._may_be_wanted(name)]
        found = []
        for item in self._described(names, sold):
            shape = self._shape(item)
            if shape is not None:
                found.append(shape)
        self._step(0.05)
        return sorted(found, key=lambda shape: shape.instance.name)

    def _may_be_wanted(self, name: str) -> bool:
        """Return whether a type that the query does not have may be one that it is about.

        Types without accelerators are a selection of families in the tables; further families are not added.
        """
        wanted = self._query.accelerators
        if not _is_accelerated(name):
            return False
        shard = shard_of(name)
        return wanted is None or shard is None or shard in wanted

    def _described(self, names: Sequence[str], sold: Mapping[str, Sold]) -> list[Mapping[str, Any]]:
        """Return what EC2 says of instance types, asked for in as few regions as have them all."""
        left = set(names)
        asked: list[tuple[str, Sequence[str]]] = []
        while left:
            region = max(sorted(sold), key=lambda name: len(left & sold[name].keys()))
            here = sorted(left & sold[region].keys())
            asked += [(region, batch) for batch in batches(here, _TYPES_AT_ONCE)]
            left -= set(here)

        def read(question: tuple[str, Sequence[str]]) -> list[Mapping[str, Any]]:
            region, batch = question
            try:
                return list(described(self._clients, Place("aws", region), batch))
            except MulticomputeError as error:
                unknown = [name for name in batch if name not in self._known]
                also = f" {len(unknown)} types that the tables do not have were left out." if unknown else ""
                self._note(f"The shapes of {len(batch)} instance types could not be read: {error.message}.{also}")
                return []

        return list(chain.from_iterable(in_parallel(read, asked, at_once=_REGIONS_AT_ONCE)))

    def _shape(self, item: Mapping[str, Any]) -> PricedType | None:
        name = item["InstanceType"]
        known = self._known.get(name)
        try:
            found = shape_of(item)
        except UnknownShapeError as error:
            if known is None:
                self._unreadable[f"instance types that can't be identified: {error}"].append(name)
            return None
        if known is None:
            return self._new_type(item, found)
        instance = changed(known.instance, found)
        if found.accelerator and (found.accelerator, found.accelerators) != _accelerators(known.instance):
            self._note(
                f"EC2 says that {name} has {found.accelerators:g} {found.accelerator}, the tables say"
                f" {known.instance.accelerators:g} {known.instance.accelerator}: they are left as they are."
            )
        return PricedType(instance, known.purchases, _SHAPE_SOURCE) if instance else None

    def _new_type(self, item: Mapping[str, Any], found: InstanceType) -> PricedType | None:
        wanted = self._query.accelerators
        if not found.accelerator:
            self._unreadable["instance types that can't be identified: no accelerator is listed"].append(found.name)
        elif wanted is None or found.accelerator in wanted:
            return PricedType(found, purchases_of(item), _SHAPE_SOURCE)
        return None

    # --- prices -------------------------------------------------------------------------------------------------------

    def _on_demand(self, wanted: Mapping[str, Sold], closed: Sequence[str], names: Collection[str]) -> Iterable[Price]:
        """Return the on-demand prices: of open regions for what they can start, of closed ones as listed."""
        asked: dict[str, Sequence[str]] = {region: sorted(sold) for region, sold in wanted.items()}
        asked |= {region: sorted(names) for region in closed}
        found = PriceList(self._clients, self._now).ask(asked, done=_counted(self._step, 0.25))
        self._note_unreadable(found, asked)
        if found.failed and found.failed.keys() >= {name for name in asked if asked[name]}:
            self._fail("", next(iter(found.failed.values())))
        else:
            for region, failure in found.failed.items():
                self._fail(region, failure)
        for region, types in asked.items():
            if region not in found.failed and self._is_complete(region, types, found, is_open=region in wanted):
                self._answered.add((region, "on_demand"))
        today = self._now.date()
        for (name, region), cost in sorted(found.prices.items()):
            zones = wanted[region][name] if region in wanted else ()
            yield self._price(name, region, "on_demand", Quote(cost, today, LIST_SOURCE), zones)

    def _note_unreadable(self, found: OnDemandPrices, asked: Mapping[str, Sequence[str]]) -> None:
        """Count the rows that are not understood; what they may price is not sold out, but not known."""
        for error in found.unreadable:
            if error.instance_type and error.instance_type not in self._count_of:
                continue
            self._unreadable[error.problem].append(error.row)
            for region in [error.region] if error.region else asked:
                names = {error.instance_type} if error.instance_type else set(asked.get(region, ()))
                for name in names & set(asked.get(region, ())):
                    if (name, region) not in found.prices:
                        self._incomplete.add((name, "", self._count_of[name], region, "on_demand"))

    def _is_complete(self, region: str, types: Sequence[str], found: OnDemandPrices, *, is_open: bool) -> bool:
        """Return whether an answer without a price means that there is none.

        An empty answer is an outage more often than the end of all sales; karpenter keeps its old prices, too.
        """
        if found.rows[region] or (is_open and not types):
            return True
        if is_open and len(types) >= _MANY:
            self._failed[region] = f"the price list has no price of any of {len(types)} instance types"
        return False

    def _spot(self, wanted: Mapping[str, Sold]) -> list[Price]:
        share = 0.25 / max(len(wanted), 1)

        def read(region: str) -> SpotPrices:
            sold = wanted[region]
            return spot_prices(self._clients, Place("aws", region), sold, self._now) if sold else SpotPrices({})

        answers = in_parallel(partial(self._tried, read, share), wanted, at_once=_REGIONS_AT_ONCE)
        found: list[Price] = []
        for region, answer in zip(wanted, answers, strict=True):
            if answer is not None:
                found += self._spot_of(region, wanted[region], answer)
        return found

    def _spot_of(self, region: str, sold: Sold, answer: SpotPrices) -> Iterable[Price]:
        for (name, _), problem in answer.unreadable.items():
            self._unreadable["spot prices that are not understood"].append(problem)
            if name not in answer.prices:
                self._incomplete.add((name, "", self._count_of[name], region, "spot"))
        if answer.entries or not sold:
            self._answered.add((region, "spot"))
        elif not answer.entries and len(sold) >= _MANY:
            self._failed[region] = f"the spot price history has no price of any of {len(sold)} instance types"
        for name, prices in sorted(answer.prices.items()):
            for cost, zones in by_price(prices):
                yield self._price(name, region, "spot", Quote(cost, self._now.date(), SPOT_SOURCE), zones)

    def _price(self, name: str, region: str, purchase: Purchase, quote: Quote, zones: tuple[str, ...]) -> Price:
        return Price(name, self._count_of[name], region, purchase, quote, zones)

    def _interruptions(self, regions: Collection[str], names: Collection[str]) -> list[Interruption] | None:
        try:
            return _advisor.interruptions(self._settings, regions, names, clock=self._clock, on_request=self._count)
        except MulticomputeError as error:
            self._note(f"Interruption rates could not be read: {error.message}")
            return None

    # --- what happened ------------------------------------------------------------------------------------------------

    def _count(self, operation: str) -> None:
        with self._lock:
            self._calls[operation] += 1

    def _note(self, text: str) -> None:
        with self._lock:
            self._notes.append(text)

    def _fail(self, region: str, error: MulticomputeError) -> None:
        """Note that a region failed; one that turns out to be closed to the account is no failure."""
        with self._lock:
            if isinstance(error, AccessDeniedError) and error.code == "OptInRequired":
                self._notes.append(f"Prices of {region} were not read: the account has not enabled this region.")
            else:
                log.debug("prices of %s: %s", region, error.message)
                self._failed[region] = error.message
                self._first = self._first or error

    def _step(self, share: float) -> None:
        with self._lock:
            self._steps = min(self._steps + share, 0.99)
            self._progress(self._steps)


def _counted(step: Callable[[float], None], share: float) -> Callable[[float], None]:
    """Return a function that takes the completed part of a step, and passes on what is new of it."""
    before = 0.0

    def done(part: float) -> None:
        nonlocal before
        step((part - before) * share)
        before = part

    return done


def _accelerators(instance: InstanceType) -> tuple[str, float]:
    return instance.accelerator, instance.accelerators


def _is_accelerated(name: str) -> bool:
    return any(fnmatchcase(name, glob) for glob in ACCELERATED)


def _listed(names: Sequence[str]) -> str:
    return (
        ", ".join(names)
        if len(names) <= _EXAMPLES
        else f"{', '.join(names[:_EXAMPLES])} and {len(names) - _EXAMPLES} more"
    )


def _with_examples(what: str, examples: Sequence[str]) -> str:
    return f"{what}, such as {', '.join(examples[:_EXAMPLES])}"

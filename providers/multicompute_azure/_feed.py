"""The price feed: today's prices of all regions from the Azure Retail Prices API, and what an account adds to them."""

import functools
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Final

from multicompute.clock import Clock, SystemClock
from multicompute.errors import AuthError, MulticomputeError, ProviderError
from multicompute.offer import InstanceType, Quote
from multicompute.price_feed import FailedRegion, FoundPrices, Price, PricedType, PriceKey, PriceQuery
from multicompute.provider import Settings
from multicompute.provider_kit.calls import in_parallel
from multicompute.provider_kit.vendor_errors import Place, one_line
from multicompute_azure._additions import Additions, about_unknown
from multicompute_azure._names import plain_region
from multicompute_azure._price_list import OPERATION, PREVIEW, SOURCE, PriceList
from multicompute_azure._price_rows import CurrentPrices, Key
from multicompute_azure._prices import machine_prices
from multicompute_azure._retries import Retries
from multicompute_azure._series import has_accelerators, may_have, series_of
from multicompute_azure._settings import AzureSettings

# As many as dstackai/gpuhunt (providers/azure.py) sends at once.
_AT_ONCE: Final = 8
# Regions that other readers leave out, too: two for Microsoft's own early access, and one that sells to few (dstackai/gpuhunt,
# skypilot-org/skypilot).
_LEFT_OUT: Final = frozenset({"eastus2euap", "centraluseuap", "brazilus"})
_FILTER: Final = (
    "serviceName eq 'Virtual Machines' and priceType eq 'Consumption' and armRegionName eq '{region}' "
    "and contains(productName, 'Windows') eq false"
)
# Only machines with accelerators: a list of their sizes would not find new ones, nor tell a region that does not answer from one that sells
# none of them.
_ACCELERATED: Final = " and contains(armSkuName, 'Standard_N')"
_LINE: Final = 300
_NAMED: Final = 5
# The share of the time that the price list takes, of all that is asked.
_SHARE: Final = 0.9


@dataclass(frozen=True, slots=True)
class _Reading:
    """The prices of a region; `error` is why they could not be read."""

    region: str
    prices: Mapping[Key, float]
    doubtful: Collection[Key]
    sizes: Mapping[str, str]
    unreadable: Mapping[str, int]
    error: MulticomputeError | None = None


class AzurePriceFeed:
    """Azure's price interfaces.

    Prices need no credentials. With credentials, an account adds the shapes of sizes that the tables do not know, and eviction rates.
    """

    def __init__(self, settings: Settings, *, clock: Clock | None = None) -> None:
        """Read from the endpoints in the settings.

        Args:
            settings: The table `[providers.azure]` and the environment.
            clock: The clock that decides which prices hold, and by which a throttled feed waits.

        Raises:
            ConfigError: A setting is malformed, or an endpoint is plain http to another machine.
        """
        self._settings = AzureSettings.of(settings)
        self._clock = clock or SystemClock()

    def fetch(self, query: PriceQuery, *, progress: Callable[[float], None]) -> FoundPrices:
        """Fetch today's prices, region by region; see `PriceFeed.fetch`.

        A region without any price counts as not answered, not as one that sells nothing. Of a series that no region has prices for, the old
        prices stay: whole series have been missing for days (Azure/azure-rest-api-specs#13858, #16407).

        Raises:
            MulticomputeError: No region could be read.
        """
        retries = Retries(self._clock)
        regions = [region for region in dict.fromkeys(map(plain_region, query.regions)) if region not in _LEFT_OUT]
        readings = self._readings(query, regions, retries, progress)
        failed = [reading for reading in readings if reading.error is not None]
        if failed and len(failed) == len(readings) and failed[0].error is not None:
            raise failed[0].error
        answer = _Answer(query, [reading for reading in readings if reading.error is None])
        if regions and not answer.answered and _is_complete(query):
            raise ProviderError(f"azure: {OPERATION}: the price list has no price in any region", provider="azure")
        additions = self._additions(query, answer.unknown(), retries)
        found = answer.found(additions, self._clock.now().date())
        progress(1.0)
        return FoundPrices(
            prices=found,
            answered=answer.answered,
            incomplete=answer.incomplete(),
            types=additions.types,
            interruptions=additions.interruptions,
            failed=[FailedRegion(reading.region, _line(reading.error)) for reading in failed],
            unreadable=answer.unreadable(additions),
            notes=[*answer.notes(), *additions.notes],
            calls=retries.counts(),
        )

    def confirm(self, prices: Sequence[Price]) -> Sequence[Price]:
        """Ask again for each of `prices` by itself; see `PriceFeed.confirm`.

        Azure has no other interface with today's prices: Cost Management has those of an agreement, and Resource Graph a history of spot
        prices. So the second query is one for the machine alone, in another version of the same interface.

        Raises:
            MulticomputeError: None could be read.
        """
        listed = self._price_list(Retries(self._clock))
        now, failures = self._clock.now(), list[MulticomputeError]()
        kinds = sorted({(price.region, price.instance_type) for price in prices})

        def read(kind: tuple[str, str]) -> Mapping[str, float]:
            try:
                return machine_prices(listed, kind, now=now, version=PREVIEW)
            except MulticomputeError as error:
                failures.append(error)
                return {}

        known = dict(zip(kinds, in_parallel(read, kinds, at_once=_AT_ONCE), strict=True))
        if failures and len(failures) == len(kinds):
            raise failures[0]
        return [
            replace(price, quote=Quote(hourly, now.date(), f"{SOURCE} {PREVIEW}"))
            for price in prices
            if (hourly := known[price.region, price.instance_type].get(price.purchase)) is not None
        ]

    def _additions(self, query: PriceQuery, unknown: Mapping[str, Collection[str]], retries: Retries) -> Additions:
        access = self._settings.configured()
        try:
            if not access.ok:
                raise AuthError(access.why)
            # Imported here: without an account, the code for credentials is not needed.
            from multicompute_azure._feed_account import Account

            return Account(self._settings, self._clock, retries).additions(query, unknown)
        except AuthError as error:
            why = f"no eviction rates of spot nodes, which need an account: {_line(error)}"
            return Additions(notes=[*about_unknown(unknown), why])

    def _price_list(self, retries: Retries) -> PriceList:
        endpoint = self._settings.prices_endpoint
        if endpoint is None:
            raise ProviderError(
                "azure: the Retail Prices API has the prices of public Azure only",
                provider="azure",
                hint="set prices_endpoint_url, if your cloud has such an API",
            )
        return PriceList(endpoint, retries=retries)

    def _readings(
        self, query: PriceQuery, regions: Sequence[str], retries: Retries, progress: Callable[[float], None]
    ) -> list[_Reading]:
        listed, text = self._price_list(retries), _filter(query)
        wanted = {each.instance.name.lower() for each in query.types}
        done: Counter[str] = Counter()

        def read(region: str) -> _Reading:
            found = CurrentPrices(
                self._clock.now(), lambda place, size: place == region and (size in wanted or has_accelerators(size))
            )
            error = None
            try:
                for row in listed.rows(Place("azure", region), text.format(region=region)):
                    found.add(row)
            except MulticomputeError as failure:
                error = failure
            done[region] = 1
            progress(_SHARE * len(done) / len(regions))
            return _Reading(region, found.prices(), found.doubtful(), found.sizes, found.unreadable, error)

        return in_parallel(read, regions, at_once=_AT_ONCE)


class _Answer:
    """The readings of all regions that could be read."""

    def __init__(self, query: PriceQuery, readings: Sequence[_Reading]) -> None:
        self._query = query
        self._readings = readings
        self._known = {each.instance.name.lower() for each in query.types}
        self.answered = frozenset((key.region, key.purchase) for reading in readings for key in reading.prices)

    def found(self, additions: Additions, today: date) -> list[Price]:
        """Return the prices of the known sizes, and of new ones whose shapes the account knows."""
        types: dict[str, list[PricedType]] = {}
        for each in (*self._query.types, *additions.types):
            types.setdefault(each.instance.name.lower(), []).append(each)
        return [
            _price(each.instance, key, hourly, today)
            for reading in self._readings
            for key, hourly in reading.prices.items()
            for each in types.get(key.size, ())
            if not each.purchases or key.purchase in each.purchases
        ]

    def unknown(self) -> Mapping[str, Collection[str]]:
        """Return the sizes that have prices but are in no table, and may have a wanted accelerator -> the regions that have a price.

        The query has the sizes of the wanted accelerators only, so a size of another accelerator looks as unknown as a new one.
        """
        found: dict[str, set[str]] = {}
        wanted, instances = self._query.accelerators, [each.instance for each in self._query.types]
        for reading in self._readings:
            for key in reading.prices:
                if key.size in self._known or not has_accelerators(key.size):
                    continue
                if wanted is None or may_have(reading.sizes[key.size], wanted, instances):
                    found.setdefault(reading.sizes[key.size], set()).add(key.region)
        return found

    def incomplete(self) -> frozenset[PriceKey]:
        """Return what may still be sold, though its price is not known: it can't be read, or its series has no price anywhere."""
        missing = self._missing
        doubtful = {key for reading in self._readings for key in reading.doubtful}
        return frozenset(
            (each.instance.name, "", each.instance.accelerators, region, purchase)
            for each in self._query.types
            for region, purchase in self.answered
            if series_of(each.instance.name) in missing or Key(region, each.instance.name.lower(), purchase) in doubtful
        )

    def unreadable(self, additions: Additions) -> Mapping[str, int]:
        """Return what was wrong with rows, by its kind with the first example."""
        found: dict[str, tuple[str, int]] = {}
        for reading in self._readings:
            for text, count in reading.unreadable.items():
                kind = text.partition(" (")[0]
                found[kind] = (found.get(kind, (text, 0))[0], found.get(kind, (text, 0))[1] + count)
        return {**dict(found.values()), **additions.unreadable}

    def notes(self) -> Iterator[str]:
        """Yield a sentence about regions and about series without prices."""
        silent = sorted(reading.region for reading in self._readings if not reading.prices)
        if silent and _is_complete(self._query):
            yield f"{_named(silent, 'region')} had no prices in the answer, so the old ones stay"
        missing = sorted(self._missing)
        if missing:
            yield f"{_named(missing, 'series')} had no prices in any region, so the old ones stay"

    @functools.cached_property
    def _missing(self) -> frozenset[str]:
        answered = {series_of(key.size) for reading in self._readings for key in reading.prices}
        return frozenset(series_of(name) for name in self._known) - answered


def _is_complete(query: PriceQuery) -> bool:
    """Return whether sizes without accelerators are wanted, too."""
    return query.accelerators is None or "" in query.accelerators


def _filter(query: PriceQuery) -> str:
    are_accelerated = all(has_accelerators(each.instance.name) for each in query.types)
    return _FILTER if _is_complete(query) or not are_accelerated else _FILTER + _ACCELERATED


def _price(instance: InstanceType, key: Key, hourly: float, today: date) -> Price:
    return Price(instance.name, instance.accelerators, key.region, key.purchase, Quote(hourly, today, SOURCE))


def _named(names: Sequence[str], what: str) -> str:
    more = "" if len(names) <= _NAMED else ", ..."
    plural = what if len(names) == 1 or what.endswith("s") else f"{what}s"
    return f"{len(names)} {plural} ({', '.join(names[:_NAMED])}{more})"


def _line(error: MulticomputeError | None) -> str:
    return one_line(error.message if error is not None else "", _LINE)

"""Decides which prices of an answer replace those of the tables. Pure: the second query comes in as a function.

The rules, for each pair of region and purchase that was answered:

- A price that is missing in the answer is removed: the type is no longer sold there. There are two exceptions. A price that the feed
  could not determine stays. And if an answer lacks every price that the tables have of several instance types with one accelerator,
  or of an accelerator in several regions, or has no price at all, that is an outage more often than an end of sale: whole families
  of virtual machines have been missing in price lists for days (Azure/azure-rest-api-specs #13858, #16407). These prices stay for
  `_MISSING_FOR` days in a row.
- A price that moved by more than half is used only if a second query agrees.
- A spot price above the on-demand price of the same place is reduced to it if the difference is rounding. Otherwise the old spot price
  stays; if that one is too high as well, it is removed.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final, cast

from multicompute.catalog.content import Content, Entry, Row, plain
from multicompute.catalog.tables import CPU
from multicompute.offer import Purchase, Quote
from multicompute.price_feed import FoundPrices, Price
from multicompute.price_refresh._changes import Changes, compare
from multicompute.price_refresh._offers import Cell, Key, Offers, Zones, grouped, lines_of, offers_of, old_cell
from multicompute.price_refresh._reading import Reading
from multicompute.price_refresh._report import PriceMove, is_large
from multicompute.price_refresh._scope import Scope
from multicompute.units import counted

_MISSING_FOR: Final = timedelta(days=7)
_AGREEMENT: Final = 0.01
"""Two queries agree if their prices differ by no more than this share."""
_ROUNDING: Final = 0.0001
"""Price lists round to four decimals, so that a spot price equal to the on-demand price can look higher."""
_EXAMPLES: Final = 3

Confirm = Callable[[Sequence[Price]], Sequence[Price]]
"""Asks a second time for prices. Prices that can't be confirmed are missing in the result."""


@dataclass(frozen=True, slots=True)
class Merged:
    """The new tables, and what has changed."""

    content: Content
    changes: Changes
    notes: tuple[str, ...]
    rejected: Mapping[str, int]


def merge(base: Content, found: FoundPrices, *, scope: Scope, today: date, confirm: Confirm) -> Merged:
    """Return the tables with the prices of an answer.

    Args:
        base: The current tables.
        found: The answer.
        scope: What was asked for.
        today: The date in UTC.
        confirm: Asks a second time for the prices that moved by more than half.
    """
    reading = Reading(base, found, scope=scope, today=today)
    answered = sorted(pair for pair in found.answered if scope.has_region(pair[0]))
    work = _Merge(base, reading, frozenset(answered), scope=scope, today=today)
    for region, purchase in answered:
        work.apply(region, purchase)
    work.check_moves(confirm)
    work.check_spot()
    content = Content(
        base.name,
        base.regions,
        base.zones,
        list(reading.types.values()),
        lines_of(work.offers),
        _interruptions(base, found, reading, scope),
        work.missing_rows(),
    )
    changes = compare(work.before, work.offers, rejected=work.rejected_moves)
    return Merged(content, changes, tuple(work.notes), reading.rejected)


class _Merge:
    """The prices during a merge.

    Attributes:
        before: The prices of the tables.
        offers: The new prices.
        notes: Sentences about prices that were not treated like others.
        rejected_moves: Prices that a second query did not confirm.
    """

    def __init__(
        self, base: Content, reading: Reading, answered: Collection[tuple[str, str]], *, scope: Scope, today: date
    ) -> None:
        self.before = offers_of(base.lines)
        self.offers: Offers = dict(self.before)
        self.notes: list[str] = []
        self.rejected_moves: list[PriceMove] = []
        self._reading = reading
        self._scope = scope
        self._today = today
        self._missing = {(row["shard"], row["region"], row["purchase"]): row["since"] for row in base.missing}
        self._old_keys: dict[tuple[str, str], list[Key]] = defaultdict(list)
        self._new_keys: dict[tuple[str, str], list[Key]] = defaultdict(list)
        for keys, of in ((self.before, self._old_keys), (reading.prices, self._new_keys)):
            for key in keys:
                if scope.has_shard(key.shard):
                    of[key.region, key.purchase].append(key)
        self._sold = {(key.shard, key.purchase) for key in reading.prices}
        self._places: dict[tuple[str, str], set[str]] = defaultdict(set)
        for key in self.before:
            if (key.region, key.purchase) in answered:
                self._places[key.shard, key.purchase].add(key.region)

    def apply(self, region: str, purchase: str) -> None:
        """Replace the prices of one region and purchase type."""
        pair = (region, purchase)
        new = {key for key in self._new_keys[pair] if self._reading.prices[key] and key not in self._reading.kept}
        lost = [key for key in self._old_keys[pair] if key not in new and key not in self._reading.kept]
        answers = bool(self._new_keys[pair])
        by_shard: dict[str, list[Key]] = defaultdict(list)
        for key in lost:
            by_shard[key.shard].append(key)
        for shard in {key.shard for key in self._old_keys[pair]}:
            gone = by_shard.get(shard, [])
            if gone and self._looks_like_an_outage(shard, pair, gone, answers=answers):
                continue
            self._missing.pop((shard, *pair), None)
            for key in gone:
                del self.offers[key]
        for key in new:
            self.offers[key] = _with_known_zones(self._reading.prices[key], self.before.get(key, {}))

    def _looks_like_an_outage(self, shard: str, pair: tuple[str, str], gone: Sequence[Key], *, answers: bool) -> bool:
        """Return whether prices that are missing stay for now, and remember since when they are missing."""
        region, purchase = pair
        is_complete = not any(key.shard == shard for key in self._new_keys[pair])
        is_gone_everywhere = (shard, purchase) not in self._sold and len(self._places[shard, purchase]) > 1
        if answers and not (is_complete and (len(gone) > 1 or is_gone_everywhere)):
            return False
        since = self._missing.setdefault((shard, *pair), self._today.isoformat())
        if self._today - date.fromisoformat(since) < _MISSING_FOR:
            return True
        self.notes.append(
            f"{'types without accelerators' if shard == CPU else shard} in {region}, {purchase}: no price since {since}; removed"
        )
        return False

    def check_moves(self, confirm: Confirm) -> None:
        """Ask again for the prices that moved by more than half, and go back to the old ones unless the answers agree."""
        doubtful = {key: moved for key in self.offers.keys() & self.before.keys() if (moved := self._large_moves(key))}
        if not doubtful:
            return
        answers = _by_zone(confirm([price for key, zones in sorted(doubtful.items()) for price in _prices(key, zones)]))
        refused: list[str] = []
        for key, moved in sorted(doubtful.items()):
            rejected = {zone: cell for zone, cell in moved.items() if not _agrees(answers, key, zone, cell)}
            if rejected:
                self._restore(key, rejected)
                refused.append(key.name)
        if refused:
            what = f"{counted(len(refused), 'price')} moved by more than half and no second query confirmed it; the old ones stay"
            self.notes.append(f"{what}: {_examples(refused)}")

    def _large_moves(self, key: Key) -> Zones:
        """Return the zones whose price moved by more than half."""
        before = self.before[key]
        if self.offers[key] is before:
            return {}
        return {zone: cell for zone, cell in self.offers[key].items() if _is_doubtful(old_cell(before, zone), cell)}

    def _restore(self, key: Key, rejected: Zones) -> None:
        before = self.before[key]
        kept = {zone: old for zone in rejected if (old := old_cell(before, zone)) is not None}
        self.offers[key] = {**self.offers[key], **kept}
        for cell, zones in grouped(rejected).items():
            self.rejected_moves.append(_move(key, zones, kept[zones[0]], cell, is_accepted=False))

    def check_spot(self) -> None:
        """Correct or remove spot prices above the on-demand price of the same place."""
        dropped: list[str] = []
        for key, zones in list(self.offers.items()):
            on_demand = self.offers.get(key._replace(purchase="on_demand")) if key.purchase == "spot" else None
            limits = {zone: _limit(on_demand, zone) for zone in zones} if on_demand else {}
            if all(zones[zone].cost <= limit for zone, limit in limits.items()):
                continue
            before = self.before.get(key, {})
            candidates = {zone: _within(limits[zone], cell, old_cell(before, zone)) for zone, cell in zones.items()}
            fixed = {zone: cell for zone, cell in candidates.items() if cell is not None}
            if any(zone not in fixed or fixed[zone].cost < cell.cost - _ROUNDING for zone, cell in zones.items()):
                dropped.append(key.name)
            self.offers[key] = fixed
            if not fixed:
                del self.offers[key]
        if dropped:
            what = f"{counted(len(dropped), 'spot price')} above the on-demand price of the same place, not used"
            self.notes.append(f"{what}: {_examples(dropped)}")

    def missing_rows(self) -> list[Row]:
        """Return the lines of `missing.csv`, and add a note about them."""
        rows = [
            {"shard": shard, "region": region, "purchase": purchase, "since": since}
            for (shard, region, purchase), since in sorted(self._missing.items())
            if any(key.shard == shard for key in self.offers if (key.region, key.purchase) == (region, purchase))
        ]
        in_scope = [
            row for row in rows if self._scope.has_shard(row["shard"]) and self._scope.has_region(row["region"])
        ]
        if in_scope:
            names = [f"{row['shard']} {row['region']} {row['purchase']}" for row in in_scope]
            self.notes.append(
                f"{counted(len(in_scope), 'group')} of prices missing in the answer, probably an outage; the old prices stay for up "
                f"to {_MISSING_FOR.days} days: {_examples(names)}"
            )
        return cast("list[Row]", rows)


def _with_known_zones(new: Zones, old: Zones) -> Zones:
    """Return new prices with the zones of the old ones, if the vendor has not named any."""
    if set(new) == {""} and old and "" not in old:
        return dict.fromkeys(old, new[""])
    return dict(new)


def _is_doubtful(before: Cell | None, after: Cell) -> bool:
    return before is not None and is_large(before.cost, after.cost)


def _prices(key: Key, zones: Zones) -> list[Price]:
    accelerator = "" if key.shard == CPU else key.shard
    return [
        Price(
            key.instance_type,
            float(key.accelerators),
            key.region,
            cast("Purchase", key.purchase),
            Quote(
                cell.cost,
                date.fromisoformat(cell.as_of),
                cell.source,
                "estimate" if cell.basis == "estimate" else "list",
            ),
            tuple(filter(None, names)),
            accelerator,
        )
        for cell, names in grouped(zones).items()
    ]


_Answers = Mapping[tuple[str, float, str, str], Sequence[Price]]


def _by_zone(prices: Sequence[Price]) -> _Answers:
    found: dict[tuple[str, float, str, str], list[Price]] = defaultdict(list)
    for price in prices:
        found[price.instance_type, round(price.accelerators, 4), price.region, price.purchase].append(price)
    return found


def _agrees(answers: _Answers, key: Key, zone: str, cell: Cell) -> bool:
    """Return whether a second query has about the same price for a zone, and no other one."""
    prices = answers.get((key.instance_type, round(float(key.accelerators), 4), key.region, key.purchase), ())
    prices = [price for price in prices if price.accelerator in ("", key.shard)]
    exact = [price for price in prices if zone in price.zones]
    found = exact or [price for price in prices if not price.zones or not zone]
    return bool(found) and all(abs(price.quote.hourly_cost - cell.cost) <= _AGREEMENT * cell.cost for price in found)


def _move(key: Key, zones: Collection[str], before: Cell, after: Cell, *, is_accepted: bool) -> PriceMove:
    return PriceMove(
        instance_type=key.instance_type,
        accelerators=float(key.accelerators),
        region=key.region,
        zones=tuple(filter(None, zones)),
        purchase=cast("Purchase", key.purchase),
        before=before.cost,
        after=after.cost,
        is_accepted=is_accepted,
    )


def _limit(on_demand: Zones, zone: str) -> float:
    """Return the lowest on-demand price of the zones that a spot price may be in."""
    found = on_demand.get(zone) or on_demand.get("")
    if found is not None:
        return found.cost
    # A spot price of all zones of the region; or of a zone without an on-demand price.
    return min(cell.cost for cell in on_demand.values()) if not zone else float("inf")


def _within(limit: float, new: Cell, old: Cell | None) -> Cell | None:
    """Return the spot price to use: the new one, reduced by what is rounding, or else the old one; None for neither."""
    if new.cost <= limit:
        return new
    if new.cost <= limit + _ROUNDING:
        return new._replace(hourly_usd=plain(limit))
    return old if old is not None and old.cost <= limit else None


def _interruptions(base: Content, found: FoundPrices, reading: Reading, scope: Scope) -> list[Entry]:
    """Return the lines of `interruptions.csv`: those of the answer for what was asked, if it has any, and the old ones for the rest."""
    if not found.interruptions:
        return base.interruptions
    shards: dict[str, set[str]] = defaultdict(set)
    for shard, name, _ in reading.types:
        shards[name].add(shard)
    regions = {row["region"] for row in base.regions}
    new = {
        (shard, each.instance_type, each.region): Entry(
            shard,
            {
                "instance_type": each.instance_type,
                "region": each.region,
                "low": plain(each.low),
                "high": plain(each.high),
                "period": each.period,
            },
        )
        for each in found.interruptions
        for shard in shards.get(each.instance_type, ())
        if each.region in regions and scope.has_region(each.region) and scope.has_shard(shard)
        if 0 <= each.low <= each.high <= 1 and each.period in ("hour", "month")
    }
    kept = [
        entry
        for entry in base.interruptions
        if not (scope.has_shard(entry.shard) and scope.has_region(entry.cells["region"]))
    ]
    return [*kept, *new.values()]


def _examples(names: Sequence[str]) -> str:
    more = f" and {len(names) - _EXAMPLES} more" if len(names) > _EXAMPLES else ""
    return ", ".join(names[:_EXAMPLES]) + more

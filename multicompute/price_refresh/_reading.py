"""Checks what a feed has found, one row at a time: what the tables must not contain is rejected, counted and named."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from datetime import date

from multicompute import accelerators
from multicompute.catalog.content import Content, Entry, type_entry
from multicompute.price_feed import FoundPrices, Price, PricedType, PriceKey
from multicompute.price_refresh._offers import Cell, Key, cell_of
from multicompute.price_refresh._scope import Scope

_EMPTY = ("", "0")


class Reading:
    """The rows of an answer that can be used.

    Attributes:
        types: Shard, name and accelerators -> the instance types of the tables, with those that the answer adds or corrects.
        prices: What is sold -> zone -> its price, of the pairs of region and purchase that were answered.
        kept: Prices of answered pairs that the answer does not know, or has in a form that can't be used.
        rejected: What was wrong, with an example -> the number of rows.
    """

    def __init__(self, base: Content, found: FoundPrices, *, scope: Scope, today: date) -> None:
        """Read the types, then the prices.

        Args:
            base: The current tables.
            found: The answer.
            scope: What was asked for; anything else is ignored.
            today: No price may have a later date.
        """
        self.types = {(entry.shard, *entry.key): entry for entry in base.types}
        self.prices: dict[Key, dict[str, Cell]] = {}
        self.kept: set[Key] = set()
        self._built_in = {key[1]: key for key, entry in self.types.items() if entry.cells["attached"] == "false"}
        self._regions = {row["region"] for row in base.regions}
        self._scope = scope
        self._today = today
        self._counts: Counter[str] = Counter()
        self._examples: dict[str, str] = {}
        for each in found.types:
            self._read_type(each)
        self._shards: dict[tuple[str, float], list[tuple[str, str, str]]] = defaultdict(list)
        for key in self.types:
            self._shards[key[1], round(float(key[2]), 4)].append(key)
        for price in found.prices:
            if (price.region, price.purchase) in found.answered and scope.has_region(price.region):
                self._read_price(price)
        self.kept |= set(self._incomplete(found.incomplete))

    @property
    def rejected(self) -> Mapping[str, int]:
        """The fault of rejected rows, with an example -> the number of rows."""
        return {f"{what}, such as {self._examples[what]}": count for what, count in self._counts.items()}

    def _reject(self, what: str, example: str) -> None:
        self._counts[what] += 1
        self._examples.setdefault(what, example)

    def _read_type(self, found: PricedType) -> None:
        shape = found.instance
        entry = type_entry(found)
        if not self._scope.has_shard(entry.shard):
            return
        if what := _shape_fault(found) or self._contradiction(entry):
            self._reject(what, shape.name)
            return
        known = self.types.get((entry.shard, *entry.key))
        self.types[entry.shard, *entry.key] = entry if known is None else _updated(known, entry)

    def _contradiction(self, found: Entry) -> str:
        """Return what is wrong if the tables have other accelerators for this name. Only attached ones can differ."""
        known = self._built_in.setdefault(found.key[0], (found.shard, *found.key))
        is_other = found.cells["attached"] == "false" and known != (found.shard, *found.key)
        return "an instance type with other accelerators than in the tables" if is_other else ""

    def _read_price(self, price: Price) -> None:
        key = self._key(price)
        if key is None or not self._scope.has_shard(key.shard):
            return
        zones = self.prices.setdefault(key, {})
        if what := self._price_fault(key, price, zones):
            self._reject(what, key.name)
            # Neither the answer nor the tables are known to be right, so nothing changes.
            self.kept.add(key)
            return
        zones |= dict.fromkeys(price.zones or ("",), cell_of(price))

    def _key(self, price: Price) -> Key | None:
        """Return what a price is for; None, after it was counted, if the tables have no such instance type or region."""
        where = f"{price.instance_type} {price.region} {price.purchase}"
        found = self._shards.get((price.instance_type, round(price.accelerators, 4)), [])
        found = [key for key in found if price.accelerator in ("", key[0])]
        if price.region not in self._regions:
            self._reject("a price in an unknown region", where)
        elif len(found) != 1:
            self._reject("a price of " + ("an ambiguous" if found else "an unknown") + " instance type", where)
        else:
            return Key(*found[0], price.region, price.purchase)
        return None

    def _price_fault(self, key: Key, price: Price, known: Mapping[str, Cell]) -> str:
        """Return what is wrong with a price, "" if nothing is."""
        cost, zones = price.quote.hourly_cost, set(price.zones) or {""}
        purchases = self.types[key[:3]].cells["purchases"]
        if not (math.isfinite(cost) and float(cell_of(price).hourly_usd) > 0):
            return "a price that is not a positive amount"
        if price.quote.as_of > self._today:
            return "a price with a date in the future"
        if not price.quote.source.strip():
            return "a price without a source"
        if purchases and key.purchase not in purchases.split(";"):
            return "a price for a purchase type in which the instance type is not sold"
        if known and ("" in zones | known.keys() or zones & known.keys()):
            return "two prices of one zone"
        return ""

    def _incomplete(self, keys: Iterable[PriceKey]) -> Iterable[Key]:
        for name, accelerator, count, region, purchase in keys:
            for shard, _, text in self._shards.get((name, round(count, 4)), []):
                if accelerator in ("", shard):
                    yield Key(shard, name, text, region, purchase)


def _shape_fault(found: PricedType) -> str:
    """Return what is wrong with a shape, "" if nothing is."""
    shape, has_any = found.instance, bool(found.instance.accelerator)
    if has_any and accelerators.get(shape.accelerator) is None:
        return f"an instance type with an accelerator of an unknown kind ({shape.accelerator})"
    sizes = (shape.accelerators, shape.accelerator_memory_gib)
    if any((size > 0) != has_any for size in sizes) or shape.vcpus < 1 or shape.hosts < 1:
        return "an instance type with an impossible shape"
    if not found.source.strip() or shape.arch not in ("x86_64", "arm64"):
        return "an instance type without a source or with an unknown architecture"
    return ""


def _updated(known: Entry, found: Entry) -> Entry:
    """Return a known shape with what a vendor reports. What it does not report stays, and so does the mark of a retired type."""
    cells = {column: text for column, text in found.cells.items() if text not in _EMPTY}
    if known.cells["retired"] == "true":
        cells["retired"] = "true"
    changed = {**known.cells, **cells}
    if all(changed[column] == text for column, text in known.cells.items() if column != "source"):
        return known
    return Entry(known.shard, changed)

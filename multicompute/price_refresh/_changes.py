"""Compares the prices of two tables."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import cast

from multicompute.offer import Purchase
from multicompute.price_refresh._offers import Key, Offers, Zones, grouped, old_cell
from multicompute.price_refresh._report import PriceMove


@dataclass(frozen=True, slots=True)
class Changes:
    """The prices that have changed, and their number. A price that several zones share is one price."""

    changed: int
    added: int
    removed: int
    moves: tuple[PriceMove, ...]


def compare(before: Offers, after: Offers, *, rejected: Sequence[PriceMove]) -> Changes:
    """Return the changes between two tables; `rejected` are moves that were not accepted, which are listed only."""
    moves: list[PriceMove] = list(rejected)
    changed = added = removed = 0
    for key, zones in after.items():
        old = before.get(key, {})
        if zones == old:
            continue
        for names in _by_price(zones):
            known = {zone: cell for zone in names if (cell := old_cell(old, zone)) is not None}
            if not known:
                added += 1
                continue
            moved = {zone: cell for zone, cell in known.items() if cell.hourly_usd != zones[zone].hourly_usd}
            changed += bool(moved)
            moves += _moves(key, zones, moved)
    for key, old in before.items():
        zones = after.get(key, {})
        removed += sum(not any(old_cell(zones, zone) for zone in names) for names in _by_price(old))
    moves.sort(key=lambda move: (-max(move.ratio, 1 / move.ratio), move.instance_type, move.region, move.purchase))
    return Changes(changed, added, removed, tuple(moves))


def _by_price(zones: Zones) -> Collection[tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for zone, cell in zones.items():
        found.setdefault(cell.hourly_usd, []).append(zone)
    return [tuple(names) for names in found.values()]


def _moves(key: Key, zones: Zones, moved: Zones) -> list[PriceMove]:
    """Return a move for each old price of zones that share a new one."""
    return [
        PriceMove(
            instance_type=key.instance_type,
            accelerators=float(key.accelerators),
            region=key.region,
            zones=tuple(filter(None, names)),
            purchase=cast("Purchase", key.purchase),
            before=cell.cost,
            after=zones[names[0]].cost,
            is_accepted=True,
        )
        for cell, names in grouped(moved).items()
    ]

"""A slow resolver, written from the documented rules only: it applies every rule to every offer in turn."""

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from math import ceil, floor
from pathlib import Path

import multicompute
from multicompute import accelerators
from multicompute.catalog import Catalog
from multicompute.config import Discount
from multicompute.offer import InstanceType, Listing, Offer, Quote
from multicompute.plan import Outage
from multicompute.provider import LifetimeLimit, Reservation
from multicompute.spec import ClusterSpec

PartKey = tuple[str, str, str, str, str, float, str, int, str | None]
"""Provider, region, zone, type, accelerator, accelerators, purchase, nodes, reservation."""

Gang = tuple[tuple[Offer, int, str | None], ...]
"""The parts of a candidate: an offer, nodes, and a reservation or None."""


def egress_rows() -> list[dict[str, str]]:
    with (Path(multicompute.__file__).parent / "data" / "egress.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


EGRESS = egress_rows()
CONTINENTS = {
    "na": "US CA",
    "sa": "BR CL",
    "eu": "AT BE CH DE DK ES FI FR GB IE IT NL NO PL SE",
    "as": "HK ID IN JP KR MY SG TH TW",
    "oc": "AU NZ",
    "me": "AE BH IL QA SA",
    "af": "ZA",
}


def universe(catalog: Catalog) -> list[tuple[Listing, Offer]]:
    """Return every offer of every table."""
    return [
        (line, offer)
        for name in ("", *catalog.accelerators())
        for line in catalog.listings(name)
        for offer in line.offers
    ]


def key_of(offer: Offer, nodes: int, reservation: str | None = None) -> PartKey:
    instance = offer.instance
    place = (offer.provider, offer.region, offer.zone)
    return (*place, instance.name, instance.accelerator, instance.accelerators, offer.purchase, nodes, reservation)


@dataclass(frozen=True)
class Answer:
    candidates: list[tuple[PartKey, ...]]
    rejected: dict[str, int]
    prices: list[float]
    transfers: list[float | None]


@dataclass
class Oracle:
    """A spec and its context, applied to each offer on its own."""

    spec: ClusterSpec
    catalog: Catalog
    offers: Sequence[tuple[Listing, Offer]]
    now: datetime
    unusable: frozenset[str] = frozenset()
    outages: Sequence[Outage] = ()
    reservations: Sequence[Reservation] = ()
    only: Mapping[str, Sequence[str]] = field(default_factory=dict)
    lifetime_limits: Mapping[str, Sequence[LifetimeLimit]] = field(default_factory=dict)
    default_ttl: timedelta | None = None
    discounts: Sequence[Discount] = ()
    used: Mapping[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._accelerators: dict[frozenset[str], set[str]] = {}
        self._rejections: dict[int, str | None] = {}
        reserved = [r for name in self.spec.reservations for r in self.reservations if r.id == name]
        self.names = self.spec.type or tuple(r.instance_type for r in reserved)
        self.models: list[frozenset[str]] = [frozenset(a.name for a in accelerators.find(name)) for name in self.names]
        self._zones = self.catalog.zones()

    # Names

    def place_in_list(self, instance: InstanceType) -> int | None:
        for index, name in enumerate(self.names):
            if instance.accelerator in self.models[index]:
                return index
            if not self.models[index] and instance.name.lower() == name.lower():
                return index
        return None

    def is_named(self, instance: InstanceType) -> bool:
        return any(not m and n.lower() == instance.name.lower() for n, m in zip(self.names, self.models, strict=True))

    def shares_accelerator(self, instance: InstanceType) -> bool:
        """Return whether `type` names an instance type with this accelerator."""
        wanted = {name.lower() for name, model in zip(self.names, self.models, strict=True) if not model}
        return instance.accelerator in self._accelerators_of(frozenset(wanted))

    def _accelerators_of(self, names: frozenset[str]) -> set[str]:
        if names not in self._accelerators:
            self._accelerators[names] = {i.accelerator for name in names for i in self.catalog.instances(name)}
        return self._accelerators[names]

    def region_matches(self, pattern: str, provider: str, region: str) -> bool:
        pattern = pattern.lower()
        if ":" in pattern:
            cloud, pattern = pattern.split(":")
            if cloud != provider:
                return False
        else:
            cloud = ""
        known = [r for r in self.catalog.regions() if cloud in ("", r.provider)]
        if any(r.residency == pattern for r in known):
            return any(r.residency == pattern and (r.provider, r.name) == (provider, region) for r in known)
        return fnmatchcase(region, pattern)

    def means_a_region(self, pattern: str) -> bool:
        cache: dict[str, bool] = self.__dict__.setdefault("_regions", {})
        if pattern not in cache:
            cache[pattern] = any(self.region_matches(pattern, r.provider, r.name) for r in self.catalog.regions())
        return cache[pattern]

    def means_a_type(self, pattern: str) -> bool:
        cache: dict[str, bool] = self.__dict__.setdefault("_types", {})
        if pattern not in cache:
            cache[pattern] = any(fnmatchcase(name.lower(), pattern.lower()) for name in self.catalog.instance_names())
        return cache[pattern]

    def zone_matches(self, pattern: str, provider: str, zone: str) -> bool:
        """Return whether a pattern that matches no region matches a zone."""
        cloud, _, name = pattern.lower().rpartition(":")
        return not self.means_a_region(pattern) and cloud in ("", provider) and fnmatchcase(zone.lower(), name)

    def means_a_zone(self, pattern: str) -> bool:
        return any(self.zone_matches(pattern, p, zone) for (p, _), zones in self._zones.items() for zone in zones)

    def excluded_places(self) -> list[str]:
        """Return the exclusions that are not instance types. What is both a type and a zone is a type."""
        return [p for p in self.spec.exclude if self.means_a_region(p) or not self.means_a_type(p)]

    def zones_in(self, provider: str, region: str) -> tuple[str, ...]:
        return self._zones.get((provider, region), ())

    def is_split(self, provider: str, region: str) -> bool:
        """Return whether `regions`, `exclude` or the configuration treats some zones of a region unlike others."""
        cache: dict[tuple[str, str], bool] = self.__dict__.setdefault("_split", {})
        if (provider, region) not in cache:
            cache[provider, region] = any(
                any(self.zone_matches(p, provider, zone) for p in patterns for zone in self.zones_in(provider, region))
                and not any(self.region_matches(p, provider, region) for p in patterns)
                for patterns in (self.spec.regions, self.excluded_places())
            ) or any(zone in self.only.get(provider, ()) for zone in self.zones_in(provider, region))
        return cache[provider, region]

    def is_refused(self) -> bool:
        """Return whether the spec names something unknown or contradicts itself. (All types that are drawn exist.)"""
        spec = self.spec
        instances = [
            i
            for name, model in zip(self.names, self.models, strict=True)
            if not model
            for i in self.catalog.instances(name)
        ]
        has_models = any(self.models)
        if not self.names or (spec.gpus is None and has_models):
            return True
        if spec.data and self.hours() is None:
            return True
        if spec.gpus is not None and not has_models and not any(i.accelerators for i in instances):
            return True
        if not all(self.means_a_region(pattern) or self.means_a_zone(pattern) for pattern in spec.regions):
            return True
        for pattern in spec.exclude:
            if not (self.means_a_region(pattern) or self.means_a_type(pattern) or self.means_a_zone(pattern)):
                return True
        places = [(r.provider, r.name) for r in self.catalog.regions()]
        found = {p for p, name in places if any(self.region_matches(pattern, p, name) for pattern in spec.regions)}
        zones = [(p, zone) for (p, _), names in self._zones.items() for zone in names]
        found |= {p for p, zone in zones if any(self.zone_matches(pattern, p, zone) for pattern in spec.regions)}
        return bool(spec.regions and spec.clouds is not None and not found & set(spec.clouds))

    # Numbers

    def per_accelerator(self, instance: InstanceType) -> int:
        """Return how many nodes with a fraction of an accelerator add up to one."""
        return round(1 / instance.accelerators)

    def exact_count(self, instance: InstanceType) -> float:
        """Return the accelerators per node, not rounded as in the tables."""
        return 1 / self.per_accelerator(instance) if 0 < instance.accelerators < 1 else instance.accelerators

    def node_count(self, instance: InstanceType) -> int:
        if self.spec.nodes is not None:
            return self.spec.nodes
        if self.spec.gpus is None or instance.accelerators == 0:
            return 1
        if instance.accelerators < 1:
            return self.spec.gpus * self.per_accelerator(instance)
        return ceil(self.spec.gpus / instance.accelerators)

    def has_enough(self, instance: InstanceType) -> bool:
        assert self.spec.gpus is not None
        if instance.accelerators < 1:
            return self.node_count(instance) >= self.spec.gpus * self.per_accelerator(instance)
        return self.node_count(instance) * instance.accelerators >= self.spec.gpus

    def surplus(self, instance: InstanceType) -> float:
        if self.spec.gpus is None:
            return 0.0
        if 0 < instance.accelerators < 1:
            return self.node_count(instance) / self.per_accelerator(instance) - self.spec.gpus
        return self.node_count(instance) * instance.accelerators - self.spec.gpus

    def memory_per_accelerator(self, instance: InstanceType) -> float:
        model = accelerators.get(instance.accelerator)
        if instance.accelerators == 0:
            return 0.0
        if instance.accelerators < 1:
            nominal = model.memory_gib if model else instance.accelerator_memory_gib
            return min(instance.accelerator_memory_gib, nominal * instance.accelerators)
        return max(instance.accelerator_memory_gib, model.memory_gib if model else 0.0)

    # Costs

    def hours(self) -> float | None:
        ttl = self.default_ttl if self.spec.ttl == "default" else self.spec.ttl
        assert not isinstance(ttl, str)
        return self.spec.hours or (None if ttl is None else ttl.total_seconds() / 3600)

    def discount_of(self, offer: Offer) -> int | None:
        """Return the position of the last discount that matches an offer."""
        found = None
        for position, terms in enumerate(self.discounts):
            is_type = fnmatchcase(offer.instance.name.lower(), terms.instance_type.lower())
            is_region = not terms.regions or any(fnmatchcase(offer.region, pattern) for pattern in terms.regions)
            has_price = terms.usd_per_accelerator_hour is None or offer.instance.accelerators > 0
            is_offer = (offer.provider, offer.purchase) == (terms.cloud, terms.purchase)
            if is_offer and is_type and is_region and has_price:
                found = position
        return found

    def discounted_price(self, offer: Offer, terms: Discount) -> float:
        """Return the price of a node that a discount covers."""
        if terms.percent is not None:
            return round(offer.quote.hourly_cost * (100 - terms.percent) / 100, 6)
        if terms.usd_per_accelerator_hour is not None:
            return terms.usd_per_accelerator_hour * self.exact_count(offer.instance)
        assert terms.hourly_usd is not None
        return terms.hourly_usd

    def part_prices(self, gang: Gang) -> list[float]:
        """Return what each part costs per hour; a discount covers nodes in the order of the parts."""
        free = {
            position: (float("inf") if terms.nodes is None else max(terms.nodes - self.used.get(position, 0), 0))
            for position, terms in enumerate(self.discounts)
        }
        prices = []
        for offer, nodes, _ in gang:
            position = self.discount_of(offer)
            covered = 0.0 if position is None else min(nodes, free[position])
            price = (nodes - covered) * offer.quote.hourly_cost
            if position is not None and covered:
                price += covered * self.discounted_price(offer, self.discounts[position])
                free[position] -= covered
            prices.append(price)
        return prices

    def hourly(self, gang: Gang) -> float:
        return round(sum(self.part_prices(gang)), 6)

    def complete(self, offer: Offer) -> Gang:
        """Return the gang that has all its nodes from one offer."""
        return ((offer, self.node_count(offer.instance), None),)

    def area_of(self, provider: str, region: str) -> str:
        country = self.catalog.region(provider, region).country
        return next((area for area, countries in CONTINENTS.items() if country in countries.split()), "nowhere")

    def route(self, origin: tuple[str, str], to: tuple[str, str]) -> list[dict[str, str]]:
        """Return the rows of the table that price a transfer: those of the most exact origin, then destination."""
        area = self.area_of(*to)
        names = [to[1], area, "other"] if origin[0] == to[0] else [f"internet:{area}", "internet"]
        for start in (origin[1], self.area_of(*origin)):
            for name in names:
                if rows := [
                    r for r in EGRESS if (r["provider"], r["origin"], r["destination"]) == (origin[0], start, name)
                ]:
                    return sorted(rows, key=lambda row: float(row["above_gib"]))
        return []

    def transfer_to(self, provider: str, region: str) -> float | None:
        """Return what all data costs in one region, cached."""
        kept: dict[tuple[str, str], float | None] = self.__dict__.setdefault("_transfers", {})
        if (provider, region) not in kept:
            kept[provider, region] = self.sum_transfers((provider, region))
        return kept[provider, region]

    def sum_transfers(self, to: tuple[str, str]) -> float | None:
        amounts: Counter[tuple[str, str]] = Counter()
        for _, place, size in self.spec.data:
            provider, region = place.lower().split(":")
            amounts[provider, region] += size  # type: ignore[assignment]
        total = 0.0
        for origin, size in amounts.items():
            if origin == to:
                continue
            rows = self.route(origin, to)
            if not rows:
                return None
            left = float(size)
            # From the highest tier down: each prices what is above its limit.
            for row in reversed(rows):
                above = max(left - float(row["above_gib"]), 0.0)
                if above and not row["usd_per_gib"]:
                    return None
                total += above * float(row["usd_per_gib"] or 0)
                left -= above
        return round(total, 6)

    def transfer(self, gang: Gang) -> float | None:
        costs = [self.transfer_to(*place) for place in {(offer.provider, offer.region) for offer, _, _ in gang}]
        return None if None in costs else round(sum(cost for cost in costs if cost is not None), 6)

    def cost(self, gang: Gang) -> float:
        """Return the cost by which a gang ranks. The packaged tables have no interruption rates: all count as 60 % in 730 h."""
        lost = sum(
            price * self.spec.interruption_cost_hours * 0.6 / 730
            for price, (offer, _, _) in zip(self.part_prices(gang), gang, strict=True)
            if offer.purchase == "spot"
        )
        hourly = self.hourly(gang) + lost
        if not self.spec.data and self.spec.hours is None:
            return round(hourly, 6)
        return round(hourly * (self.hours() or 0) + (self.transfer(gang) or 0.0), 6)

    # Rules, in their order

    def rejection_reason(self, instance: InstanceType) -> str | None:  # noqa: C901 - one rule after the other, as the specification lists them
        spec = self.spec
        if self.place_in_list(instance) is None:
            return "other instance type" if self.shares_accelerator(instance) else "wrong accelerator"
        if spec.clouds is not None and instance.provider not in spec.clouds:
            return "cloud not asked for"
        for pattern in spec.exclude:
            if not self.means_a_region(pattern) and fnmatchcase(instance.name.lower(), pattern.lower()):
                return "instance type excluded"
        if instance.retired and not self.is_named(instance):
            return "retired"
        if 0 < instance.accelerators < 1 and not self.is_named(instance):
            return "fraction of an accelerator"
        if spec.gpus is not None and instance.accelerators == 0:
            return "no accelerators"
        if spec.gpus_per_node is not None and instance.accelerators != spec.gpus_per_node:
            return "other number of accelerators per node"
        if spec.gpus is not None and not self.has_enough(instance):
            return "too few accelerators for that many nodes"
        if spec.gpus is not None and not spec.allow_surplus and self.surplus(instance) > spec.gpus / 4:
            return "over a quarter more accelerators than asked for"
        if spec.min_gpu_memory is not None and self.memory_per_accelerator(instance) < spec.min_gpu_memory:
            return "too little accelerator memory"
        if spec.vcpus is not None and instance.vcpus < spec.vcpus:
            return "too few vCPUs"
        if spec.memory is not None and instance.memory_gib < spec.memory:
            return "too little memory"
        return None

    def instance_rejection(self, instance: InstanceType) -> str | None:
        """Return the same, cached per instance type: there are 40 times as many offers."""
        if id(instance) not in self._rejections:
            self._rejections[id(instance)] = self.rejection_reason(instance)
        return self._rejections[id(instance)]

    def allowed(self, purchase: str) -> bool:
        return {
            "on_demand": self.spec.spot in (False, "prefer"),
            "spot": self.spec.spot in (True, "prefer"),
            "flex_start": self.spec.flex_start,
            "reserved": False,
        }[purchase]

    def place_rejection(self, provider: str, region: str, zone: str) -> str | None:
        """Return `first_place_rejection`, cached: there are 200 times as many offers as zones."""
        kept: dict[tuple[str, str, str], str | None] = self.__dict__.setdefault("_places", {})
        if (provider, region, zone) not in kept:
            kept[provider, region, zone] = self.first_place_rejection(provider, region, zone)
        return kept[provider, region, zone]

    def first_place_rejection(self, provider: str, region: str, zone: str) -> str | None:
        """Return the first reason to reject one zone of a region; "" is an unknown zone, which may be any."""
        asked, excluded = self.spec.regions, self.excluded_places()
        others = self.zones_in(provider, region)
        if asked and not any(
            self.region_matches(p, provider, region) or self.zone_matches(p, provider, zone) for p in asked
        ):
            is_zone = any(self.zone_matches(p, provider, other) for p in asked for other in others)
            return "zone not asked for" if is_zone else "region not asked for"
        if any(self.region_matches(p, provider, region) for p in excluded):
            return "region excluded"
        if any(self.zone_matches(p, provider, other) for p in excluded for other in ([zone] if zone else others)):
            return "zone excluded"
        only = self.only.get(provider, (region,))
        if region not in only and zone not in only:
            return "zone not configured" if any(other in only for other in others) else "region not configured"
        return None

    def zones_of(self, offer: Offer) -> list[str]:
        """Return the zones in which an offer may be used."""
        if offer.zone or not self.is_split(offer.provider, offer.region):
            return [offer.zone]
        zones = self.zones_in(offer.provider, offer.region)
        return [zone for zone in zones if self.place_rejection(offer.provider, offer.region, zone) is None]

    def offer_place_rejection(self, offer: Offer) -> str | None:
        place = (offer.provider, offer.region)
        if offer.zone or not self.is_split(*place):
            return self.place_rejection(*place, offer.zone)
        order = (
            *("region not asked for", "zone not asked for", "region excluded", "zone excluded"),
            *("region not configured", "zone not configured"),
        )
        found = [self.place_rejection(*place, zone) for zone in self.zones_in(*place)]
        return None if None in found else max((reason for reason in found if reason), key=order.index)

    def price_rejection(self, hourly: float, per_accelerator: float) -> str | None:
        spec = self.spec
        if spec.max_price is not None and per_accelerator > spec.max_price:
            return "over max_price"
        if spec.max_hourly is not None and hourly > spec.max_hourly:
            return "over max_hourly"
        return None

    def offer_rejection(self, offer: Offer) -> str | None:
        """Return the first reason to reject an offer, except for outages and the fabric."""
        if found := self.instance_rejection(offer.instance):
            return found
        if not self.allowed(offer.purchase):
            words = {"on_demand": "on demand", "spot": "spot", "flex_start": "flex-start", "reserved": "reserved"}
            return f"{words[offer.purchase]} not asked for"
        if found := self.offer_place_rejection(offer):
            return found
        if self.spec.data and self.transfer_to(offer.provider, offer.region) is None:
            return "price of the data transfer not known"
        if offer.quote.basis == "estimate" and not self.spec.estimates:
            return "price is an estimate"
        count = self.exact_count(offer.instance)
        hourly = self.hourly(self.complete(offer))
        unit = sum(self.part_prices(self.complete(offer))) / self.node_count(offer.instance)
        each = round(unit / count, 6) if count else 0.0
        if found := self.price_rejection(hourly, each):
            return found
        return "terminated before the ttl" if self.spec.strict_ttl and self.ends_early(offer) else None

    def ends_early(self, offer: Offer, reservation: str | None = None) -> bool:
        """Return whether the cloud terminates nodes of this offer before the ttl."""
        ttl = self.default_ttl if self.spec.ttl == "default" else self.spec.ttl
        assert not isinstance(ttl, str)
        lives = [
            limit.longest
            for limit in self.lifetime_limits.get(offer.provider, ())
            if (ttl is not None or limit.without_expiry)
            and (offer.purchase in limit.purchases or limit.purchases == ())
            and any(fnmatchcase(offer.instance_type, glob) for glob in limit.families)
        ]
        held = [
            r
            for r in self.reservations
            if (r.id, r.provider, r.region, r.zone) == (reservation, offer.provider, offer.region, offer.zone)
        ]
        lives += [r.ends_at - self.now for r in held if r.ends_at is not None]
        return any(ttl is None or life < ttl for life in lives)

    def blocked(self, offer: Offer, nodes: int) -> bool:
        """Return whether an outage covers `nodes` of this offer."""
        return any(
            o.provider == offer.provider
            and o.place in ("", offer.region, offer.zone)
            and o.purchase == offer.purchase
            and fnmatchcase(offer.instance_type, o.instance_type)
            and nodes >= o.nodes
            and self.now < o.until
            for o in self.outages
        )

    def is_linked(self, instance: InstanceType) -> bool:
        model = accelerators.get(instance.accelerator)
        return model is not None and model.linked

    def lacks_fabric(self, instance: InstanceType) -> bool:
        return self.node_count(instance) > 1 and not instance.fabric

    # Answer

    def answer(self) -> Answer:
        first: dict[int, str] = {}
        self.offers = self.expanded()
        # Those that only an outage rejects may be parts of a gang that spreads.
        fitting: list[tuple[int, Offer]] = []
        instance, rejection = None, None
        for index, (_, offer) in enumerate(self.offers):
            # The offers of a line follow one another.
            if offer.instance is not instance:
                instance, rejection = offer.instance, self.instance_rejection(offer.instance)
            if found := rejection or self.offer_rejection(offer):
                first[index] = found
                continue
            fitting.append((index, offer))
            if self.blocked(offer, self.node_count(offer.instance)):
                first[index] = "outage"
        accepted = [(index, offer) for index, offer in fitting if index not in first]
        needs_fabric = self.spec.interconnect == "rdma" or (
            self.spec.interconnect == "auto"
            and any(
                self.is_linked(offer.instance) and not self.lacks_fabric(offer.instance)
                for index, offer in fitting
                # An outage now is no reason to accept gangs without a fabric, unless the gang may spread.
                if index not in first or self.spec.placement == "zone"
            )
        )
        for index, offer in accepted:
            applies = self.spec.interconnect == "rdma" or self.is_linked(offer.instance)
            if needs_fabric and applies and self.lacks_fabric(offer.instance):
                first[index] = "no fabric"
        gangs: list[Gang] = [
            ((offer, self.node_count(offer.instance), None),) for i, offer in accepted if i not in first
        ]
        if self.spec.placement != "zone" and self.spec.interconnect != "rdma":
            gangs += self.spread_gangs(fitting, first, needs_fabric=needs_fabric)
        reserved = self.reserved_gangs()
        used = {key_of(part[0], 0) for gang in (*gangs, *reserved) for part in gang}
        gangs = sorted(reserved, key=self.rank) + sorted(gangs, key=self.rank)
        keys = [tuple(key_of(*part) for part in gang) for gang in gangs]
        prices, transfers = [self.hourly(gang) for gang in gangs], [self.transfer(gang) for gang in gangs]
        return Answer(keys, self.counted(first, used), prices, transfers)

    def expanded(self) -> Sequence[tuple[Listing, Offer]]:
        """Return the offers, with one in every allowed zone for each without a zone, where zones are not treated alike."""
        split = {place for place in self._zones if self.is_split(*place)}
        if not split:
            return self.offers
        found = []
        for line, offer in self.offers:
            if not offer.zone and (offer.provider, offer.region) in split and not self.offer_rejection(offer):
                found += [(line, replace(offer, zone=zone)) for zone in self.zones_of(offer)]
            else:
                found.append((line, offer))
        return found

    def counted(self, first: Mapping[int, str], used: set[PartKey]) -> dict[str, int]:
        """Count the offers that are in no candidate. An offer that names no zone counts once, although it is in several."""
        counts: Counter[str] = Counter()
        once: dict[PartKey, set[str]] = {}
        # Few types are in a candidate, and the keys of all other offers take longer to create.
        types = {key[3] for key in used}
        for index, reason in first.items():
            line, offer = self.offers[index]
            if not line.zones and offer.zone:
                once.setdefault(key_of(replace(offer, zone=""), 0), set()).add(reason)
            elif offer.instance.name not in types or key_of(offer, 0) not in used:
                counts[reason] += 1
        used_anywhere = {(*key[:2], "", *key[3:]) for key in used}
        counts.update("outage" if "outage" in once[key] else min(once[key]) for key in once.keys() - used_anywhere)
        return dict(counts)

    def rank(self, gang: Gang) -> tuple[object, ...]:
        head = gang[0][0]
        instance = head.instance
        total = self.cost(gang)
        is_reserved = any(reservation for _, _, reservation in gang)
        position = self.place_in_list(instance) if self.spec.order == "given" and not is_reserved else 0
        estimated = any(offer.quote.basis == "estimate" for offer, _, _ in gang)
        nodes = sum(nodes for _, nodes, _ in gang)
        place = (head.provider, head.region, head.zone)
        parts = tuple((*key_of(o, 0)[:4], o.purchase) for o, _, _ in gang) if is_reserved or len(gang) > 1 else ()
        front = (
            position,
            any(self.ends_early(offer, reservation) for offer, _, reservation in gang),
            total,
            estimated,
            nodes,
            round(self.surplus(instance), 3),
            *place,
            instance.name,
            head.purchase,
        )
        return (*front, instance.accelerator, instance.accelerators, parts)

    def spread_gangs(
        self, fitting: Sequence[tuple[int, Offer]], first: Mapping[int, str], *, needs_fabric: bool
    ) -> list[Gang]:
        groups: dict[object, list[tuple[int, Offer]]] = {}
        for index, offer in fitting:
            if first.get(index) not in (None, "outage") or (needs_fabric and self.is_linked(offer.instance)):
                continue
            what: object = (offer.instance, offer.purchase)
            if self.spec.placement == "region":
                what = (what, offer.region)
            if self.spec.placement == "any":
                what = (
                    offer.instance.accelerator,
                    offer.instance.accelerators,
                    offer.purchase,
                    offer.provider in self.unusable,
                )
            if self.spec.order == "given":
                what = (what, self.place_in_list(offer.instance))
            groups.setdefault(what, []).append((index, offer))
        found: list[Gang] = []
        for group in groups.values():
            if not any(index in first for index, _ in group):
                continue
            ordered = sorted((offer for _, offer in group), key=self.price_key)
            parts = self.fill(ordered, self.node_count(ordered[0].instance))
            hourly = self.hourly(parts)
            if len(parts) > 1 and self.price_rejection(hourly, 0.0) is None:
                found.append(parts)
        return found

    def price_key(self, offer: Offer) -> tuple[object, ...]:
        place = (offer.provider, offer.region, offer.zone)
        return (
            self.ends_early(offer),
            sum(self.part_prices(self.complete(offer))) / self.node_count(offer.instance),
            offer.quote.basis == "estimate",
            *place,
            offer.instance.name,
            offer.instance.accelerator,
        )

    def fill(self, offers: Sequence[Offer], nodes: int) -> tuple[tuple[Offer, int, None], ...]:
        parts: list[tuple[Offer, int, None]] = []
        for offer in offers:
            take = self.most(offer, nodes)
            if take:
                parts.append((offer, take, None))
                nodes -= take
            if not nodes:
                return tuple(parts)
        return ()

    def most(self, offer: Offer, nodes: int) -> int:
        """Return the largest number up to `nodes` that fits. Bisection works, since more nodes never fit if fewer do not."""
        low, high = 0, nodes + 1
        while high - low > 1:
            middle = floor((low + high) / 2)
            if not self.blocked(offer, middle):
                low = middle
            else:
                high = middle
        return low

    def reserved_gangs(self) -> list[Gang]:
        places: dict[object, list[Reservation]] = {}
        for name in self.spec.reservations:
            for r in sorted(self.reservations, key=lambda r: (r.provider, r.region, r.zone)):
                if r.id == name:
                    places.setdefault((r.provider, r.region, r.zone, r.instance_type.lower()), []).append(r)
        return [gang for group in places.values() for gang in self.reserved_in(group)]

    def reserved_in(self, group: Sequence[Reservation]) -> list[Gang]:
        head = group[0]
        fitting = [
            i
            for i in self.catalog.instances(head.instance_type)
            if i.provider == head.provider
            and self.rejection_reason(i) is None
            and self.place_rejection(i.provider, head.region, head.zone) is None
        ]
        if not fitting or (self.spec.interconnect == "rdma" and self.lacks_fabric(fitting[0])):
            return []
        instance, missing = fitting[0], self.node_count(fitting[0])
        inside: list[tuple[Offer, int, str | None]] = []
        for r in group:
            offer = Offer(instance, r.region, r.zone, "reserved", Quote(r.hourly_cost, self.now.date(), r.id))
            take = min(r.available, missing)
            has_ended = r.ends_at is not None and r.ends_at <= self.now
            if take > 0 and not has_ended and not self.blocked(offer, take):
                inside.append((offer, take, r.id))
                missing -= take
        if not inside:
            return []
        gangs: list[Gang] = [tuple(inside)] if not missing else []
        for _, offer in self.offers if missing else ():
            if offer.region != head.region or offer.instance.name != instance.name:
                continue
            if self.place_rejection(offer.provider, offer.region, offer.zone) is not None:
                continue
            is_same_type = offer.instance == instance and self.allowed(offer.purchase)
            is_same_zone = offer.zone in ("", head.zone) or head.zone == ""
            is_allowed = offer.quote.basis == "list" or self.spec.estimates
            if is_same_type and is_same_zone and is_allowed and not self.blocked(offer, missing):
                gangs.append((*inside, (offer, missing, None)))
        return [gang for gang in gangs if self.is_affordable(gang) and self.lives_long_enough(gang)]

    def lives_long_enough(self, gang: tuple[tuple[Offer, int, str | None], ...]) -> bool:
        is_early = any(self.ends_early(offer, reservation) for offer, _, reservation in gang)
        return not (self.spec.strict_ttl and is_early)

    def is_affordable(self, gang: Gang) -> bool:
        hourly = self.hourly(gang)
        count = round(sum(nodes * self.exact_count(offer.instance) for offer, nodes, _ in gang), 6)
        return self.price_rejection(hourly, round(hourly / count, 6) if count else 0.0) is None

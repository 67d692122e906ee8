"""Costs, compared with sums that are computed differently: in whole microseconds and fractions, node by node."""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multicompute import Cluster, ClusterState, errors
from multicompute.config import Config
from multicompute.cost.billing import billed
from multicompute.cost.report import CostReport, report
from multicompute.ledger import ClusterRecord, NodeRecord
from multicompute.ledger.records import Stop
from multicompute.plugins import discover
from multicompute.provider import PriceChange
from multicompute.session import Session
from multicompute.testing import FakeClock, FakeCloud
from multicompute.testing import fake_cloud as clouds_in_memory
from tests.unit.ledger.postgres_server import server

NEW_YEAR = datetime(2027, 1, 1, tzinfo=UTC)
YEAR_END = datetime(2028, 1, 1, 10, 30, tzinfo=UTC)
MINIMUM = {"aws": 60, "gcp": 60, "azure": 300, "bygone": 0}
"""The billing minimum of each cloud in seconds; "bygone" is a provider that is not installed any more."""
DAY = 24 * 3600 * 10**6
PRICES = (55.04, 98.32, 0.706832, 21.957642, 88.49, 32.0 / 3, 0.0, 6.98)


@pytest.fixture(name="fake_cloud")
def _fake_cloud() -> Iterator[FakeCloud]:
    """Replace the plug-in's fixture, which reports clusters that are left running: here they exist only in the ledger."""
    with clouds_in_memory() as cloud:
        yield cloud


@pytest.fixture(name="open_ledger", params=["sqlite", "postgres"])
def _open_ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[datetime], Session]]:
    """Return a function that opens a session at an instant, on the same new ledger each time; for each engine."""
    url = server().url() if request.param == "postgres" else f"sqlite:///{tmp_path}/state.db"
    config = Config(state=url, default_ttl=None, catalog=None, owner="me@here", path=tmp_path / "config.toml")
    opened: list[Session] = []

    def at(now: datetime) -> Session:
        opened.append(Session(config=config, plugins=discover(), clock=FakeClock(now)))
        return opened[-1]

    yield at
    for session in opened:
        session.close()


def cluster(number: int = 1, **changes: Any) -> ClusterRecord:
    record = ClusterRecord(
        id=f"c-{number}",
        name=f"train-{number}",
        state=ClusterState.READY,
        owner="me@here",
        spec={"gpus": 8, "tags": {"team": "nlp"}},
        identity="{}",
        created_at=NEW_YEAR,
    )
    return replace(record, **changes)


def node(number: int = 0, **changes: Any) -> NodeRecord:
    place = ("aws", "p5.48xlarge", "us-east-1", "us-east-1a")
    record = NodeRecord(f"i-{number}", number, "token", *place, "running", NEW_YEAR, accelerators=8, hourly_cost=55.04)
    return replace(record, **changes)


def write(session: Session, record: ClusterRecord, *nodes: NodeRecord) -> None:
    session.ledger.adopt(record, [], nodes)


def random_year(
    random: Random, clusters: int, *, has_changes: bool = False
) -> list[tuple[ClusterRecord, list[NodeRecord]]]:
    """Return clusters of a year that live for seconds to months; some have nodes in several clouds, some are live.

    With `has_changes`, some nodes were stopped for a while, or had several prices.
    """
    found = []
    for number in range(clusters):
        tags = random.choice([{"team": "nlp"}, {"team": "vision", "a b": "c"}, {}, {"team": ""}])
        # Names are used again, except those of live clusters.
        has_ended = random.random() < 0.9
        record = cluster(
            number,
            name=f"train-{number % 40}" if has_ended else f"live-{number}",
            owner=random.choice(["me@here", "you@there"]),
            spec={"gpus": 8, "tags": tags},
            state=ClusterState.TERMINATED if has_ended else ClusterState.READY,
        )
        begun = NEW_YEAR + timedelta(microseconds=random.randrange(360 * DAY))
        nodes = []
        for rank in range(random.randint(1, 6)):
            # Most are short, so that billing minimums matter; some end exactly at midnight.
            length = timedelta(
                microseconds=random.choice([1, 60, 3600, 86400, 20 * 86400]) * random.randrange(1, 10**6)
            )
            end = min(begun + length, YEAR_END)
            if random.random() < 0.1:
                end = datetime.combine(end.date() + timedelta(days=1), datetime.min.time(), UTC)
            made = node(
                rank,
                id=f"i-{number}-{rank}",
                provider=random.choice([*MINIMUM]),
                started_at=begun,
                ended_at=None if not has_ended and random.random() < 0.7 else min(end, YEAR_END),
                hourly_cost=random.choice(PRICES),
                accelerators=random.choice([8.0, 4.0, 0.125, 1.0]),
            )
            nodes.append(with_changes(random, made, min(end, YEAR_END)) if has_changes else made)
        found.append((record, nodes))
    return found


def with_changes(random: Random, made: NodeRecord, end: datetime) -> NodeRecord:
    """Return a node that, perhaps, was stopped twice and had several prices between its start and `end`."""

    def instants(count: int) -> list[datetime]:
        life = (end - made.started_at) // timedelta(microseconds=1)
        return sorted(made.started_at + timedelta(microseconds=random.randrange(life + 1)) for _ in range(count))

    if random.random() < 0.3:
        edges = instants(4)
        stops = tuple(
            Stop(start, stop, is_billed=random.random() < 0.2) for start, stop in zip(edges[::2], edges[1::2])
        )
        made = replace(made, stops=stops)
    if random.random() < 0.3:
        changes = [PriceChange(at, random.choice(PRICES)) for at in instants(3)]
        made = made.priced(changes, at=end)
    return made


def since_new_year(instant: datetime) -> int:
    return (instant - NEW_YEAR) // timedelta(microseconds=1)


def billed_by_day(node: NodeRecord, now: datetime) -> Counter[tuple[int, float]]:
    """Return (day of the year, price) -> microseconds; what the minimum adds counts on the first day, at the first price."""
    start, end = since_new_year(node.started_at), since_new_year(node.ended_at or now)
    prices = [(since_new_year(each.at), each.hourly_cost) for each in node.prices] or [(start, node.hourly_cost)]
    stops = [(since_new_year(stop.start), since_new_year(stop.end or now)) for stop in node.stops if not stop.is_billed]
    edges = {start, end, *(at for at, _ in prices), *(edge for stop in stops for edge in stop)}
    edges |= {day * DAY for day in range(start // DAY + 1, end // DAY + 1)}
    days: Counter[tuple[int, float]] = Counter()
    for first, last in pairwise(sorted(edge for edge in edges if start <= edge <= end)):
        if not any(begun <= first < ended for begun, ended in stops):
            price = [cost for at, cost in prices if at <= first][-1]
            days[first // DAY, price] += last - first
    days[start // DAY, prices[0][1]] += max(0, MINIMUM[node.provider] * 10**6 - sum(days.values()))
    return +days


def usd(microseconds: int, price: float) -> Fraction:
    return Fraction(str(price)) * microseconds / (3600 * 10**6)


def as_written(amount: Fraction) -> float:
    """Round to 6 digits; a Fraction rounds half to even."""
    return float(round(amount, 6))


@pytest.mark.parametrize("seed", range(3))
def test_a_year_of_random_clusters_adds_up_to_an_independent_sum(
    open_ledger: Callable[[datetime], Session], seed: int
) -> None:
    session = open_ledger(YEAR_END)
    year = random_year(Random(seed), 150, has_changes=True)
    for record, nodes in year:
        write(session, record, *nodes)
    sums: dict[str, dict[str | None, Fraction]] = {by: {} for by in ("cluster", "owner", "cloud", "day", "tag:team")}
    hours = accelerator_hours = Fraction()
    uses = Counter(record.name for record, _ in year)
    for record, nodes in year:
        tags = record.spec["tags"]
        assert isinstance(tags, dict)
        for each in nodes:
            for (day, price), time in billed_by_day(each, YEAR_END).items():
                groups = {
                    "cluster": record.name if uses[record.name] == 1 else f"{record.name} ({record.id})",
                    "owner": record.owner,
                    "cloud": each.provider,
                    "day": str((NEW_YEAR + timedelta(days=day)).date()),
                    "tag:team": tags.get("team"),
                }
                for by, group in groups.items():
                    sums[by][group] = sums[by].get(group, Fraction()) + usd(time, price)
                hours += Fraction(time, 3600 * 10**6)
                accelerator_hours += Fraction(time, 3600 * 10**6) * Fraction(each.accelerators)
    total = sum(sums["owner"].values(), Fraction())
    assert total > 10_000
    for by, expected in sums.items():
        found = report(session, by=by)
        # Exactly: both are divided by 3600 only once.
        assert {row.group: Fraction(row.spent) / 3600 for row in found.rows} == expected
        assert Fraction(found.total.spent) / 3600 == total
        assert Fraction(found.total.node_seconds) / 3600 == hours
        assert Fraction(found.total.accelerator_seconds) / 3600 == accelerator_hours
        assert {row.group: row.to_dict()["cost_usd"] for row in found.rows} == {
            group: as_written(amount) for group, amount in expected.items()
        }
        assert found.total.to_dict()["cost_usd"] == as_written(total)


def test_since_cuts_to_the_microsecond(open_ledger: Callable[[datetime], Session]) -> None:
    session = open_ledger(YEAR_END)
    year = random_year(Random(7), 80)
    for record, nodes in year:
        write(session, record, *nodes)
    back = timedelta(days=97, seconds=1, microseconds=1)
    cut = since_new_year(YEAR_END - back)
    expected = Fraction()
    for each in (node for _, nodes in year for node in nodes):
        start, end = since_new_year(each.started_at), since_new_year(each.ended_at or YEAR_END)
        time = max(0, end - max(start, cut))
        if start >= cut:
            time = max(time, MINIMUM[each.provider] * 10**6)
        expected += usd(time, each.hourly_cost)
    for by in ("cluster", "day", "cloud"):
        assert Fraction(report(session, since=back, by=by).total.spent) / 3600 == expected
    assert report(session, since=back, by="day").rows[0].group == str((YEAR_END - back).date())
    assert report(session, since="99999w").total == report(session).total


@given(
    start=st.integers(0, 3 * DAY),
    length=st.integers(0, 2 * DAY),
    minimum=st.integers(0, 2 * DAY),
    cuts=st.lists(st.integers(-DAY, 8 * DAY), max_size=5),
    lives=st.booleans(),
)
def test_adjacent_windows_add_up(start: int, length: int, minimum: int, cuts: list[int], lives: bool) -> None:
    begun, end = (NEW_YEAR + timedelta(microseconds=each) for each in (start, start + length))
    it = node(started_at=begun, ended_at=None if lives else end)
    borders = [None, *(NEW_YEAR + timedelta(microseconds=each) for each in sorted(cuts)), None]
    least = timedelta(microseconds=minimum)
    parts = [billed(it, minimum=least, now=end, since=first, until=last) for first, last in pairwise(borders)]
    assert sum(parts, timedelta()) == billed(it, minimum=least, now=end)
    assert sum(parts, timedelta()) == max(timedelta(microseconds=length), least)


@pytest.mark.parametrize(("provider", "least"), MINIMUM.items())
def test_each_cloud_bills_for_its_minimum_and_then_by_the_second(
    fake_cloud: FakeCloud, provider: str, least: int
) -> None:
    now = fake_cloud.clock.now()
    for number, lived in enumerate((0, 20, least, least + 1)):
        it = node(0, provider=provider, started_at=now, ended_at=now + timedelta(seconds=lived), hourly_cost=36.0)
        write(fake_cloud.session, cluster(number, state=ClusterState.TERMINATED), it)
        assert Cluster.get(f"c-{number}").accrued_cost == max(lived, least) / 100


def test_a_live_node_younger_than_the_minimum_costs_the_minimum(fake_cloud: FakeCloud) -> None:
    write(fake_cloud.session, cluster(), node(started_at=fake_cloud.clock.now(), hourly_cost=36.0))
    fake_cloud.advance("20s")
    assert Cluster.get("train-1").accrued_cost == 0.6
    fake_cloud.advance("41s")
    assert Cluster.get("train-1").accrued_cost == 0.61


def test_the_billing_minimum_counts_on_the_day_on_which_the_node_began(fake_cloud: FakeCloud) -> None:
    midnight = fake_cloud.clock.now()
    it = node(started_at=midnight - timedelta(seconds=10), ended_at=midnight + timedelta(seconds=10), hourly_cost=36.0)
    write(fake_cloud.session, cluster(state=ClusterState.TERMINATED), it)
    fake_cloud.advance("1h")
    days = report(fake_cloud.session, by="day").rows
    assert [(row.group, row.cost) for row in days] == [("2026-12-31", Decimal("0.5")), ("2027-01-01", Decimal("0.1"))]
    assert report(fake_cloud.session, since="1h").total.cost == Decimal("0.1")


def test_days_are_in_utc_wherever_the_ledger_was_written(fake_cloud: FakeCloud) -> None:
    begun = datetime.fromisoformat("2026-12-31T23:30:00-05:00")
    write(fake_cloud.session, cluster(), node(started_at=begun, ended_at=begun + timedelta(hours=1)))
    fake_cloud.advance("1d")
    assert [row.group for row in report(fake_cloud.session, by="day").rows] == [str(date(2027, 1, 1))]


ZONES = (
    *("UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe", "Pacific/Kiritimati"),
    # Where clocks change at midnight, a day has no 00:00 or has it twice.
    *("America/Havana", "Asia/Beirut", "Africa/Cairo"),
)


@pytest.mark.parametrize("name", ZONES)
def test_days_in_a_time_zone_are_those_of_a_clock_that_is_read_every_quarter_of_an_hour(
    fake_cloud: FakeCloud, name: str
) -> None:
    fake_cloud.clock.advance(YEAR_END - fake_cloud.clock.now())
    zone, quarter = ZoneInfo(name), timedelta(minutes=15)
    expected: dict[str, Fraction] = {}
    for record, nodes in random_year(Random(name), 8):
        write(fake_cloud.session, record, *nodes)
        for each in nodes:
            at, end = each.started_at, each.ended_at or YEAR_END
            while at < end:
                # Time zones are whole quarters of an hour from UTC, so the date changes at no other instant.
                step = min(end, at + quarter - (at - NEW_YEAR) % quarter)
                day = str(at.astimezone(zone).date())
                time = (step - at) // timedelta(microseconds=1)
                expected[day] = expected.get(day, Fraction()) + usd(time, each.hourly_cost)
                at = step
            day = str(each.started_at.astimezone(zone).date())
            rest = MINIMUM[each.provider] * 10**6 - (end - each.started_at) // timedelta(microseconds=1)
            if rest > 0:
                expected[day] = expected.get(day, Fraction()) + usd(rest, each.hourly_cost)
    found = report(fake_cloud.session, by="day", timezone=name)
    assert found.timezone == name
    assert {row.group: row.to_dict()["cost_usd"] for row in found.rows if row.spent} == {
        day: as_written(amount) for day, amount in expected.items() if amount
    }
    assert round(found.total.cost, 20) == round(report(fake_cloud.session).total.cost, 20)


@pytest.mark.parametrize(
    ("name", "hours"),
    [
        ("UTC", {"2027-03-28": 24, "2027-10-31": 24}),
        ("Europe/Berlin", {"2027-03-27": 24, "2027-03-28": 23, "2027-10-31": 25}),
        ("America/New_York", {"2027-03-14": 23, "2027-11-07": 25}),
        ("America/Havana", {"2027-03-14": 23, "2027-11-07": 25}),
        ("Australia/Lord_Howe", {"2027-04-04": 24.5, "2027-10-03": 23.5}),
    ],
)
def test_a_day_on_which_clocks_change_has_its_own_length(
    fake_cloud: FakeCloud, name: str, hours: dict[str, float]
) -> None:
    write(fake_cloud.session, cluster(), node(started_at=NEW_YEAR))
    fake_cloud.clock.advance(YEAR_END - fake_cloud.clock.now())
    rows = {row.group: row.node_hours for row in report(fake_cloud.session, by="day", timezone=name).rows}
    assert {day: float(rows[day]) for day in hours} == hours


@pytest.mark.parametrize(
    ("given", "used"), [(None, "UTC"), ("utc", "UTC"), ("europe/berlin", "Europe/Berlin"), ("Asia/Tokyo", "Asia/Tokyo")]
)
def test_days_are_in_utc_unless_a_time_zone_is_given(fake_cloud: FakeCloud, given: str | None, used: str) -> None:
    found = report(fake_cloud.session, by="day", timezone=given)
    assert found.timezone == found.to_dict()["timezone"] == used
    assert report(fake_cloud.session).timezone is None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Europe/Berln", "Europe/Berln: no such time zone; did you mean Europe/Berlin?"),
        ("berlin", "did you mean Europe/Berlin?"),
        ("UTCC", "did you mean UTC?"),
        ("../../etc/passwd", "no such time zone"),
        ("", "no such time zone; write a name such as"),
    ],
)
def test_a_wrong_time_zone_is_refused_with_the_nearest_one(fake_cloud: FakeCloud, name: str, message: str) -> None:
    with pytest.raises(errors.SpecError, match=re.escape(message)):
        report(fake_cloud.session, by="day", timezone=name)


def test_a_time_zone_without_days_is_refused(fake_cloud: FakeCloud) -> None:
    with pytest.raises(errors.SpecError, match="by='owner' has no days"):
        report(fake_cloud.session, by="owner", timezone="UTC")


def test_without_time_zone_data_days_in_utc_still_work(fake_cloud: FakeCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zoneinfo.available_timezones", set)
    assert report(fake_cloud.session, by="day", timezone="UTC").timezone == "UTC"
    with pytest.raises(errors.SpecError, match="no time zone data") as caught:
        report(fake_cloud.session, by="day", timezone="Europe/Berlin")
    assert "pip install tzdata" in str(caught.value.hint)


def test_the_report_and_the_cluster_have_the_same_cost(fake_cloud: FakeCloud) -> None:
    with Cluster.request(gpus=16, type="h100", name="train", clouds=["aws"]) as first:
        fake_cloud.advance(timedelta(hours=3, seconds=7, microseconds=11))
        with Cluster.request(gpus=8, type="h100", name="other", clouds=["azure"]) as second:
            fake_cloud.advance("33s")
            found = report(fake_cloud.session)
            costs = {row.group: row.to_dict()["cost_usd"] for row in found.rows}
            assert costs == {"train": first.accrued_cost, "other": second.accrued_cost}
            assert second.accrued_cost == pytest.approx(second.hourly_cost / 12)
    ended = report(fake_cloud.session)
    assert {row.group: row.to_dict()["cost_usd"] for row in ended.rows} == {
        "train": first.accrued_cost,
        "other": second.accrued_cost,
    }
    assert fake_cloud.alive() == []


def test_a_name_narrows_the_report_to_one_cluster(fake_cloud: FakeCloud) -> None:
    write(fake_cloud.session, cluster(1), node(1))
    write(fake_cloud.session, cluster(2), node(2))
    fake_cloud.advance("1h")
    assert [row.group for row in report(fake_cloud.session, name="train-2").rows] == ["train-2"]
    with pytest.raises(errors.ClusterNotFound, match="train-3"):
        report(fake_cloud.session, name="train-3")


def test_without_a_ledger_nothing_was_spent_and_no_cluster_is_known(tmp_path: Path) -> None:
    config = Config(state=f"sqlite:///{tmp_path}/no.db", default_ttl=None, catalog=None, owner="me", path=tmp_path)
    session = Session(config=config, plugins={}, clock=FakeClock())
    assert report(session).rows == ()
    assert report(session).total.cost == 0
    with pytest.raises(errors.ClusterNotFound):
        report(session, name="train")
    assert not (tmp_path / "no.db").exists()


@pytest.mark.parametrize(
    ("by", "message"),
    [("owners", "did you mean owner"), ("nonsense", "by='nonsense'"), ("tag:", "by='tag:'"), ("", "by=''")],
)
def test_an_unknown_grouping_is_refused_by_name(fake_cloud: FakeCloud, by: str, message: str) -> None:
    with pytest.raises(errors.SpecError, match=message):
        report(fake_cloud.session, by=by)


@pytest.mark.parametrize("since", ["tomorrow", "", "-3d", timedelta(0)])
def test_a_period_that_is_no_duration_is_refused(fake_cloud: FakeCloud, since: str) -> None:
    with pytest.raises(errors.SpecError, match="since="):
        report(fake_cloud.session, since=since)


def forecast_of(cloud: FakeCloud, record: ClusterRecord, *nodes: NodeRecord) -> CostReport:
    write(cloud.session, record, *nodes)
    cloud.advance("2h")
    # The period of the report does not change the total of the forecast.
    return report(cloud.session, since="1m")


def test_a_cluster_is_forecast_until_its_expiry(fake_cloud: FakeCloud) -> None:
    end = NEW_YEAR + timedelta(hours=12)
    lost = node(1, ended_at=NEW_YEAR + timedelta(hours=1), hourly_cost=10.0)
    (found,) = forecast_of(fake_cloud, cluster(expires_at=end), node(0, hourly_cost=10.0), lost).forecasts
    assert (found.hourly_cost, found.accrued, found.remaining, found.total) == tuple(map(Decimal, (10, 30, 100, 130)))
    assert (found.ends_at, found.budget_at, found.warning) == (end, None, "")


def test_a_cluster_whose_budget_ends_first_is_forecast_to_that_and_says_so(fake_cloud: FakeCloud) -> None:
    record = cluster(expires_at=NEW_YEAR + timedelta(hours=12), spec={"budget": 65.0})
    (found,) = forecast_of(fake_cloud, record, node(hourly_cost=10.0)).forecasts
    assert (found.remaining, found.total) == (Decimal(45), Decimal(65))
    assert found.warning == "train-1 reaches its budget of $65.00 at 2027-01-01T06:30:00Z"


def test_a_cluster_that_has_spent_its_budget_has_nothing_remaining_and_a_warning(fake_cloud: FakeCloud) -> None:
    (found,) = forecast_of(fake_cloud, cluster(spec={"budget": 20}), node(hourly_cost=10.0)).forecasts
    assert (found.remaining, found.total, found.ends_at) == (Decimal(0), Decimal(20), fake_cloud.clock.now())
    assert found.warning == "train-1 has spent its budget of $20.00; `multicompute reap` terminates it"


def test_a_budget_that_lasts_longer_than_the_cluster_is_no_warning(fake_cloud: FakeCloud) -> None:
    record = cluster(expires_at=NEW_YEAR + timedelta(hours=12), spec={"budget": 121.0})
    (found,) = forecast_of(fake_cloud, record, node(hourly_cost=10.0)).forecasts
    assert (found.total, found.warning) == (Decimal(120), "")
    assert found.budget_at == NEW_YEAR + timedelta(hours=12, minutes=6)


def test_a_cluster_without_an_end_has_no_total(fake_cloud: FakeCloud) -> None:
    (found,) = forecast_of(fake_cloud, cluster(), node(hourly_cost=10.0)).forecasts
    assert (found.ends_at, found.remaining, found.total, found.accrued) == (None, None, None, Decimal(20))


def test_an_expired_cluster_has_nothing_remaining_and_a_terminating_one_no_forecast(fake_cloud: FakeCloud) -> None:
    write(fake_cloud.session, cluster(2, state=ClusterState.TERMINATING), node(2))
    write(fake_cloud.session, cluster(3, state=ClusterState.TERMINATED), node(3, ended_at=NEW_YEAR))
    (found,) = forecast_of(fake_cloud, cluster(expires_at=NEW_YEAR + timedelta(hours=1)), node()).forecasts
    assert (found.cluster, found.remaining, found.ends_at) == ("train-1", Decimal(0), fake_cloud.clock.now())

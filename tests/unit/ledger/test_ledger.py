"""The ledger: what it promises of its file, and what it says when it can't keep that."""

import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multicompute import ClusterState, Event, errors
from multicompute.ledger import AttemptRecord, AttemptState, ClusterRecord, Ledger, NodeRecord
from multicompute.ledger.schema import VERSION
from multicompute.offer import InstanceType, Offer, Part, Quote
from multicompute.plan import Outage

NOW = datetime(2027, 1, 1, 12, tzinfo=UTC)
OFFER = Offer(
    InstanceType("somecloud", "big.8x", "h100", 8, 80, 192, 2048.0, fabric="efa", network_cards=32),
    "north-1",
    "north-1a",
    "on_demand",
    Quote(55.04, date(2026, 7, 20), "a list"),
)


def cluster(number: int = 1, *, name: str = "train", identity: str = "{}") -> ClusterRecord:
    return ClusterRecord(
        id=f"c-{number}",
        name=name,
        state=ClusterState.REQUESTED,
        owner="me@here",
        spec={"gpus": 8},
        identity=identity,
        created_at=NOW + timedelta(seconds=number),
        expires_at=NOW + timedelta(hours=1),
    )


def attempt(number: int = 1, *, cluster_id: str = "c-1") -> AttemptRecord:
    parts = (Part(OFFER, 7), Part(OFFER, 1, "cr-1"))
    return AttemptRecord(f"token-{number}", cluster_id, number, AttemptState.OPEN, parts, NOW)


def node(number: int = 0) -> NodeRecord:
    return NodeRecord(f"i-{number}", number, "token-1", "somecloud", "big.8x", "north-1", "north-1a", "running", NOW)


def event(kind: str = "note", message: str = "said", cluster_id: str = "c-1") -> Event:
    return Event(NOW, kind, message, cluster_id, {"nodes": 8})


@pytest.fixture(name="url")
def _url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/deep/state.db"


@pytest.fixture(name="ledger")
def _ledger(url: str) -> Iterator[Ledger]:
    ledger = Ledger(url)
    yield ledger
    ledger.close()


def test_what_is_written_is_read_again_by_another_process(ledger: Ledger, url: str) -> None:
    ledger.claim(cluster())
    assert ledger.open_attempt(attempt(), event("attempt"))
    ledger.record_launch(attempt(), [node(0), node(1)], event("launched"))
    other = Ledger(url)
    assert other.cluster("c-1").state is ClusterState.PROVISIONING
    assert other.cluster("c-1").spec == {"gpus": 8}
    (found,) = other.attempts("c-1")
    assert found.parts == attempt().parts
    assert found.state is AttemptState.LAUNCHED
    assert other.nodes("c-1") == [node(0), node(1)]
    assert other.events("c-1") == [event("attempt"), event("launched")]
    other.close()


def test_its_file_and_folder_are_for_the_owner_only(ledger: Ledger, tmp_path: Path) -> None:
    ledger.claim(cluster())
    for path in (tmp_path / "deep").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    assert stat.S_IMODE((tmp_path / "deep").stat().st_mode) == 0o700


def test_an_intent_survives_a_kill_right_after_it_was_written(url: str) -> None:
    script = (
        "import os, sys; sys.path.insert(0, sys.argv[2]); import test_ledger as t\n"
        "ledger = t.Ledger(sys.argv[1]); ledger.claim(t.cluster()); ledger.open_attempt(t.attempt(), t.event())\n"
        "os.kill(os.getpid(), 9)"
    )
    folder = str(Path(__file__).parent)
    done = subprocess.run([sys.executable, "-c", script, url, folder], check=False, capture_output=True)
    assert done.returncode == -9, done.stderr
    ledger = Ledger(url)
    assert [each.token for each in ledger.attempts("c-1")] == ["token-1"]
    ledger.close()


def test_an_intent_waits_for_the_disk_and_a_line_of_the_story_does_not(ledger: Ledger) -> None:
    def waits() -> bool:
        return int(ledger._database.read("PRAGMA synchronous")[0][0]) == 2  # FULL

    assert ledger._database.read("PRAGMA journal_mode")[0][0] == "wal"
    ledger.append(event())
    assert not waits()
    ledger.claim(cluster())
    assert waits()
    ledger.append(event())
    ledger.open_attempt(attempt(), event())
    assert waits()
    ledger.append(event())
    ledger.record_launch(attempt(), [], event())
    assert waits()
    ledger.append(event())
    ledger.update_cluster("c-1", state=ClusterState.TERMINATING)
    assert waits()


def test_a_name_belongs_to_one_live_cluster(ledger: Ledger) -> None:
    assert ledger.claim(cluster(1)).id == "c-1"
    assert ledger.claim(cluster(2)).id == "c-1"
    with pytest.raises(errors.ClusterExists, match="gpus"):
        ledger.claim(cluster(3, identity='{"gpus": 9}'))
    ledger.end_cluster("c-1", state=ClusterState.TERMINATED, at=NOW, reason="done", event=event())
    assert ledger.claim(cluster(4)).id == "c-4"
    assert [each.id for each in ledger.clusters()] == ["c-4"]
    assert ledger.find("train").id == "c-4"
    assert ledger.find("c-1").state is ClusterState.TERMINATED


def test_the_database_itself_refuses_a_second_live_cluster_of_a_name(ledger: Ledger) -> None:
    ledger.claim(cluster(1))
    with pytest.raises(sqlite3.IntegrityError):
        ledger._database._connection.execute(
            "INSERT INTO clusters SELECT 'c-2', name, state, owner, spec, identity, created_at, expires_at, ended_at, "
            "provider, region, zone, reason FROM clusters"
        )


def test_no_attempt_is_opened_for_a_cluster_whose_end_has_begun(ledger: Ledger) -> None:
    ledger.claim(cluster())
    ledger.update_cluster("c-1", state=ClusterState.TERMINATING)
    assert not ledger.open_attempt(attempt(), event())
    assert not ledger.make_ready("c-1", [node()], event())
    assert ledger.attempts("c-1") == []
    assert ledger.events("c-1") == []
    assert ledger.cluster("c-1").state is ClusterState.TERMINATING


def test_an_ended_cluster_has_no_open_attempt_and_no_live_node(ledger: Ledger) -> None:
    ledger.claim(cluster())
    ledger.open_attempt(attempt(), event())
    ledger.record_launch(attempt(), [node()], event())
    ledger.end_cluster("c-1", state=ClusterState.FAILED, at=NOW, reason="why", event=event("failed"))
    assert [each.is_open for each in ledger.attempts("c-1")] == [False]
    assert [each.ended_at for each in ledger.nodes("c-1")] == [NOW]
    assert ledger.cluster("c-1").reason == "why"


def test_a_lease_has_one_holder_until_it_falls_silent(ledger: Ledger) -> None:
    length = timedelta(minutes=2)
    assert ledger.take_lease("c-1", "a", now=NOW, length=length) == "a"
    assert ledger.take_lease("c-1", "b", now=NOW + timedelta(minutes=1), length=length) == "a"
    assert ledger.take_lease("c-1", "a", now=NOW + timedelta(minutes=1), length=length) == "a"
    assert ledger.take_lease("c-1", "b", now=NOW + timedelta(minutes=2), length=length) == "a"
    assert ledger.take_lease("c-1", "b", now=NOW + timedelta(minutes=4), length=length) == "b"
    ledger.drop_lease("c-1", "a")
    assert ledger.take_lease("c-1", "a", now=NOW + timedelta(minutes=4), length=length) == "b"
    assert ledger.take_lease("c-1", "a", now=NOW + timedelta(minutes=4), length=length, dead=("b",)) == "a"


def outage(**changes: object) -> Outage:
    values = {"provider": "p", "place": "north-1a", "instance_type": "big.8x", "purchase": "spot", "reason": "capacity"}
    return Outage(**{**values, "until": NOW + timedelta(minutes=5), **changes})  # type: ignore[arg-type]


def test_outages_are_kept_once_each_and_end(ledger: Ledger) -> None:
    ledger.remember(outage())
    ledger.remember(outage(strikes=2, nodes=4))
    ledger.remember(outage(place="north-1b", until=NOW - timedelta(minutes=1)))
    assert ledger.outages(now=NOW) == [outage(strikes=2, nodes=4)]
    assert len(ledger.past_outages("p", NOW - timedelta(hours=1))) == 2
    assert ledger.outages(now=NOW + timedelta(minutes=6)) == []


@pytest.fixture(name="shared", scope="module")
def _shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    ledger = Ledger(f"sqlite:///{tmp_path_factory.mktemp('shared')}/state.db")
    yield ledger
    ledger.close()


_TEXT = st.text(st.characters(exclude_categories=["Cs"]))  # a lone surrogate is no text that can be stored or sent


@given(message=_TEXT, data=st.dictionaries(_TEXT, _TEXT))
def test_any_text_comes_back_as_it_was(shared: Ledger, message: str, data: dict[str, str]) -> None:
    shared.append(Event(NOW, "note", message, "c-1", data))
    last = shared.events("c-1")[-1]
    assert (last.message, last.data) == (message, data)


def test_many_threads_and_connections_lose_no_line(url: str) -> None:
    Ledger(url).close()

    def write(number: int) -> None:
        mine = Ledger(url)
        for _ in range(20):
            mine.append(event(message=str(number)))
        mine.close()

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ledger = Ledger(url)
    lines = [each.message for each in ledger.events("c-1")]
    assert sorted(lines) == sorted(str(number) for number in range(8) for _ in range(20))
    ledger.close()


def test_two_processes_that_open_a_new_ledger_at_once_both_can(url: str) -> None:
    script = "import sys; from multicompute.ledger import Ledger; Ledger(sys.argv[1]).close(); print('ok')"
    runs = [subprocess.Popen([sys.executable, "-c", script, url], stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert [run.communicate(timeout=60)[0] for run in runs] == ["ok\n"] * 4


def test_a_newer_ledger_is_refused_and_left_as_it_is(url: str, ledger: Ledger, tmp_path: Path) -> None:
    ledger.close()
    path = tmp_path / "deep" / "state.db"
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(errors.LedgerError, match="newer version") as caught:
        Ledger(url)
    assert "upgrade" in str(caught.value)
    assert path.read_bytes() == before


def test_a_file_that_is_no_ledger_is_refused_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "state.db").write_bytes(b"this is no database" * 100)
    with pytest.raises(errors.LedgerError, match="not a database") as caught:
        Ledger(f"sqlite:///{tmp_path}/state.db")
    assert "multicompute reconcile" in str(caught.value)


def test_a_damaged_ledger_is_refused(url: str, ledger: Ledger, tmp_path: Path) -> None:
    for number in range(50):
        ledger.claim(cluster(number, name=f"name-{number}"))
    ledger.close()
    path = tmp_path / "deep" / "state.db"
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    path.write_bytes(bytes(content))
    with pytest.raises(errors.LedgerError, match="malformed|not a database"):
        Ledger(url).clusters()


def test_a_folder_that_can_not_be_made_is_named() -> None:
    with pytest.raises(errors.LedgerError, match="/proc/multicompute") as caught:
        Ledger("sqlite:////proc/multicompute/state.db")
    assert "state" in (caught.value.hint or "")


def test_a_read_only_ledger_says_so_before_anything_is_launched(url: str, ledger: Ledger) -> None:
    # As root no file mode stops a write, so the connection itself is made read-only.
    ledger._database._connection.execute("PRAGMA query_only = ON")
    with pytest.raises(errors.LedgerError, match="readonly"):
        ledger.claim(cluster())


def test_a_full_disk_says_so_and_keeps_what_was_written(ledger: Ledger) -> None:
    ledger.claim(cluster())
    pages = ledger._database.read("PRAGMA page_count")[0][0]
    ledger._database._connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(errors.LedgerError, match="full") as caught:
        for number in range(1000):
            ledger.append(event(message="x" * 1000 + str(number)))
    assert "free some space" in str(caught.value)
    assert ledger.cluster("c-1").name == "train"


def test_only_known_kinds_of_ledger_are_taken() -> None:
    with pytest.raises(errors.LedgerError, match="sqlite"):
        Ledger("mysql://somewhere")


def test_an_unknown_cluster_is_not_found(ledger: Ledger) -> None:
    with pytest.raises(errors.ClusterNotFound):
        ledger.cluster("c-none")
    with pytest.raises(errors.ClusterNotFound):
        ledger.find("none")

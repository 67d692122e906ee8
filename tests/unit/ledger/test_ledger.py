"""The methods of the ledger, on both engines."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multicompute import ClusterState, Event, errors
from multicompute.ledger import AttemptState, Ledger
from tests.unit.ledger.ledger_records import NOW, attempt, cluster, event, node, outage, record_outage
from tests.unit.ledger.postgres_server import server


def test_another_connection_reads_what_was_written(ledger: Ledger, url: str) -> None:
    ledger.claim(cluster())
    assert ledger.open_attempt(attempt(), event("attempt"))
    ledger.record_launch(attempt(), [node(0), node(1)], event("launched"))
    other = Ledger(url)
    assert other.cluster("c-1").state is ClusterState.PROVISIONING
    assert other.cluster("c-1").spec == {"gpus": 8}
    (found,) = other.attempts("c-1")
    assert found == other.attempt("token-1") == replace(attempt(), state=AttemptState.LAUNCHED)
    assert other.attempt("token-2") is None
    assert other.count_attempts("c-1") == 1
    assert other.nodes("c-1") == [node(0), node(1)]
    assert other.events("c-1") == [event("attempt"), event("launched")]
    other.close()


def test_prices_are_stored_exactly(ledger: Ledger) -> None:
    ledger.claim(cluster())
    ledger.put_nodes("c-1", [node(0, hourly_cost=98.32000000000001), node(1, hourly_cost=1 / 3)])
    assert [each.hourly_cost for each in ledger.nodes("c-1")] == [98.32000000000001, 1 / 3]


def test_an_intent_survives_a_kill_right_after_the_write(url: str) -> None:
    script = (
        "import os, sys; sys.path.insert(0, sys.argv[2]); from tests.unit.ledger import ledger_records as r\n"
        "from multicompute.ledger import Ledger\n"
        "ledger = Ledger(sys.argv[1]); ledger.claim(r.cluster()); ledger.open_attempt(r.attempt(), r.event())\n"
        "os.kill(os.getpid(), 9)"
    )
    folder = str(Path(__file__).parents[3])
    done = subprocess.run([sys.executable, "-c", script, url, folder], check=False, capture_output=True)
    assert done.returncode == -9, done.stderr
    ledger = Ledger(url)
    assert [each.token for each in ledger.attempts("c-1")] == ["token-1"]
    ledger.close()


def test_a_name_belongs_to_one_live_cluster(ledger: Ledger) -> None:
    assert ledger.claim(cluster(1)).id == "c-1"
    assert ledger.claim(cluster(2)).id == "c-1"
    with pytest.raises(errors.ClusterExists, match="gpus"):
        ledger.claim(cluster(3, identity='{"gpus": 9}'))
    ledger.end_cluster("c-1", state=ClusterState.TERMINATED, at=NOW, reason="done", event=event())
    assert ledger.claim(cluster(4)).id == "c-4"
    assert [each.id for each in ledger.clusters()] == ["c-4"]
    assert [each.id for each in ledger.clusters(include_ended=True)] == ["c-1", "c-4"]
    assert ledger.find("train").id == "c-4"
    assert ledger.find("c-1").state is ClusterState.TERMINATED


def test_the_database_itself_refuses_a_second_live_cluster_of_a_name(ledger: Ledger) -> None:
    ledger.claim(cluster(1))
    # `adopt` does not check the name first, so only the unique index of the table refuses it.
    with pytest.raises(errors.LedgerError, match="(?i)unique"):
        ledger.adopt(cluster(2), [], [])
    assert [each.id for each in ledger.clusters(include_ended=True)] == ["c-1"]


def test_an_adopted_cluster_is_recorded_completely_or_not_at_all(ledger: Ledger) -> None:
    ledger.adopt(cluster(1), [attempt()], [node(0), node(1)])
    assert (len(ledger.attempts("c-1")), len(ledger.nodes("c-1"))) == (1, 2)
    with pytest.raises(errors.LedgerError):
        ledger.adopt(cluster(2, name="other"), [attempt(cluster_id="c-2")], [node(0)])
    with pytest.raises(errors.ClusterNotFound):
        ledger.cluster("c-2")


def test_a_node_of_an_unknown_cluster_is_refused(ledger: Ledger) -> None:
    ledger.claim(cluster(1))
    with pytest.raises(errors.LedgerError, match="(?i)foreign key"):
        ledger.put_nodes("c-none", [node()])


def test_no_attempt_is_opened_for_a_cluster_that_is_being_torn_down(ledger: Ledger) -> None:
    ledger.claim(cluster())
    ledger.update_cluster("c-1", state=ClusterState.TERMINATING)
    assert not ledger.open_attempt(attempt(), event())
    assert not ledger.make_ready("c-1", [node()], event())
    assert ledger.attempts("c-1") == []
    assert ledger.events("c-1") == []
    assert ledger.cluster("c-1").state is ClusterState.TERMINATING


def test_a_cluster_that_another_process_has_ended_is_not_changed_any_more(ledger: Ledger) -> None:
    ledger.claim(cluster())
    ledger.end_cluster("c-1", state=ClusterState.FAILED, at=NOW, reason="why", event=event("failed"))
    ended = ledger.cluster("c-1")
    assert ledger.update_cluster("c-1", event("terminating"), state=ClusterState.TERMINATING) == ended
    assert ledger.cluster("c-1") == ended
    assert [each.kind for each in ledger.events("c-1")] == ["failed"]


def test_an_ended_cluster_has_no_open_attempt_and_no_live_node(ledger: Ledger) -> None:
    ledger.claim(cluster())
    ledger.open_attempt(attempt(), event())
    ledger.record_launch(attempt(), [node()], event())
    ledger.end_cluster("c-1", state=ClusterState.FAILED, at=NOW, reason="why", event=event("failed"))
    assert [each.is_open for each in ledger.attempts("c-1")] == [False]
    assert [each.ended_at for each in ledger.nodes("c-1")] == [NOW]
    assert ledger.cluster("c-1").reason == "why"


def test_closing_an_attempt_ends_its_nodes_and_records_its_outage(ledger: Ledger) -> None:
    ledger.claim(cluster())
    for number in (1, 2):
        ledger.open_attempt(attempt(number), event())
        ledger.record_launch(attempt(number), [node(number, token=f"token-{number}")], event())
    ledger.close_attempt(attempt(1), at=NOW, outcome="capacity", event=event("capacity"), outage=outage())
    assert [each.token for each in ledger.nodes("c-1") if each.ended_at is None] == ["token-2"]
    assert [each.state for each in ledger.attempts("c-1")] == [AttemptState.CLOSED, AttemptState.LAUNCHED]
    assert ledger.outages(now=NOW) == [outage()]


def test_a_lease_has_one_holder_until_it_expires(ledger: Ledger) -> None:
    length = timedelta(minutes=2)
    assert ledger.take_lease("c-1", "a", now=NOW, length=length) == "a"
    assert ledger.take_lease("c-1", "b", now=NOW + timedelta(minutes=1), length=length) == "a"
    assert ledger.take_lease("c-1", "a", now=NOW + timedelta(minutes=1), length=length) == "a"
    assert ledger.take_lease("c-1", "b", now=NOW + timedelta(minutes=2), length=length) == "a"
    assert ledger.take_lease("c-1", "b", now=NOW + timedelta(minutes=4), length=length) == "b"
    ledger.drop_lease("c-1", "a")
    assert ledger.take_lease("c-1", "a", now=NOW + timedelta(minutes=4), length=length) == "b"
    assert ledger.take_lease("c-1", "a", now=NOW + timedelta(minutes=4), length=length, dead=("b",)) == "a"


def test_an_outage_replaces_an_earlier_one_of_the_same_scope_and_ends(ledger: Ledger) -> None:
    record_outage(ledger, outage())
    record_outage(ledger, outage(consecutive_failures=2, nodes=4))
    record_outage(ledger, outage(place="north-1b", until=NOW - timedelta(minutes=1)))
    assert ledger.outages(now=NOW) == [outage(consecutive_failures=2, nodes=4)]
    assert len(ledger.past_outages("p", NOW - timedelta(hours=1))) == 2
    assert ledger.outages(now=NOW + timedelta(minutes=6)) == []


@pytest.fixture(name="shared", scope="module", params=["sqlite", "postgres"])
def _shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    file = tmp_path_factory.mktemp("shared") / "state.db"
    ledger = Ledger(server().url() if request.param == "postgres" else f"sqlite:///{file}")
    yield ledger
    ledger.close()


_TEXT = st.text(st.characters(exclude_categories=["Cs"]))  # lone surrogates can't be encoded


@given(message=_TEXT, data=st.dictionaries(_TEXT, _TEXT))
def test_any_text_is_stored_unchanged_except_for_nul(shared: Ledger, message: str, data: dict[str, str]) -> None:
    shared.append(Event(NOW, "note", message, "c-1", data))
    last = shared.events("c-1")[-1]
    assert (last.message, last.data) == (message.replace("\0", "\ufffd"), data)


def test_threads_with_connections_of_their_own_lose_no_event(url: str) -> None:
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


def test_threads_that_share_a_ledger_lose_no_event(ledger: Ledger) -> None:
    def write(number: int) -> None:
        for _ in range(20):
            ledger.append(event(message=str(number)))
            assert ledger.events("c-1")

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ledger.events("c-1")) == 160


FORKED = """
import json, os, sys
sys.path.insert(0, sys.argv[2])
from tests.unit.ledger.ledger_records import cluster, event
from multicompute.ledger import Ledger
ledger = Ledger(sys.argv[1])
ledger.claim(cluster())
if os.fork() == 0:
    ledger.append(event(message="child"))
    ledger.close()
    os._exit(0)
ledger.append(event(message="parent"))
status = os.wait()[1]
ledger.append(event(message="parent again"))
print(json.dumps([status, sorted(each.message for each in ledger.events("c-1"))]))
ledger.close()
"""


def test_a_ledger_that_was_opened_before_a_fork_works_on_both_sides(url: str) -> None:
    folder = str(Path(__file__).parents[3])
    done = subprocess.run([sys.executable, "-c", FORKED, url, folder], check=True, capture_output=True, text=True)
    assert json.loads(done.stdout) == [0, ["child", "parent", "parent again"]]


def test_processes_that_open_a_new_ledger_at_once_all_can(url: str) -> None:
    script = "import sys; from multicompute.ledger import Ledger; Ledger(sys.argv[1]).close(); print('ok')"
    runs = [subprocess.Popen([sys.executable, "-c", script, url], stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert [run.communicate(timeout=60)[0] for run in runs] == ["ok\n"] * 4


@pytest.mark.parametrize(
    ("state", "shown"),
    [
        ("mysql://somewhere", "mysql://somewhere"),
        ("mysql://me:secret@somewhere/db", "mysql://...@somewhere/db"),
        ("state.db", "://..."),
        ("postgresql+psycopg://me:secret@host/db", "postgresql+psycopg://...@host/db"),
    ],
)
def test_other_kinds_of_database_are_refused_without_showing_the_password(state: str, shown: str) -> None:
    with pytest.raises(errors.LedgerError, match="sqlite") as caught:
        Ledger(state)
    assert repr(shown) in str(caught.value)
    assert "secret" not in str(caught.value)


def test_an_unknown_cluster_is_not_found(ledger: Ledger) -> None:
    with pytest.raises(errors.ClusterNotFound):
        ledger.cluster("c-none")
    with pytest.raises(errors.ClusterNotFound):
        ledger.find("none")

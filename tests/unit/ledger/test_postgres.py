"""The ledger on a server: lost connections, lost answers, who waits for whom, and what it says and does not say."""

import logging
import sys
import threading
import traceback
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

import pytest

from multicompute import errors
from multicompute.config import load
from multicompute.ledger import Ledger, postgres
from tests.unit.ledger.ledger_records import attempt, cluster, event, node
from tests.unit.ledger.postgres_server import server
from tests.unit.ledger.postgres_wire import Wire

PASSWORD = "p@ss/w%rd?#"


@pytest.fixture(name="url")
def _url() -> str:
    return server().url()


@pytest.fixture(name="ledger")
def _ledger(url: str) -> Iterator[Ledger]:
    ledger = Ledger(url)
    yield ledger
    ledger.close()


@pytest.fixture(name="wire")
def _wire() -> Iterator[Wire]:
    with Wire(server()) as wire:
        yield wire


def messages(ledger: Ledger) -> list[str]:
    return [each.message for each in ledger.events("c-1")]


def test_a_connection_that_was_lost_while_idle_is_made_again(ledger: Ledger) -> None:
    ledger.append(event(message="one"))
    assert server().kill_clients() >= 1
    ledger.append(event(message="two"))
    assert server().kill_clients() >= 1
    assert messages(ledger) == ["one", "two"]


def test_a_server_that_restarts_is_waited_for(ledger: Ledger) -> None:
    ledger.append(event(message="one"))
    server().stop("QUIT")
    starter = threading.Timer(0.5, server().start)
    starter.start()
    ledger.append(event(message="two"))
    starter.join()
    assert messages(ledger) == ["one", "two"]


def test_a_connection_that_is_lost_in_the_middle_leaves_nothing_half_written(ledger: Ledger, url: str) -> None:
    ledger.claim(cluster())
    with pytest.raises(errors.LedgerError), ledger._database.transaction("c-1") as cursor:
        cursor.execute("UPDATE clusters SET reason = ?", ("half",))
        server().kill_clients()
        cursor.execute("UPDATE clusters SET region = ?", ("half",))
    found = ledger.cluster("c-1")
    assert (found.reason, found.region) == ("", None)
    ledger.append(event(message="goes on"))
    assert messages(ledger) == ["goes on"]


def test_a_read_in_the_middle_does_not_slip_out_of_its_transaction(ledger: Ledger) -> None:
    ledger.claim(cluster())
    with pytest.raises(errors.LedgerError), ledger._database.transaction("c-1") as cursor:
        cursor.execute("UPDATE clusters SET reason = ?", ("half",))
        server().kill_clients()
        ledger.cluster("c-1")
    assert ledger.cluster("c-1").reason == ""


def test_a_commit_whose_answer_was_lost_is_found_to_be_kept_and_not_written_twice(wire: Wire) -> None:
    ledger = Ledger(wire.url())
    ledger.claim(cluster())
    wire.cut = "after"
    assert ledger.open_attempt(attempt(), event(message="once"))
    assert wire.cut is None
    assert [each.token for each in ledger.attempts("c-1")] == ["token-1"]
    assert messages(ledger) == ["once"]
    ledger.close()


def test_a_commit_that_never_arrived_is_an_error_and_was_not_written(wire: Wire) -> None:
    ledger = Ledger(wire.url())
    ledger.claim(cluster())
    wire.cut = "before"
    with pytest.raises(errors.LedgerError, match="can't write"):
        ledger.open_attempt(attempt(), event())
    assert ledger.attempts("c-1") == []
    assert ledger.open_attempt(attempt(), event(message="once"))
    assert messages(ledger) == ["once"]
    ledger.close()


def test_a_commit_whose_fate_can_not_be_asked_for_says_that_it_is_not_known(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger(wire.url())
    ledger.claim(cluster())
    # Half a minute is right for a server that restarts, and too long for a test.
    monkeypatch.setattr(postgres, "_PATIENCE", timedelta(milliseconds=600))
    wire.cut, wire.is_dead = "after", True
    with pytest.raises(errors.LedgerError, match="is not known"):
        ledger.open_attempt(attempt(), event())
    wire.is_dead = False
    assert [each.token for each in ledger.attempts("c-1")] == ["token-1"]
    ledger.close()


def test_work_on_one_cluster_waits_and_work_on_another_does_not(ledger: Ledger, url: str) -> None:
    other = Ledger(url)
    waiting = threading.Thread(target=other.append, args=(event(message="second"),))
    with ledger._database.transaction("c-1"):
        third = Ledger(url)
        third.append(event(cluster_id="c-2"))
        waiting.start()
        waiting.join(0.2)
        assert waiting.is_alive()
        assert third.events("c-1") == []
    waiting.join(10)
    assert messages(ledger) == ["second"]
    other.close()
    third.close()


def test_a_holder_that_hangs_is_put_out_and_writes_nothing_after_that(
    ledger: Ledger, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Ledger(url)
    ledger.claim(cluster())
    with pytest.raises(errors.LedgerError), monkeypatch.context() as patch:
        # Half a minute is right for a busy server, and too long for a test.
        patch.setattr(postgres, "_PATIENCE", timedelta(milliseconds=300))
        with ledger._database.transaction("c-1") as cursor:
            patch.undo()
            other.append(event(message="its turn came"))
            cursor.execute("UPDATE clusters SET reason = ?", ("too late",))
    assert messages(ledger) == ["its turn came"]
    assert ledger.cluster("c-1").reason == ""
    other.close()


def test_a_wait_that_has_no_end_is_given_up_and_says_why(
    ledger: Ledger, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Ledger(url)
    with ledger._database.transaction("c-1"):
        monkeypatch.setattr(postgres, "_PATIENCE", timedelta(milliseconds=300))
        with pytest.raises(errors.LedgerError, match="lock timeout") as caught:
            other.append(event())
    assert "hangs" in str(caught.value)
    other.append(event(message="free again"))
    assert messages(ledger) == ["free again"]
    other.close()


@pytest.mark.parametrize("found", ["off", "local", "on", "remote_apply"])
def test_what_is_acknowledged_is_on_the_servers_disk_whatever_its_default(found: str) -> None:
    base = server().url()
    ledger = Ledger(base + quote(f" -csynchronous_commit={found}"))
    with ledger._database.transaction("c-1") as cursor:
        kept = cursor.execute("SHOW synchronous_commit").fetchone()["synchronous_commit"]
    assert kept == ("remote_apply" if found == "remote_apply" else "on")
    ledger.close()


def test_what_was_acknowledged_survives_a_crash_of_the_server(ledger: Ledger) -> None:
    ledger.claim(cluster())
    ledger.open_attempt(attempt(), event(message="before"))
    server().stop("QUIT")
    server().start()
    assert [each.token for each in ledger.attempts("c-1")] == ["token-1"]
    assert messages(ledger) == ["before"]


def test_the_isolation_that_the_locks_count_on_holds_whatever_the_servers_default(url: str) -> None:
    ledger = Ledger(url + quote(" -cdefault_transaction_isolation=serializable"))
    with ledger._database.transaction("c-1") as cursor:
        assert cursor.execute("SHOW transaction_isolation").fetchone()["transaction_isolation"] == "read committed"
    ledger.close()


def test_a_server_that_only_reads_is_told_apart(ledger: Ledger, url: str) -> None:
    ledger.claim(cluster())
    replica = Ledger(url + quote(" -cdefault_transaction_read_only=on"))
    assert replica.find("train").id == "c-1"
    with pytest.raises(errors.LedgerError, match="primary"):
        replica.append(event())
    replica.close()


def test_a_database_whose_tables_have_our_names_is_left_alone(url: str) -> None:
    schema = url.rpartition("%3D")[2]
    server().execute(f"CREATE TABLE {schema}.nodes (theirs text)")
    with pytest.raises(errors.LedgerError, match="already exists") as caught:
        Ledger(url)
    assert "database of its own" in str(caught.value)
    assert server().execute(f"SELECT tablename FROM pg_tables WHERE schemaname = '{schema}'") == [("nodes",)]


@pytest.fixture(name="guarded")
def _guarded(url: str) -> Iterator[str]:
    """The part of a URL after the password, of a server that asks for one."""
    schema = url.rpartition("%3D")[2]
    server().execute(f"CREATE ROLE guarded LOGIN PASSWORD '{PASSWORD}'")
    server().execute(f"GRANT ALL ON SCHEMA {schema} TO guarded")
    yield url.partition("@")[2]
    server().execute("DROP OWNED BY guarded")
    server().execute("DROP ROLE guarded")


def test_a_right_password_opens_and_a_wrong_one_is_never_shown(guarded: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    ledger = Ledger(f"postgresql://guarded:{quote(PASSWORD, safe='')}@{guarded}")
    ledger.append(event())
    server().kill_clients()
    ledger.append(event())
    assert quote(PASSWORD, safe="") not in repr(ledger) + repr(vars(ledger)["_opened"])
    ledger.close()
    with pytest.raises(errors.LedgerError, match="authentication") as caught:
        Ledger(f"postgresql://guarded:wrong-{quote(PASSWORD, safe='')}@{guarded}")
    said = "".join(traceback.format_exception(caught.value)) + repr(caught.value) + caplog.text
    assert PASSWORD not in said
    assert quote(PASSWORD, safe="") not in said
    assert "PGPASSWORD" in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:hunter2%zz@localhost/db",
        "postgresql://me:hunter2@two@localhost/db",
        "postgresql://me:hunter2/3@4@localhost/db",
        "postgresql://localhost/db?user=me@here&password=hunter2",
        "postgresql://localhost/db?password=hunter2&nonsense=hunter2",
    ],
)
def test_an_address_that_can_not_be_read_does_not_give_the_password_away(url: str) -> None:
    with pytest.raises(errors.LedgerError, match="can't be read as the address") as caught:
        Ledger(url)
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))
    config = load({"HOME": "/nowhere", "MULTICOMPUTE_STATE": url})
    assert "hunter2" not in repr(config)
    assert config.state == url


def test_a_server_that_is_not_there_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(errors.LedgerError, match="can't open it") as caught:
        Ledger(f"postgresql:///db?host={quote(str(tmp_path), safe='')}")
    assert "whether the server runs" in str(caught.value)


def test_a_missing_driver_gives_the_line_that_mends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    # The driver is installed here; what is not ours to take away is hidden instead.
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(errors.LedgerError) as caught:
        Ledger("postgresql://me:secret@localhost/db")
    assert 'pip install "multicompute[postgres]"' in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_gang_is_written_down_in_few_trips_however_large(ledger: Ledger) -> None:
    ledger.claim(cluster())
    ledger.open_attempt(attempt(), event())
    ledger.record_launch(attempt(), [node(number) for number in range(2000)], event())
    assert len(ledger.nodes("c-1")) == 2000

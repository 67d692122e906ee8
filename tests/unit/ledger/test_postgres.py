"""The ledger on a server: lost connections and answers, locks, and error messages without passwords."""

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
from tests.unit.ledger.postgres_proxy import Proxy
from tests.unit.ledger.postgres_server import server

PASSWORD = "p@ss/w%rd?#"


@pytest.fixture
def engine() -> str:
    return "postgres"


@pytest.fixture(name="proxy")
def _proxy() -> Iterator[Proxy]:
    with Proxy(server()) as proxy:
        yield proxy


def messages(ledger: Ledger) -> list[str]:
    return [each.message for each in ledger.events("c-1")]


def test_a_connection_that_is_lost_while_idle_is_opened_again(ledger: Ledger) -> None:
    ledger.append(event(message="one"))
    assert server().kill_clients() >= 1
    ledger.append(event(message="two"))
    assert server().kill_clients() >= 1
    assert messages(ledger) == ["one", "two"]


def test_the_ledger_waits_for_a_server_that_restarts(ledger: Ledger) -> None:
    ledger.append(event(message="one"))
    server().stop("QUIT")
    starter = threading.Timer(0.5, server().start)
    starter.start()
    ledger.append(event(message="two"))
    starter.join()
    assert messages(ledger) == ["one", "two"]


def test_a_connection_that_is_lost_inside_a_transaction_leaves_nothing_half_written(ledger: Ledger, url: str) -> None:
    ledger.claim(cluster())
    with pytest.raises(errors.LedgerError), ledger._database.transaction("c-1") as cursor:
        cursor.execute("UPDATE clusters SET reason = ?", ("half",))
        server().kill_clients()
        cursor.execute("UPDATE clusters SET region = ?", ("half",))
    found = ledger.cluster("c-1")
    assert (found.reason, found.region) == ("", None)
    ledger.append(event(message="continues"))
    assert messages(ledger) == ["continues"]


def test_a_read_inside_a_transaction_does_not_reconnect(ledger: Ledger) -> None:
    ledger.claim(cluster())
    with pytest.raises(errors.LedgerError), ledger._database.transaction("c-1") as cursor:
        cursor.execute("UPDATE clusters SET reason = ?", ("half",))
        server().kill_clients()
        ledger.cluster("c-1")
    assert ledger.cluster("c-1").reason == ""


def test_a_commit_whose_answer_is_lost_is_found_and_not_written_twice(proxy: Proxy) -> None:
    ledger = Ledger(proxy.url())
    ledger.claim(cluster())
    proxy.cut = "after"
    assert ledger.open_attempt(attempt(), event(message="once"))
    assert proxy.cut is None
    assert [each.token for each in ledger.attempts("c-1")] == ["token-1"]
    assert messages(ledger) == ["once"]
    ledger.close()


def test_a_commit_that_never_arrives_is_an_error_and_not_written(proxy: Proxy) -> None:
    ledger = Ledger(proxy.url())
    ledger.claim(cluster())
    proxy.cut = "before"
    with pytest.raises(errors.LedgerError, match="can't write"):
        ledger.open_attempt(attempt(), event())
    assert ledger.attempts("c-1") == []
    assert ledger.open_attempt(attempt(), event(message="once"))
    assert messages(ledger) == ["once"]
    ledger.close()


def test_the_error_for_a_commit_whose_outcome_can_not_be_read_says_that_it_is_unknown(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger(proxy.url())
    ledger.claim(cluster())
    # Half a minute is right for a server that restarts, but too long for a test.
    monkeypatch.setattr(postgres, "_TIMEOUT", timedelta(milliseconds=600))
    proxy.cut, proxy.is_dead = "after", True
    with pytest.raises(errors.LedgerError, match="its outcome is unknown"):
        ledger.open_attempt(attempt(), event())
    proxy.is_dead = False
    assert [each.token for each in ledger.attempts("c-1")] == ["token-1"]
    ledger.close()


def test_transactions_on_one_cluster_wait_and_those_on_another_do_not(ledger: Ledger, url: str) -> None:
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


def test_a_holder_of_a_lock_that_hangs_is_disconnected_and_writes_nothing_afterwards(
    ledger: Ledger, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Ledger(url)
    ledger.claim(cluster())
    with pytest.raises(errors.LedgerError), monkeypatch.context() as patch:
        # Half a minute is right for a busy server, but too long for a test.
        patch.setattr(postgres, "_TIMEOUT", timedelta(milliseconds=300))
        with ledger._database.transaction("c-1") as cursor:
            patch.undo()
            other.append(event(message="got the lock"))
            cursor.execute("UPDATE clusters SET reason = ?", ("too late",))
    assert messages(ledger) == ["got the lock"]
    assert ledger.cluster("c-1").reason == ""
    other.close()


def test_a_lock_that_is_not_released_times_out_with_the_reason(
    ledger: Ledger, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Ledger(url)
    with ledger._database.transaction("c-1"):
        monkeypatch.setattr(postgres, "_TIMEOUT", timedelta(milliseconds=300))
        with pytest.raises(errors.LedgerError, match="lock timeout") as caught:
            other.append(event())
    assert "hangs" in str(caught.value)
    other.append(event(message="free again"))
    assert messages(ledger) == ["free again"]
    other.close()


@pytest.mark.parametrize("found", ["off", "local", "on", "remote_apply"])
def test_a_commit_waits_for_the_disk_of_the_server_whatever_its_default(found: str) -> None:
    base = server().url()
    ledger = Ledger(base + quote(f" -csynchronous_commit={found}"))
    with ledger._database.transaction("c-1") as cursor:
        setting = cursor.execute("SHOW synchronous_commit").fetchone()["synchronous_commit"]
    assert setting == ("remote_apply" if found == "remote_apply" else "on")
    ledger.close()


def test_an_acknowledged_commit_survives_a_crash_of_the_server(ledger: Ledger) -> None:
    ledger.claim(cluster())
    ledger.open_attempt(attempt(), event(message="before"))
    server().stop("QUIT")
    server().start()
    assert [each.token for each in ledger.attempts("c-1")] == ["token-1"]
    assert messages(ledger) == ["before"]


def test_transactions_are_read_committed_whatever_the_default_of_the_server(url: str) -> None:
    ledger = Ledger(url + quote(" -cdefault_transaction_isolation=serializable"))
    with ledger._database.transaction("c-1") as cursor:
        assert cursor.execute("SHOW transaction_isolation").fetchone()["transaction_isolation"] == "read committed"
    ledger.close()


def test_the_error_for_a_replica_names_the_primary(ledger: Ledger, url: str, caplog: pytest.LogCaptureFixture) -> None:
    ledger.claim(cluster())
    assert caplog.text == ""
    replica = Ledger(url + quote(" -cdefault_transaction_read_only=on"))
    assert caplog.text.count("can't be written (the server is read-only)") == 1
    assert replica.find("train").id == "c-1"
    with pytest.raises(errors.LedgerError, match="primary"):
        replica.append(event())
    replica.close()


def test_a_database_with_other_tables_of_the_same_names_is_not_changed(url: str) -> None:
    schema = url.rpartition("%3D")[2]
    server().execute(f"CREATE TABLE {schema}.nodes (theirs text)")
    with pytest.raises(errors.LedgerError, match="already exists") as caught:
        Ledger(url)
    assert "separate database" in str(caught.value)
    assert server().execute(f"SELECT tablename FROM pg_tables WHERE schemaname = '{schema}'") == [("nodes",)]


@pytest.fixture(name="guarded")
def _guarded(url: str) -> Iterator[str]:
    """The part after the password of the URL of a server that requires one."""
    schema = url.rpartition("%3D")[2]
    server().execute(f"CREATE ROLE guarded LOGIN PASSWORD '{PASSWORD}'")
    server().execute(f"GRANT ALL ON SCHEMA {schema} TO guarded")
    yield url.partition("@")[2]
    server().execute("DROP OWNED BY guarded")
    server().execute("DROP ROLE guarded")


def test_a_correct_password_connects_and_a_wrong_one_is_never_shown(
    guarded: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    ledger = Ledger(f"postgresql://guarded:{quote(PASSWORD, safe='')}@{guarded}")
    ledger.append(event())
    server().kill_clients()
    ledger.append(event())
    assert quote(PASSWORD, safe="") not in repr(ledger) + repr(vars(ledger)["_opened"])
    ledger.close()
    with pytest.raises(errors.LedgerError, match="authentication") as caught:
        Ledger(f"postgresql://guarded:wrong-{quote(PASSWORD, safe='')}@{guarded}")
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value) + caplog.text
    assert PASSWORD not in shown
    assert quote(PASSWORD, safe="") not in shown
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
def test_the_error_for_an_invalid_url_does_not_show_the_password(url: str) -> None:
    with pytest.raises(errors.LedgerError, match="is not a valid URL") as caught:
        Ledger(url)
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))
    config = load({"HOME": "/nowhere", "MULTICOMPUTE_STATE": url})
    assert "hunter2" not in repr(config)
    assert config.state == url


def test_an_unreachable_server_is_an_error_at_once(tmp_path: Path) -> None:
    with pytest.raises(errors.LedgerError, match="can't open it") as caught:
        Ledger(f"postgresql:///db?host={quote(str(tmp_path), safe='')}")
    assert "check that the server runs" in str(caught.value)


def test_a_missing_driver_gives_the_pip_install_line(monkeypatch: pytest.MonkeyPatch) -> None:
    # The driver is installed here, so the test hides it.
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(errors.LedgerError) as caught:
        Ledger("postgresql://me:secret@localhost/db")
    assert 'pip install "multicompute[postgres]"' in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_large_gang_is_recorded_in_few_round_trips(ledger: Ledger) -> None:
    ledger.claim(cluster())
    ledger.open_attempt(attempt(), event())
    ledger.record_launch(attempt(), [node(number) for number in range(2000)], event())
    assert len(ledger.nodes("c-1")) == 2000

"""Leases of own machines in the ledger: one launch at a time has a machine, between connections, processes and hosts."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

from multicompute.hosts import HostLease, HostNote
from multicompute.ledger import Ledger
from tests.unit.ledger.ledger_records import NOW


def leases(token: str, *hosts: str) -> list[HostLease]:
    return [HostLease(host, "lab-1", "8xh100", token, {"multicompute-attempt": token}, NOW) for host in hosts]


def test_leases_are_exchanged_as_a_whole(ledger: Ledger, url: str) -> None:
    book, wanted = ledger.host_book("own"), leases("t-1", "a", "b")
    assert book.exchange("t-1", [], wanted)
    other = Ledger(url)
    assert other.host_book("own").leases() == tuple(wanted)
    assert other.host_book("another").leases() == ()
    marked = [replace(lease, is_marked=True, address="10.0.0.1") for lease in wanted]
    assert other.host_book("own").exchange("t-1", wanted, marked)
    other.close()
    assert book.leases() == tuple(marked)
    assert book.exchange("t-1", marked, [])
    assert book.leases() == ()


def test_a_machine_of_another_launch_is_refused_and_nothing_is_written(ledger: Ledger) -> None:
    book = ledger.host_book("own")
    assert book.exchange("t-1", [], leases("t-1", "a", "b"))
    assert not book.exchange("t-2", [], leases("t-2", "c", "b"))
    assert {lease.host: lease.token for lease in book.leases()} == {"a": "t-1", "b": "t-1"}
    # The same machine of another provider is another machine.
    assert ledger.host_book("another").exchange("t-2", [], leases("t-2", "b"))


def test_an_exchange_of_what_has_changed_is_refused(ledger: Ledger) -> None:
    book, wanted = ledger.host_book("own"), leases("t-1", "a", "b")
    assert book.exchange("t-1", [], wanted)
    assert not book.exchange("t-1", [], leases("t-1", "c", "d"))
    assert not book.exchange("t-1", wanted[:1], [])
    marked = [replace(wanted[0], is_marked=True), wanted[1]]
    assert book.exchange("t-1", wanted, marked)
    assert not book.exchange("t-1", wanted, [])
    assert book.leases() == tuple(marked)


def test_of_many_launches_at_once_each_machine_goes_to_one(url: str) -> None:
    Ledger(url).close()

    def take(number: int) -> list[str]:
        ledger, token = Ledger(url), f"t-{number}"
        mine: list[str] = []
        for host in "abcdef":
            held = leases(token, *mine)
            if ledger.host_book("own").exchange(token, held, [*held, *leases(token, host)]):
                mine.append(host)
        ledger.close()
        return mine

    with ThreadPoolExecutor(8) as pool:
        taken = [host for mine in pool.map(take, range(8)) for host in mine]
    assert sorted(taken) == list("abcdef")


def test_what_is_known_of_a_machine_is_kept_until_it_is_forgotten(ledger: Ledger) -> None:
    book = ledger.host_book("own")
    note = HostNote("a", "ssh-ed25519 AAAA", NOW + timedelta(minutes=10), "has 7 accelerators")
    book.write(HostNote("a", "ssh-ed25519 AAAA"))
    book.write(note)
    book.write(HostNote("b"))
    assert book.notes() == {"a": note, "b": HostNote("b")}
    assert (note.is_aside(NOW), note.is_aside(NOW + timedelta(minutes=10))) == (True, False)
    assert book.exchange("t-1", [], leases("t-1", "a"))
    assert book.forget("a")
    assert (book.leases(), book.notes()) == ((), {"b": HostNote("b")})
    assert not book.forget("a")

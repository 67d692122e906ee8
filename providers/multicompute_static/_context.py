"""The inventory, records, clock and connections that the parts of the provider share."""

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from multicompute.clock import Clock, Random
from multicompute.errors import ConfigError
from multicompute.hosts import HostBook, HostLease, HostNote
from multicompute.provider import TAG_EXPIRES_AT, Selector, Settings
from multicompute.provider_kit.tags import is_selected
from multicompute_static._inventory import Host, read_inventory
from multicompute_static._settings import StaticSettings
from multicompute_static._shell import Answer, Job, Shell, connected

NAME: Final = "static"
_SKEW: Final = timedelta(minutes=2)
"""The largest difference between the clocks of two machines."""


@dataclass(frozen=True)
class Context:
    """The inventory, records, clock and connections that the parts of the provider share."""

    settings: StaticSettings
    opened_with: Settings
    clock: Clock
    random: Random

    @property
    def book(self) -> HostBook:
        """The records in the ledger.

        Raises:
            ConfigError: The provider was opened without a ledger.
        """
        if self.opened_with.host_book is None:
            raise ConfigError("static: leases of own machines need a ledger, and none was given", provider=NAME)
        return self.opened_with.host_book()

    @property
    def hosts(self) -> tuple[Host, ...]:
        """The machines of the inventory as it is now."""
        return read_inventory(self.settings.path)

    def by_id(self) -> dict[str, Host]:
        """Return the machines of the inventory by their ids."""
        return {host.id: host for host in self.hosts}

    def held(self, token: str) -> tuple[HostLease, ...]:
        """Return the leases of a launch."""
        return tuple(lease for lease in self.book.leases() if lease.token == token)

    def connect(self, hosts: Iterable[Host]) -> AbstractContextManager[Shell]:
        """Open connections to machines."""
        return connected(self.settings, hosts, book=self.book, random=self.random)

    def look(self, hosts: Sequence[Host]) -> dict[str, Answer]:
        """Ask machines for their markers; return the answers by id."""
        if not hosts:
            return {}
        with self.connect(hosts) as shell:
            return {answer.host.id: answer for answer in shell.ask("look", [Job(host) for host in hosts])}

    def set_aside(self, host: str, reason: str) -> None:
        """Do not use a machine for a while."""
        known = self.book.notes().get(host) or HostNote(host)
        until = self.clock.now() + self.settings.set_aside
        self.book.write(replace(known, until=until, reason=reason))

    def use_again(self, host: str) -> None:
        """Undo `set_aside`."""
        known = self.book.notes().get(host)
        if known is not None and known.until is not None:
            self.book.write(replace(known, until=None, reason=""))

    def is_over(self, lease: HostLease) -> bool:
        """Return whether a lease has expired for so long that its machine has ended it, even if its clock is wrong."""
        expires = lease.tags.get(TAG_EXPIRES_AT, "never")
        return expires.isdigit() and self.clock.now() > datetime.fromtimestamp(int(expires), UTC) + _SKEW

    def drop(self, lease: HostLease) -> None:
        """Delete the lease of one machine from the ledger, unless it has changed."""
        while lease in (held := self.held(lease.token)):
            if self.book.exchange(lease.token, held, [other for other in held if other != lease]):
                return

    def put(self, lease: HostLease) -> bool:
        """Record the lease of a machine, in place of an earlier record; return False if another launch has leased it."""
        while True:
            held = self.held(lease.token)
            others = [other for other in held if other.host != lease.host]
            if self.book.exchange(lease.token, held, [*others, lease]):
                return True
            if any(other.host == lease.host and other.token != lease.token for other in self.book.leases()):
                return False


def selects(selector: Selector, lease: HostLease) -> bool:
    """Return whether a selector selects a lease."""
    if selector.region not in (None, lease.region):
        return False
    if selector.only:
        return lease.host in selector.only and is_selected(lease.tags, replace(selector, only=()))
    return is_selected(lease.tags, selector)

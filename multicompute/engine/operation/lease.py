"""The lease of a cluster: a ledger row with a holder and a heartbeat, so that one process at a time works on it (I7)."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from multicompute.clock import process_id
from multicompute.errors import LedgerError
from multicompute.session import Session

LEASE_LENGTH: Final = timedelta(seconds=120)
"""The time without a renewal after which the holder counts as dead: longer than the time limit of any cloud call."""
_RENEW_AFTER: Final = LEASE_LENGTH / 6


class Lease:
    """The exclusive right to work on one cluster, held until it is released or no longer renewed."""

    def __init__(self, session: Session, cluster_id: str) -> None:
        """Create a lease on this cluster for a holder of its own, without taking it."""
        self._session = session
        self._cluster_id = cluster_id
        self._renewed: datetime | None = None
        self.holder = f"{process_name(process_id())}:{session.random.getrandbits(48):012x}"

    def acquire(self) -> bool:
        """Acquire or renew the lease; return False if another live process holds it."""
        now = self._session.clock.now()
        if self._renewed is not None and now - self._renewed < _RENEW_AFTER:
            return True
        ledger = self._session.ledger
        holder = ledger.take_lease(self._cluster_id, self.holder, now=now, length=LEASE_LENGTH)
        if holder != self.holder and _is_dead(holder):
            holder = ledger.take_lease(self._cluster_id, self.holder, now=now, length=LEASE_LENGTH, dead=(holder,))
        self._renewed = now if holder == self.holder else None
        return holder == self.holder

    def acquire_for_teardown(self) -> bool:
        """Acquire or renew the lease; without a ledger that can be written, return whether no live process holds it.

        A teardown may go on without a lease then: no process can begin anything that it can't record.
        """
        try:
            return self.acquire()
        except LedgerError:
            holder = self._session.ledger.lease_holder(self._cluster_id, now=self._session.clock.now())
            return holder in ("", self.holder) or _is_dead(holder)

    def initial_lease(self) -> tuple[str, datetime]:
        """Return holder and end of the lease, for the ledger to store in the transaction that creates the cluster."""
        self._renewed = self._session.clock.now()
        return self.holder, self._renewed + LEASE_LENGTH

    def release(self) -> None:
        """Release the lease."""
        self._renewed = None
        # A lease that can't be released expires. The error must not hide why the operation ended.
        with suppress(LedgerError):
            self._session.ledger.drop_lease(self._cluster_id, self.holder)


@contextmanager
def hold_lease(
    session: Session, cluster_id: str, lease: Lease | None = None, *, for_teardown: bool = False
) -> Iterator[Lease | None]:
    """Hold the lease of a cluster inside the block; yield None if another live process holds it.

    A `lease` that is held already is used, and released at the end. The cluster need not be in the ledger. With
    `for_teardown`, a ledger that can't be written is no error.
    """
    lease = lease or Lease(session, cluster_id)
    if not (lease.acquire_for_teardown() if for_teardown else lease.acquire()):
        yield None
        return
    try:
        yield lease
    finally:
        lease.release()


def process_name(pid: int) -> str:
    """Return a name for a process of this machine that a later process with the same id does not share."""
    return f"{machine_name()}:{pid}:{_start_time(pid)}"


def machine_name() -> str:
    """Return a name for the scope in which process ids are unique: one boot of a machine, and one container on it.

    The host name alone is not enough, since several machines or containers may share it.
    """
    host = os.uname().nodename if hasattr(os, "uname") else "host"
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()[:8]
        return f"{host}.{boot}.{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return host


def _start_time(pid: int) -> str:
    """Return when a process started, in ticks since boot; "" for a zombie, "0" where this can't be read."""
    try:
        # Fields 3 and 22 of proc(5), counted from the last bracket: the command name before it may contain anything.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if fields[0] in ("Z", "X") else fields[19]
    except (OSError, IndexError):
        return "0"


def _is_dead(holder: str) -> bool:
    """Return whether the holder is a process of this machine that no longer runs; one elsewhere may always be alive."""
    try:
        host, pid, started, _ = holder.rsplit(":", 3)
        # Systems without uname are Windows, where os.kill(pid, 0) would terminate the process.
        if not hasattr(os, "uname") or host != machine_name():
            return False
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except (ValueError, OSError):
        return False
    return _start_time(int(pid)) != started

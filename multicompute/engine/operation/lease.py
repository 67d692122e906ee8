"""One worker per cluster (I7): a row in the ledger with a holder and a heartbeat."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from multicompute.clock import process_id
from multicompute.errors import LedgerError
from multicompute.session import Session

LENGTH: Final = timedelta(seconds=120)
"""How long a holder that stays silent is believed to be alive: longer than any one call of a cloud with its time limit."""
_RENEW_AFTER: Final = LENGTH / 6


class Lease:
    """The right to work on one cluster, held until it is dropped or its holder falls silent."""

    def __init__(self, session: Session, cluster_id: str) -> None:
        self._session = session
        self._cluster_id = cluster_id
        self._renewed: datetime | None = None
        self.holder = f"{process_name(process_id())}:{session.random.getrandbits(48):012x}"

    def take(self) -> bool:
        """Take or renew it; False where somebody else who is alive has it."""
        now = self._session.clock.now()
        if self._renewed is not None and now - self._renewed < _RENEW_AFTER:
            return True
        ledger = self._session.ledger
        holder = ledger.take_lease(self._cluster_id, self.holder, now=now, length=LENGTH)
        if holder != self.holder and _is_dead(holder):
            holder = ledger.take_lease(self._cluster_id, self.holder, now=now, length=LENGTH, dead=(holder,))
        self._renewed = now if holder == self.holder else None
        return holder == self.holder

    def initial_lease(self) -> tuple[str, datetime]:
        """Holder and end of a lease that the ledger writes down together with its cluster."""
        self._renewed = self._session.clock.now()
        return self.holder, self._renewed + LENGTH

    def drop(self) -> None:
        """Give it back."""
        self._renewed = None
        # One that can't be given back ends by itself; it must not hide why the work ended.
        with suppress(LedgerError):
            self._session.ledger.drop_lease(self._cluster_id, self.holder)


@contextmanager
def holding(session: Session, cluster_id: str, lease: Lease | None = None) -> Iterator[Lease | None]:
    """The lease of a cluster for the length of the block, `lease` where it is taken already; None where somebody else has it."""
    lease = lease or Lease(session, cluster_id)
    if not lease.take():
        yield None
        return
    try:
        yield lease
    finally:
        lease.drop()


def process_name(pid: int) -> str:
    """Names a process of this machine so that another one with the same id, later, is told apart."""
    return f"{machine_name()}:{pid}:{_started(pid)}"


def machine_name() -> str:
    """Names where process ids mean what they mean here: a boot of a machine, and a container on it; host names alone may be shared."""
    host = os.uname().nodename if hasattr(os, "uname") else "host"
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()[:8]
        return f"{host}.{boot}.{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return host


def _started(pid: int) -> str:
    """When a process began, in ticks since the boot; "" for one that is dead and only not buried yet."""
    try:
        # Fields 3 and 22, counted after the command's name, which may hold anything but ends at the last bracket (proc(5)).
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if fields[0] in ("Z", "X") else fields[19]
    except (OSError, IndexError):
        return "0"


def _is_dead(holder: str) -> bool:
    """Whether the holder is a process of this machine that is gone; one of another machine may always be alive."""
    try:
        host, pid, started, _ = holder.rsplit(":", 3)
        # Without uname it is Windows, where os.kill does what it says.
        if not hasattr(os, "uname") or host != machine_name():
            return False
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except (ValueError, OSError):
        return False
    return _started(int(pid)) != started

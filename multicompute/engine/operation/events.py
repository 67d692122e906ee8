"""Tells a cluster's story: every line goes to the ledger, and to whoever watches."""

import logging
from collections.abc import Callable

from multicompute.clock import Clock
from multicompute.ledger import Ledger
from multicompute.node import Event

_log = logging.getLogger("multicompute")

EventCallback = Callable[[Event], None]


class EventLog:
    """The story of one cluster. A line is written before it is told, so that a watcher that raises loses nothing."""

    def __init__(self, ledger: Ledger, clock: Clock, cluster_id: str, watch: EventCallback | None = None) -> None:
        self._ledger = ledger
        self._clock = clock
        self._watch = watch
        self._is_calm = False
        self.cluster_id = cluster_id

    def line(self, kind: str, message: str, **data: object) -> Event:
        """A line that the caller writes in a transaction of its own and then tells."""
        return Event(self._clock.now(), kind, message, self.cluster_id, data)

    def add(self, kind: str, message: str, **data: object) -> None:
        """Write a line and tell it."""
        event = self.line(kind, message, **data)
        self._ledger.append(event)
        self.tell(event)

    def tell(self, event: Event) -> None:
        """Show a line that is in the ledger already, or is not worth keeping, to whoever watches."""
        if self._watch is None:
            return
        try:
            self._watch(event)
        except Exception:
            if not self._is_calm:
                raise
            _log.exception("a progress callback failed during a teardown, and is not called any more")
            self._watch = None

    def calm(self) -> None:
        """From here on a watcher that raises stops nothing: a teardown is under way."""
        self._is_calm = True

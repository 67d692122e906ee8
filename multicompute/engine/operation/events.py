"""The event log of a cluster: each event is stored in the ledger, logged, then passed to the user's callback."""

import logging
from collections.abc import Callable

from multicompute.clock import Clock
from multicompute.errors import LedgerError
from multicompute.ledger import Ledger
from multicompute.node import Event

_log = logging.getLogger("multicompute")

EventCallback = Callable[[Event], None]


class EventLog:
    """The event log of one cluster. An event is stored before the callback sees it, so a failing callback loses nothing."""

    def __init__(
        self, ledger: Ledger, clock: Clock, cluster_id: str, callback: EventCallback | None = None, *, name: str = ""
    ) -> None:
        """Open the event log of one cluster, whose name is logged; `callback` receives each new event."""
        self._ledger = ledger
        self._clock = clock
        self._callback = callback
        self._ignores_errors = False
        self._facts: dict[str, object] = {"cluster": name, "cluster_id": cluster_id, "attempt": "", "place": ""}
        self.cluster_id = cluster_id

    def event(self, kind: str, message: str, **data: object) -> Event:
        """Return a new event that the caller stores in its own transaction and then passes to `notify`."""
        return Event(self._clock.now(), kind, message, self.cluster_id, data)

    def add(self, kind: str, message: str, **data: object) -> None:
        """Store an event and notify the callback. An event that can't be stored is logged."""
        event = self.event(kind, message, **data)
        try:
            self._ledger.append(event)
        except LedgerError:
            # Only intents must be stored before anything else happens. A teardown must not fail for an event.
            _log.warning("%s (not stored in the ledger)", message)
        self.notify(event)

    def notify(self, event: Event) -> None:
        """Log an event that is stored already, or that need not be stored, and call the callback."""
        self._log(event)
        if self._callback is None:
            return
        try:
            self._callback(event)
        except Exception:
            if not self._ignores_errors:
                raise
            _log.exception("a progress callback failed during a teardown and is not called again")
            self._callback = None

    def _log(self, event: Event) -> None:
        data = event.data
        if place := " ".join(str(data[key]) for key in ("provider", "zone") if data.get(key)):
            # The events that follow are about this attempt, until the next one.
            self._facts |= {"place": place, "attempt": str(data.get("token") or "")}
        # A changed number of nodes is no step.
        level = logging.DEBUG if "nodes_ready" in data else logging.INFO
        name = f"{self._facts['cluster']}: "
        message = event.message if event.message.startswith(name) else name + event.message
        _log.log(level, "%s", message, extra={**self._facts, "event": event.kind})

    def ignore_callback_errors(self) -> None:
        """Log errors of the callback from now on instead of raising them: nothing may stop a teardown."""
        self._ignores_errors = True

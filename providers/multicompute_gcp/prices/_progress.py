"""The completed share of a refresh, whose number of pages is known only at its end."""

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

from multicompute_gcp.prices._billing import COMPUTE_SERVICE

_PLACES: Final = "places"
# Compute Engine has about 32,000 SKUs, on pages of 5,000.
_USUAL: Final = {COMPUTE_SERVICE: 7}
_MOST: Final = 0.99


class Progress:
    """Counts pages, against the usual number of pages."""

    def __init__(self, report: Callable[[float], None], services: Sequence[str]) -> None:
        self._report = report
        self._lock = threading.Lock()
        self._usual = {service: _USUAL.get(service, 1) for service in services} | {_PLACES: 1}
        self._done: Counter[str] = Counter()

    def step(self, part: str = _PLACES) -> None:
        """Count a page of a service, or the listing of the machine types."""
        with self._lock:
            self._done[part] += 1
            done = sum(min(self._done[name], usual) for name, usual in self._usual.items())
            self._report(min(done / sum(self._usual.values()), _MOST))

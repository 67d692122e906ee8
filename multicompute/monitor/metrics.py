"""Asks the clouds' monitoring what nodes are doing, in batches."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Final

from multicompute.engine.operation.cancellation import Cancellation
from multicompute.engine.operation.retry import call_with_retry
from multicompute.node import Node, Sample
from multicompute.provider import Capability
from multicompute.session import Session

_POOL: Final = 8


def metrics(session: Session, nodes: Sequence[Node], *, window: timedelta) -> list[Sample]:
    """What was measured of these nodes in the last `window`, oldest first; what a cloud does not measure is absent.

    Raises:
        MulticomputeError: a cloud can't be asked.
    """
    until = session.clock.now()
    places: dict[tuple[str, str], list[Node]] = {}
    for node in nodes:
        places.setdefault((node.provider, node.region), []).append(node)

    def measured(place: tuple[str, str]) -> tuple[Sample, ...]:
        provider = session.provider(place[0])
        if Capability.METRICS not in provider.capabilities:
            return ()
        return call_with_retry(
            lambda: provider.metrics(places[place], since=until - window, until=until),
            clock=session.clock,
            stop=Cancellation(),
            base=provider.poll_interval,
            on_retry=lambda error, seconds: None,
        )

    with ThreadPoolExecutor(_POOL, thread_name_prefix="metrics") as pool:
        samples = [sample for found in pool.map(measured, places) for sample in found]
    return sorted(samples, key=lambda sample: sample.at)

"""Read what the clouds' monitoring has measured of nodes, in batches."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Final

from multicompute.engine.operation.regions import ProviderRegion, by_region
from multicompute.engine.operation.retry import call_with_retry
from multicompute.node import Node, Sample
from multicompute.provider import Capability
from multicompute.session import Session

_POOL: Final = 8


def metrics(session: Session, nodes: Sequence[Node], *, window: timedelta) -> list[Sample]:
    """Return what was measured of these nodes in the last `window`, oldest first; what a cloud does not measure is missing.

    Raises:
        MulticomputeError: a cloud can't be asked.
    """
    until = session.clock.now()
    groups = by_region(nodes)

    def measure(where: ProviderRegion) -> tuple[Sample, ...]:
        provider = session.provider(where.provider)
        if Capability.METRICS not in provider.capabilities:
            return ()
        return call_with_retry(
            lambda: provider.metrics(groups[where], since=until - window, until=until),
            provider=provider,
            clock=session.clock,
        )

    with ThreadPoolExecutor(_POOL, thread_name_prefix="metrics") as pool:
        samples = [sample for found in pool.map(measure, groups) for sample in found]
    return sorted(samples, key=lambda sample: sample.at)

"""Reads the measurements of nodes from the clouds' monitoring, in batches."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Final

from multicompute.engine.operation.regions import ProviderRegion, by_region
from multicompute.engine.operation.retry import call_provider
from multicompute.node import Node, Sample
from multicompute.provider import Capability
from multicompute.session import Session

_POOL: Final = 8


def metrics(session: Session, nodes: Sequence[Node], *, window: timedelta) -> list[Sample]:
    """Return the measurements of these nodes in the last `window`, oldest first; metrics that a cloud does not measure are missing.

    Raises:
        MulticomputeError: A cloud does not answer.
    """
    until = session.clock.now()
    groups = by_region(nodes)

    def measure(where: ProviderRegion) -> tuple[Sample, ...]:
        if Capability.METRICS not in session.provider(where.provider).capabilities:
            return ()
        since, members = until - window, groups[where]
        return call_provider(
            session, where.provider, lambda provider: provider.metrics(members, since=since, until=until)
        )

    with ThreadPoolExecutor(_POOL, thread_name_prefix="metrics") as pool:
        samples = [sample for found in pool.map(measure, groups) for sample in found]
    return sorted(samples, key=lambda sample: sample.at)

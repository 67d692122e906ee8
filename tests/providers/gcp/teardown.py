"""Tears down what the tests of the Google adapter launched."""

from multicompute.provider import Selector
from multicompute_gcp._provider import GcpProvider


def tear_down(provider: GcpProvider, selector: Selector) -> int:
    """Repeat the teardown until it is done, and return how many steps it took."""
    for step in range(1, 200):
        if provider.terminate(selector).is_done:
            return step
        provider._clock.sleep(provider.poll_interval)
    raise AssertionError("the teardown does not finish")

"""Faults on the wire: what a fault does to a call, the same in every local cloud."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta

from multicompute.clock import Clock
from multicompute.testing.faults import Fault, FaultKind, Faults
from multicompute.testing.local.server import Cut, Response


class FaultInjector:
    """Records every call of a local cloud, and answers it as the next matching fault requires."""

    def __init__(self, faults: Faults, clock: Clock) -> None:
        """Take the faults from `faults`; a delayed answer is late by `clock`."""
        self._faults = faults
        self._clock = clock

    def record(self, operation: str, region: str, fields: Mapping[str, object]) -> None:
        """Record a call that no fault can hit, such as a malformed one."""
        self._faults.record(operation, region, fields)

    def take(self, operation: str, fields: Mapping[str, object]) -> Fault | None:
        """Use up and return the fault of something that is not a call itself, such as the operation that a call starts."""
        return self._faults.take(operation, fields)

    def answer(
        self,
        operation: str,
        fields: Mapping[str, object],
        *,
        answer: Callable[[], Response],
        refuse: Callable[[Fault], Response],
    ) -> Response | None:
        """Record a call and answer it.

        Args:
            operation: The operation as faults and the record name it.
            fields: What the call asked for; "region" is the region it was sent to.
            answer: Does the work and returns the cloud's answer.
            refuse: Returns the cloud's own refusal for a fault of the kinds FAIL and THROTTLE.

        Returns:
            The response, or None to close the connection without one.
        """
        self._faults.record(operation, str(fields.get("region", "")), fields)
        fault = self._faults.take(operation, fields)
        if fault is None:
            return answer()
        return self._disturbed(fault, answer, refuse)

    def _disturbed(
        self, fault: Fault, answer: Callable[[], Response], refuse: Callable[[Fault], Response]
    ) -> Response | None:
        if fault.kind is FaultKind.DROP:
            return None
        if fault.kind in (FaultKind.FAIL, FaultKind.THROTTLE):
            return refuse(fault) if fault.code or fault.kind is FaultKind.THROTTLE else _proxy_page(fault)
        if fault.kind is FaultKind.DELAY:
            self._clock.sleep(fault.duration)
            return answer()
        answered = answer()
        if fault.kind is FaultKind.TRUNCATE:
            return replace(answered, body=answered.body[: len(answered.body) // 2])
        if fault.kind is FaultKind.LOSE_ANSWER:
            return None
        return replace(answered, cut=Cut.RESET if fault.kind is FaultKind.RESET else Cut.SILENCE)


def retry_header(delay: timedelta | None) -> dict[str, str]:
    """Return the Retry-After header for a delay, or no header for None."""
    return {} if delay is None else {"Retry-After": str(int(delay.total_seconds()))}


def _proxy_page(fault: Fault) -> Response:
    """Return the page of a proxy or a load balancer whose service does not answer."""
    text = f"<html><body><h1>{fault.status}</h1></body></html>"
    return Response(fault.status, text.encode(), "text/html", retry_header(fault.retry_after))

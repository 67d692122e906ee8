"""Faults of a test cloud and the record of its calls, the same for fake and local clouds."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from enum import StrEnum
from types import MappingProxyType

NO_FIELDS: Mapping[str, object] = MappingProxyType({})
ANY_OPERATION = "*"


class FaultKind(StrEnum):
    """A way in which a call goes wrong."""

    FAIL = "fail"
    """The cloud refuses the call with a code and does nothing."""
    THROTTLE = "throttle"
    """The cloud refuses the call as throttled, with its own code, and does nothing."""
    DROP = "drop"
    """The connection breaks before the cloud does anything."""
    LOSE_ANSWER = "lose_answer"
    """The cloud does the work, and the connection breaks before the answer."""
    RESET = "reset"
    """The cloud does the work, and the connection is reset in the middle of the answer."""
    TRUNCATE = "truncate"
    """The cloud does the work, and only the first half of the answer's body arrives."""
    HANG = "hang"
    """The cloud does the work, and the answer never arrives: the client waits until its own timeout."""
    DELAY = "delay"
    """The cloud does the work and answers late."""


ANSWER_LOST = frozenset({FaultKind.LOSE_ANSWER, FaultKind.RESET, FaultKind.TRUNCATE, FaultKind.HANG})
"""The kinds in which the cloud does the work and the caller gets no complete answer."""


@dataclass(frozen=True, slots=True)
class Call:
    """A call that a test cloud received.

    Attributes:
        operation: The operation of the API ("RunInstances"), or the method of the provider ("launch").
        region: The region it was sent to, "" for none.
        fields: A summary of what it asked for ("zone", "instance_type", "count", ...).
    """

    operation: str
    region: str = ""
    fields: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault that hits the next matching calls.

    Attributes:
        kind: The way in which the calls go wrong.
        operation: The operation of the calls, "*" for any.
        times: How many calls it hits; None for all.
        where: Field -> the value that a call must have; for a field that is a list, one of its elements.
        code: The code of a refusal. With an empty code a proxy answers instead of the cloud: with an HTML page and `status`.
        message: The message of a refusal; "" for one that the cloud chooses.
        status: The HTTP status of a refusal.
        retry_after: How long a refusal asks the caller to wait, if the cloud has such a field.
        duration: How late a delayed answer is.
    """

    kind: FaultKind
    operation: str
    times: int | None = 1
    where: Mapping[str, object] = field(default_factory=dict)
    code: str = ""
    message: str = ""
    status: int = 400
    retry_after: timedelta | None = None
    duration: timedelta = timedelta(0)

    def matches(self, operation: str, fields: Mapping[str, object]) -> bool:
        """Return whether the fault hits a call."""
        if self.operation not in (ANY_OPERATION, operation):
            return False
        return all(_has(fields.get(name), value) for name, value in self.where.items())


def _has(found: object, wanted: object) -> bool:
    return found == wanted or (isinstance(found, tuple | list | set | frozenset) and wanted in found)


class Faults:
    """The faults that wait for calls, in the order in which they were added, and a record of all calls.

    At most one fault hits a call: the first that matches. Several threads can use it.

    Attributes:
        calls: Every call that was received, in order.

    Example:
        >>> faults = Faults()
        >>> faults.fail("RunInstances", "Unavailable", status=503, where={"zone": "us-east-1a"})
        >>> faults.take("RunInstances", {"zone": "us-east-1b"})
        >>> faults.take("RunInstances", {"zone": "us-east-1a"}).code
        'Unavailable'
        >>> faults.take("RunInstances", {"zone": "us-east-1a"})
    """

    def __init__(self) -> None:
        """Create a plan without faults and an empty list of calls."""
        self.calls: list[Call] = []
        self._waiting: list[Fault] = []
        self._hooks: list[tuple[str, Callable[[Call], object]]] = []
        self._lock = threading.Lock()

    def fail(
        self,
        operation: str,
        code: str,
        *,
        message: str = "",
        status: int = 400,
        times: int | None = 1,
        where: Mapping[str, object] | None = None,
        retry_after: timedelta | None = None,
    ) -> None:
        """Refuse the next matching calls with `code`, "" for the page of a proxy; the cloud does nothing."""
        self.add(
            Fault(
                FaultKind.FAIL,
                operation,
                times,
                where or NO_FIELDS,
                code=code,
                message=message,
                status=status,
                retry_after=retry_after,
            )
        )

    def throttle(
        self,
        operation: str,
        times: int | None = 1,
        *,
        where: Mapping[str, object] | None = None,
        retry_after: timedelta | None = None,
    ) -> None:
        """Refuse the next matching calls as throttled; the cloud does nothing."""
        self.add(Fault(FaultKind.THROTTLE, operation, times, where or NO_FIELDS, retry_after=retry_after))

    def drop(self, operation: str, times: int | None = 1, *, where: Mapping[str, object] | None = None) -> None:
        """Break the connection of the next matching calls before the cloud does anything."""
        self.add(Fault(FaultKind.DROP, operation, times, where or NO_FIELDS))

    def lose_answer(self, operation: str, times: int | None = 1, *, where: Mapping[str, object] | None = None) -> None:
        """Do the work of the next matching calls, and break the connection before the answer."""
        self.add(Fault(FaultKind.LOSE_ANSWER, operation, times, where or NO_FIELDS))

    def reset(self, operation: str, times: int | None = 1, *, where: Mapping[str, object] | None = None) -> None:
        """Do the work of the next matching calls, and reset the connection in the middle of the answer."""
        self.add(Fault(FaultKind.RESET, operation, times, where or NO_FIELDS))

    def truncate(self, operation: str, times: int | None = 1, *, where: Mapping[str, object] | None = None) -> None:
        """Do the work of the next matching calls, and send only the first half of the answer's body."""
        self.add(Fault(FaultKind.TRUNCATE, operation, times, where or NO_FIELDS))

    def hang(self, operation: str, times: int | None = 1, *, where: Mapping[str, object] | None = None) -> None:
        """Do the work of the next matching calls, and never answer: the client waits until its own timeout."""
        self.add(Fault(FaultKind.HANG, operation, times, where or NO_FIELDS))

    def delay(
        self,
        operation: str,
        duration: timedelta,
        times: int | None = 1,
        *,
        where: Mapping[str, object] | None = None,
    ) -> None:
        """Answer the next matching calls late by `duration`."""
        self.add(Fault(FaultKind.DELAY, operation, times, where or NO_FIELDS, duration=duration))

    def hook(self, operation: str, function: Callable[[Call], object]) -> None:
        """Run `function` before every call of `operation` ("*" for any); an exception in it breaks the call."""
        with self._lock:
            self._hooks.append((operation, function))

    def add(self, fault: Fault) -> None:
        """Add a fault."""
        with self._lock:
            self._waiting.append(fault)

    def record(self, operation: str, region: str = "", fields: Mapping[str, object] = NO_FIELDS) -> Call:
        """Record a call and run its hooks; the test cloud calls it at the start of every call."""
        call = Call(operation, region, fields)
        with self._lock:
            self.calls.append(call)
            hooks = [function for name, function in self._hooks if name in (ANY_OPERATION, operation)]
        # Without the lock: a hook may add a fault, or wait for a call of another thread.
        for function in hooks:
            function(call)
        return call

    def take(self, operation: str, fields: Mapping[str, object] = NO_FIELDS) -> Fault | None:
        """Use up and return the fault that hits a call, or None; the test cloud calls it."""
        with self._lock:
            for index, fault in enumerate(self._waiting):
                if not fault.matches(operation, fields):
                    continue
                if fault.times is not None and fault.times <= 1:
                    del self._waiting[index]
                elif fault.times is not None:
                    self._waiting[index] = replace(fault, times=fault.times - 1)
                return fault
        return None

    def waiting(self) -> tuple[Fault, ...]:
        """Return the faults that still wait for calls, with the number of calls they will hit."""
        with self._lock:
            return tuple(self._waiting)

    def count(self, operation: str = ANY_OPERATION) -> int:
        """Return how many calls of `operation` were received; "*" counts all calls."""
        with self._lock:
            if operation == ANY_OPERATION:
                return len(self.calls)
            return sum(1 for call in self.calls if call.operation == operation)

    def clear(self) -> None:
        """Remove every fault, hook and recorded call."""
        with self._lock:
            self.calls.clear()
            self._waiting.clear()
            self._hooks.clear()

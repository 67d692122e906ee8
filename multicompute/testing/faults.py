"""What goes wrong in a test cloud next, and what it was asked: the vocabulary that all doubles share."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from enum import StrEnum
from types import MappingProxyType

NO_FIELDS: Mapping[str, object] = MappingProxyType({})
ANY_OPERATION = "*"


class FaultKind(StrEnum):
    """In which way a call goes wrong."""

    FAIL = "fail"
    """Refused with a code; nothing is done."""
    THROTTLE = "throttle"
    """Refused as asked too often, in the cloud's own words; nothing is done."""
    DROP = "drop"
    """The connection breaks before anything is done."""
    LOSE_ANSWER = "lose_answer"
    """All is done, and the connection breaks before the answer."""
    RESET = "reset"
    """All is done, and the connection is reset in the middle of the answer."""
    TRUNCATE = "truncate"
    """All is done, and of the answer's text only the first half comes."""
    HANG = "hang"
    """All is done, and the answer never comes: the client waits until its own patience ends."""
    DELAY = "delay"
    """Done and answered, but late."""


ANSWER_LOST = frozenset({FaultKind.LOSE_ANSWER, FaultKind.RESET, FaultKind.TRUNCATE, FaultKind.HANG})
"""All is done, and the caller does not hear of it."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call that a test cloud received.

    Attributes:
        operation: the API's action ("RunInstances"), or the provider's method ("launch").
        region: where it was sent, "" where that does not apply.
        fields: what it asked for, as far as the double sums it up ("zone", "instance_type", "count", ...).
    """

    operation: str
    region: str = ""
    fields: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that goes wrong with the next calls that match.

    Attributes:
        operation: which one, "*" for every operation.
        times: how many calls it hits; None for all from now on.
        where: fields that the call must have with these values; for a field that is a list, one of its values.
        code, message, status: of a refusal; an empty message lets the double choose its own words. With an empty code it is not
            the cloud that answers but something on the way to it: a page for people, with that status.
        retry_after: what the refusal tells the caller to wait, where the cloud has such a thing.
        duration: how late a delayed answer is.
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
        """Whether it hits this call."""
        if self.operation not in (ANY_OPERATION, operation):
            return False
        return all(_has(fields.get(name), value) for name, value in self.where.items())


def _has(found: object, wanted: object) -> bool:
    return found == wanted or (isinstance(found, tuple | list | set | frozenset) and wanted in found)


class Faults:
    """Faults that wait for their calls, in the order in which they were given, and a record of all calls.

    Each call meets at most one fault: the first that matches. Safe to use from several threads.

    Attributes:
        calls: every call that was received, in order.

    Example:
        >>> faults = Faults()
        >>> faults.fail("RunInstances", "Unavailable", status=503, where={"zone": "us-east-1a"})
        >>> faults.take("RunInstances", {"zone": "us-east-1b"})
        >>> faults.take("RunInstances", {"zone": "us-east-1a"}).code
        'Unavailable'
        >>> faults.take("RunInstances", {"zone": "us-east-1a"})
    """

    def __init__(self) -> None:
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
        """Refuse the next matching calls with `code`, "" for a page that is not the cloud's; nothing of them is done."""
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
        """Refuse the next matching calls as too many; nothing of them is done."""
        self.add(Fault(FaultKind.THROTTLE, operation, times, where or NO_FIELDS, retry_after=retry_after))

    def drop(self, operation: str, times: int | None = 1, *, where: Mapping[str, object] | None = None) -> None:
        """Break the connection of the next matching calls before anything is done."""
        self.add(Fault(FaultKind.DROP, operation, times, where or NO_FIELDS))

    def lose_answer(self, operation: str, times: int | None = 1, *, where: Mapping[str, object] | None = None) -> None:
        """Do what the next matching calls ask for, and break the connection before the answer."""
        self.add(Fault(FaultKind.LOSE_ANSWER, operation, times, where or NO_FIELDS))

    def reset(self, operation: str, times: int | None = 1, *, where: Mapping[str, object] | None = None) -> None:
        """Do what the next matching calls ask for, and reset the connection in the middle of the answer."""
        self.add(Fault(FaultKind.RESET, operation, times, where or NO_FIELDS))

    def truncate(self, operation: str, times: int | None = 1, *, where: Mapping[str, object] | None = None) -> None:
        """Do what the next matching calls ask for, and send the first half of the answer's text as if it were all."""
        self.add(Fault(FaultKind.TRUNCATE, operation, times, where or NO_FIELDS))

    def hang(self, operation: str, times: int | None = 1, *, where: Mapping[str, object] | None = None) -> None:
        """Do what the next matching calls ask for, and never answer: they end when the client's patience does."""
        self.add(Fault(FaultKind.HANG, operation, times, where or NO_FIELDS))

    def delay(
        self,
        operation: str,
        duration: timedelta,
        times: int | None = 1,
        *,
        where: Mapping[str, object] | None = None,
    ) -> None:
        """Answer the next matching calls late, by `duration`."""
        self.add(Fault(FaultKind.DELAY, operation, times, where or NO_FIELDS, duration=duration))

    def hook(self, operation: str, function: Callable[[Call], object]) -> None:
        """Run `function` for every call of `operation` ("*": of any) before it is worked on; what it raises breaks the call."""
        with self._lock:
            self._hooks.append((operation, function))

    def add(self, fault: Fault) -> None:
        """Let `fault` wait for its calls."""
        with self._lock:
            self._waiting.append(fault)

    def record(self, operation: str, region: str = "", fields: Mapping[str, object] = NO_FIELDS) -> Call:
        """Note a call and run its hooks; for the double, at the start of every call."""
        call = Call(operation, region, fields)
        with self._lock:
            self.calls.append(call)
            hooks = [function for name, function in self._hooks if name in (ANY_OPERATION, operation)]
        # Not under the lock: a hook may inject a fault, or wait for another thread's call.
        for function in hooks:
            function(call)
        return call

    def take(self, operation: str, fields: Mapping[str, object] = NO_FIELDS) -> Fault | None:
        """The fault that this call meets, used up by it; None when all is well. For the double."""
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
        """The faults that no call has met yet, with how often they still hit."""
        with self._lock:
            return tuple(self._waiting)

    def count(self, operation: str = ANY_OPERATION) -> int:
        """How many calls of `operation` were received; "*" counts all."""
        with self._lock:
            if operation == ANY_OPERATION:
                return len(self.calls)
            return sum(1 for call in self.calls if call.operation == operation)

    def clear(self) -> None:
        """Forget faults, hooks and calls."""
        with self._lock:
            self.calls.clear()
            self._waiting.clear()
            self._hooks.clear()

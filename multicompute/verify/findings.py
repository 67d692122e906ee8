"""The results of checks, and the two exceptions with which a check ends if it does not pass."""

from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """The result of a check."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_CHECKED = "not checked"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of a check.

    Attributes:
        name: The name of the check.
        status: Its result.
        text: What was found, or why it was not checked.
        seconds: How long the check took.
    """

    name: str
    status: Status
    text: str
    seconds: float = 0.0

    def to_dict(self) -> dict[str, object]:
        """Return the JSON form."""
        return {
            "name": self.name,
            "status": self.status.value,
            "finding": self.text,
            "seconds": round(self.seconds, 1),
        }


class Failed(Exception):
    """The cloud or the adapter does not keep the promise; the text says what was found."""


class NotChecked(Exception):
    """The promise could not be checked; the text says why."""

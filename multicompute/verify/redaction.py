"""Removes what identifies an account or a person from the texts of a report."""

import re
from collections.abc import Iterable
from typing import Final

_SHORTEST: Final = 4
"""A value with fewer characters is also found in ordinary words."""
_PATTERNS: Final = (
    # Paths of resources come first: they contain ids and names of other kinds.
    (re.compile(r"\barn:[\w:/.*+=,@-]+"), "<resource>"),
    (re.compile(r"/?subscriptions/[\w./@-]+", re.IGNORECASE), "<resource>"),
    (re.compile(r"\bprojects/[\w./:@-]+"), "<resource>"),
    (re.compile(r"\b[\w.+-]+@[\w-]+(\.[\w-]+)*"), "<user>"),
    (re.compile(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", re.IGNORECASE), "<id>"),
    (re.compile(r"\b[a-z]{1,12}-[0-9a-f]{8,24}\b"), "<id>"),
    (re.compile(r"\b(AKIA|ASIA|AIDA|AROA)[A-Z0-9]{8,}\b"), "<key>"),
    (re.compile(r"\b\d{1,3}(\.\d{1,3}){3}(/\d{1,2})?\b"), "<address>"),
    (re.compile(r"\b(?:[0-9a-f]{0,4}:){3,7}[0-9a-f]{1,4}\b", re.IGNORECASE), "<address>"),
    (re.compile(r"\b\d{10,}\b"), "<number>"),
    # Encoded authorization messages, tokens and keys.
    (re.compile(r"[A-Za-z0-9+/_=-]{40,}"), "<encoded>"),
    (re.compile(r"(?:~|/home|/Users|/root)/[^\s'\",;:)]+"), "<path>"),
)


class Redaction:
    """Known private values, and the forms of those that are not known, such as the ids in a vendor's message."""

    def __init__(self) -> None:
        """Create a redaction that knows no values yet."""
        self._values: dict[str, str] = {}

    def add(self, kind: str, values: Iterable[str | None]) -> None:
        """Replace these values by `<kind>` from now on; the longest first, so that no part of one remains."""
        for value in values:
            if value and len(value) >= _SHORTEST:
                self._values[value] = f"<{kind}>"

    def clean(self, text: str) -> str:
        """Return `text` on one line, without private values."""
        for value in sorted(self._values, key=len, reverse=True):
            text = re.sub(rf"(?<![\w-]){re.escape(value)}(?![\w-])", self._values[value], text)
        for pattern, replacement in _PATTERNS:
            text = pattern.sub(replacement, text)
        return " ".join(text.split())

"""The filter expressions of lists (AIP-160, and the older eq and ne), and page tokens."""

import base64
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from multicompute_gcp.local.responses import GcpError, invalid

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<paren>[()])
      | (?P<op><=|>=|!=|=|<|>|:|(?:eq|ne)\b)
      | (?P<quoted>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
      | (?P<word>[^\s()=<>!:"']+)
    )""",
    re.VERBOSE,
)
_MISSING = object()


class Listed(Protocol):
    """A resource that lists show."""

    name: str

    @property
    def labels(self) -> Mapping[str, str]:
        """The labels of the resource."""
        ...

    def as_json(self, now: datetime) -> Mapping[str, Any]:
        """Return the document of the resource at a time."""
        ...


Match = Callable[[Listed, datetime], bool]


def matcher(expression: str) -> Match:
    """Return the predicate of a filter expression.

    Raises:
        GcpError: The text is not a filter expression.
    """
    if not expression.strip():
        return lambda resource, now: True
    return _Parser(expression).parse()


class _Parser:
    def __init__(self, expression: str) -> None:
        self._expression = expression
        self._tokens = self._split()
        self._at = 0
        kinds = {text in ("eq", "ne") for kind, text in self._tokens if kind == "op"}
        if len(kinds) > 1:
            raise self._wrong()

    def _split(self) -> list[tuple[str, str]]:
        found, at, text = [], 0, self._expression.rstrip()
        while at < len(text):
            match = _TOKEN.match(text, at)
            if match is None or match.lastgroup is None:
                raise self._wrong()
            found.append((match.lastgroup, match[match.lastgroup]))
            at = match.end()
        return found

    def _wrong(self) -> GcpError:
        return invalid("filter", self._expression, "Invalid list filter expression.")

    def parse(self) -> Match:
        match = self._all()
        if self._at != len(self._tokens):
            raise self._wrong()
        return match

    def _peek(self) -> tuple[str, str]:
        return self._tokens[self._at] if self._at < len(self._tokens) else ("end", "")

    def _next(self) -> tuple[str, str]:
        token = self._peek()
        self._at += 1
        return token

    def _all(self) -> Match:
        """Parse terms that are joined by AND or by nothing. AIP-160: OR binds stronger."""
        terms = [self._any()]
        while self._peek() not in (("end", ""), ("paren", ")")):
            if self._peek() == ("word", "AND"):
                self._next()
            terms.append(self._any())
        if len(terms) == 1:
            return terms[0]
        return lambda resource, now: all(term(resource, now) for term in terms)

    def _any(self) -> Match:
        terms = [self._one()]
        while self._peek() == ("word", "OR"):
            self._next()
            terms.append(self._one())
        if len(terms) == 1:
            return terms[0]
        return lambda resource, now: any(term(resource, now) for term in terms)

    def _one(self) -> Match:
        kind, text = self._next()
        if (kind, text) == ("paren", "("):
            inner = self._all()
            if self._next() != ("paren", ")"):
                raise self._wrong()
            return inner
        if kind == "word" and (text == "NOT" or text == "-"):
            inner = self._one()
            return lambda resource, now: not inner(resource, now)
        if kind != "word":
            raise self._wrong()
        return self._comparison(text)

    def _comparison(self, field: str) -> Match:
        kind, operator = self._next()
        value_kind, value = self._next()
        if kind != "op" or value_kind not in ("word", "quoted"):
            raise self._wrong()
        if value_kind == "quoted":
            value = re.sub(r"\\(.)", r"\1", value[1:-1])
        test = self._test(operator, value)
        if field.startswith("labels."):
            key = field.removeprefix("labels.")
            return lambda resource, now: test(resource.labels.get(key, _MISSING))
        if field == "name":
            return lambda resource, now: test(resource.name)
        path = field.split(".")
        return lambda resource, now: test(_dig(resource.as_json(now), path))

    def _test(self, operator: str, value: str) -> Callable[[object], bool]:
        if operator in ("eq", "ne"):
            return self._expected(operator, value)
        if operator == ":":
            return _has(value)
        if operator == "=":
            return lambda found: found is not _MISSING and _text(found) == value
        if operator == "!=":
            return lambda found: found is _MISSING or _text(found) != value
        return _compares(operator, value)

    def _expected(self, operator: str, value: str) -> Callable[[object], bool]:
        try:
            pattern = re.compile(value)
        except re.error:
            raise self._wrong() from None
        wanted = operator == "eq"
        return lambda found: (found is not _MISSING and pattern.fullmatch(_text(found)) is not None) is wanted


def _has(value: str) -> Callable[[object], bool]:
    if value == "*":
        return lambda found: found is not _MISSING
    if value.endswith("*"):
        return lambda found: found is not _MISSING and _text(found).startswith(value[:-1])
    return lambda found: found is not _MISSING and value in _text(found)


def _compares(operator: str, value: str) -> Callable[[object], bool]:
    def compare(found: object) -> bool:
        if found is _MISSING:
            return False
        left, right = _text(found), value
        try:
            ordered = (float(left) > float(right)) - (float(left) < float(right))
        except ValueError:
            ordered = (left > right) - (left < right)
        return {"<": ordered < 0, "<=": ordered <= 0, ">": ordered > 0, ">=": ordered >= 0}[operator]

    return compare


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _dig(value: object, path: Sequence[str]) -> object:
    for step in path:
        if not isinstance(value, Mapping) or step not in value:
            return _MISSING
        value = value[step]
    return value


def page_token(place: str, name: str) -> str:
    """Return the token of the page that begins after a resource."""
    return base64.urlsafe_b64encode(f"{place}\n{name}".encode()).decode().rstrip("=")


def read_page_token(token: str) -> tuple[str, str]:
    """Return the place and the name after which a page begins.

    Raises:
        GcpError: The token is not one of `page_token`.
    """
    if not token:
        return "", ""
    try:
        text = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode()
        place, name = text.split("\n")
    except ValueError:
        raise invalid("pageToken", token, "The page token is invalid.") from None
    return place, name

"""Azure's lists: pages with a link to the next, and the filters of Resource Manager's lists."""

import heapq
import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from urllib.parse import parse_qsl, urlencode

from multicompute_azure.local.arm import ArmError, ArmResponse, Json, dig, group_of, instant
from multicompute_azure.local.routes import Call
from multicompute_azure.local.state import PARTS, ArmResource, Group, State

_CLAUSE = re.compile(r"^\s*(\w+)\s+(eq|ne)\s+'((?:[^']|'')*)'\s*$", re.IGNORECASE)
_SUBSTRING = re.compile(r"^\s*substringof\(\s*'((?:[^']|'')*)'\s*,\s*(name|resourceGroup)\s*\)\s*$", re.IGNORECASE)
_PREFIX = re.compile(r"^\s*startswith\(\s*tagName\s*,\s*'((?:[^']|'')*)'\s*\)\s*$", re.IGNORECASE)
_PLAIN = ("resourcetype", "name", "resourcegroup", "location")

Test = Callable[[ArmResource | Group], bool]


class Listing:
    """The pages of lists.

    Attributes:
        page_size: The largest number of entries on a page.
        tags_with_tag_filter: Whether a list that is filtered by tag shows tags; according to Azure's documentation it does not.
    """

    def __init__(self, state: State) -> None:
        """List the resources in `state`."""
        self._state = state
        self.page_size = 200
        self.tags_with_tag_filter = False

    def page(
        self,
        call: Call,
        keep: Callable[[ArmResource], bool],
        render: Callable[[ArmResource], Json],
        group: Group | None = None,
    ) -> ArmResponse:
        """Return the page that a call asks for, of the resources that pass `keep`, in one group or in all."""
        groups = [group] if group is not None else list(self._state.groups.values())
        after = _position(call.query.get("$skiptoken", ""))
        return self._page(call, filter(keep, _merged([list(each.items.values()) for each in groups], after)), render)

    def page_of(self, call: Call, items: Iterable[ArmResource], render: Callable[[ArmResource], Json]) -> ArmResponse:
        """Return the page that a call asks for, of items in ascending order of their numbers."""
        after = _position(call.query.get("$skiptoken", ""))
        return self._page(call, (item for item in items if item.number > after), render)

    def of_type(self, call: Call, type_: str, render: Callable[[ArmResource], Json]) -> ArmResponse:
        """Return the page that a call asks for, of a type's resources in the call's group or in the subscription."""
        group = self._state.group(call.group) if "group" in call.params else None
        return self.page(call, lambda item: item.type == type_ and self._state.is_listed(item), render, group)

    def _page(self, call: Call, items: Iterator[ArmResource], render: Callable[[ArmResource], Json]) -> ArmResponse:
        size = min(self.page_size, _top(call))
        chosen = list(islice(items, size + 1))
        document: Json = {"value": [render(item) for item in chosen[:size]]}
        # With $top there is no next page.
        if len(chosen) > size and "$top" not in call.query:
            document["nextLink"] = _next_link(call, chosen[size - 1].number)
        return ArmResponse(200, document)

    def resources(self, call: Call, group: Group | None) -> ArmResponse:
        """Return a page of Resource Manager's list of resources, of one group or of the subscription."""
        text = call.query.get("$filter", "")
        test, by_tag = parse_filter(text)
        expanded = {part.strip().lower() for part in call.query.get("$expand", "").split(",")}
        shows_tags = self.tags_with_tag_filter or not by_tag

        def render(item: ArmResource) -> Json:
            return _generic(item, expanded, shows_tags=shows_tags)

        def keep(item: ArmResource) -> bool:
            return item.type not in PARTS and self._state.is_listed(item) and test(item)

        groups = [group] if group is not None else list(self._state.groups.values())
        sources = [source for each in groups for source in (list(each.items.values()), self._ghosts(each))]
        after = _position(call.query.get("$skiptoken", ""))
        return self._page(call, filter(keep, _merged(sources, after)), render)

    def _ghosts(self, group: Group) -> list[ArmResource]:
        """Return the deleted resources that are still in Resource Manager's list."""
        now, lag = self._state.now(), self._state.timing.lag
        group.ghosts = [(item, gone) for item, gone in group.ghosts if gone + lag > now]
        return sorted((item for item, _ in group.ghosts), key=lambda item: item.number)


def _merged(sources: list[list[ArmResource]], after: int) -> Iterator[ArmResource]:
    """Merge several lists, each in the order of creation, and yield the resources after a number."""
    rest = [islice(items, bisect_right(items, after, key=lambda item: item.number), None) for items in sources]
    return heapq.merge(*rest, key=lambda item: item.number)


def _generic(item: ArmResource, expanded: set[str], *, shows_tags: bool) -> Json:
    document: Json = {"id": item.id, "name": item.name, "type": item.type, "location": item.location}
    for name in ("sku", "zones", "identity"):
        if item.body.get(name):
            document[name] = item.body[name]
    if item.tags and shows_tags:
        document["tags"] = dict(item.tags)
    if item.machine is not None and item.machine.scale_set:
        document["managedBy"] = item.machine.scale_set
    elif item.attached_to and dig(item.body, "properties", "osType") is not None:
        document["managedBy"] = item.attached_to
    if "createdtime" in expanded:
        document["createdTime"] = instant(item.created_at)
    if "changedtime" in expanded:
        document["changedTime"] = instant(item.created_at)
    if "provisioningstate" in expanded:
        document["provisioningState"] = item.state
    return document


def parse_filter(text: str) -> tuple[Test, bool]:
    """Return the predicate of a `$filter`, and whether it filters by tag; refuse parts that Azure cannot combine."""
    if not text.strip():
        return (lambda _: True), False
    prefix = _PREFIX.match(text)
    if prefix is not None:
        begin = prefix[1].lower()
        return (lambda item: any(name.lower().startswith(begin) for name in item.tags)), True
    is_or = bool(re.search(r"'\s+or\s+|\)\s+or\s+", text, re.IGNORECASE))
    parts = re.split(r"\s+or\s+" if is_or else r"\s+and\s+", text, flags=re.IGNORECASE)
    clauses = [_clause(part, text) for part in parts]
    by_tag = [clause for clause in clauses if clause[0].startswith("tag")]
    if by_tag:
        return _tag_test(clauses, text), True
    tests = [_plain_test(*clause) for clause in clauses]
    return (lambda item: (any if is_or else all)(test(item) for test in tests)), False


def _clause(part: str, text: str) -> tuple[str, str, str]:
    substring = _SUBSTRING.match(part)
    if substring is not None:
        return substring[2].lower(), "has", substring[1].replace("''", "'")
    found = _CLAUSE.match(part)
    if found is None or found[1].lower() not in (*_PLAIN, "tagname", "tagvalue"):
        raise _bad(text)
    return found[1].lower(), found[2].lower(), found[3].replace("''", "'")


def _tag_test(clauses: list[tuple[str, str, str]], text: str) -> Test:
    wanted = {name: value for name, operator, value in clauses if operator == "eq"}
    # One tag and nothing else.
    if len(wanted) != len(clauses) or "tagname" not in wanted or set(wanted) - {"tagname", "tagvalue"}:
        raise _bad(text)
    name, value = wanted["tagname"].lower(), wanted.get("tagvalue")

    def test(item: ArmResource | Group) -> bool:
        # Tag names are case-insensitive, values are not.
        return any(key.lower() == name and value in (None, found) for key, found in item.tags.items())

    return test


def _plain_test(name: str, operator: str, value: str) -> Test:
    wanted = value.lower()

    def test(item: ArmResource | Group) -> bool:
        if isinstance(item, Group):
            found = {"name": item.name, "location": item.location}.get(name, "")
        else:
            found = {
                "resourcetype": item.type,
                "name": item.name,
                "location": item.location,
                "resourcegroup": group_of(item.id),
            }[name]
        found = found.lower()
        if operator == "has":
            return wanted in found
        return (found == wanted) is (operator == "eq")

    return test


def _bad(text: str) -> ArmError:
    return ArmError("InvalidFilterInQueryString", f"Invalid $filter '{text}' specified in the query string.")


def _top(call: Call) -> int:
    text = call.query.get("$top", "")
    if text and not (text.isdigit() and int(text) > 0):
        raise ArmError("InvalidTopInQueryString", f"Invalid $top '{text}' specified in the query string.")
    return int(text) if text else 1_000_000


def _position(token: str) -> int:
    if not token:
        return 0
    try:
        return int(token, 16)
    except ValueError as error:
        raise ArmError("InvalidSkipToken", f"The skip token '{token}' is invalid.") from error


def _next_link(call: Call, number: int) -> str:
    kept = [(name, value) for name, value in parse_qsl(call.request.query) if name.lower() != "$skiptoken"]
    return f"{call.base_url}{call.request.path}?{urlencode([*kept, ('$skiptoken', f'{number:08x}')])}"

"""A call as the handlers see it, and the pages of lists."""

import json
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, Protocol, TypeVar

from multicompute_gcp.local.filters import Listed, matcher, page_token, read_page_token
from multicompute_gcp.local.hardware import hardware
from multicompute_gcp.local.records import Instance, path_of, url_of
from multicompute_gcp.local.responses import GcpError, Json, invalid, not_found
from multicompute_gcp.local.state import ResourceStore, State

_PAGE = 500


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a method.

    Attributes:
        operation: The short name of the method: "instances.bulkInsert".
        path: The parameters in the path: project, zone, instance, ...
        query: The parameters in the query.
        body: The JSON document.
    """

    operation: str
    path: Mapping[str, str]
    query: Mapping[str, str] = field(default_factory=dict)
    body: Json = field(default_factory=dict)

    @property
    def zone(self) -> str:
        """The zone that the path names.

        Raises:
            GcpError: The zone does not exist.
        """
        name = self.path["zone"]
        if name not in hardware().zones:
            raise invalid("zone", name, "Unknown zone.")
        return name

    @property
    def region(self) -> str:
        """The region that the path names.

        Raises:
            GcpError: The region does not exist.
        """
        name = self.path["region"]
        if name not in hardware().regions():
            raise invalid("region", name, "Unknown region.")
        return name

    def is_set(self, name: str) -> bool:
        """Return whether a boolean parameter of the query is true."""
        return self.query.get(name, "").lower() == "true"


class Answerable(Protocol):
    """A response that depends on the time, such as an operation."""

    def as_json(self, now: datetime) -> Json:
        """Return the JSON document at a time."""
        ...


Handler = Callable[[Call], "Json | str | Answerable"]
_L = TypeVar("_L", bound=Listed)


def render(resource: Listed, now: datetime) -> str:
    """Return a resource as JSON text."""
    return resource.text(now) if isinstance(resource, Instance) else json.dumps(resource.as_json(now))


def list_page(call: Call, state: State, kind: str, scope: str, resources: Sequence[Listed]) -> str:
    """Return a page of a list of one scope; `resources` are in the order of their names."""
    now = state.now()
    page, more = _page(call, [(scope, _visible(resources, now))], now)
    items = ", ".join(render(resource, now) for _, chosen in page for resource in chosen)
    head: Json = {"kind": f"compute#{kind}List", "id": url_of(scope, _plural(kind)), "selfLink": url_of(scope)}
    if more:
        head["nextPageToken"] = more
    # Google omits an empty list.
    tail = f', "items": [{items}]' if items else ""
    return f"{json.dumps(head)[:-1]}{tail}}}"


def aggregated_page(call: Call, state: State, kind: str, scopes: Mapping[str, Sequence[Listed]]) -> str:
    """Return a page of a list of all scopes; a scope with nothing on the page has a warning instead."""
    now = state.now()
    unreachable = {f"zones/{zone}" for zone in state.unreachable} & set(scopes)
    groups = [(scope, _visible(scopes[scope], now)) for scope in sorted(scopes) if scope not in unreachable]
    page, more = _page(call, groups, now)
    shown = dict(page)
    member = _plural(kind)
    items = []
    for scope in sorted(scopes):
        if shown.get(scope):
            body = ", ".join(render(resource, now) for resource in shown[scope])
            items.append(f'{json.dumps(scope)}: {{"{member}": [{body}]}}')
        else:
            items.append(f"{json.dumps(scope)}: {json.dumps(_warning(scope, unreachable))}")
    head: Json = {"kind": f"compute#{kind}AggregatedList", "id": url_of("aggregated", member)}
    head["selfLink"] = head["id"]
    if unreachable:
        head["unreachables"] = sorted(unreachable)
    if more:
        head["nextPageToken"] = more
    return f'{json.dumps(head)[:-1]}, "items": {{{", ".join(items)}}}}}'


class ZonalKind(Generic[_L]):
    """The methods that read one kind of zonal resource."""

    def __init__(self, state: State, kind: str, store_of: Callable[[str], ResourceStore[_L]]) -> None:
        """Read resources of a kind ("instance") in the store of their zone."""
        self._state = state
        self._kind = kind
        self._store_of = store_of

    def handlers(self) -> Mapping[str, Handler]:
        """Return the handlers by method."""
        collection = _plural(self._kind)
        return {
            f"{collection}.get": lambda call: render(self.found(call), self._state.now()),
            f"{collection}.list": self._list,
            f"{collection}.aggregatedList": self._aggregated,
        }

    def found(self, call: Call, parameter: str = "") -> _L:
        """Return the resource that a parameter in the path names, by default the parameter called like the kind.

        Raises:
            GcpError: The resource does not exist.
        """
        zone, name = call.zone, call.path[parameter or self._kind]
        resource = self._store_of(zone).find(name)
        if resource is None:
            raise not_found(path_of(f"zones/{zone}", _plural(self._kind), name))
        return resource

    def _list(self, call: Call) -> str:
        return list_page(call, self._state, self._kind, f"zones/{call.zone}", self._store_of(call.zone).in_order())

    def _aggregated(self, call: Call) -> str:
        scopes = {f"zones/{zone}": self._store_of(zone).in_order() for zone in hardware().zones}
        return aggregated_page(call, self._state, self._kind, scopes)


def _warning(scope: str, unreachable: Iterable[str]) -> Json:
    code, message = "NO_RESULTS_ON_PAGE", f"There are no results for scope '{scope}' on this page."
    if scope in unreachable:
        code, message = "UNREACHABLE", f"The scope '{scope}' is unreachable at the moment; its resources are missing."
    return {"warning": {"code": code, "message": message, "data": [{"key": "scope", "value": scope}]}}


def _plural(kind: str) -> str:
    if kind.endswith("y"):
        return kind[:-1] + "ies"
    return kind + "s"


def _visible(resources: Sequence[_L], now: datetime) -> Sequence[_L]:
    return [
        resource for resource in resources if (shown := getattr(resource, "listed_from", None)) is None or now >= shown
    ]


def _page(
    call: Call, groups: Sequence[tuple[str, Sequence[Listed]]], now: datetime
) -> tuple[list[tuple[str, list[Any]]], str]:
    matches = matcher(call.query.get("filter", ""))
    newest_first = _is_newest_first(call)
    left = _page_size(call)
    scope_before, name_before = read_page_token(call.query.get("pageToken", ""))
    page: list[tuple[str, list[Any]]] = []
    last = ("", "")
    for scope, resources in groups:
        if scope < scope_before:
            continue
        rest = _newest_first(resources, now) if newest_first else resources
        if scope == scope_before:
            rest = _after(rest, name_before, in_order=not newest_first)
        chosen: list[Listed] = []
        page.append((scope, chosen))
        for resource in rest:
            if not matches(resource, now):
                continue
            if left == 0:
                return page, page_token(*last)
            chosen.append(resource)
            left, last = left - 1, (scope, resource.name)
    return page, ""


def _after(resources: Sequence[_L], name: str, *, in_order: bool) -> Sequence[_L]:
    """Return the resources after a name, whose resource may not exist any more."""
    if in_order:
        return resources[bisect_right(resources, name, key=lambda resource: resource.name) :]
    names = [resource.name for resource in resources]
    return resources[names.index(name) + 1 :] if name in names else resources


def _newest_first(resources: Sequence[Listed], now: datetime) -> Sequence[Listed]:
    return sorted(resources, key=lambda resource: _made_at(resource, now), reverse=True)


def _made_at(resource: Listed, now: datetime) -> str:
    body = resource.as_json(now)
    return str(body.get("creationTimestamp") or body.get("insertTime", ""))


def _is_newest_first(call: Call) -> bool:
    order = call.query.get("orderBy", "")
    if order not in ("", "name", "creationTimestamp desc"):
        # compute.v1, orderBy: "Currently, only sorting by name or creationTimestamp desc is supported."
        raise invalid("orderBy", order, "Only name and creationTimestamp desc are supported.")
    return order == "creationTimestamp desc"


def _page_size(call: Call) -> int:
    size = call.query.get("maxResults", "0")
    if not size.isdecimal() or int(size) > _PAGE:
        raise invalid("maxResults", size, f"Must be an integer from 0 to {_PAGE}.")
    return int(size) or _PAGE


def required(body: Mapping[str, Any], name: str) -> Any:
    """Return a field that a request must have.

    Raises:
        GcpError: The field is missing.
    """
    if not body.get(name):
        raise GcpError("required", f"Required field 'resource.{name}' not specified", 400)
    return body[name]

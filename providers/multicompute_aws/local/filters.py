"""EC2's filters and pages. An item must match every filter, and any value of a filter; values can have wildcards."""

import fnmatch
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from multicompute_aws.local.wire import AwsError

Item = TypeVar("Item")
Getter = Callable[[Item], Iterable[str]]
Predicate = Callable[[Item], bool]
# "Filter your resources", EC2 user guide.
_MAXIMUM_VALUES = 200
_FEWEST, _MOST = 5, 1000


def matcher(
    filters: Sequence[Mapping[str, Any]],
    getters: Mapping[str, Getter[Item]],
    tags_of: Callable[[Item], Mapping[str, str]],
) -> Predicate[Item]:
    """Return the predicate for the Filters of a request.

    Args:
        filters: The filters of the request.
        getters: The filters of the action, in addition to those by tag.
        tags_of: Returns the tags of an item.

    Raises:
        AwsError: The action has no such filter, or there are too many values.
    """
    if sum(len(entry.get("Values", ())) for entry in filters) > _MAXIMUM_VALUES:
        raise AwsError(
            "FilterLimitExceeded",
            f"The maximum number of filter values specified on a single call is {_MAXIMUM_VALUES}",
        )
    tests = [_test(entry.get("Name", ""), entry.get("Values", ()), getters, tags_of) for entry in filters]
    return lambda item: all(test(item) for test in tests)


def _test(
    name: str,
    values: Sequence[str],
    getters: Mapping[str, Getter[Item]],
    tags_of: Callable[[Item], Mapping[str, str]],
) -> Predicate[Item]:
    accepts = _accepts(values)
    if name.startswith("tag:"):
        key = name.removeprefix("tag:")
        return lambda item: key in tags_of(item) and accepts(tags_of(item)[key])
    if name == "tag-key":
        return lambda item: any(accepts(key) for key in tags_of(item))
    getter = getters.get(name)
    if getter is None:
        raise AwsError("InvalidParameterValue", f"The filter '{name}' is invalid")
    return lambda item: any(accepts(value) for value in getter(item))


def _accepts(values: Sequence[str]) -> Callable[[str], bool]:
    plain = frozenset(value for value in values if "*" not in value and "?" not in value)
    if len(plain) == len(values):
        return plain.__contains__
    patterns = [re.compile(fnmatch.translate(value.replace("[", "[[]"))) for value in values if value not in plain]
    return lambda value: value in plain or any(pattern.match(value) for pattern in patterns)


def page_size(params: Mapping[str, Any], with_ids: str) -> int | None:
    """Return the largest number of items on a page; None for all.

    Args:
        params: The parameters of the request.
        with_ids: The parameter that excludes MaxResults.
    """
    most: int | None = params.get("MaxResults")
    if most is None:
        return None
    if params.get(with_ids):
        raise AwsError(
            "InvalidParameterCombination",
            f"The parameter {with_ids} cannot be used with the parameter maxResults",
        )
    if most < _FEWEST:
        raise AwsError(
            "InvalidParameterValue",
            f"Value ( {most} ) for parameter maxResults is invalid. Expecting a value greater than {_FEWEST}.",
        )
    return min(most, _MOST)


class Tagged(Protocol):
    """A resource with an id and tags."""

    id: str
    tags: dict[str, str]


_Tagged = TypeVar("_Tagged", bound=Tagged)


def select(
    params: Mapping[str, Any], with_ids: str, candidates: Iterable[_Tagged], getters: Mapping[str, Getter[_Tagged]]
) -> tuple[Sequence[_Tagged], str | None]:
    """Return the page of the candidates that a request asks for, and the token of the next page.

    Args:
        params: The parameters of the request.
        with_ids: The parameter that excludes MaxResults.
        candidates: The resources in the order of their ids; not read before the page size is checked.
        getters: The filters of the action, in addition to those by tag.
    """
    size = page_size(params, with_ids)
    matches = matcher(params.get("Filters", ()), getters, lambda item: item.tags)
    found = [item for item in candidates if matches(item)]
    return paged(found, size, params.get("NextToken"), lambda item: item.id)


def paged(
    items: Sequence[Item], size: int | None, token: str | None, id_of: Callable[[Item], str]
) -> tuple[Sequence[Item], str | None]:
    """Return one page of items in the order of their ids, and the token of the next page."""
    start = 0
    if token:
        start = next((at for at, item in enumerate(items) if id_of(item) > token), len(items))
    if size is None:
        return items[start:], None
    page = items[start : start + size]
    more = len(items) > start + size
    return page, id_of(page[-1]) if more else None

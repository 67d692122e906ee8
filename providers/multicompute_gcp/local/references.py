"""References to resources in requests (full URLs, partial URLs, names), and the rules for names and labels."""

import re
from collections.abc import Mapping

from multicompute_gcp.local.records import PROJECT, path_of
from multicompute_gcp.local.responses import GcpError, invalid, not_found
from multicompute_gcp.local.state import State

_URL = re.compile(
    r"(?:https://[a-z.]*googleapis\.com/compute/(?:v1|beta)/)?(?:projects/(?P<project>[^/]+)/)?(?P<rest>.+)"
)
_NAME = re.compile(r"[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?")
# https://cloud.google.com/compute/docs/labeling-resources: lower-case letters of any script, digits, _ and -; 64 labels.
_LABEL_KEY = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_LABEL_VALUE = re.compile(r"[a-z0-9_-]{0,63}")
_LABELS = 64


def split_url(field: str, value: str) -> tuple[str, str]:
    """Return the project and the rest ("zones/us-central1-a/machineTypes/n1-standard-1") of a full or partial URL.

    Raises:
        GcpError: The value is a name, or empty.
    """
    match = _URL.fullmatch(value)
    if match is None or "/" not in match["rest"]:
        raise invalid(field, value, "The URL is malformed.")
    return match["project"] or PROJECT, match["rest"]


def member(field: str, value: str, collection: str, scope: str, *, by_name: bool) -> str:
    """Return the name of a member of a collection that a field refers to.

    Args:
        field: The field, for errors.
        value: The name or the URL.
        collection: The collection, "machineTypes".
        scope: Where the member must be, "zones/us-central1-a".
        by_name: Whether the field takes a name; otherwise it takes a URL.

    Raises:
        GcpError: The value has the other form, or refers to another scope.
    """
    if by_name:
        if "/" in value:
            raise invalid(field, value, "Must be a match of regex '[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?'")
        return value
    project, rest = split_url(field, value)
    start = f"{scope}/{collection}/"
    if project != PROJECT or not rest.startswith(start):
        raise invalid(field, value, "The referenced resource is in another place than the request.")
    return rest.removeprefix(start)


def check_name(field: str, name: str) -> None:
    """Refuse a name that RFC 1035 does not allow."""
    if not _NAME.fullmatch(name):
        raise invalid(field, name, "Must be a match of regex '(?:[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?)'")


def check_labels(field: str, labels: Mapping[str, str]) -> dict[str, str]:
    """Return the labels; refuse labels that Google does not allow."""
    if len(labels) > _LABELS:
        raise invalid(field, len(labels), f"There can be at most {_LABELS} labels.")
    for key, value in labels.items():
        if not _LABEL_KEY.fullmatch(key):
            raise invalid(field, key, "Label keys must match '[\\p{Ll}\\p{Lo}][\\p{Ll}\\p{Lo}\\p{N}_-]{0,62}'.")
        if not _LABEL_VALUE.fullmatch(value):
            raise invalid(field, value, "Label values must match '[\\p{Ll}\\p{Lo}\\p{N}_-]{0,63}'.")
    return dict(labels)


def check_exists(state: State, kind: str, collection: str, scope: str, name: str) -> None:
    """Refuse a reference to a resource that does not exist."""
    if state.store(kind, scope).find(name) is None:
        raise not_found(path_of(scope, collection, name))


def check_fresh(given: str, current: str) -> None:
    """Refuse to change labels that have changed since the caller read them."""
    if given != current:
        raise GcpError(
            "conditionNotMet",
            "Labels fingerprint either invalid or resource labels have changed",
            412,
            location="If-Match",
        )

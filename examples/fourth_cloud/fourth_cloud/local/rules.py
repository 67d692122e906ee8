"""The offers of Fourth, and the requests that it refuses as malformed."""

import csv
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Final

TABLES: Final = Path(__file__).parents[1] / "data"
MOST_LABELS: Final = 32
STATUS: Final = {
    "unauthorized": 401,
    "forbidden": 403,
    "quota_exceeded": 403,
    "not_found": 404,
    "already_exists": 409,
    "in_use": 409,
    "out_of_stock": 409,
    "not_sold_here": 422,
    "invalid_request": 422,
    "rate_limited": 429,
    "internal": 500,
}
"""The API's codes and the HTTP statuses that they come with."""

# Field -> the types of its value; an unknown field is refused, and so is a missing one.
_NONE: Final = type(None)
FIELDS: Final[Mapping[str, Mapping[str, tuple[type, ...]]]] = {
    "CreateServers": {
        "request_id": (str,),
        "count": (int,),
        "region": (str,),
        "zone": (str,),
        "type": (str,),
        "market": (str,),
        "max_price": (float, int, _NONE),
        "labels": (dict,),
        "delete_at": (int, _NONE),
        "firewall": (str,),
        "fabric_group": (str, _NONE),
        "image": (str,),
        "disk_gib": (float, int, _NONE),
        "user_data": (str,),
        "ssh_key": (str, _NONE),
        "has_public_ip": (bool,),
    },
    "DeleteServers": {"ids": (list,)},
    "FindServers": {"ids": (list,), "requests": (list,)},
    "UpdateServers": {"ids": (list,), "labels": (dict,), "delete_at": (int, _NONE)},
    "CreateFirewall": {"name": (str,), "region": (str,), "labels": (dict,), "allow": (list,)},
    "DeleteFirewall": {"id": (str,)},
    "GetAccount": {},
}
QUERY: Final = frozenset({"label", "region", "page"})
"""The optional filters of a listing."""


class Refusal(Exception):
    """A refusal of the API, with a code of `STATUS` or any other that a test injects."""

    def __init__(self, code: str, message: str, *, status: int = 0, retry_after: timedelta | None = None) -> None:
        """Store code and message; `status` is for codes that `STATUS` does not have."""
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status or STATUS.get(code, 400)
        self.retry_after = retry_after


def check(operation: str, body: Mapping[str, object]) -> None:
    """Refuse a body that the API's reference does not allow.

    Raises:
        Refusal: An unknown or missing field, a value of the wrong type, too many labels, or too many ids.
    """
    for problem in _problems(operation, body):
        raise Refusal("invalid_request", f"{operation}: {problem}")


def _problems(operation: str, body: Mapping[str, object]) -> Iterator[str]:
    if operation not in FIELDS:
        yield from (f"{name}: no such parameter" for name in body.keys() - QUERY)
        return
    fields = FIELDS[operation]
    for name in sorted(fields.keys() ^ body.keys()):
        yield f"{name} is missing" if name in fields else f"{name}: no such field"
    for name, kinds in fields.items():
        if type(body[name]) not in kinds:
            yield f"{name}: {body[name]!r} has the wrong type"
    labels, ids = body.get("labels"), body.get("ids")
    if isinstance(labels, dict) and len(labels) > MOST_LABELS:
        yield f"{len(labels)} labels; at most {MOST_LABELS} are allowed"
    if isinstance(ids, list) and len(ids) > 100:
        yield f"{len(ids)} ids; at most 100 are allowed"


def sold() -> frozenset[tuple[str, str, str]]:
    """Return every (instance type, zone, purchase) in the packaged tables."""
    found: set[tuple[str, str, str]] = set()
    for path in TABLES.glob("*/offers.csv"):
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                found |= {(row["instance_type"], zone, row["purchase"]) for zone in row["zones"].split(";")}
    return frozenset(found)

"""Names that follow from cluster and token, so that a resource can be found without a record of it; and the parts of Google's URLs."""

import hashlib
import re
import uuid
from collections.abc import Iterable
from typing import Final

from multicompute.offer import Part
from multicompute.provider import LaunchRequest

# RFC 1035, as Compute Engine requires for names; the length leaves room for what is appended.
_NAME: Final = re.compile(r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?")
_REQUESTS: Final = uuid.UUID("5f9d3e0c-6c0b-4e43-9d7e-6d2b6c7a9a51")


def resource_name(text: str) -> str:
    """Return a name made from a token or a cluster id: the text itself if it is a valid name, else its digest."""
    return text if _NAME.fullmatch(text) else f"mc-{hashlib.sha256(text.encode()).hexdigest()[:24]}"


def part_name(token: str, index: int) -> str:
    """Return the start of the names of everything in one part of a launch."""
    return f"{resource_name(token)}-{index}"


def instance_names(request: LaunchRequest, index: int, part: Part) -> list[str]:
    """Return the names of the instances of a part, in order. They are made from the token, so a repeated launch can't create others."""
    return [f"{part_name(request.token, index)}-{number:04d}" for number in range(1, part.nodes + 1)]


def slice_names(request: LaunchRequest, index: int, part: Part) -> list[str]:
    """Return the names of the TPU nodes of a part, in order; a queued resource names them in the same way."""
    name = part_name(request.token, index)
    return [name] if part.nodes == 1 else [f"{name}-{number}" for number in range(part.nodes)]


def attempt_pattern(token: str) -> str:
    """Return the regular expression of the names of all instances and slices of a launch; their boot disks have the same names."""
    return f"{re.escape(resource_name(token))}-[0-9]+(-[0-9]+)?"


def token_of(name: str, tokens: Iterable[str]) -> str:
    """Return the token that a name was made from, "" if it is none of these."""
    return next((token for token in tokens if re.fullmatch(attempt_pattern(token), name)), "")


def slice_of(node_id: str) -> str:
    """Return the name of the slice of a host, "" for the id of an instance."""
    name, separator, _ = node_id.partition("/")
    return name if separator else ""


def request_id(*words: str) -> str:
    """Return the idempotency key of a call, the same for the same words."""
    return str(uuid.uuid5(_REQUESTS, "\n".join(words)))


def bulk_insert_id(token: str, part: int, zone: str, failures: int) -> str:
    """Return the idempotency key of a bulkInsert; `failures` counts the temporary failures of the calls before it."""
    return request_id("bulk", token, str(part), zone, *([str(failures)] if failures else []))


def last_segment(url: object) -> str:
    """Return the name at the end of one of Google's URLs or paths."""
    return str(url).rpartition("/")[2]


def region_of(zone: str) -> str:
    """Return the region of a zone."""
    return zone.rpartition("-")[0]

"""Names that follow from the ids of a cluster and of an attempt: those of groups, and EC2's client tokens."""

import hashlib
import re
from typing import Final

from multicompute.provider_kit.vendor_errors import Place, invalid_request

_CLIENT_TOKEN_LENGTH: Final = 64
# How many parts of an attempt with a long token are looked for by their digests; the engine's tokens are short.
_PARTS: Final = 16


def group_name(cluster_id: str) -> str:
    """Return the name of a cluster's groups; security groups may not be named "sg-...", and 255 characters are allowed."""
    return f"multicompute-{cluster_id}"[:200]


def until_name(cluster_id: str, expiry: str) -> str:
    """Return the name of the security group that tells nodes their expiry; `_boot` reads it on the node."""
    return f"{group_name(cluster_id)}-until-{expiry}"


def is_until_name(name: str) -> bool:
    """Return whether a security group tells nodes an expiry."""
    return re.fullmatch(r"multicompute-.*-until-([0-9]+|never)", name) is not None


def client_token(token: str, index: int) -> str:
    """Return EC2's token for the part with this index; a long one is replaced by its digest, which stays unique.

    Raises:
        InvalidRequestError: It is not ASCII, and EC2 accepts nothing else.
    """
    if not token.isascii():
        raise invalid_request(f"token {token!r} is not ASCII", code="InvalidClientToken", place=Place("aws"), hint="")
    full = token if index == 0 else f"{token}-{index}"
    return full if len(full) <= _CLIENT_TOKEN_LENGTH else hashlib.sha256(full.encode()).hexdigest()


def client_token_filters(token: str) -> list[str]:
    """Return the values of the filter "client-token" that find every part of an attempt, and perhaps more."""
    if len(token) <= _CLIENT_TOKEN_LENGTH - len("-99"):
        return [escaped(token), f"{escaped(token)}-*"]
    return [escaped(client_token(token, index)) for index in range(_PARTS)]


def is_client_token(given: str, token: str) -> bool:
    """Return whether `given` is the client token of a part of the attempt with this token."""
    if re.fullmatch(re.escape(token) + r"(-[0-9]+)?", given):
        return True
    return len(token) > _CLIENT_TOKEN_LENGTH - len("-99") and given in client_token_filters(token)


def escaped(value: str) -> str:
    """Escape wildcards of a filter: an owner with a "*" must not select every user's machines."""
    return re.sub(r"([\\*?])", r"\\\1", value)

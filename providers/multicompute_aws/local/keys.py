"""The access keys of the local AWS: whose they are, and which are not accepted any more."""

import re
from typing import Final, Literal

from multicompute.testing.local.server import Request
from multicompute_aws.local.wire import AwsError

KeyFault = Literal["unknown", "expired"]
"""The reason to refuse a key: it was deleted or deactivated, or it is temporary and has expired."""

_KEY: Final = re.compile(r"Credential=([^/]*)/")
_INVALID_TOKEN: Final = "The security token included in the request is {}"
# What each kind of service answers: EC2 has codes of its own ("Error codes for the Amazon EC2 API"), the others those of "Common errors".
_EC2: Final = {
    "unknown": AwsError("AuthFailure", "AWS was not able to validate the provided access credentials", 401),
    "expired": AwsError("RequestExpired", "Request has expired.", 400),
}
_FORMS: Final = {
    "unknown": AwsError("InvalidClientTokenId", _INVALID_TOKEN.format("invalid."), 403),
    "expired": AwsError("ExpiredToken", _INVALID_TOKEN.format("expired"), 403),
}
_JSON: Final = {
    "unknown": AwsError("UnrecognizedClientException", _INVALID_TOKEN.format("invalid."), 400),
    "expired": AwsError("ExpiredTokenException", _INVALID_TOKEN.format("expired"), 400),
}


class Keys:
    """The account of each access key; a key that nothing is known about belongs to the main account."""

    def __init__(self) -> None:
        """Accept every key."""
        self._accounts: dict[str, str] = {}
        self._faults: dict[str, KeyFault] = {}

    def add(self, key_id: str, account: str) -> None:
        """Let a key belong to an account."""
        self._accounts[key_id] = account

    def account_of(self, key_id: str) -> str:
        """Return the account of a key, "" for the main one."""
        return self._accounts.get(key_id, "")

    def revoke(self, key_id: str, fault: KeyFault) -> None:
        """Accept a key no longer."""
        self._faults[key_id] = fault

    def fault(self, key_id: str) -> KeyFault | None:
        """Return why a key is not accepted, None if it is."""
        return self._faults.get(key_id)


def key_of(request: Request) -> str:
    """Return the access key that a request is signed with."""
    found = _KEY.search(request.headers.get("authorization", ""))
    return found[1] if found else ""


def refusal_of_key(service: str, fault: KeyFault) -> AwsError:
    """Return how a service refuses a key."""
    if service == "ec2":
        return _EC2[fault]
    return (_FORMS if service in ("sts", "iam") else _JSON)[fault]

"""Launch requests for the tests of the adapters."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from multicompute.offer import Offer, Part
from multicompute.provider import LaunchRequest


def request_maker(offer: Offer, *, owner: str = "me") -> Callable[..., LaunchRequest]:
    """Return a function that makes a request for one part of two nodes; its arguments replace fields."""

    def make(**changes: Any) -> LaunchRequest:
        token = changes.get("token", "tok")
        tags = {
            "multicompute-cluster": "train",
            "multicompute-id": "id-1",
            "multicompute-attempt": token,
            "multicompute-owner": owner,
            "multicompute-expires-at": "never",
            "team": "nlp",
        }
        plain = LaunchRequest(token, "id-1", "train", owner, (Part(offer, 2),), tags)
        return replace(plain, **changes)

    return make

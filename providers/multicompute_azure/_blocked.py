"""Refusals of a deletion that do not pass by themselves: locks, policies, deny assignments, and other users of a resource."""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from multicompute.provider_kit.vendor_errors import VendorAnswer

# The code of each refusal, and what to do about it.
_REMEDIES: Final[Mapping[str, str]] = {
    # "Lock your resources to protect your infrastructure": a lock of a resource, its group or its subscription, CanNotDelete or ReadOnly.
    "ScopeLocked": "is locked; remove the lock (`az lock list`, `az lock delete`)",
    # "Azure Policy definitions denyAction effect".
    "RequestDisallowedByPolicy": "is kept by an Azure policy; exempt it (`az policy exemption create`)",
    # "Understand Azure deny assignments": a managed application, a deployment stack or a blueprint has them.
    "DenyAssignmentAuthorizationFailed": "is kept by a deny assignment; delete it through what has assigned it: a deployment stack, for example",
    # Azure/azure-cli#10187 among others: a resource outside of a group uses one that is in it.
    "ResourceGroupDeletionBlocked": "can't be deleted: something outside of the group uses what is in it",
}
_RESOURCE: Final = re.compile(r"/subscriptions/[^\s'\",;\]]+", re.IGNORECASE)
_NAMED: Final = 3
"""The highest number of resources that a message names."""


def is_blocked(answer: VendorAnswer | None) -> bool:
    """Return whether an answer to a deletion does not change until somebody does something."""
    return answer is not None and answer.code in _REMEDIES


def blocker(answer: VendorAnswer, resource_id: str, canonical: Callable[[str], str]) -> str:
    """Return what blocks the deletion of a resource and what to do about it.

    Args:
        answer: A refusal that `is_blocked`.
        resource_id: The resource.
        canonical: Returns an id in the spelling of our own ids.
    """
    locked = _ids(answer.message.partition("are locked:")[2], canonical)
    return f"{', '.join(locked[:_NAMED]) or resource_id} {_REMEDIES[answer.code]}"


def foreign_users(message: str, is_ours: Callable[[str], bool], canonical: Callable[[str], str]) -> str:
    """Return the resources that use another, by the refusal to delete it, and are not ours; "" if there are none."""
    users = [name for name in _ids(message, canonical) if not is_ours(name)]
    return ", ".join(users[:_NAMED])


def joined(blockers: Iterable[str]) -> str:
    """Return several blockers as one text, each once."""
    return "; ".join(dict.fromkeys(text for text in blockers if text))


def _ids(message: str, canonical: Callable[[str], str]) -> list[str]:
    return list(dict.fromkeys(canonical(found.rstrip(".")) for found in _RESOURCE.findall(message)))

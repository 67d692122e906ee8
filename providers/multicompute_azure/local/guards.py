"""The protections of resources from deletion and change: locks, policies with the effect denyAction, and deny assignments."""

from dataclasses import dataclass
from typing import Final, Literal

from multicompute_azure.local.arm import ArmError

GuardKind = Literal["CanNotDelete", "ReadOnly", "denyAction", "denyAssignment"]

_READS: Final = ("GET", "HEAD")


@dataclass(frozen=True, slots=True)
class Guard:
    """A lock, a policy or a deny assignment on a scope.

    Attributes:
        kind: What it is; all refuse deletes, and a ReadOnly lock refuses changes, too.
        scope: The id of a resource, a resource group or the subscription.
    """

    kind: GuardKind
    scope: str

    def covers(self, scope: str) -> bool:
        """Return whether it is on a scope, on the group of it, or on the subscription."""
        return (scope.lower() + "/").startswith(self.scope.lower() + "/")


class Guards:
    """All guards of a subscription."""

    def __init__(self) -> None:
        """Start without any."""
        self._guards: dict[str, Guard] = {}

    def put(self, scope: str, kind: GuardKind) -> None:
        """Guard a scope; it has one guard at most."""
        self._guards[scope.lower()] = Guard(kind, scope)

    def remove(self, scope: str) -> None:
        """Remove the guard of a scope, if it has one."""
        self._guards.pop(scope.lower(), None)

    def allow_delete(self, scope: str) -> bool:
        """Return whether a resource can be deleted."""
        return not any(guard.covers(scope) for guard in self._guards.values())

    def refusal_of(self, scope: str) -> ArmError | None:
        """Return the error with which a deletion is refused, None if it is not."""
        try:
            self.check("DELETE", scope)
        except ArmError as error:
            return error
        return None

    def check(self, method: str, scope: str) -> None:
        """Refuse a call that a guard does not allow.

        "Lock your resources to protect your infrastructure" (Resource Manager): a lock applies to everything below its scope, and a group
        with a locked resource can't be deleted. "Azure Policy definitions denyAction effect": 403, and a group's deletion is refused for
        what is in it (cascadeBehaviors deny, the default).

        Raises:
            ArmError: A guard does not allow the call.
        """
        if method in _READS:
            return
        parts = scope.split("/")
        is_group = len(parts) == 5 and parts[3].lower() == "resourcegroups"
        for guard in self._guards.values():
            is_inside = is_group and guard.scope.lower().startswith(scope.lower() + "/")
            if method == "DELETE" and (guard.covers(scope) or is_inside):
                raise _refusal(guard, scope, "delete")
            if guard.kind == "ReadOnly" and guard.covers(scope):
                raise _refusal(guard, scope, "write")


def _refusal(guard: Guard, scope: str, action: str) -> ArmError:
    """Return the error, with the wording of Azure: Azure/azure-cli and "Troubleshoot ScopeLocked" for locks, the pages above for others."""
    name = scope.rsplit("/", 1)[-1]
    if guard.kind == "denyAction":
        return ArmError(
            "RequestDisallowedByPolicy",
            f"Resource '{name}' was disallowed by policy. Policy identifiers: "
            '\'[{"policyAssignment":{"name":"keep-machines","id":"'
            + guard.scope
            + "/providers/Microsoft.Authorization/"
            "policyAssignments/keep-machines\"}}]'.",
            403,
            target=name,
        )
    if guard.kind == "denyAssignment":
        return ArmError(
            "DenyAssignmentAuthorizationFailed",
            "The client 'local' with object id 'local' has permission to perform action "
            f"'Microsoft.Resources/{action}' on scope '{scope}'; however, the access is denied because of the deny assignment "
            f"with name 'stack' and Id 'stack' at scope '{guard.scope}'.",
            403,
        )
    return ArmError(
        "ScopeLocked",
        f"The scope '{scope}' cannot perform {action} operation because following scope(s) are locked: '{guard.scope}'. "
        "Please remove the lock and try again.",
        409,
    )

"""Every error that this package raises, as one tree.

MulticomputeError
+-- SpecError (ValueError)          the request contradicts itself or names something unknown
|   +-- ConfigError                 the configuration file or the environment can't be read
+-- NoOfferError                    no offer in the catalog meets the request
+-- CapacityError                   the cloud has no capacity for the request now
+-- QuotaError                      the account's quota is too small for the request
+-- BudgetError                     the cluster has spent its budget
+-- AuthError                       credentials are missing, wrong or expired
|   +-- WrongAccountError           the credentials belong to another account than the cluster
+-- AccessDeniedError               the credentials are valid but lack a permission
+-- ThrottledError                  the cloud limits the request rate; the call can be repeated
+-- TransientError                  the cloud failed or gave no answer; the call can be repeated
+-- InvalidRequestError             the cloud rejects the request as invalid
+-- ProviderError                   any other answer of the cloud
|   +-- TeardownIncomplete          the cloud accepted every delete, and something is left
+-- ProvisionTimeout (TimeoutError) the cluster was not ready in time and was torn down
+-- ClusterNotFound                 the ledger has no such cluster
+-- ClusterExists                   a live cluster has this name but another request
+-- RunError                        a command failed on a node, or the node was lost
|   +-- RunTimeout (TimeoutError)   a command ran longer than it may
|   +-- HostKeyError                a node presented another host key than the pinned one
+-- LedgerError                     the ledger can't be read or written
+-- CatalogError                    an offer table is missing or malformed
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from multicompute.plan import AttemptReport, Plan
    from multicompute.remote.results import RunResult

Scope = Literal["request", "type", "zone", "region", "account"]
"""The reach of a refusal: this offer only, the instance type in its region, the zone, the region, or the account.

A lack of capacity or quota concerns only the instance type, wherever in the zone, the region or the account it is.
"""


class MulticomputeError(Exception):
    """The base class of all errors of this package.

    Every argument is kept as an attribute of the same name.

    Args:
        message: What happened, where, and what was tried.
        provider, region, zone, instance_type: Where it happened; None where that does not apply.
        code: The vendor's error code.
        hint: What to do next, in one sentence; shown after the message.
        attempts: The attempts that were made before, in order.
        scope: How far the refusal reaches.
        argument: The argument or key that is wrong, for a `SpecError` about a single one.
        plan: The plan that the request worked on, for errors about a complete request.
        vendor_message: The vendor's own message, without place and code.
        retry_after: How many seconds the vendor asks to wait before the next call.
        zones_with_capacity: Zones that have capacity, where a `CapacityError` names them.
        cluster: The name of the cluster that could not be made. Not an argument: the engine sets it.
        is_remembered: False for a lack of capacity that may end at any moment, such as that of own machines: the next request
            tries again, and no outage is remembered.
        is_offered: False for a `CapacityError` that means that the place never sells this instance type. The engine
            remembers that for longer than a temporary lack of capacity.
    """

    def __init__(
        self,
        message: str,
        *,
        provider: str | None = None,
        region: str | None = None,
        zone: str | None = None,
        instance_type: str | None = None,
        code: str | None = None,
        hint: str | None = None,
        attempts: "Sequence[AttemptReport]" = (),
        scope: Scope = "request",
        argument: str | None = None,
        plan: "Plan | None" = None,
        vendor_message: str | None = None,
        retry_after: float | None = None,
        zones_with_capacity: Sequence[str] = (),
        is_offered: bool = True,
        is_remembered: bool = True,
    ) -> None:
        """Create an error from its message and the known facts about the failed call."""
        super().__init__(message)
        self.message = message
        self.provider = provider
        self.region = region
        self.zone = zone
        self.instance_type = instance_type
        self.code = code
        self.hint = hint
        self.attempts = tuple(attempts)
        self.scope: Scope = scope
        self.argument = argument
        self.plan = plan
        self.vendor_message = vendor_message
        self.retry_after = retry_after
        self.zones_with_capacity = tuple(zones_with_capacity)
        self.is_offered = is_offered
        self.is_remembered = is_remembered
        self.cluster: str | None = None

    def __str__(self) -> str:
        """Return the message, with the hint in parentheses unless the message has it."""
        if self.hint and self.hint not in self.message:
            return f"{self.message} ({self.hint})"
        return self.message


class SpecError(MulticomputeError, ValueError):
    """The request contradicts itself or names something unknown. No cloud was called."""


class ConfigError(SpecError):
    """The configuration file or a `MULTICOMPUTE_` variable can't be read. The message names the file, line and key."""


class NoOfferError(MulticomputeError):
    """No offer meets the request. `plan.rejected` counts the reasons, and `hint` names the nearest change that works."""


class CapacityError(MulticomputeError):
    """The cloud has no capacity for the request now, as far as `scope` reaches."""


class QuotaError(MulticomputeError):
    """The account's quota is too small for the request, as far as `scope` reaches."""


class BudgetError(MulticomputeError):
    """The cluster has spent its budget: it is about to be terminated and can't be extended or healed."""


class AuthError(MulticomputeError):
    """No credentials were found, or the cloud does not accept them."""


class WrongAccountError(AuthError):
    """The credentials belong to another account than the cluster. Nothing was changed, in the cloud or in the ledger."""


class AccessDeniedError(MulticomputeError):
    """The cloud accepts the credentials, but they lack a permission."""


class ThrottledError(MulticomputeError):
    """The cloud limits the request rate. Repeat the call later with the same token."""


class TransientError(MulticomputeError):
    """The cloud failed or gave no answer, so the result of the call is unknown. Repeat it with the same token."""


class InvalidRequestError(MulticomputeError):
    """The cloud rejects the request as invalid, as far as `scope` reaches. Another place may accept it."""


class ProviderError(MulticomputeError):
    """The cloud gave an answer that fits no other error."""


class TeardownIncomplete(ProviderError):
    """The cloud accepted every delete, and something is left. The cluster stays TERMINATING, and `reap` continues."""


class ProvisionTimeout(MulticomputeError, TimeoutError):
    """The cluster was not ready in time. Everything that had been launched was torn down."""


class ClusterNotFound(MulticomputeError):
    """The ledger has no such cluster."""


class ClusterExists(MulticomputeError):
    """A live cluster of this name exists and was created by a different request."""


class RunError(MulticomputeError):
    """A command failed on a node, or a node was lost or could not be reached. No process of the command is left.

    Args:
        message: What happened, and the last lines of output.
        rank: The rank whose failure came first; -1 if the failure concerns no single rank.
        results: The result of each rank, in the order of the ranks.
        hint: What to do next.
    """

    def __init__(
        self, message: str, *, rank: int = -1, results: "Sequence[RunResult]" = (), hint: str | None = None
    ) -> None:
        """Create an error from its message and the results."""
        super().__init__(message, hint=hint)
        self.rank = rank
        self.results = tuple(results)


class RunTimeout(RunError, TimeoutError):
    """A command was still running after its timeout. It was ended on all nodes."""


class HostKeyError(RunError):
    """A node did not present the host key that is pinned for it. Nothing was sent to it."""


class LedgerError(MulticomputeError):
    """The ledger can't be opened, read or written."""


class CatalogError(MulticomputeError):
    """An offer table is missing or malformed."""


def message_of(error: Exception) -> str:
    """Return the message of an error, after the name of its class if it is not one of this package."""
    return error.message if isinstance(error, MulticomputeError) else f"{type(error).__name__}: {error}"

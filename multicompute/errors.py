"""Every error that this package raises, as one tree.

MulticomputeError
+-- SpecError (ValueError)          the request contradicts itself or names what does not exist
|   +-- ConfigError                 the configuration file or the environment can't be read
+-- _PlanError                      carries the plan that was tried
|   +-- NoOfferError                nothing in the catalog meets the spec
|   +-- CapacityError               the cloud has none of it now
|   +-- QuotaError                  the account may not have that much
+-- BudgetError                     the cluster has spent its budget
+-- AuthError                       no credentials, or they are wrong or expired
+-- AccessDeniedError               known to the cloud, but not allowed
+-- ThrottledError                  asked too often; the same request may be sent again
+-- TransientError                  the cloud failed or could not be reached; the same request may be sent again
+-- InvalidRequestError             the cloud refuses the request as it is
+-- ProviderError                   the cloud answered something else
|   +-- TeardownIncomplete          deletes were accepted, and something is left
+-- ProvisionTimeout (TimeoutError) not ready in time; torn down
+-- ClusterNotFound                 the ledger has no such cluster, or it has ended
+-- ClusterExists                   a live cluster has that name
+-- LedgerError                     the record of clusters can't be read or written
+-- CatalogError                    an offer table is missing or malformed
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from multicompute.plan import AttemptReport, Plan

Scope = Literal["request", "zone", "region", "account"]
"""How much more than the refused request an answer rules out."""


class MulticomputeError(Exception):
    """The root of all errors of this package.

    Attributes:
        provider, region, zone, instance_type: where it happened, as far as that applies.
        code: the cloud's own code.
        hint: what to do next, in one sentence.
        attempts: what was tried before, in order.
        scope: what else the cloud's answer rules out.
        retry_after: seconds that the cloud asked to wait, None where it did not.
        vendor_message: the cloud's own words, without place and code; None where `message` is all there is.
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
    ) -> None:
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
        self.retry_after: float | None = None
        self.vendor_message: str | None = None

    def __str__(self) -> str:
        if self.hint and self.hint not in self.message:
            return f"{self.message} ({self.hint})"
        return self.message


class SpecError(MulticomputeError, ValueError):
    """The spec contradicts itself, or names what does not exist. Nothing was sent to any cloud."""


class ConfigError(SpecError):
    """The configuration file or a `MULTICOMPUTE_` variable can't be read; the message names file, line and key."""


class _PlanError(MulticomputeError):
    """An error that carries the plan it failed on.

    Attributes:
        zones_with_capacity: zones that the cloud's answer names as having what was asked for.
        is_offered: False where the place does not sell it at all, which lasts longer than a lack of capacity.
    """

    def __init__(
        self,
        message: str,
        *,
        plan: "Plan | None" = None,
        provider: str | None = None,
        region: str | None = None,
        zone: str | None = None,
        instance_type: str | None = None,
        code: str | None = None,
        hint: str | None = None,
        attempts: "Sequence[AttemptReport]" = (),
        scope: Scope = "request",
        zones_with_capacity: Sequence[str] = (),
        is_offered: bool = True,
    ) -> None:
        super().__init__(
            message,
            provider=provider,
            region=region,
            zone=zone,
            instance_type=instance_type,
            code=code,
            hint=hint,
            attempts=attempts,
            scope=scope,
        )
        self.plan = plan
        self.zones_with_capacity = tuple(zones_with_capacity)
        self.is_offered = is_offered


class NoOfferError(_PlanError):
    """No offer meets the spec; `plan.rejected` counts why, `hint` names the nearest change that has one."""


class CapacityError(_PlanError):
    """The cloud has no capacity now, in `scope`; `zones_with_capacity` are those that the answer names."""


class QuotaError(_PlanError):
    """The account's quota does not allow it, in `scope`."""


class BudgetError(MulticomputeError):
    """The cluster has spent its budget: it is about to be terminated, and can't be extended or healed."""


class AuthError(MulticomputeError):
    """No credentials were found, or the cloud does not accept them."""


class AccessDeniedError(MulticomputeError):
    """The cloud knows who asks, and refuses."""


class ThrottledError(MulticomputeError):
    """Asked too often; the same request with the same token may be sent again later."""


class TransientError(MulticomputeError):
    """The cloud failed or was not reached; what became of the request is not known. Send it again with the same token."""


class InvalidRequestError(MulticomputeError):
    """The cloud refuses the request as it is; sending it elsewhere would not help."""


class ProviderError(MulticomputeError):
    """The cloud answered something that is none of the other kinds."""


class TeardownIncomplete(ProviderError):
    """The cloud accepted every delete, and something is left. The cluster stays TERMINATING, and `reap` continues."""


class ProvisionTimeout(MulticomputeError, TimeoutError):
    """Not ready in time. What had been launched was torn down."""


class ClusterNotFound(MulticomputeError):
    """The ledger has no such cluster."""


class ClusterExists(MulticomputeError):
    """A live cluster of that name exists and was requested with another spec."""


class LedgerError(MulticomputeError):
    """The ledger can't be opened, read or written."""


class CatalogError(MulticomputeError):
    """An offer table is missing or malformed."""

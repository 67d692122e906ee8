"""Every error that this package raises, as one tree.

MulticomputeError
+-- SpecError (ValueError)          the request contradicts itself or names what does not exist
+-- ConfigError                     the configuration file or the environment can't be read
+-- NoOfferError                    nothing in the catalog meets the spec
+-- CapacityError                   the cloud has none of it now
+-- QuotaError                      the account may not have that much
+-- BudgetError                     the cluster would cost, or has cost, more than its budget
+-- AuthError                       no credentials, or they are wrong or expired
+-- AccessDeniedError               known to the cloud, but not allowed
+-- ThrottledError                  asked too often; the same request may be sent again
+-- TransientError                  the cloud failed or could not be reached; the same request may be sent again
+-- InvalidRequestError             the cloud refuses the request as it is
+-- ProviderError                   the cloud answered something else
+-- ProvisionTimeout (TimeoutError) not ready in time; torn down
+-- ClusterNotFound
+-- ClusterExists
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
        said: the cloud's own words, without place and code; None where `message` is all there is.
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
    """The spec contradicts itself, or names what does not exist. Nothing was sent to any cloud.

    Attributes:
        argument: The argument or key that is wrong, None if it is not a single one.
    """

    def __init__(
        self, message: str, *, hint: str | None = None, provider: str | None = None, argument: str | None = None
    ) -> None:
        super().__init__(message, hint=hint, provider=provider)
        self.argument = argument


class ConfigError(SpecError):
    """The configuration file or a `MULTICOMPUTE_` variable can't be read; the message names file, line and key."""


class _PlanError(MulticomputeError):
    """An error that carries the plan it failed on.

    Attributes:
        zones_with_capacity: zones that the cloud's answer names as having what was asked for.
        is_offered: False where the place does not sell it at all, which lasts longer than a lack of capacity.
        blocks: a glob on instance types that the answer rules out beside the one that was asked for.
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
        blocks: str | None = None,
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
        self.blocks = blocks


class NoOfferError(_PlanError):
    """No offer meets the spec; `plan.rejected` counts why, `hint` names the nearest change that has one."""


class CapacityError(_PlanError):
    """The cloud has no capacity now, in `scope`; `zones_with_capacity` are those that the answer names."""


class QuotaError(_PlanError):
    """The account's quota does not allow it, in `scope`."""


class BudgetError(MulticomputeError):
    """The budget does not allow it, or has been reached."""


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

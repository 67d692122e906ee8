"""Checks of the account, which cost nothing: credentials, rights and quota."""

from multicompute.engine.provision.quota import short_quota
from multicompute.errors import MulticomputeError
from multicompute.offer import Part
from multicompute.provider import Capability
from multicompute.verify.findings import Failed, NotChecked
from multicompute.verify.purchase import GANG
from multicompute.verify.run import Run


def credentials(run: Run) -> str:
    """Check that the cloud accepts the credentials."""
    account = run.call(lambda provider: provider.account)
    for name in (*account.ids, account.label):
        run.private.add("account", (name, *name.replace(":", " ").replace("/", " ").split()[1:]))
    return "the cloud accepts them"


def rights(run: Run) -> str:
    """Check the main permissions, as `doctor` does."""
    checks = run.call(lambda provider: provider.check())
    failed = [check for check in checks if not check.ok]
    if failed:
        texts = (f"{check.name}: {check.detail} {check.hint}".strip() for check in failed)
        raise Failed(run.private.clean("; ".join(texts)))
    return f"{len(checks)} permissions or settings checked"


def quota(run: Run) -> str:
    """Check that quotas can be read, and allow the gang."""
    if Capability.QUOTAS not in run.provider.capabilities:
        raise NotChecked("the provider reads no quotas")
    offer = run.purchase.offer
    try:
        found = run.call(lambda provider: provider.quotas(offer.region))
    except MulticomputeError as error:
        raise Failed(f"can't be read: {run.describe(error)}") from error
    if not found.quotas:
        raise Failed(f"none can be read in {offer.region}: {run.private.clean('; '.join(found.notes))}")
    short = short_quota(found.quotas, [Part(offer, GANG + 1)])
    if short is not None:
        quota, needed = short
        raise Failed(
            f"{quota.name}: {needed:g} {quota.unit} needed, {quota.limit - quota.used:g} free in {offer.region}"
        )
    return f"{len(found.quotas)} quotas read in {offer.region}; they allow {GANG + 1} nodes"

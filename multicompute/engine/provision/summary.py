"""Summarizes a request whose candidates have all failed in one error."""

from collections.abc import Sequence

from multicompute.engine.operation.operation import Operation
from multicompute.engine.planning import requested
from multicompute.errors import CapacityError, MulticomputeError, QuotaError
from multicompute.plan import Plan
from multicompute.spec import ClusterSpec


def summary_error(op: Operation, plan: Plan, errors: Sequence[MulticomputeError]) -> MulticomputeError:
    """Return the error for a request whose candidates have all failed: what was tried, and the answer to each try."""
    what = requested(op.spec)
    if not errors:
        return CapacityError(
            f"no capacity for {what}: outages found in the meantime rule out every place that can be used here",
            plan=plan,
            hint="try again in some minutes, or set keep_trying, such as keep_trying='2h'",
        )
    kind: type[CapacityError | QuotaError]
    if any(isinstance(error, CapacityError) for error in errors):
        kind, problem = CapacityError, "no capacity"
    elif any(isinstance(error, QuotaError) for error in errors):
        kind, problem = QuotaError, "no quota"
    else:
        error = errors[0]
        error.attempts = tuple(op.reports)
        return error
    tries = "".join(f"\n  {report}" for report in op.reports)
    last = errors[-1]
    return kind(
        f"{problem} for {what} in any of {len(op.reports)} tries:{tries}",
        plan=plan,
        provider=last.provider,
        region=last.region,
        zone=last.zone,
        instance_type=last.instance_type,
        code=last.code,
        attempts=op.reports,
        hint=_advice(op.spec, kind),
    )


def _advice(spec: ClusterSpec, kind: type[MulticomputeError]) -> str:
    if kind is QuotaError:
        return "ask the cloud to raise the quota; `multicompute doctor` shows what can be used"
    wider = ["keep_trying='2h' tries again" if spec.keep_trying is None else ""]
    wider += ["spot='prefer' also tries spot" if spec.spot is False else ""]
    wider += ["fewer regions= and exclude= leave more places" if spec.regions or spec.exclude else ""]
    wider += ["smaller gpus=" if not spec.reservations else ""]
    return "; ".join(text for text in wider if text)

"""Puts what a request came to into one error, and gives clusters their names."""

from collections.abc import Mapping, Sequence

from multicompute.clock import Random
from multicompute.engine.operation.operation import Operation
from multicompute.errors import AuthError, CapacityError, MulticomputeError, QuotaError
from multicompute.plan import Plan
from multicompute.spec import ClusterSpec

_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"


def cluster_name(spec: ClusterSpec, random: Random) -> str:
    """A name from the spec and a random part: "h100-64-k3x9"."""
    kind = "".join(c if c.isalnum() and c.isascii() else "-" for c in (spec.type or ("reserved",))[0].lower()).strip(
        "-"
    )
    count = f"-{spec.gpus}" if spec.gpus else ""
    tail = "".join(random.choice(_LETTERS) for _ in range(5))
    head = kind if kind[:1].isalpha() else f"c{kind}"
    return f"{head[:20].rstrip('-')}{count}-{tail}"


def summary(op: Operation, plan: Plan, errors: Sequence[MulticomputeError]) -> MulticomputeError:
    """The error for a request of which every candidate has failed: what was tried, and what each try answered."""
    what = wanted(op.spec)
    if not errors:
        return CapacityError(
            f"no capacity for {what}: outages that were met meanwhile rule out every place that can be used here",
            plan=plan,
            hint="try again in some minutes, or set keep_trying, such as keep_trying='2h'",
        )
    kind: type[CapacityError | QuotaError]
    if any(isinstance(error, CapacityError) for error in errors):
        kind, word = CapacityError, "no capacity"
    elif any(isinstance(error, QuotaError) for error in errors):
        kind, word = QuotaError, "no quota"
    else:
        error = errors[0]
        error.attempts = tuple(op.reports)
        return error
    tries = "".join(f"\n  {report}" for report in op.reports)
    last = errors[-1]
    return kind(
        f"{word} for {what} in any of {len(op.reports)} tries:{tries}",
        plan=plan,
        provider=last.provider,
        region=last.region,
        zone=last.zone,
        instance_type=last.instance_type,
        code=last.code,
        attempts=op.reports,
        hint=_advice(op.spec, kind),
    )


def require_usable(plan: Plan, usable: Mapping[str, str]) -> None:
    """Refuse a plan of which no candidate's cloud can be used here, before anything is written down.

    Raises:
        AuthError: says of each of these clouds why not.
    """
    if any(candidate.is_configured for candidate in plan.candidates):
        return
    providers = dict.fromkeys(candidate.provider for candidate in plan.candidates)
    reasons = "; ".join(f"{name}: {usable.get(name, 'not installed')}" for name in providers)
    text = f"no cloud that sells {wanted(plan.spec)} can be used here: {reasons}"
    raise AuthError(text, hint="`multicompute doctor` tells more")


def wanted(spec: ClusterSpec) -> str:
    """What was asked for, in words."""
    kinds = " or ".join(spec.type) or "the reservations"
    count = spec.gpus or spec.nodes
    return f"{count} x {kinds}" if count else kinds


def _advice(spec: ClusterSpec, kind: type[MulticomputeError]) -> str:
    if kind is QuotaError:
        return "ask the cloud to raise the quota; `multicompute doctor` shows what can be used"
    wider = ["keep_trying='2h' goes on trying" if spec.keep_trying is None else ""]
    wider += ["spot='prefer' asks for spot, too" if spec.spot is False else ""]
    wider += ["fewer regions= and exclude= leave more places" if spec.regions or spec.exclude else ""]
    wider += ["smaller gpus=" if not spec.reservations else ""]
    return "; ".join(text for text in wider if text)

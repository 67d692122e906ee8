"""Summarizes a request whose candidates have all failed in one error."""

from collections import Counter
from collections.abc import Sequence
from typing import Final

from multicompute.engine.operation.operation import Operation
from multicompute.engine.outages import OUTAGE_HINT
from multicompute.engine.provision.description import PRICE_ABOVE_LIMIT, first_sentence, outcome_of
from multicompute.errors import CapacityError, MulticomputeError, QuotaError
from multicompute.plan import Plan
from multicompute.plan_text import requested
from multicompute.spec import ClusterSpec

_SHOWN: Final = 3
"""Causes that the error names; `attempts` has every try."""


def summary_error(op: Operation, plan: Plan, errors: Sequence[MulticomputeError]) -> MulticomputeError:
    """Return the error for a request whose candidates have all failed: the causes, the commonest first, and an example of it.

    Its type is that of the commonest cause.
    """
    what = requested(op.spec)
    if not errors:
        return CapacityError(
            f"no capacity for {what}: outages found in the meantime rule out every place that can be used here",
            plan=plan,
            hint=f"{OUTAGE_HINT}; or set keep_trying, such as keep_trying='2h'",
        )
    example = commonest(errors)
    if len(errors) == 1:
        example.attempts, example.plan = tuple(op.reports), plan
        example.hint = _advice(op.spec, example)
        return example
    return type(example)(
        f"{_problem(example)} {what} in any of {len(errors)} tries: {causes(errors)}\n"
        f"  such as {first_sentence(example.message)}",
        plan=plan,
        provider=example.provider,
        region=example.region,
        zone=example.zone,
        instance_type=example.instance_type,
        code=example.code,
        attempts=op.reports,
        scope=example.scope,
        vendor_message=example.vendor_message,
        hint=_advice(op.spec, example),
    )


def _problem(error: MulticomputeError) -> str:
    if error.code == PRICE_ABOVE_LIMIT:
        return "no price within the limits for"
    if isinstance(error, CapacityError):
        return "no capacity for"
    return "no quota for" if isinstance(error, QuotaError) else "no success with"


def commonest(errors: Sequence[MulticomputeError]) -> MulticomputeError:
    """Return the first error with the commonest cause."""
    cause, _ = Counter(map(_cause, errors)).most_common(1)[0]
    return next(error for error in errors if _cause(error) == cause)


def causes(errors: Sequence[MulticomputeError]) -> str:
    """Return the causes of failures with their numbers, the commonest first: "30 no capacity (InsufficientCapacity), 2 no quota"."""
    counts = Counter(map(_cause, errors)).most_common()
    shown = [f"{count} {outcome}{f' ({code})' if code else ''}" for (outcome, code), count in counts[:_SHOWN]]
    others = sum(count for _, count in counts[_SHOWN:])
    return ", ".join([*shown, *([f"{others} for other reasons"] if others else [])])


def _cause(error: MulticomputeError) -> tuple[str, str]:
    return outcome_of(error), error.code or ""


def _advice(spec: ClusterSpec, error: MulticomputeError) -> str | None:
    if isinstance(error, QuotaError):
        return "ask the cloud to raise the quota; `multicompute doctor` shows what can be used"
    if not isinstance(error, CapacityError) or error.code == PRICE_ABOVE_LIMIT:
        return error.hint
    wider = ["keep_trying='2h' tries again" if spec.keep_trying is None else ""]
    wider += ["spot='prefer' also tries spot" if spec.spot is False else ""]
    wider += ["fewer regions= and exclude= leave more places" if spec.regions or spec.exclude else ""]
    wider += ["smaller gpus=" if not spec.reservations else ""]
    return "; ".join(text for text in wider if text)

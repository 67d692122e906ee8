"""Refuses limits that a request would break at once: they would end a cluster before it is of any use."""

from datetime import timedelta

from multicompute.errors import SpecError
from multicompute.plan import Candidate, Plan
from multicompute.plan_text import candidate_text
from multicompute.session import Session
from multicompute.spec import ClusterSpec
from multicompute.units import format_duration


def refuse_broken_limits(session: Session, spec: ClusterSpec, plan: Plan) -> None:
    """Raise if the limits of a request end every candidate of its plan at once.

    Raises:
        SpecError: `idle_timeout` is longer than the ttl, the ttl is shorter than a launch usually takes, or the budget is less
            than the shortest time that is billed costs.
    """
    ttl = spec.ttl_with(session.config.default_ttl)
    if ttl is not None:
        _refuse_idle_timeout(spec, ttl)
        _refuse_ttl(session, ttl, plan)
    if spec.budget is not None and plan.candidates:
        _refuse_budget(session, spec.budget, plan)


def _refuse_idle_timeout(spec: ClusterSpec, ttl: timedelta) -> None:
    if spec.idle_timeout is not None and spec.idle_timeout > ttl:
        idle, life = format_duration(spec.idle_timeout), format_duration(ttl)
        default = " (the configured default_ttl)" if spec.ttl == "default" else ""
        raise SpecError(
            f"idle_timeout='{idle}' is longer than ttl='{life}'{default}: the cluster would never be idle for so long",
            argument="idle_timeout",
            hint="omit idle_timeout, or allow a longer ttl",
        )


def _refuse_ttl(session: Session, ttl: timedelta, plan: Plan) -> None:
    usual = session.usual_launches
    if ttl >= max(usual.values(), default=ttl):
        return
    providers = dict.fromkeys(candidate.provider for candidate in plan.candidates)
    shortest = min(((usual[name], name) for name in providers if name in usual), default=None)
    if shortest is not None and ttl < shortest[0]:
        takes, name = format_duration(shortest[0]), shortest[1]
        raise SpecError(
            f"ttl='{format_duration(ttl)}' is shorter than a launch usually takes ({takes} on {name}): the cluster would "
            "end before it is ready",
            argument="ttl",
            hint=f"allow at least {takes}, and the time of the work",
        )


def _refuse_budget(session: Session, budget: float, plan: Plan) -> None:
    billed = {name: plugin.billing_minimum for name, plugin in session.plugins.items()}

    def least(candidate: Candidate) -> float:
        return candidate.hourly_cost * (billed.get(candidate.provider, timedelta(0)) / timedelta(hours=1))

    cheapest = min(plan.candidates, key=least)
    if budget < least(cheapest):
        minimum = format_duration(billed[cheapest.provider])
        raise SpecError(
            f"budget={budget:g}: {candidate_text(cheapest)} is billed for at least {minimum}, ${least(cheapest):,.4f}",
            argument="budget",
            hint=f"allow more than budget={least(cheapest):.4f}, and the time of the work",
        )

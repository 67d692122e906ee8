"""The public surface, pinned: changing a pin is the review of the change."""

import asyncio
import inspect
from datetime import timedelta

import pytest

import multicompute
from multicompute import Cluster, ClusterSpec, errors
from multicompute.cli.parser import COMMANDS
from multicompute.cli.status import exit_status

REQUEST_ARGUMENTS = [
    *(
        "gpus",
        "type",
        "workload",
        "deadline",
        "order",
        "reservations",
        "reservations_only",
        "name",
        "nodes",
        "gpus_per_node",
        "allow_surplus",
        "min_gpu_memory",
        "vcpus",
        "memory",
    ),
    *("spot", "flex_start", "estimates", "clouds", "regions", "exclude", "placement", "interconnect", "max_price"),
    *(
        "max_hourly",
        "budget",
        "ttl",
        "hours",
        "data",
        "interruption_cost_hours",
        "strict_ttl",
        "idle_timeout",
        "disk",
        "image",
        "setup",
        "ssh_key",
        "private",
        "tags",
    ),
    *("wait", "timeout", "attempt_timeout", "keep_trying", "progress"),
]


def parameters(function: object) -> list[str]:
    assert callable(function)
    return [name for name in inspect.signature(function).parameters if name not in ("self", "cls")]


def test_the_package_offers_these_names() -> None:
    assert multicompute.__all__ == [
        "Candidate",
        "Cluster",
        "ClusterSpec",
        "ClusterState",
        "Event",
        "Node",
        "NodeState",
        "Offer",
        "Plan",
        "RunResult",
        "__version__",
        "errors",
    ]
    assert [name for name in multicompute.__all__ if not hasattr(multicompute, name)] == []


def test_a_spec_has_these_fields_with_these_defaults() -> None:
    assert list(ClusterSpec.model_fields) == REQUEST_ARGUMENTS
    spec = ClusterSpec(gpus=8, type="h100")
    assert (spec.order, spec.spot, spec.flex_start, spec.estimates, spec.private) == (
        "price",
        False,
        False,
        True,
        False,
    )
    assert (spec.placement, spec.interconnect, spec.clouds, spec.timeout) == (
        "zone",
        "auto",
        None,
        timedelta(minutes=30),
    )
    assert (spec.wait, spec.budget, spec.max_price, spec.keep_trying) == (True, None, None, None)


def test_request_and_plan_take_the_fields_of_a_spec_and_no_other() -> None:
    for function in (Cluster.request, Cluster.plan):
        assert parameters(function) == REQUEST_ARGUMENTS
    # mypy refuses these calls, too: otherwise it would report that the comments are unused.
    with pytest.raises(errors.SpecError, match="regoins: unknown argument; did you mean regions"):
        Cluster.request(8, "h100", regoins=["eu"])  # type: ignore[call-arg]
    with pytest.raises(errors.SpecError, match="regoins: unknown argument; did you mean regions"):
        Cluster.plan(8, "h100", regoins=["eu"])  # type: ignore[call-arg]
    with pytest.raises(errors.SpecError, match="regoins: unknown argument; did you mean regions"):
        asyncio.run(Cluster.arequest(8, "h100", regoins=["eu"]))  # type: ignore[call-arg]
    with pytest.raises(errors.SpecError, match="regoins: unknown argument; did you mean regions"):
        asyncio.run(Cluster.aplan(8, "h100", regoins=["eu"]))  # type: ignore[call-arg]
    plan = Cluster.plan(8, "h100", regions="us", spot="prefer", ttl="90m", tags={"team": "nlp"})
    assert (plan.spec.regions, plan.spec.spot, plan.spec.ttl) == (("us",), "prefer", timedelta(minutes=90))


def test_arguments_beyond_the_second_go_by_name() -> None:
    for function in (Cluster.request, Cluster.plan, Cluster.list, Cluster.wait, Cluster.terminate):
        kinds = [p.kind for p in inspect.signature(function).parameters.values() if p.name not in ("self", "cls")]
        assert all(kind is inspect.Parameter.KEYWORD_ONLY for kind in kinds[2:])


def test_a_flag_is_never_positional() -> None:
    for function in (Cluster.list, Cluster.terminate):
        kinds = {p.kind for p in inspect.signature(function).parameters.values() if p.name not in ("self", "cls")}
        assert kinds == {inspect.Parameter.KEYWORD_ONLY}


def test_every_method_that_waits_has_an_async_twin_with_the_same_arguments() -> None:
    twins = {
        "request": "arequest",
        "plan": "aplan",
        "refresh": "arefresh",
        "wait": "await_",
        "extend": "aextend",
        "terminate": "aterminate",
        "run": "arun",
        "put": "aput",
        "_get_files": "aget",
        "env": "aenv",
        "torchrun": "atorchrun",
        "jax": "ajax",
        "mpirun": "ampirun",
    }
    for name, twin in twins.items():
        # `arequest` returns what can be awaited, and entered without `await`.
        assert inspect.iscoroutinefunction(getattr(Cluster, twin)) or twin == "arequest"
        assert parameters(getattr(Cluster, twin)) == parameters(getattr(Cluster, name))
    # A context manager each.
    assert parameters(Cluster.aray) == parameters(Cluster.ray)


def test_a_cluster_has_these_properties() -> None:
    promised = [
        "id",
        "name",
        "state",
        "spec",
        "plan",
        "provider",
        "region",
        "zone",
        "nodes",
        "head",
        "gpus",
        "hourly_cost",
    ]
    promised += ["accrued_cost", "created_at", "expires_at", "tags"]
    assert [name for name in promised if not hasattr(Cluster, name)] == []


def test_every_error_has_its_exit_status() -> None:
    expected = {
        "SpecError": 2,
        "ConfigError": 2,
        "NoOfferError": 3,
        "CapacityError": 4,
        "QuotaError": 5,
        "AuthError": 6,
        "WrongAccountError": 6,
        "AccessDeniedError": 6,
        "ProvisionTimeout": 7,
        "ClusterNotFound": 8,
        "ClusterExists": 8,
        "BudgetError": 1,
        "ThrottledError": 1,
        "TransientError": 1,
        "InvalidRequestError": 1,
        "ProviderError": 1,
        "TeardownIncomplete": 1,
        "LedgerError": 1,
        "RunError": 1,
        "RunTimeout": 1,
        "HostKeyError": 1,
        "CatalogError": 1,
    }
    kinds = {
        name: kind
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, errors.MulticomputeError) and not name.startswith("_")
    }
    del kinds["MulticomputeError"]
    assert {name: exit_status(kind("")) for name, kind in kinds.items()} == expected
    assert exit_status(KeyboardInterrupt()) == 130


def test_errors_can_be_caught_as_the_builtin_that_they_are() -> None:
    assert issubclass(errors.SpecError, ValueError)
    assert issubclass(errors.ProvisionTimeout, TimeoutError)


def test_the_command_line_has_these_commands() -> None:
    expected = "offers size plan up ls show wait nodes events watch run put get ssh torchrun jax mpirun ray extend heal down cost reconcile reap supervise hosts outages catalog schema init doctor verify local completion"
    assert list(COMMANDS) == expected.split()

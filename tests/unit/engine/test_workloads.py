"""Plans and requests for a workload, on clouds in memory."""

import asyncio
import json
import math
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from multicompute import Cluster, ClusterSpec, errors
from multicompute.config import Discount
from multicompute.engine.provision.failover import CandidateQueue
from multicompute.plan import Plan
from multicompute.provider import Quota
from multicompute.sizing import Finetuning, Inference, Training
from multicompute.sizing.flops import total_flops
from multicompute.testing import FakeCloud, fake_cloud, local_clouds

JOB = Training(params=7e9, tokens=2e10, mfu=0.4)
ASKED: dict[str, Any] = {"workload": JOB, "deadline": "2d", "type": "h100", "regions": ["us-east-*"]}
LLAMA = {
    "model_type": "llama",
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 128256,
}


@pytest.fixture(name="cloud")
def _cloud() -> Iterator[FakeCloud]:
    with fake_cloud("aws") as cloud:
        yield cloud


def launches(cloud: FakeCloud) -> list[tuple[object, object]]:
    return [
        (call.fields["zone"], call.fields["purchase"]) for call in cloud.aws.faults.calls if call.operation == "launch"
    ]


def kinds(cluster: Cluster) -> list[str]:
    return [event.kind for event in cluster.events()]


# Plans


def options_of(**arguments: Any) -> list[dict[str, Any]]:
    return json.loads(json.dumps(Cluster.plan(**arguments).to_dict()))["options"]  # type: ignore[no-any-return]


@pytest.mark.parametrize("mfu", [0.4, None])
@pytest.mark.parametrize("spot", [False, "prefer"])
def test_options_come_cheapest_first_and_the_first_is_done_by_the_deadline(
    cloud: FakeCloud, mfu: float | None, spot: Any
) -> None:
    job = Training.model_validate({"params": 7e9, "tokens": 2e10, "mfu": mfu})
    plan = Cluster.plan(workload=job, deadline="2d", spot=spot)
    found = plan.to_dict()
    options: Any = found["options"]
    assert len(options) > 100
    totals = [each["total_usd"] for each in options]
    assert totals == sorted(totals)
    assert all(each["hours"] <= 48 * (1 + 1e-9) for each in options)
    first = plan.best
    assert first.hours == plan.options[0].hours
    assert first.total_cost == pytest.approx(options[0]["total_usd"])
    # The front is that of all options that are listed.
    beaten = [
        any(
            (other["hours"] <= each["hours"] and other["total_usd"] < each["total_usd"])
            or (other["hours"] < each["hours"] and other["total_usd"] <= each["total_usd"])
            for other in options
        )
        for each in options
    ]
    points = {
        (each["hours"], each["total_usd"]) for each, is_beaten in zip(options, beaten, strict=True) if not is_beaten
    }
    assert [(options[index]["hours"], options[index]["total_usd"]) for index in plan.pareto] == sorted(
        points, reverse=True
    )


def test_at_a_given_mfu_hours_and_cost_are_those_of_the_formula(cloud: FakeCloud) -> None:
    # 989.4 TFLOP/s: the dense bf16 peak of an H100.
    accelerator_hours = total_flops(JOB) / (989.4e12 * 0.4 * 3600)
    for each in options_of(workload=JOB, deadline="2d", type="p5.48xlarge"):
        assert each["accelerator_hours"] == pytest.approx(accelerator_hours)
        assert each["hours"] == pytest.approx(accelerator_hours / each["accelerators"])
        assert each["total_usd"] == pytest.approx(each["hours"] * each["hourly_usd"], abs=1e-5)
        assert each["mfu"] == 0.4
        assert each["fits"] is True


def test_options_and_candidates_describe_the_same_gangs(cloud: FakeCloud) -> None:
    found: Any = Cluster.plan(workload=JOB, deadline="2d", spot="prefer").to_dict()
    fields = ("provider", "region", "instance_type", "nodes", "accelerators", "purchase", "hourly_usd", "transfer_usd")
    more = (
        "max_lifetime",
        "ends_early",
        "interruption",
        "list_hourly_usd",
        "price_basis",
        "usd_per_accelerator_hour",
    )

    def described(items: list[dict[str, Any]]) -> set[tuple[object, ...]]:
        return {tuple(str(each[name]) for name in (*fields, *more, "total_usd")) for each in items}

    assert described(found["options"]) == described(found["candidates"])


@pytest.mark.parametrize("name", ["recompute", "zero"])
def test_what_changes_memory_only_never_changes_hours_at_a_given_mfu(cloud: FakeCloud, name: str) -> None:
    plans = [
        options_of(
            workload=Training.model_validate({**JOB.model_dump(), name: value}), gpus=64, type="h100", spot="prefer"
        )
        for value in (("none", "selective", "full") if name == "recompute" else (0, 1, 2, 3))
    ]
    assert len({tuple(each["hours"] for each in options) for options in plans}) == 1
    assert len({options[0]["per_accelerator_gib"] for options in plans}) > 1


def test_spot_takes_longer_by_what_its_preemptions_lose(cloud: FakeCloud) -> None:
    def hours(**changes: Any) -> dict[str, float]:
        job = Training.model_validate({**JOB.model_dump(), **changes})
        found = options_of(workload=job, gpus=64, type="p5.48xlarge", spot="prefer", regions=["us-east-1a"])
        return {each["purchase"]: each["hours"] for each in found}

    usual, never, often = hours(), hours(preemptions_per_day=0), hours(preemptions_per_day=5)
    assert usual["on_demand"] == never["on_demand"] == often["on_demand"]
    assert never["spot"] == never["on_demand"]
    assert usual["on_demand"] < usual["spot"] < often["spot"]


def test_the_transfer_of_data_is_part_of_the_total(cloud: FakeCloud) -> None:
    data = [("s3://bucket/tokens", "aws:us-east-1", "100TiB")]
    plan = Cluster.plan(**{**ASKED, "regions": []}, data=data)
    for option in plan.options:
        transfer = option.machine.transfer_usd
        assert (transfer == 0) == (option.candidate.region == "us-east-1")
        assert option.total_usd == pytest.approx(option.hours * option.hourly_usd + transfer)
    assert plan.best.region == "us-east-1"
    assert any(
        "it is not part of max_hourly" in note for note in Cluster.plan(**{**ASKED, "regions": ["eu"]}, data=data).notes
    )


def test_a_plan_is_shown_as_text_html_json_and_a_picture(cloud: FakeCloud, tmp_path: Path) -> None:
    plan = Cluster.plan(workload=Training(params=7e9, tokens=2e10), deadline="2d", type="h100")
    for text in (str(plan), plan.render(), plan.explain(), plan._repr_html_()):
        assert "training of 7B parameters on 20B tokens" in text
    assert "<table" in plan._repr_html_()
    assert max(map(len, plan.render(width=80).splitlines())) <= 80
    json.dumps(plan.to_dict())
    for name in ("plan.png", "plan.svg"):
        plan.plot(tmp_path / name)
        assert (tmp_path / name).stat().st_size > 1000
    with pytest.raises(errors.SpecError, match="no workload"):
        Cluster.plan(gpus=8, type="h100").plot()


# Proposals


HARD: list[tuple[dict[str, Any], str]] = [
    ({"workload": JOB, "deadline": "2d", "type": "h100", "budget": 100}, "budget"),
    ({"workload": JOB, "deadline": "2d", "type": "h100", "max_hourly": 10}, "max_hourly"),
    ({"workload": JOB, "deadline": "2d", "type": "h100", "max_price": 1}, "max_price"),
    ({"workload": JOB, "deadline": "2d", "type": "h100", "gpus": 8}, "deadline"),
    ({"workload": JOB, "type": "t4", "gpus": 2}, "gpus"),
    ({"workload": Training(params=7e10, tokens=2e12, mfu=0.4), "type": "h100", "deadline": "1h"}, "deadline"),
    ({"workload": Training(params=7e10, tokens=2e12), "type": "h100", "deadline": "1h"}, "deadline"),
    ({"workload": Training(params=7e9, tokens=2e14, mfu=0.4), "type": "h100", "gpus": 8, "deadline": "20d"}, "gpus"),
    ({"workload": Training(params=7e10, tokens=2e12), "type": "t4", "gpus": 8}, "gpus"),
    ({"workload": Inference(params=7e10, tokens=1e9), "type": "h100", "deadline": "1d", "budget": 1}, "budget"),
    ({"workload": Inference(params=7e10), "type": "h100", "max_hourly": 5}, "max_hourly"),
]


@pytest.mark.parametrize(("arguments", "name"), HARD, ids=lambda value: value if isinstance(value, str) else "")
def test_the_proposal_of_a_plan_without_an_offer_has_one_when_it_is_followed(
    cloud: FakeCloud, arguments: dict[str, Any], name: str
) -> None:
    with pytest.raises(errors.NoOfferError) as raised:
        Cluster.plan(**arguments)
    assert_short(raised.value)
    hint = raised.value.hint or ""
    assert hint.startswith(f"{name}=")
    change: dict[str, Any] = eval(f"dict({hint.split(' would')[0]})")
    Cluster.plan(**{**arguments, **change})


def test_the_proposed_deadline_is_near_the_shortest_one(cloud: FakeCloud) -> None:
    job = Training(params=7e10, tokens=2e12, mfu=0.4)
    fastest = math.ceil(total_flops(job) / (16_384 * 989.4e12 * 0.4 * 3600))
    with pytest.raises(errors.NoOfferError) as raised:
        Cluster.plan(workload=job, type="p5.48xlarge", deadline="1h")
    assert raised.value.hint is not None
    assert any(raised.value.hint.startswith(f"deadline='{fastest + more}h'") for more in range(3))


def test_a_job_that_takes_more_than_a_year_is_refused_without_a_deadline(cloud: FakeCloud) -> None:
    with pytest.raises(errors.NoOfferError, match="does the job: not done within a year") as raised:
        Cluster.plan(workload=Training(params=7e11, tokens=2e14, mfu=0.4), type="t4")
    assert_short(raised.value)


def assert_short(error: errors.MulticomputeError) -> None:
    assert len(str(error)) <= 300, str(error)
    assert str(error).count("\n") < 3


# Requests


def test_a_request_buys_the_first_option(cloud: FakeCloud) -> None:
    plan = Cluster.plan(**ASKED)
    with Cluster.request(**ASKED) as cluster:
        assert cluster.state == "READY"
        first = plan.best
        assert (cluster.zone, cluster.gpus, cluster.hourly_cost) == (first.zone, first.accelerators, first.hourly_cost)
        assert {node.instance_type for node in cluster.nodes} == {first.instance_type}
        assert len(cluster.nodes) == first.nodes
        assert cluster.spec.workload == JOB
    assert cloud.alive() == []


def test_a_lack_of_capacity_fails_over_to_the_next_zone_and_then_to_the_next_option(cloud: FakeCloud) -> None:
    plan = Cluster.plan(**ASKED)
    first = plan.options[0]
    places = [
        candidate.zone for candidate in plan.candidates if candidate.instance_type == first.candidate.instance_type
    ]
    cloud.set_capacity(first.candidate.instance_type, places[0], first.nodes - 1)
    with Cluster.request(**ASKED) as cluster:
        assert cluster.zone == places[1]
        assert [zone for zone, _ in launches(cloud)] == places[:2]
        assert kinds(cluster) == ["requested", "attempt", "capacity", "attempt", "launched", "ready"]
        # All or nothing: the nodes that the first zone has are gone.
        assert len(cloud.aws.running_ids()) == first.nodes
    for region in ("us-east-1", "us-east-2"):
        cloud.set_capacity(first.candidate.instance_type, region, first.nodes - 1)
    other = next(each for each in plan.options if each.candidate.instance_type != first.candidate.instance_type)
    with Cluster.request(**ASKED) as cluster:
        assert {node.instance_type for node in cluster.nodes} == {other.candidate.instance_type}
        assert len(cluster.nodes) == other.nodes
    assert cloud.alive() == []


def test_a_quota_that_is_too_small_for_the_first_option_is_not_tried(cloud: FakeCloud) -> None:
    best = Cluster.plan(**ASKED).best
    cloud.aws.set_quota(Quota("P5", "us-east-1", "on_demand", ("p5.48*",), limit=best.nodes - 1, used=0, unit="nodes"))
    with Cluster.request(**ASKED) as cluster:
        assert (cluster.region, {node.instance_type for node in cluster.nodes}) == ("us-east-2", {"p5.48xlarge"})
        assert "quota" in kinds(cluster)
    assert all(str(zone).startswith("us-east-2") for zone, _ in launches(cloud))


def test_a_plan_after_a_lack_of_capacity_uses_as_many_nodes_as_are_left(cloud: FakeCloud) -> None:
    job: dict[str, Any] = {"workload": JOB, "type": "p5.48xlarge", "regions": ["us-east-1a"]}
    cloud.set_capacity("p5.48xlarge", "us-east-1a", 1)
    with pytest.raises(errors.CapacityError):
        Cluster.request(**job, deadline="1d")
    with Cluster.request(**job) as cluster:
        assert len(cluster.nodes) == 1
    with pytest.raises(errors.CapacityError, match="ruled out by remembered outages") as raised:
        Cluster.request(**job, deadline="1d")
    assert_short(raised.value)
    marked = Cluster.plan(**job, deadline="1d")
    assert [(each.nodes, each.outage is not None) for each in marked.candidates] == [(4, True)]


def test_a_request_that_keeps_trying_gets_its_job_when_there_is_capacity_again(cloud: FakeCloud) -> None:
    job: dict[str, Any] = {"workload": JOB, "type": "p5.48xlarge", "regions": ["us-east-1a"], "deadline": "1d"}
    cloud.set_capacity("p5.48xlarge", "us-east-1a", 1)
    with pytest.raises(errors.CapacityError):
        Cluster.request(**job, keep_trying="20m")
    cloud.set_capacity("p5.48xlarge", "us-east-1a", None)
    with Cluster.request(**job, keep_trying="20m") as cluster:
        assert len(cluster.nodes) == 4


def test_the_same_request_returns_the_same_cluster_and_another_workload_is_refused(cloud: FakeCloud) -> None:
    with Cluster.request(**ASKED, name="job") as cluster:
        as_table = json.loads(json.dumps(JOB.model_dump()))
        same_too = Training.model_validate({**JOB.model_dump(), "zero": 1, "seq_len": 4096})
        for same in (JOB, same_too, JOB.model_dump(), as_table, Training(params="7B", tokens="20B", mfu=0.4)):  # type: ignore[arg-type]
            assert Cluster.request(**{**ASKED, "workload": same}, name="job").id == cluster.id
        long = Training(params=7e9, tokens=3e10, mfu=0.4)
        for other, name in ((long, "tokens"), (Finetuning(config=LLAMA, tokens=1e9, mfu=0.4), "config")):  # type: ignore[arg-type]
            with pytest.raises(errors.ClusterExists, match=f"different workload.{name}") as raised:
                Cluster.request(**{**ASKED, "workload": other}, name="job")
            assert_short(raised.value)
        with pytest.raises(errors.ClusterExists, match="different deadline"):
            Cluster.request(**{**ASKED, "deadline": "4d"}, name="job")
        with pytest.raises(errors.ClusterExists):
            Cluster.request(gpus=16, type="h100", name="job")
        assert Cluster.get("job").spec.workload == JOB


@pytest.mark.parametrize(
    "job",
    [
        Finetuning(config=LLAMA, tokens=1e8, method="lora"),  # type: ignore[arg-type]
        Inference(config=LLAMA, concurrency=4, quantization="fp8"),  # type: ignore[arg-type]
        Training(params=1e9, tokens=1e9, sparsity=0.5, preemptions_per_day=1.5),
    ],
    ids=lambda job: job.task,
)
def test_the_ledger_has_the_workload_as_it_was_requested(cloud: FakeCloud, job: Any) -> None:
    with Cluster.request(workload=job, type="h100", name="job") as cluster:
        found = Cluster.get("job")
        assert found.spec.workload is not None
        assert found.spec.workload == job
        assert found.spec.workload.to_dict() == job.to_dict()
        assert found.spec == cluster.spec
        assert Cluster.request(workload=job, type="h100", name="job").id == cluster.id
        assert ClusterSpec.of(json.loads(json.dumps(found.spec.to_dict()))) == found.spec


def test_a_price_that_has_risen_moves_the_request_to_the_next_cheapest_job(cloud: FakeCloud) -> None:
    asked = {**ASKED, "spot": True, "regions": ["us-east-1a", "us-east-1b"], "type": "p5.48xlarge"}
    plan = Cluster.plan(**asked)
    one, other = (each.parts[0].offer for each in plan.candidates[:2])
    assert {one.zone, other.zone} == {"us-east-1a", "us-east-1b"}
    cloud.aws.set_price(one, one.quote.hourly_cost + 2)
    cloud.aws.set_price(other, other.quote.hourly_cost + 1)
    with Cluster.request(**asked) as cluster:
        assert cluster.zone == other.zone
        assert cluster.hourly_cost == pytest.approx(plan.best.nodes * (other.quote.hourly_cost + 1))


def test_a_price_that_has_risen_does_not_move_a_job_behind_a_dearer_one_that_could_run_longer(cloud: FakeCloud) -> None:
    first, *_, last = Cluster.plan(**{**ASKED, "regions": []}).candidates
    assert first.ranking_cost * 1.01 < last.ranking_cost
    short = replace(first, ends_early=True)
    for is_job in (True, False):
        queue = CandidateQueue([short, last], is_job=is_job)
        assert queue.next(now=cloud.clock.now()) == short
        assert queue.put_back(replace(short, hours=(short.hours or 0) * 1.01)) is not is_job


@pytest.mark.parametrize("limit", ["budget", "max_hourly", "max_price"])
def test_a_price_that_has_risen_over_a_limit_is_refused(cloud: FakeCloud, limit: str) -> None:
    asked = {**ASKED, "spot": True, "regions": ["us-east-1a"], "type": "p5.48xlarge"}
    best = Cluster.plan(**asked).best
    price = {"budget": best.total_cost, "max_hourly": best.hourly_cost, "max_price": best.price_per_accelerator}[limit]
    assert price is not None
    offer = best.parts[0].offer
    cloud.aws.set_price(offer, offer.quote.hourly_cost * 1.5)
    limits: dict[str, Any] = {limit: math.ceil(price * 110) / 100}
    with pytest.raises(errors.CapacityError, match=f"today, more than {limit}=") as raised:
        Cluster.request(**asked, **limits)
    assert_short(raised.value)
    assert cloud.alive() == []


@pytest.mark.parametrize(
    ("arguments", "days"),
    [
        ({"deadline": "20d"}, 22),
        ({"deadline": "20h"}, 1),
        ({"deadline": "20d", "ttl": "3d"}, 3),
        ({}, 1),
        ({"deadline": "900d"}, 365),
    ],
)
def test_the_ttl_is_the_deadline_and_a_tenth_if_that_is_longer_than_the_default(
    cloud: FakeCloud, arguments: dict[str, Any], days: float
) -> None:
    asked = {name: value for name, value in ASKED.items() if name != "deadline"} | arguments
    start = cloud.clock.now()
    with Cluster.request(**asked) as cluster:
        assert cluster.expires_at is not None
        assert cluster.expires_at - start == timedelta(days=days)


def test_a_ttl_that_is_shorter_than_the_job_is_noted(cloud: FakeCloud) -> None:
    [note] = [note for note in Cluster.plan(**ASKED, ttl="3h").notes if "before the job is done" in note]
    assert "the request has a ttl of 3h" in note
    assert not [note for note in Cluster.plan(**ASKED).notes if "before the job is done" in note]


def test_a_request_returns_before_the_nodes_run_if_it_does_not_wait(cloud: FakeCloud) -> None:
    cluster = Cluster.request(**ASKED, wait=False)
    assert cluster.state == "PROVISIONING"
    cluster.wait()
    assert cluster.state == "READY"
    assert cluster.gpus == Cluster.plan(**ASKED).best.accelerators
    cluster.terminate()


def test_a_job_can_be_healed_extended_and_listed(cloud: FakeCloud) -> None:
    with Cluster.request(**ASKED, spot=True, name="job") as cluster:
        count = len(cluster.nodes)
        cloud.aws.preempt(cluster.nodes[0].id)
        cluster.refresh()
        assert cluster.state == "DEGRADED"
        cluster.heal()
        assert (cluster.state, len(cluster.nodes)) == ("READY", count)
        cluster.extend("2h")
        [listed] = Cluster.list()
        json.dumps(listed.to_dict())


def test_a_cluster_whose_plan_chose_the_accelerator_is_shown_with_it(cloud: FakeCloud) -> None:
    with Cluster.request(workload=JOB, regions=["us-east-1"]) as cluster:
        chosen = Cluster.plan(workload=JOB, regions=["us-east-1"]).best
        assert cluster.to_dict()["type"] == [chosen.instance.accelerator]
        assert f"{chosen.accelerators:g} {chosen.instance.accelerator}" in cluster._repr_html_()
    assert cluster.to_dict()["type"] == [chosen.instance.accelerator]


@pytest.mark.parametrize("suffix", ["toml", "json", "dict"])
def test_a_workload_is_read_from_a_file_or_a_mapping(cloud: FakeCloud, tmp_path: Path, suffix: str) -> None:
    table: Any = {"task": "training", "params": "7B", "tokens": "20B", "mfu": 0.4}
    if suffix == "toml":
        lines = [f"{name} = {json.dumps(value)}" for name, value in table.items()]
        table = tmp_path / "job.toml"
        table.write_text("\n".join(lines))
    elif suffix == "json":
        text, table = json.dumps(table), tmp_path / "job.json"
        table.write_text(text)
    with Cluster.request(**{**ASKED, "workload": table}, name="job") as cluster:
        assert cluster.spec.workload == JOB
        assert Cluster.request(**ASKED, name="job").id == cluster.id


def test_the_asynchronous_calls_do_the_same(cloud: FakeCloud) -> None:
    async def both() -> tuple[Plan, Cluster]:
        return await Cluster.aplan(**ASKED), await Cluster.arequest(**ASKED)

    plan, cluster = asyncio.run(both())
    assert plan.to_dict() == Cluster.plan(**ASKED).to_dict()
    assert cluster.gpus == plan.best.accelerators
    cluster.terminate()


def test_the_configured_ceiling_and_discounts_hold_for_jobs(cloud: FakeCloud) -> None:
    before = Cluster.plan(**ASKED).best
    terms = (Discount(cloud="aws", instance_type="p5.48xlarge", percent=50, nodes=1),)
    cloud.session.config = cloud.session.config.model_copy(update={"discounts": terms, "max_hourly": 90.0})
    plan = Cluster.plan(**ASKED)
    each = before.hourly_cost / before.nodes
    assert plan.best.hourly_cost == pytest.approx(1.5 * each)
    assert all(candidate.hourly_cost <= 90 for candidate in plan.candidates)
    with Cluster.request(**ASKED) as cluster:
        assert cluster.hourly_cost == pytest.approx(1.5 * each)
        # The discount is used up.
        with pytest.raises(errors.NoOfferError):
            Cluster.request(**ASKED)


@pytest.mark.parametrize("name", ["gcp", "aws"])
def test_a_job_is_bought_on_a_local_cloud_and_fails_over_there(name: str) -> None:
    asked: dict[str, Any] = {"workload": JOB, "type": "t4", "deadline": "60d", "clouds": [name], "spot": "prefer"}
    with local_clouds(name) as clouds:
        plan = Cluster.plan(**asked)
        first = plan.best
        clouds[name].set_capacity(first.instance_type, first.zone, first.nodes - 1)
        with Cluster.request(**asked) as cluster:
            assert cluster.zone != first.zone
            chosen = next(each for each in plan.candidates if each.zone == cluster.zone)
            assert (cluster.state, cluster.gpus, len(cluster.nodes)) == ("READY", chosen.accelerators, chosen.nodes)
            assert cluster.hourly_cost == pytest.approx(chosen.hourly_cost)
            assert cluster.spec.workload == JOB
        assert clouds.alive() == []


# Wrong arguments


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"nodes": 2}, "nodes: not with a workload"),
        ({"reservations": ["cr-1"]}, "reservations: not with a workload"),
        ({"interruption_cost_hours": 2}, "interruption_cost_hours: not with a workload"),
        ({"order": "given"}, "order='given': not with a workload"),
        ({"hours": 3}, "hours: the workload itself says how long it takes"),
        (
            {"workload": Inference(params=7e9)},
            "deadline: a model that is served without a number of tokens is never done",
        ),
        ({"workload": None}, "deadline: needs a workload"),
        ({"deadline": "soon"}, "deadline='soon': not a duration"),
        ({"deadline": "0h"}, "deadline='0h': must be longer than zero"),
        ({"workload": 3}, "workload=3: must be a workload"),
        ({"workload": [JOB] * 3}, "workload=.*: must be a workload"),
        ({"workload": Training}, "workload=.*: must be a workload"),
        ({"workload": {}}, "workload: task: missing; one of training, finetuning, inference"),
        ({"workload": {"task": "dance"}}, "workload: task='dance': no such task"),
        ({"workload": {"task": ["dance"] * 99}}, "workload: task=.*: no such task"),
        ({"workload": {"task": "training", "params": "7B"}}, "tokens: missing"),
        ({"workload": {"task": "training", "params": "7B", "tokens": "many"}}, "tokens='many': must be a number"),
        ({"workload": {"task": "training", "params": "7B", "tokens": "x" * 999}}, "tokens='x.*: must be a number"),
        ({"workload": {"task": "training", "params": "7B", "tokens": "2T", "speed": 1}}, "speed: unknown argument"),
        ({"workload": {"task": "training", "params": "7B", "tokens": "2T", 7: 1}}, "7: unknown argument"),
        ({"workload": {"task": "training", "params": "7B", "tokens": "2T", "mfu": 40}}, "mfu=40: must be at most 1"),
        ({"workload": "missing.toml"}, "missing.toml: can't be read"),
        ({"workload": "job.yaml"}, "workload='job.yaml': must be a workload, or a .toml or .json file"),
    ],
)
def test_what_a_workload_does_not_go_with_is_refused(cloud: FakeCloud, arguments: dict[str, Any], message: str) -> None:
    for call in (Cluster.plan, Cluster.request):
        with pytest.raises(errors.SpecError, match=message) as raised:
            call(**{**ASKED, **arguments})
        assert_short(raised.value)
    assert launches(cloud) == []


def test_a_file_is_named_in_the_message_about_what_is_in_it(cloud: FakeCloud, tmp_path: Path) -> None:
    file = tmp_path / "job.toml"
    for text, message in (
        ("task = 'training'\nparams = '7B'", "tokens: missing"),
        ("task = training", "not valid TOML"),
    ):
        file.write_text(text)
        with pytest.raises(errors.SpecError, match=message) as raised:
            Cluster.plan(workload=str(file))
        assert str(raised.value).startswith(str(file))

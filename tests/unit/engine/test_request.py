"""A request, from the first candidate to the running gang; on clouds in memory."""

import threading
from collections.abc import Iterator
from datetime import timedelta

import pytest

from multicompute import Cluster, ClusterState, Event, errors
from multicompute.engine.recovery.reconcile import reconcile
from multicompute.ledger.sqlite import Sqlite
from multicompute.provider import Quota
from multicompute.testing import FakeCloud, fake_cloud


@pytest.fixture(name="cloud")
def _cloud() -> Iterator[FakeCloud]:
    with fake_cloud("aws") as cloud:
        yield cloud


def kinds(cluster: Cluster) -> list[str]:
    return [event.kind for event in cluster.events()]


def launches(cloud: FakeCloud) -> list[tuple[object, object]]:
    return [
        (call.fields["zone"], call.fields["purchase"]) for call in cloud.aws.faults.calls if call.operation == "launch"
    ]


def test_a_gang_comes_up_completely_and_is_terminated_with_its_block(cloud: FakeCloud) -> None:
    with Cluster.request(gpus=64, type="h100", ttl="12h", tags={"team": "nlp"}) as cluster:
        assert cluster.state == "READY"
        assert [node.rank for node in cluster.nodes] == list(range(8))
        assert sorted(node.id for node in cluster.nodes) == sorted(cloud.aws.running_ids())
        assert cluster.gpus == 64
        assert cluster.hourly_cost == pytest.approx(440.32)
        assert {tag["team"] for resource in cloud.alive() if "team" in (tag := resource.tags)} == {"nlp"}
    assert cluster.state is ClusterState.TERMINATED
    assert cloud.alive() == []


def test_a_lack_of_capacity_fails_over_to_the_next_zone_with_one_call_each(cloud: FakeCloud) -> None:
    cloud.set_capacity("p5.48xlarge", "us-east-1a", 0)
    with Cluster.request(gpus=64, type="h100") as cluster:
        assert cluster.zone == "us-east-1b"
        assert launches(cloud) == [("us-east-1a", "on_demand"), ("us-east-1b", "on_demand")]
        assert kinds(cluster) == ["requested", "attempt", "capacity", "attempt", "launched", "ready"]


def test_an_outage_is_remembered_so_that_the_next_request_does_not_try_there(cloud: FakeCloud) -> None:
    cloud.set_capacity("p5.48xlarge", "us-east-1a", 0)
    Cluster.request(gpus=64, type="h100").terminate()
    before = len(launches(cloud))
    Cluster.request(gpus=64, type="h100").terminate()
    assert launches(cloud)[before:] == [("us-east-1b", "on_demand")]


def test_an_outage_is_forgotten_and_lasts_longer_when_it_recurs(cloud: FakeCloud) -> None:
    cloud.set_capacity("p5.48xlarge", "us-east-1a", 0)
    waits = []
    for _ in range(3):
        Cluster.request(gpus=64, type="h100").terminate()
        start = cloud.clock.now()
        (outage,) = cloud.session.ledger.outages(now=start)
        waits.append(outage.until - start)
        cloud.advance(outage.until - start + timedelta(seconds=1))
    assert waits[0] < waits[1] < waits[2]
    assert [zone for zone, _ in launches(cloud)].count("us-east-1a") == 3


def test_a_smaller_gang_is_tried_where_a_larger_one_did_not_fit(cloud: FakeCloud) -> None:
    cloud.set_capacity("p5.48xlarge", "us-east-1a", 4)
    Cluster.request(gpus=64, type="h100").terminate()
    with Cluster.request(gpus=32, type="h100") as cluster:
        assert cluster.zone == "us-east-1a"


def test_no_capacity_anywhere_reports_each_try_and_leaves_nothing(cloud: FakeCloud) -> None:
    cloud.set_capacity("*", "*", 0)
    with pytest.raises(errors.CapacityError) as caught:
        Cluster.request(gpus=64, type="h100", regions=["us-east-1"], name="nowhere")
    error = caught.value
    assert len(error.attempts) == len(launches(cloud)) > 6
    assert f"{len(error.attempts)} no capacity (capacity)" in str(error)
    assert str(error).count("\n") == 1
    assert error.plan is not None
    assert error.plan.best is not None
    assert "keep_trying" in (error.hint or "")
    assert cloud.alive() == []
    assert Cluster.get("nowhere").state is ClusterState.FAILED


def test_a_request_ruled_out_by_remembered_outages_is_a_capacity_error_without_a_call(cloud: FakeCloud) -> None:
    cloud.set_capacity("*", "*", 0)
    for _ in range(2):
        before = len(launches(cloud))
        with pytest.raises(errors.CapacityError, match="nothing is left running|remembered"):
            Cluster.request(gpus=64, type="h100", regions=["us-east-1"])
    assert len(launches(cloud)) == before


def test_keep_trying_tries_all_again_until_there_is_capacity(cloud: FakeCloud) -> None:
    cloud.set_capacity("*", "*", 0)

    def free_capacity(event: Event) -> None:
        if event.kind == "waiting" and "trying all candidates again" in event.message:
            cloud.set_capacity("*", "*", None)

    with Cluster.request(
        gpus=8, type="h100", regions=["us-east-1"], keep_trying="2h", progress=free_capacity
    ) as cluster:
        assert cluster.state is ClusterState.READY


def test_keep_trying_ends_when_its_time_is_over(cloud: FakeCloud) -> None:
    cloud.set_capacity("*", "*", 0)
    start = cloud.clock.now()
    with pytest.raises(errors.CapacityError):
        Cluster.request(gpus=8, type="h100", regions=["us-east-1"], keep_trying="20m")
    assert timedelta(minutes=10) < cloud.clock.now() - start < timedelta(minutes=30)


def test_keep_trying_waits_for_remembered_outages_to_pass(cloud: FakeCloud) -> None:
    cloud.set_capacity("*", "*", 0)
    with pytest.raises(errors.CapacityError):
        Cluster.request(gpus=8, type="h100", regions=["us-east-1"])
    cloud.set_capacity("*", "*", None)
    with Cluster.request(gpus=8, type="h100", regions=["us-east-1"], keep_trying="2h") as cluster:
        assert cluster.state is ClusterState.READY


def test_a_ledger_that_fails_after_the_launch_keeps_no_machine_running(cloud: FakeCloud) -> None:
    database = cloud.session.ledger._database
    assert isinstance(database, Sqlite)

    def fill_disk(_: object) -> None:
        database._connection.execute("PRAGMA query_only = ON")

    cloud.aws.faults.hook("launch", fill_disk)
    with pytest.raises(errors.LedgerError) as caught:
        Cluster.request(gpus=64, type="h100", name="full")
    assert cloud.alive() == []
    assert any(
        "full: nothing is left running, and the ledger can't record that" in note for note in caught.value.__notes__
    )
    # Once the ledger can be written again, it is brought in line with the cloud.
    database._connection.execute("PRAGMA query_only = OFF")
    cloud.advance("10m")
    reconcile(cloud.session)
    assert Cluster.get("full").state is ClusterState.FAILED


def test_a_ledger_that_fails_while_nodes_boot_keeps_no_machine_running(
    cloud: FakeCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object, **options: object) -> object:
        raise errors.LedgerError("database or disk is full")

    def fill_disk(event: Event) -> None:
        # Later than the lease was renewed last, so that the teardown has to renew it.
        if event.kind == "waiting" and event.data["nodes_ready"] == 0:
            cloud.advance("1m")
            for write in ("take_lease", "append", "update_cluster", "make_ready", "end_cluster", "close_attempt"):
                monkeypatch.setattr(cloud.session.ledger, write, fail)

    with pytest.raises(errors.LedgerError) as caught:
        Cluster.request(gpus=64, type="h100", name="full", progress=fill_disk)
    assert cloud.alive() == []
    assert any(
        "full: nothing is left running, and the ledger can't record that" in note for note in caught.value.__notes__
    )
    monkeypatch.undo()
    cloud.advance("10m")
    reconcile(cloud.session)
    assert Cluster.get("full").state is ClusterState.FAILED


def test_a_callback_that_raises_every_time_can_not_stop_the_teardown(
    cloud: FakeCloud, caplog: pytest.LogCaptureFixture
) -> None:
    def callback(event: Event) -> None:
        if event.kind not in ("requested", "attempt"):
            raise _Broken(event.kind)

    with pytest.raises(_Broken, match="launched"):
        Cluster.request(gpus=64, type="h100", name="noisy", progress=callback)
    assert cloud.alive() == []
    assert Cluster.get("noisy").state is ClusterState.FAILED
    assert "is not called again" in caplog.text


@pytest.mark.parametrize(
    ("code", "next_place"),
    [
        ("invalid", ("us-east-1b", "p5.48xlarge")),
        ("invalid-type", ("us-east-1a", "p5.4xlarge")),
        ("no-image", ("us-east-2a", "p5.48xlarge")),
        ("denied-region", ("us-east-2a", "p5.48xlarge")),
        ("unheard-of", ("us-east-2a", "p5.48xlarge")),
    ],
)
def test_a_refusal_costs_only_the_place_that_it_names(cloud: FakeCloud, code: str, next_place: tuple[str, str]) -> None:
    cloud.aws.faults.fail("launch", code)
    with Cluster.request(gpus=64, type="h100", interconnect="any") as cluster:
        assert len(launches(cloud)) == 2
        assert (cluster.zone, cluster.nodes[0].instance_type) == next_place


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("auth", errors.AuthError),
        ("denied", errors.AccessDeniedError),
        ("malformed", errors.InvalidRequestError),
    ],
)
def test_an_error_of_the_account_is_not_met_in_every_region(
    cloud: FakeCloud, code: str, kind: type[errors.MulticomputeError]
) -> None:
    cloud.aws.faults.fail("launch", code, times=None)
    with pytest.raises(kind, match="nothing is left running") as caught:
        Cluster.request(gpus=64, type="h100")
    assert caught.value.code == code
    assert len(launches(cloud)) == 1
    assert cloud.alive() == []


def test_a_request_that_runs_out_of_time_says_what_failed_most(cloud: FakeCloud) -> None:
    cloud.aws.faults.fail("launch", "unheard-of", times=None)
    with pytest.raises(errors.ProvisionTimeout, match=r"after \d+ tries: \d+ failed \(unheard-of\)\n  such as aws"):
        Cluster.request(gpus=64, type="h100")
    assert cloud.alive() == []


def test_a_cloud_that_refuses_us_is_passed_over_for_the_next() -> None:
    with fake_cloud("aws", "gcp") as cloud:
        cloud.aws.faults.fail("launch", "auth", times=None)
        with Cluster.request(gpus=64, type="h100") as cluster:
            assert cluster.provider == "gcp"


def test_a_throttled_launch_is_repeated_with_the_same_token(cloud: FakeCloud) -> None:
    cloud.aws.faults.throttle("launch", times=3)
    with Cluster.request(gpus=64, type="h100") as cluster:
        calls = [call for call in cloud.aws.faults.calls if call.operation == "launch"]
        assert len(calls) == 4
        assert len({call.fields["token"] for call in calls}) == 1
        assert kinds(cluster).count("retry") == 3


def test_a_launch_whose_answer_was_lost_is_not_bought_twice(cloud: FakeCloud) -> None:
    cloud.aws.faults.lose_answer("launch")
    with Cluster.request(gpus=64, type="h100") as cluster:
        assert sorted(node.id for node in cluster.nodes) == sorted(cloud.aws.running_ids())
        assert len(cluster.nodes) == 8
    assert cloud.alive() == []


def test_credentials_that_expire_after_a_lost_answer_close_no_attempt_that_may_have_nodes(cloud: FakeCloud) -> None:
    cloud.aws.faults.lose_answer("launch")
    cloud.aws.faults.fail("launch", "auth", times=None)
    cloud.aws.faults.fail("terminate", "auth", times=3)
    with pytest.raises(errors.AuthError):
        Cluster.request(gpus=64, type="h100", name="locked-out")
    assert cloud.alive() != []
    assert Cluster.get("locked-out").state is ClusterState.TERMINATING
    cloud.aws.faults.clear()
    Cluster.get("locked-out").terminate()
    assert cloud.alive() == []


def test_the_nodes_of_a_launch_that_never_answers_are_found_when_they_are_listed(cloud: FakeCloud) -> None:
    cloud.aws.lag = timedelta(seconds=40)
    cloud.aws.faults.lose_answer("launch")
    cloud.aws.faults.drop("launch", times=4)
    with Cluster.request(gpus=64, type="h100") as cluster:
        assert len(cluster.nodes) == len(cloud.aws.running_ids()) == 8
        assert "in doubt" in kinds(cluster)


def test_a_listing_that_lags_behind_does_not_lose_the_gang(cloud: FakeCloud) -> None:
    cloud.aws.lag = timedelta(seconds=50)
    with Cluster.request(gpus=64, type="h100") as cluster:
        assert len(cluster.nodes) == 8
        assert len(launches(cloud)) == 1
    assert cloud.alive() == []


def test_nodes_that_listings_do_not_show_yet_are_terminated_with_their_attempt_even_after_a_long_call(
    cloud: FakeCloud,
) -> None:
    cloud.aws.lag = timedelta(seconds=3)
    cloud.aws.faults.delay("launch", 3 * cloud.aws.consistency_window, times=1)
    cloud.aws.faults.fail("nodes", "capacity", times=1)
    with Cluster.request(gpus=16, type="h100", clouds=["aws"]) as cluster:
        assert cloud.aws.faults.count("launch") == 2
        assert cloud.aws.running_ids() == [node.id for node in cluster.nodes]
    assert cloud.alive() == []


def test_a_quota_that_is_too_small_is_found_before_the_launch(cloud: FakeCloud) -> None:
    cloud.aws.set_quota(Quota("P instances", "us-east-1", "on_demand", ("p*",), limit=100, used=0))
    with Cluster.request(gpus=64, type="h100") as cluster:
        assert cluster.region != "us-east-1"
        assert all(not str(zone).startswith("us-east-1") for zone, _ in launches(cloud))
        assert "quota" in kinds(cluster)


def test_a_lack_of_quota_everywhere_is_a_quota_error(cloud: FakeCloud) -> None:
    cloud.aws.faults.fail("launch", "quota", times=None)
    with pytest.raises(errors.QuotaError) as caught:
        Cluster.request(gpus=64, type="h100")
    regions = [call.region for call in cloud.aws.faults.calls if call.operation == "launch"]
    assert len(regions) == len({(report.region, report.instance_type) for report in caught.value.attempts})


def test_nodes_that_do_not_run_in_time_count_as_a_lack_of_capacity(cloud: FakeCloud) -> None:
    cloud.aws.boot_time = timedelta(minutes=6)
    with pytest.raises(errors.CapacityError, match="0 of 8 nodes ran"):
        Cluster.request(gpus=64, type="h100", regions=["us-east-2"], attempt_timeout="5m", timeout="5h")
    assert cloud.alive() == []


def test_a_request_that_is_not_ready_in_time_is_torn_down(cloud: FakeCloud) -> None:
    cloud.aws.boot_time = timedelta(hours=2)
    with pytest.raises(errors.ProvisionTimeout, match="torn down") as caught:
        Cluster.request(gpus=64, type="h100", timeout="3m", name="slow")
    assert isinstance(caught.value, TimeoutError)
    assert cloud.alive() == []
    assert Cluster.get("slow").state is ClusterState.FAILED


def test_a_gang_with_a_node_that_dies_while_booting_fails_over_to_the_next_zone(cloud: FakeCloud) -> None:
    cloud.aws.faults.fail("boot", "capacity")
    with Cluster.request(gpus=64, type="h100") as cluster:
        assert cluster.zone == "us-east-1b"
        assert len(cloud.aws.running_ids()) == 8


class _Broken(Exception):
    pass


@pytest.mark.parametrize("kind", ["requested", "attempt", "launched", "waiting", "ready"])
@pytest.mark.parametrize("raised", [_Broken, KeyboardInterrupt, SystemExit])
def test_a_callback_that_raises_ends_in_a_teardown(
    cloud: FakeCloud, kind: str, raised: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    def callback(event: Event) -> None:
        if event.kind == kind:
            raise raised

    with pytest.raises(raised):
        Cluster.request(gpus=64, type="h100", name="broken", progress=callback)
    assert cloud.alive() == []
    assert not Cluster.get("broken").state.is_live
    assert kind == "requested" or "nothing is left running" in caplog.text


@pytest.mark.parametrize("raised", [_Broken, KeyboardInterrupt, SystemExit])
def test_leaving_the_block_by_an_exception_terminates_the_cluster_and_logs_that(
    cloud: FakeCloud, raised: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(raised), Cluster.request(gpus=8, type="h100") as cluster:
        raise raised
    assert cloud.alive() == []
    assert cluster.state is ClusterState.TERMINATED
    assert raised.__name__ in cluster.reason
    assert "nothing is left running" in caplog.text


def test_the_same_request_by_name_returns_the_same_cluster(cloud: FakeCloud) -> None:
    first = Cluster.request(gpus=64, type="h100", name="train", tags={"a": "b"})
    again = Cluster.request(gpus=64, type="h100", name="train", tags={"a": "b"}, timeout="1h")
    assert again.id == first.id
    assert len(cloud.aws.running_ids()) == 8
    first.terminate()


def test_another_request_of_the_same_name_is_refused_and_the_differences_named(cloud: FakeCloud) -> None:
    with Cluster.request(gpus=64, type="h100", name="train"):
        with pytest.raises(errors.ClusterExists, match=r"gpus \(64, now 8\)"):
            Cluster.request(gpus=8, type="h100", name="train")
        assert len(cloud.aws.running_ids()) == 8


def test_a_name_is_free_again_when_its_cluster_has_ended(cloud: FakeCloud) -> None:
    Cluster.request(gpus=8, type="h100", name="train").terminate()
    with Cluster.request(gpus=16, type="h100", name="train") as second:
        assert len(cloud.aws.running_ids()) == 2
        assert Cluster.get("train").id == second.id


def test_many_threads_that_make_the_same_request_get_one_cluster(cloud: FakeCloud) -> None:
    ids: list[str] = []
    threads = [
        threading.Thread(target=lambda: ids.append(Cluster.request(gpus=8, type="h100", name="one", timeout="5h").id))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ids) == 8
    assert len(set(ids)) == 1
    assert len(cloud.aws.running_ids()) == 1


def test_without_wait_a_request_returns_when_a_cloud_has_accepted_it(cloud: FakeCloud) -> None:
    cluster = Cluster.request(gpus=64, type="h100", wait=False)
    assert cluster.state is ClusterState.PROVISIONING
    assert cloud.aws.running_ids() == []
    assert cluster.wait().state is ClusterState.READY
    assert len(cluster.nodes) == 8
    cluster.terminate()
    assert cloud.alive() == []


def test_a_wait_fails_over_to_the_next_zone(cloud: FakeCloud) -> None:
    cloud.aws.faults.fail("boot", "capacity")
    cluster = Cluster.request(gpus=64, type="h100", wait=False)
    assert cluster.wait().zone == "us-east-1b"
    cluster.terminate()
    assert cloud.alive() == []


def test_the_default_ttl_is_the_configured_one_and_none_means_none(cloud: FakeCloud) -> None:
    with Cluster.request(gpus=8, type="h100") as day, Cluster.request(gpus=8, type="h100", ttl=None) as endless:
        assert day.expires_at == day.created_at + timedelta(hours=24)
        assert endless.expires_at is None
    assert cloud.alive() == []


def test_an_estimated_price_is_confirmed_before_the_launch(cloud: FakeCloud) -> None:
    plan = Cluster.plan(gpus=64, type="h100", regions=["us-east-2"])
    assert plan.best is not None
    assert plan.best.price_basis == "estimate"
    for part in plan.best.parts:
        cloud.aws.set_price(part.offer, 99.0)
    with pytest.raises(
        errors.CapacityError, match="(?s)no price within the limits for 64 x h100 in any of 3 tries.*raise max_hourly"
    ):
        Cluster.request(gpus=64, type="h100", regions=["us-east-2"], max_hourly=500.0, nodes=8)
    assert launches(cloud) == []


@pytest.mark.parametrize("when", ["requested", "attempt", "launched"])
def test_terminating_a_cluster_while_it_is_provisioned_stops_the_provisioning(cloud: FakeCloud, when: str) -> None:
    def terminate(event: Event) -> None:
        if event.kind == when:
            Cluster.get("doomed").terminate(wait=False)

    with pytest.raises(errors.ClusterNotFound, match="was terminated"):
        Cluster.request(gpus=64, type="h100", name="doomed", progress=terminate)
    assert cloud.alive() == []
    assert not Cluster.get("doomed").state.is_live


def test_a_private_key_is_refused_as_a_public_one(cloud: FakeCloud, tmp_path: object) -> None:
    from pathlib import Path

    key = Path(str(tmp_path)) / "id"
    key.write_text("-----BEGIN OPENSSH PRIVATE KEY-----\nabc\n")
    with pytest.raises(errors.SpecError, match="no OpenSSH public key"):
        Cluster.request(gpus=8, type="h100", ssh_key=str(key))
    assert cloud.alive() == []
    assert Cluster.list() == []

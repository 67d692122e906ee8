"""The pytest plug-in: clouds as fixtures, no cluster left behind unnoticed, and no cost for other pytest runs."""

import os
import subprocess
import sys

import pytest

pytest_plugins = ["pytester"]

QUIETLY = ("-q", "-p", "no:randomly", "-W", "error")
STRICTLY = ("-o", "asyncio_mode=strict", "-o", "asyncio_default_fixture_loop_scope=function")


def run(pytester: pytest.Pytester, code: str, *arguments: str) -> pytest.RunResult:
    pytester.makepyfile(code)
    # In a process of its own: in this one pytester would import a part of the package a second time.
    return pytester.runpytest_subprocess(*QUIETLY, *(arguments or ("-p", "no:asyncio")))


def test_a_test_that_cleans_up_passes(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
        from multicompute import Cluster

        def test_tidy(fake_cloud):
            with Cluster.request(gpus=8, type="h100"):
                assert len(fake_cloud.clusters_alive()) == 1
        """,
    )
    assert result.parseoutcomes() == {"passed": 1}


def test_a_test_that_leaves_a_cluster_behind_fails_with_its_name(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
        from multicompute import Cluster

        def test_untidy(fake_cloud):
            Cluster.request(gpus=8, type="h100", name="forgotten")
            Cluster.request(gpus=8, type="h100", name="ended").terminate()

        def test_next(fake_cloud):
            assert fake_cloud.alive() == []
        """,
    )
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        [
            "*the test left clusters behind*",
            '*  forgotten: READY, 1 node in aws us-east-1a, $55.04 per hour; terminate it with Cluster.get("forgotten").terminate()',
            "*Use `with`, call terminate()*",
        ]
    )
    result.stdout.no_fnmatch_line("*  ended: *")
    result.assert_outcomes(passed=2, errors=1)


def test_a_fixture_of_the_user_s_may_terminate_after_the_test(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
        import pytest
        from multicompute import Cluster

        @pytest.fixture
        def cluster(fake_cloud):
            cluster = Cluster.request(gpus=8, type="h100")
            yield cluster
            cluster.terminate()

        def test_uses_it(cluster):
            assert cluster.nodes
        """,
    )
    assert result.parseoutcomes() == {"passed": 1}


def test_a_failing_test_shows_its_own_failure_too(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
        from multicompute import Cluster

        def test_fails(fake_cloud):
            Cluster.request(gpus=8, type="h100", name="forgotten")
            assert 1 == 2
        """,
    )
    result.assert_outcomes(failed=1, errors=1)
    result.stdout.fnmatch_lines(["*left clusters behind*", "*  forgotten: READY, *", "*assert 1 == 2*"])


def test_the_plug_in_loads_nothing_of_the_package_before_it_is_used() -> None:
    code = """
import sys, pytest
before = set(sys.modules)
import multicompute.testing.pytest_plugin
print(sorted(name for name in set(sys.modules) - before))
"""
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    loaded = {name.strip("[]' \n") for name in shown.split(",")}
    assert {name for name in loaded if name.startswith("multicompute")} == {
        "multicompute",
        "multicompute.testing",
        "multicompute.testing.pytest_plugin",
    }
    assert not loaded & {"boto3", "moto", "rich", "sqlite3", "tenacity"}


def test_a_cluster_left_behind_is_terminated_before_the_next_test_even_under_faults(
    pytester: pytest.Pytester,
) -> None:
    result = run(
        pytester,
        """
        from multicompute import Cluster

        kept = []

        def test_untidy(fake_cloud):
            kept.append(fake_cloud)
            Cluster.request(gpus=8, type="h100", name="forgotten")
            Cluster.request(gpus=8, type="h100", name="ending").terminate(wait=False)
            Cluster.request(gpus=8, type="h100", name="half-made", wait=False)
            for provider in fake_cloud.providers.values():
                provider.faults.fail("terminate", "denied", times=None)

        def test_next(fake_cloud):
            assert fake_cloud.alive() == []
            assert kept[0].alive() == []
        """,
    )
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(
        ["*  ending: TERMINATING, *", "*  forgotten: READY, *", "*  half-made: PROVISIONING, *"]
    )
    result.stdout.no_fnmatch_line("*denied*")


def test_a_cluster_in_no_ledger_is_found_and_terminated_too(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """

        from multicompute import Cluster
        from multicompute.session import Session, use_session

        kept = []

        def test_has_a_ledger_of_its_own(fake_cloud, tmp_path):
            kept.append(fake_cloud)
            first = fake_cloud.session
            config = first.config.model_copy(update={"state": f"sqlite:///{tmp_path}/own.db"})
            with use_session(Session(config=config, plugins=first.plugins, clock=first.clock)) as session:
                Cluster.request(gpus=16, type="h100", name="lost", clouds=["aws"])
                session.close()

        def test_next():
            assert kept[0].alive() == []
        """,
    )
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*  lost: in no ledger, but left *node *; `multicompute reconcile --terminate lost`*"])


def test_a_cluster_that_is_only_in_the_ledger_or_only_in_the_clouds_is_found(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
        import pytest
        from multicompute import Cluster, ClusterState, Event
        from multicompute.provider import Selector

        kept = []

        @pytest.fixture(autouse=True)
        def _the_one_before_is_ended():
            assert [resource for cloud in kept for resource in cloud.alive()] == []

        def test_deletes_behind_the_ledger_s_back(fake_cloud):
            cluster = Cluster.request(gpus=8, type="h100", name="ledger-only", clouds=["aws"])
            while fake_cloud.aws.terminate(Selector(cluster_id=cluster.id)).remaining:
                fake_cloud.advance("10s")
            assert fake_cloud.alive() == []

        def test_writes_directly_into_the_ledger(fake_cloud):
            kept.append(fake_cloud)
            cluster = Cluster.request(gpus=8, type="h100", name="cloud-only", clouds=["aws"])
            now = fake_cloud.clock.now()
            fake_cloud.session.ledger.end_cluster(
                cluster.id, state=ClusterState.TERMINATED, at=now, reason="", event=Event(now, "note", "", cluster.id)
            )

        def test_next():
            assert kept
        """,
    )
    result.assert_outcomes(passed=3, errors=2)
    result.stdout.fnmatch_lines(
        [
            "*  ledger-only: READY, 1 node *",
            "*  cloud-only: TERMINATED in the ledger, but left *node aws-node-1* in aws *; `multicompute reconcile`*",
        ]
    )


def test_the_factory_requests_clusters_in_memory_and_terminates_them_after_the_test(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
        from multicompute import Cluster
        from multicompute.testing import ClusterFactory

        kept = []

        def test_two(cluster_factory: ClusterFactory, fake_cloud):
            kept.append(fake_cloud)
            first = cluster_factory(gpus=16, type="h100", tags={"team": "nlp"})
            assert (len(first.nodes), first.tags) == (2, {"team": "nlp"})
            assert cluster_factory().gpus == 8
            assert len(cluster_factory(type="c6i.12xlarge", nodes=3).nodes) == 3
            assert len(fake_cloud.clusters_alive()) == 3

        def test_alone(cluster_factory):
            assert kept[0].alive() == []
            cluster_factory(gpus=8, type="h100").terminate()
            assert [cluster.name for cluster in Cluster.list()] == []
        """,
    )
    assert result.parseoutcomes() == {"passed": 2}


def test_a_cluster_requested_without_the_factory_must_be_terminated_by_the_test(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
        import pytest
        from multicompute import Cluster

        @pytest.fixture
        def mine(fake_cloud):
            with Cluster.request(gpus=8, type="h100", name="mine") as cluster:
                yield cluster

        def test_tidy(mine, cluster_factory):
            assert cluster_factory().name != mine.name

        def test_untidy(cluster_factory):
            cluster_factory(gpus=8, type="h100", name="made")
            Cluster.request(gpus=8, type="h100", name="forgotten")
        """,
    )
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*  forgotten: READY, *"])
    result.stdout.no_fnmatch_line("*  made: *")


def test_a_cluster_that_the_factory_cannot_terminate_fails_the_test_with_the_reason(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
        def test_refused(cluster_factory, fake_cloud):
            cluster_factory(gpus=8, type="h100", name="kept", clouds=["aws"])
            cluster_factory(gpus=8, type="h100", name="gone", clouds=["gcp"])
            fake_cloud.aws.faults.fail("terminate", "denied", times=None)

        def test_next(fake_cloud):
            assert fake_cloud.alive() == []
        """,
    )
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*clusters of cluster_factory could not be terminated:*", "*  kept: *denied*"])
    result.stdout.no_fnmatch_line("*  gone: *")


def test_a_cluster_left_behind_in_a_local_cloud_is_found_too_and_is_deleted_with_its_cloud(
    pytester: pytest.Pytester,
) -> None:
    result = run(
        pytester,
        """
        import socket
        from pathlib import Path

        from multicompute import Cluster

        seen = {}

        def test_untidy(local_clouds):
            seen.update(local_clouds.environment)
            Cluster.request(gpus=8, type="h100", name="forgotten")

        def test_between():
            assert not Path(seen["MULTICOMPUTE_STATE"].removeprefix("sqlite:///")).exists()
            ports = {value.rpartition(":")[2] for name, value in seen.items() if name.endswith("ENDPOINT_URL")}
            assert len(ports) == 3
            for port in ports:
                with socket.socket() as probe:
                    assert probe.connect_ex(("127.0.0.1", int(port))) != 0

        def test_next(local_clouds, cluster_factory):
            assert local_clouds.alive() == []
            cluster_factory(gpus=8, type="h100", name="made")
            assert "made" in {item.tags.get("multicompute-cluster") for item in local_clouds.alive()}
        """,
    )
    result.assert_outcomes(passed=3, errors=1)
    result.stdout.fnmatch_lines(
        ['*  forgotten: READY, 1 node in * per hour; terminate it with Cluster.get("forgotten").terminate()']
    )
    result.stdout.no_fnmatch_line("*  made: *")


def test_one_test_cannot_use_fake_and_local_clouds(pytester: pytest.Pytester) -> None:
    result = run(pytester, "def test_both(fake_cloud, local_clouds): pass")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*a test uses fake_cloud and local_clouds: use only one of them*"])


@pytest.mark.parametrize("kind", ["fake_cloud", "local_clouds"])
def test_workers_of_xdist_have_their_own_clouds_and_ledgers(pytester: pytest.Pytester, kind: str) -> None:
    for name in ("up", "seen"):
        os.mkfifo(pytester.path / name)
    result = run(
        pytester,
        f"""
        import os
        from pathlib import Path

        import pytest
        from multicompute import Cluster
        from multicompute.session import open_session

        FOLDER = Path({str(pytester.path)!r})

        @pytest.mark.parametrize("mode", ["w", "r"])
        def test_alone(mode, {kind}, cluster_factory):
            def meet(name):
                # To open a FIFO waits for the other worker, which has a cluster of the same name.
                (FOLDER / name).open(mode).close()

            cluster = cluster_factory(gpus=8, type="h100", name="train")
            meet("up")
            alive = {kind}.alive()
            assert {{item.tags["multicompute-id"] for item in alive if "multicompute-id" in item.tags}} == {{cluster.id}}
            assert [known.id for known in Cluster.list()] == [cluster.id]
            urls = {{value for name, value in os.environ.items() if name.endswith("ENDPOINT_URL")}}
            places = [str(os.getpid()), open_session().config.state, *sorted(urls)]
            (FOLDER / f"{{mode}}.txt").write_text("\\n".join(places))
            meet("seen")
        """,
        *("-p", "no:asyncio", "-n", "2", "-o", "timeout=100"),
    )
    assert result.parseoutcomes() == {"passed": 2}
    first, second = ((pytester.path / f"{mode}.txt").read_text().splitlines() for mode in "wr")
    assert len(first) == (2 if kind == "fake_cloud" else 5)
    assert set(first) & set(second) == set()


def test_a_worker_of_xdist_reports_the_cluster_that_its_test_left_behind(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
        import pytest
        from multicompute import Cluster

        @pytest.mark.parametrize("number", range(4))
        def test_untidy(fake_cloud, number):
            assert fake_cloud.alive() == []
            cluster = Cluster.request(gpus=8, type="h100", name=f"forgotten-{number}")
            if number % 2:
                cluster.terminate()
        """,
        *("-p", "no:asyncio", "-n", "2"),
    )
    result.assert_outcomes(passed=4, errors=2)
    result.stdout.fnmatch_lines_random(["*  forgotten-0: READY, *", "*  forgotten-2: READY, *"])
    result.stdout.no_fnmatch_line("*  forgotten-[13]: *")


def test_tests_of_pytest_asyncio_use_the_same_clouds_and_have_the_same_checks(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
        import asyncio

        import pytest
        import pytest_asyncio
        from multicompute import Cluster

        pytestmark = pytest.mark.asyncio

        @pytest_asyncio.fixture
        async def cluster(fake_cloud):
            async with await Cluster.arequest(gpus=8, type="h100", name="fixed") as cluster:
                yield cluster

        async def test_tidy(cluster, fake_cloud, cluster_factory):
            made = await asyncio.gather(*(Cluster.arequest(gpus=8, type="h100") for _ in range(3)))
            cluster_factory(gpus=8, type="h100")
            assert len(fake_cloud.clusters_alive()) == 5
            await asyncio.gather(*(each.aterminate() for each in made))

        async def test_untidy(fake_cloud):
            await Cluster.arequest(gpus=8, type="h100", name="forgotten")

        async def test_next(fake_cloud):
            assert fake_cloud.alive() == []
        """,
        *STRICTLY,
    )
    result.assert_outcomes(passed=3, errors=1)
    result.stdout.fnmatch_lines(["*  forgotten: READY, *"])
    result.stdout.no_fnmatch_line("*  fixed: *")


def test_a_test_s_own_moto_is_completed_as_decorator_block_and_fixture(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
        import pytest
        from moto import mock_aws
        from multicompute import Cluster
        from multicompute.testing import complete_moto as completed

        def request():
            with Cluster.request(gpus=8, type="h100", clouds=["aws"]) as cluster:
                assert len(cluster.nodes) == 1

        @mock_aws
        def test_decorated(complete_moto):
            request()

        @mock_aws
        @completed()
        def test_decorated_twice():
            request()

        @pytest.fixture
        def aws():
            with mock_aws():
                yield

        def test_fixture(aws, complete_moto):
            request()

        def test_completed_first(complete_moto, aws):
            request()
        """,
    )
    assert result.parseoutcomes() == {"passed": 4}

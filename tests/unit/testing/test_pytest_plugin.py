"""The pytest plug-in: clouds as fixtures, no cluster left behind unnoticed, and no cost to runs that do not use it."""

import subprocess
import sys

import pytest

pytest_plugins = ["pytester"]

QUIETLY = ("-q", "-p", "no:randomly", "-p", "no:asyncio")


def run(pytester: pytest.Pytester, code: str) -> pytest.RunResult:
    pytester.makepyfile(code)
    # In a process of its own: in this one pytester would import a part of the package a second time.
    return pytester.runpytest_subprocess(*QUIETLY)


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
    result.stdout.fnmatch_lines(["*left clusters behind*: forgotten;*"])
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
    result.stdout.fnmatch_lines(["*left clusters behind*: forgotten;*", "*assert 1 == 2*"])


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


def test_a_cluster_left_behind_in_a_local_cloud_is_found_too(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
        from multicompute import Cluster

        def test_untidy(local_clouds):
            Cluster.request(gpus=8, type="h100", name="forgotten")

        def test_tidy(local_clouds):
            with Cluster.request(gpus=8, type="h100"):
                assert local_clouds.alive()
        """,
    )
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*left clusters behind*: forgotten;*"])

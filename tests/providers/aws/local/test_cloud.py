"""The complete local AWS: faults on the wire, the admin interface, start and stop, isolation."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from datetime import timedelta
from http.client import HTTPConnection
from typing import Any
from urllib.error import HTTPError

import boto3
import pytest
from botocore.exceptions import ConnectionClosedError

from multicompute.errors import SpecError
from multicompute.testing import local_clouds
from multicompute_aws.local import AwsLocalCloud

Refused = Callable[..., tuple[str, int, str]]
Run = Callable[..., list[str]]


def test_an_injected_error_comes_with_its_status_and_does_nothing(
    cloud: AwsLocalCloud, run: Run, refused: Refused
) -> None:
    cloud.faults.fail("RunInstances", "Unavailable", message="come back later", status=503)
    assert refused(run) == ("Unavailable", 503, "come back later")
    assert cloud.alive() == []
    assert len(run()) == 1


def test_a_fault_can_be_bound_to_a_zone_or_a_region(
    cloud: AwsLocalCloud, client: Any, run: Run, refused: Refused, subnet_in: Callable[[str], str]
) -> None:
    cloud.faults.fail("RunInstances", "InternalError", status=500, where={"zone": "us-east-1b"})
    cloud.faults.fail("DescribeInstances", "InternalError", status=500, where={"region": "eu-west-1"})
    run(SubnetId=subnet_in("us-east-1a"))
    assert refused(run, SubnetId=subnet_in("us-east-1b"))[0] == "InternalError"
    client("ec2").describe_instances()
    assert refused(client("ec2", "eu-west-1").describe_instances)[0] == "InternalError"


def test_an_answer_is_lost_after_the_work_and_a_dropped_call_does_no_work(cloud: AwsLocalCloud, run: Run) -> None:
    cloud.faults.drop("RunInstances")
    with pytest.raises(ConnectionClosedError):
        run(ClientToken="t-1")
    assert cloud.running_ids() == []
    cloud.faults.lose_answer("RunInstances")
    with pytest.raises(ConnectionClosedError):
        run(ClientToken="t-1")
    assert run(ClientToken="t-1") == cloud.running_ids()


def test_throttling_has_ec2s_message_and_json_services_fail_in_json(
    cloud: AwsLocalCloud, client: Any, ec2: Any, refused: Refused
) -> None:
    cloud.faults.throttle("*", times=2)
    assert refused(ec2.describe_instances) == ("RequestLimitExceeded", 503, "Request limit exceeded.")
    assert refused(client("ssm").get_parameter, Name="x")[0] == "RequestLimitExceeded"


def test_a_delayed_answer_is_late_and_does_not_block_other_calls(cloud: AwsLocalCloud, ec2: Any) -> None:
    ec2.describe_instances()
    cloud.faults.delay("DescribeInstances", timedelta(milliseconds=300))
    late: list[float] = []
    start = time.perf_counter()
    thread = threading.Thread(target=lambda: late.append(len(ec2.describe_instances()["Reservations"])))
    thread.start()
    while cloud.faults.count("DescribeInstances") < 2:
        time.sleep(0.001)
    ec2.describe_placement_groups()
    assert not late
    thread.join()
    assert time.perf_counter() - start >= 0.3


def test_calls_are_on_record_with_what_they_asked_for(cloud: AwsLocalCloud, run: Run) -> None:
    run(2, ClientToken="t-1")
    [call] = [call for call in cloud.faults.calls if call.operation == "RunInstances"]
    assert (call.region, call.fields["instance_type"], call.fields["count"], call.fields["token"]) == (
        "us-east-1",
        "g6.xlarge",
        2,
        "t-1",
    )
    assert cloud.faults.count("GetParameter") == 1


def _http(url: str, body: dict[str, Any] | None = None, **headers: str) -> Any:
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data, headers)) as answer:
        return json.load(answer)


def test_the_admin_interface_injects_faults_and_shows_what_is_alive(
    cloud: AwsLocalCloud, run: Run, refused: Refused
) -> None:
    url = cloud.endpoint_url + "/_local/"
    _http(url + "faults", {"kind": "fail", "operation": "RunInstances", "code": "Nope", "where": {"count": 1}})
    _http(url + "faults", {"kind": "delay", "operation": "RunInstances", "duration": 0.001})
    assert refused(run)[0] == "Nope"
    ids = run()
    assert [item["id"] for item in _http(url + "alive") if item["kind"] == "instance"] == ids
    assert "RunInstances" in {call["operation"] for call in _http(url + "calls")}
    _http(url + "capacity", {"instance_type": "g6.xlarge", "place": "us-east-1a", "nodes": 0})
    assert refused(run, Placement={"AvailabilityZone": "us-east-1a"})[0] == "InsufficientInstanceCapacity"
    _http(url + "clear", {})
    assert cloud.faults.calls == []


@pytest.mark.parametrize(
    ("path", "body", "headers", "status"),
    [
        ("alive", None, {"Host": "evil.example:80"}, 403),
        ("nonsense", None, {}, 404),
        ("nonsense", {}, {}, 404),
        ("faults", {"kind": "explode", "operation": "x"}, {}, 400),
        ("faults", {"kind": "fail"}, {}, 400),
        ("preempt", {"node_id": "i-1"}, {}, 400),
    ],
)
def test_the_admin_interface_refuses_other_hosts_and_unknown_commands(
    own_cloud: AwsLocalCloud, path: str, body: dict[str, Any] | None, headers: dict[str, str], status: int
) -> None:
    with pytest.raises(HTTPError) as caught:
        _http(f"{own_cloud.endpoint_url}/_local/{path}", body, **headers)
    with caught.value as answer:
        assert answer.code == status
        assert json.load(answer)["error"]


def test_it_serves_this_machine_only_and_leaves_no_thread_and_no_port() -> None:
    before = set(threading.enumerate())
    cloud = AwsLocalCloud()
    cloud.start()
    host, port = cloud.endpoint_url.removeprefix("http://").split(":")
    assert host == "127.0.0.1"
    held = HTTPConnection(host, int(port))
    held.request("GET", "/_local/alive")
    assert json.load(held.getresponse()) == []
    cloud.stop()
    cloud.stop()
    assert set(threading.enumerate()) <= before
    assert held.sock.recv(1) == b""
    held.close()
    with pytest.raises(OSError, match=r"refused"):
        socket.create_connection((host, int(port)))
    with pytest.raises(RuntimeError, match="not started"):
        _ = cloud.environment


def test_a_stopped_cloud_starts_again_empty() -> None:
    cloud = AwsLocalCloud()
    for _ in range(2):
        cloud.start()
        assert cloud.alive() == []
        cloud.seed_foreign()
        assert cloud.foreign_intact()
        cloud.stop()


def test_two_clouds_in_one_process_do_not_see_each_other(client_of: Any) -> None:
    clouds = [AwsLocalCloud(), AwsLocalCloud()]
    try:
        for cloud in clouds:
            cloud.start()
        first, second = (client_of(cloud) for cloud in clouds)
        first("ec2").create_security_group(GroupName="sg", Description="d")
        assert [len(cloud.alive()) for cloud in clouds] == [1, 0]
        accounts = {make("sts").get_caller_identity()["Account"] for make in (first, second)}
        assert len(accounts) == 2
    finally:
        for cloud in clouds:
            cloud.stop()


def test_local_clouds_changes_the_environment_and_restores_it(monkeypatch: pytest.MonkeyPatch) -> None:
    # Variables that a user can have set: none of them may connect to the user's own account.
    monkeypatch.setenv("AWS_PROFILE", "production")
    monkeypatch.setenv("AWS_ENDPOINT_URL_EC2", "http://127.0.0.1:1")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    with local_clouds("aws", lag=timedelta(0)) as clouds:
        assert clouds.names == ("aws",) and clouds["aws"] is clouds.aws
        session = boto3.Session()
        assert session.client("sts").get_caller_identity()["Account"].isdecimal()
        assert session.client("ec2").describe_instances()["Reservations"] == []
        session.client("ec2").create_security_group(GroupName="sg", Description="d")
        assert [resource.kind for resource in clouds.alive()] == ["security-group"]
        assert os.environ["MULTICOMPUTE_STATE"].startswith("sqlite:////")
        with pytest.raises(AttributeError, match="no local cloud 'mars'"):
            _ = clouds.mars
    assert (os.environ["AWS_PROFILE"], os.environ["AWS_ENDPOINT_URL_EC2"]) == ("production", "http://127.0.0.1:1")
    assert not os.path.exists(clouds.environment["MULTICOMPUTE_CONFIG"])
    assert not os.path.exists(clouds.environment["AWS_CONFIG_FILE"])


@pytest.mark.parametrize("wrong", [{"names": ("mars",)}, {"names": ("aws",), "colour": "red"}])
def test_local_clouds_refuses_unknown_names_and_options(wrong: dict[str, Any]) -> None:
    names = wrong.pop("names")
    with pytest.raises(SpecError, match="local_clouds"), local_clouds(*names, **wrong):
        pass


class Lacking:
    """A plug-in whose local cloud cannot be imported."""

    name = "lacking"

    def __init__(self, module: str) -> None:
        self.module = module

    def local(self) -> None:
        raise ModuleNotFoundError(f"No module named {self.module!r}", name=self.module)


@pytest.mark.parametrize(("module", "error"), [("moto.server", SpecError), (f"{__name__}.gone", ModuleNotFoundError)])
def test_only_a_missing_dependency_gets_a_pip_line(
    monkeypatch: pytest.MonkeyPatch, module: str, error: type[Exception]
) -> None:
    # Patched, because a test cannot install a provider that lacks a module.
    monkeypatch.setattr("multicompute.plugins.discover", lambda: {"lacking": Lacking(module)})
    with pytest.raises(error) as caught, local_clouds("lacking"):
        pass
    assert ("multicompute[testing]" in str(caught.value)) == (error is SpecError)


def test_a_process_that_does_not_stop_the_cloud_still_exits() -> None:
    script = (
        "import urllib.request; from multicompute_aws.local import AwsLocalCloud; c = AwsLocalCloud(); c.start();"
        "urllib.request.urlopen(c.endpoint_url + '/_local/alive').read()"
    )
    done = subprocess.run([sys.executable, "-c", script], timeout=60, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")

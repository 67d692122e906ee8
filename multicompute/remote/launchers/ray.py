"""Starts Ray on every node of a cluster, and submits jobs through Ray's own API."""

import json
import shlex
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from multicompute.clock import Clock, SystemClock
from multicompute.errors import MulticomputeError, RunError, RunTimeout
from multicompute.remote.command import Task
from multicompute.remote.launchers.job import Job, check_accelerators, free_ports
from multicompute.remote.results import NO_STATUS, RunResult, error_of
from multicompute.remote.running import BackgroundRun

_POLL: Final = timedelta(seconds=0.5)
_LONGEST_POLL: Final = timedelta(seconds=2)
_HTTP_SECONDS: Final = 30
_ENDED: Final = frozenset({"SUCCEEDED", "FAILED", "STOPPED"})


@dataclass(frozen=True, slots=True)
class Ray:
    """The options for starting Ray.

    Attributes:
        ray: The path of the `ray` command on the nodes, by default the one on the PATH.
        within: How long all nodes have to join.
        has_token: Whether every request needs a token (`RAY_AUTH_MODE=token`, Ray 2.52 and later). Without, the
            dashboard, which runs what it is sent, is open to all users of the head, and Ray's ports to all hosts that
            reach the nodes' private addresses.
        options: Further options of `ray start`, such as ["--resources", '{"ssd": 1}'].
    """

    ray: str = "ray"
    within: timedelta = timedelta(minutes=2)
    has_token: bool = False
    options: tuple[str, ...] = ()


class RayCluster:
    """Ray as it runs on the nodes of a cluster.

    Attributes:
        address: Where the nodes reach Ray, for `ray.init(address=...)`.
        dashboard_url: Where this machine reaches the dashboard and the job API.
        token: What requests need, "" for nothing; for `RAY_AUTH_TOKEN`.
    """

    def __init__(
        self, job: Job, background: BackgroundRun, *, address: str, dashboard_url: str, token: str, clock: Clock
    ) -> None:
        """Describe Ray as it runs; users call `Cluster.ray` instead."""
        self.address = address
        self.dashboard_url = dashboard_url
        self.token = token
        self._job = job
        self._background = background
        self._clock = clock

    def submit(
        self,
        entrypoint: str | Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        runtime_env: Mapping[str, object] | None = None,
        submission_id: str | None = None,
    ) -> "RayJob":
        """Submit a job through Ray's job API; it runs on the head.

        Args:
            entrypoint: The command, as a shell line or a list of arguments.
            env: Variables for it and its tasks.
            runtime_env: Ray's description of the environment, for packages and the like.
            submission_id: The id of the job; Ray makes one by default.

        Raises:
            RunError: A node was lost, or Ray has ended there.
            MulticomputeError: Ray refuses the job.
        """
        environment = dict(runtime_env or {})
        variables = {**self._job.env, **(env or {})}
        if variables:
            present = environment.get("env_vars")
            environment["env_vars"] = {**variables, **(present if isinstance(present, Mapping) else {})}
        body = {
            "entrypoint": entrypoint if isinstance(entrypoint, str) else shlex.join(entrypoint),
            "runtime_env": environment,
            **({"submission_id": submission_id} if submission_id else {}),
        }
        return RayJob(self, str(self.ask("/api/jobs/", body)["submission_id"]), self._clock)

    def check(self) -> None:
        """Raise if Ray has ended on a node, the node was lost, or the caller wants to stop.

        Raises:
            RunError: Naming the rank.
        """
        self._job.nodes.check_cancelled()
        self._background.check()

    def ask(self, path: str, body: Mapping[str, object] | None = None) -> Any:
        """Send one request to the dashboard and return its answer.

        Raises:
            RunError: A node was lost, or Ray has ended there.
            MulticomputeError: The dashboard refuses the request, or does not answer.
        """
        self.check()
        try:
            return self._ask(path, body)
        except urllib.error.HTTPError as error:
            detail = error.read().decode("utf-8", "replace").strip().splitlines()
            raise MulticomputeError(
                f"Ray refused {path}: {error.code} {detail[-1] if detail else error.reason}",
                hint='the job API needs "ray[default]" on the nodes' if error.code == 404 else None,
            ) from error
        except (OSError, ValueError) as error:
            self.check()
            raise MulticomputeError(f"Ray's dashboard does not answer: {error}") from error

    def _ask(self, path: str, body: Mapping[str, object] | None) -> Any:
        headers = {"Content-Type": "application/json"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.dashboard_url + path, data=data, headers=headers)
        # Not through a proxy of the user's environment: the address is this machine's own.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=_HTTP_SECONDS) as answer:
            return json.load(answer)


class RayJob:
    """A job that was submitted to Ray.

    Attributes:
        id: Its submission id.
    """

    def __init__(self, cluster: RayCluster, job_id: str, clock: Clock) -> None:
        """Describe a job that was submitted; users call `RayCluster.submit` instead."""
        self.id = job_id
        self._cluster = cluster
        self._clock = clock

    def status(self) -> str:
        """Return Ray's word for the state: PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED."""
        return str(self._cluster.ask(f"/api/jobs/{self.id}")["status"])

    def logs(self) -> str:
        """Return what the job has written so far."""
        return str(self._cluster.ask(f"/api/jobs/{self.id}/logs")["logs"])

    def stop(self) -> None:
        """Ask Ray to end the job."""
        self._cluster.ask(f"/api/jobs/{self.id}/stop", {})

    def wait(self, *, timeout: timedelta | None = None, on_output: Callable[[str], object] | None = None) -> str:
        """Wait for the end of the job and return what it wrote.

        Args:
            timeout: How long to wait; None for as long as it takes.
            on_output: Gets what the job writes while it runs.

        Raises:
            RunError: The job failed or was stopped, or a node was lost.
            RunTimeout: It still runs.
        """
        deadline = None if timeout is None else self._clock.now() + timeout
        shown = 0
        pause = _POLL
        while True:
            status = self.status()
            logs = self.logs() if on_output is not None or status in _ENDED else ""
            if on_output is not None and len(logs) > shown:
                on_output(logs[shown:])
                shown = len(logs)
            if status in _ENDED:
                break
            if deadline is not None and self._clock.now() >= deadline:
                raise RunTimeout(f"Ray job {self.id} is still {status} after {timeout}")
            self._clock.sleep(pause)
            pause = min(pause * 1.3, _LONGEST_POLL)
        if status != "SUCCEEDED":
            raise self._error(status, logs)
        return logs

    def _error(self, status: str, logs: str) -> RunError:
        about = self._cluster.ask(f"/api/jobs/{self.id}")
        reason = f"Ray job {self.id} {status.lower()}: {about.get('message') or 'no message'}".splitlines()[0]
        result = RunResult(0, int(about.get("driver_exit_code") or 1), stdout=logs, error=reason)
        return error_of(result, [result], name="rank 0")


@contextmanager
def ray(job: Job, *, options: Ray | None = None, clock: Clock | None = None) -> Iterator[RayCluster]:
    """Run Ray on all nodes for the length of a `with` block.

    Args:
        job: The nodes.
        options: How Ray is started.
        clock: The clock to wait with.

    Raises:
        RunError: Ray could not be started on a node, or the nodes did not find each other in time.
    """
    options = options or Ray()
    clock = clock or SystemClock()
    check_accelerators(job)
    port, dashboard, client = free_ports(job.nodes, count=3)
    token = f"{job.nodes.random.getrandbits(256):064x}" if options.has_token else ""
    scratch = job.scratch()
    tasks = [
        Task(
            member.rank,
            command(job, member.rank, port=port, dashboard=dashboard, client=client, scratch=scratch, options=options),
            env={**_settings(token), **job.environment(member.rank)},
            cwd=job.cwd,
            scratch=scratch,
        )
        for member in job.layout.members
    ]
    with job.nodes.start(tasks) as background, job.nodes.forward(0, dashboard) as here:
        cluster = RayCluster(
            job,
            background,
            address=f"{job.layout.head.address}:{port}",
            dashboard_url=f"http://127.0.0.1:{here}",
            token=token,
            clock=clock,
        )
        _wait_for_nodes(cluster, job, background, options.within, clock)
        yield cluster


def command(job: Job, rank: int, *, port: int, dashboard: int, client: int, scratch: str, options: Ray) -> list[str]:
    """Return the command of one node.

    Args:
        job: The nodes.
        rank: The node.
        port: A free port of the head, for Ray itself.
        dashboard: A free port of the head, for the dashboard.
        client: A free port of the head, for Ray clients.
        scratch: The folder that each node makes; the head's choice holds for all.
        options: How Ray is started.
    """
    address = job.layout.member(rank).address
    # --block keeps it under the watch of the node's script; without, it becomes a daemon.
    common = ["--block", "--disable-usage-stats", "--node-ip-address", address, *options.options]
    if rank != 0:
        return [options.ray, "start", "--address", f"{job.layout.head.address}:{port}", *common]
    return [
        *(options.ray, "start", "--head", "--port", str(port), "--ray-client-server-port", str(client)),
        *("--include-dashboard", "true", "--dashboard-host", "127.0.0.1", "--dashboard-port", str(dashboard)),
        *("--temp-dir", f"{scratch}/ray", *common),
    ]


def _settings(token: str) -> dict[str, str]:
    settings = {"RAY_USAGE_STATS_ENABLED": "0"}
    return {**settings, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token} if token else settings


def _wait_for_nodes(cluster: RayCluster, job: Job, background: BackgroundRun, within: timedelta, clock: Clock) -> None:
    """Wait until Ray counts all nodes."""
    deadline = clock.now() + within
    joined: set[str] = set()
    expected = {member.address: member.rank for member in job.layout.members}
    while True:
        try:
            joined = _joined(cluster)
        except MulticomputeError as error:
            if isinstance(error, RunError):
                raise
        missing = [rank for address, rank in expected.items() if address not in joined]
        if not missing:
            return
        if clock.now() >= deadline:
            written = background.written(missing[0])
            result = written or RunResult(missing[0], NO_STATUS)
            reason = f"Ray did not start within {within.total_seconds():.0f} s"
            result = RunResult(missing[0], NO_STATUS, result.stdout, result.stderr, result.seconds, "lost", reason)
            raise error_of(result, [result], name=job.nodes.name(missing[0]))
        clock.sleep(_POLL)


def _joined(cluster: RayCluster) -> set[str]:
    nodes = cluster.ask("/api/v0/nodes")["data"]["result"]["result"]
    return {str(node["node_ip"]) for node in nodes if node["state"] == "ALIVE"}

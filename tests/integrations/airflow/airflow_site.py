"""A real Airflow on 127.0.0.1: API server, scheduler, DAG processor and triggerer, each in its own process."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar
from urllib.error import HTTPError, URLError
from urllib.parse import quote
from urllib.request import Request, urlopen

import pytest

HERE = Path(__file__).parent
EXAMPLES = HERE.parents[2] / "examples" / "airflow_dags"
CONNECTION = {
    "conn_type": "multicompute",
    "extra": {"default_ttl": "3h", "clouds": "aws", "dashboard": "https://fleets.example.org/{provider}/{name}"},
}
ENDED = {"success", "failed"}


def _is_installed() -> bool:
    try:
        version("apache-airflow-core")
    except PackageNotFoundError:
        return False
    return True


needs_airflow = pytest.mark.skipif(
    not _is_installed(), reason="Airflow has an environment of its own: make test-airflow"
)


_T = TypeVar("_T")


def until(read: Callable[[], _T], what: str, *, seconds: float = 90) -> _T:
    """Call `read` until its result is true, and return the result."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := read():
            return found
        time.sleep(0.2)
    raise AssertionError(f"not within {seconds} s: {what}")


class AirflowSite:
    """An Airflow in its own folder, and the requests of the tests to it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.desk = home / "desk"
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._token = ""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self.environment = {**os.environ, **self._settings()}

    def prepare(self) -> None:
        """Create the folder and the database."""
        (self.home / "dags").mkdir(parents=True)
        self.desk.mkdir()
        for source in (HERE / "dags" / "fleets.py", EXAMPLES / "airflow_fleet.py"):
            shutil.copy(source, self.home / "dags")
        self.airflow("db", "migrate")

    def airflow(self, *arguments: str) -> str:
        """Run a command of Airflow and return its output."""
        return self.python("-m", "airflow", *arguments)

    def python(self, *arguments: str, **variables: str) -> str:
        """Run a Python process that uses this Airflow, and return its standard output."""
        done = subprocess.run(
            [sys.executable, *arguments],
            env={**self.environment, **variables},
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-5000:]}"
        return done.stdout

    def start(self) -> None:
        """Start all four processes and wait until they work."""
        self.launch("api-server", "--host", "127.0.0.1", "--port", str(self._port), "--workers", "1")
        for name in ("scheduler", "triggerer"):
            self.launch(name, "--skip-serve-logs")
        self.launch("dag-processor")
        until(self._is_up, "the API server", seconds=90)
        until(lambda: len(self.dags()) >= 5, "the DAGs", seconds=90)

    def launch(self, name: str, *arguments: str) -> None:
        """Start one process in its own process group."""
        with (self.home / f"{name}.out").open("ab") as out:
            self._processes[name] = subprocess.Popen(
                [sys.executable, "-m", "airflow", name, *arguments],
                env=self.environment,
                cwd=self.home,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    def stop_process(self, name: str, number: int = signal.SIGTERM) -> None:
        """Stop one process by a signal and wait for its end. A process that ignores SIGTERM is killed."""
        process = self._processes.pop(name)
        # On SIGTERM a process stops its children itself; on SIGKILL it can't.
        (os.kill if number == signal.SIGTERM else os.killpg)(process.pid, number)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            pass
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait(timeout=20)

    def stop(self) -> None:
        """Kill all processes that were started."""
        for name in list(self._processes):
            self.stop_process(name, signal.SIGKILL)

    # The API

    def dags(self) -> list[str]:
        return [dag["dag_id"] for dag in self.get("dags")["dags"]]

    def trigger(self, dag: str, run: str, *, waits: bool = False, **conf: object) -> None:
        """Start a run; with `waits`, its task waits until `go`."""
        folder = self.desk / run
        folder.mkdir()
        if waits:
            (folder / "wait").touch()
        self.ask("POST", f"dags/{dag}/dagRuns", {"dag_run_id": run, "logical_date": None, "conf": conf})

    def go(self, run: str) -> None:
        (self.desk / run / "wait").unlink()

    def at_work(self, run: str, *, tries: int = 1) -> tuple[int, str]:
        """Return the process and the cluster of the latest try, as soon as there have been `tries` tries."""

        def latest() -> str:
            notes = sorted((self.desk / run).glob("pid-*"))
            return notes[-1].read_text() if len(notes) >= tries else ""

        pid, cluster = until(latest, f"try {tries} of the task of {run}", seconds=90).split()
        return int(pid), cluster

    def ended(self, dag: str, run: str, *, seconds: float = 90) -> dict[str, str]:
        """Wait until a run has ended; return the states of its tasks, and its own state under ""."""
        until(
            lambda: self.get(f"dags/{dag}/dagRuns/{quote(run)}")["state"] in ENDED, f"{run} has ended", seconds=seconds
        )
        return {"": self.get(f"dags/{dag}/dagRuns/{quote(run)}")["state"], **self.states(dag, run)}

    def states(self, dag: str, run: str) -> dict[str, str]:
        return {ti["task_id"]: ti["state"] for ti in self.instances(dag, run)}

    def instances(self, dag: str, run: str) -> list[dict[str, Any]]:
        return list(self.get(f"dags/{dag}/dagRuns/{quote(run)}/taskInstances")["task_instances"])

    def pid(self, dag: str, run: str, task: str) -> int:
        return int(next(ti["pid"] for ti in self.instances(dag, run) if ti["task_id"] == task))

    def mark_failed(self, dag: str, run: str, task: str) -> None:
        self.ask("PATCH", f"dags/{dag}/dagRuns/{quote(run)}/taskInstances/{task}", {"new_state": "failed"})

    def clear(self, dag: str, run: str, task: str) -> None:
        body = {"dry_run": False, "dag_run_id": run, "task_ids": [task], "only_failed": False}
        self.ask("POST", f"dags/{dag}/clearTaskInstances", body)

    def get(self, path: str) -> Any:
        return self.ask("GET", path)

    def ask(self, method: str, path: str, body: Mapping[str, object] | None = None) -> Any:
        return json.loads(
            self._send(method, f"api/v2/{path}", body, {"Authorization": f"Bearer {self._token}"}) or "null"
        )

    def _is_up(self) -> bool:
        try:
            self._token = json.loads(self._send("GET", "auth/token", None, {}))["access_token"]
        except (URLError, ConnectionError):
            return False
        return True

    def _send(self, method: str, path: str, body: Mapping[str, object] | None, headers: Mapping[str, str]) -> bytes:
        data = None if body is None else json.dumps(body).encode()
        url = f"http://127.0.0.1:{self._port}/{path}"
        request = Request(url, data=data, method=method, headers={"Content-Type": "application/json", **headers})
        try:
            with urlopen(request, timeout=30) as answer:
                return bytes(answer.read())
        except HTTPError as error:
            with error:
                raise AssertionError(f"{method} {path}: {error.code}: {error.read()[:500]!r}") from None

    def _settings(self) -> dict[str, str]:
        address = f"http://127.0.0.1:{self._port}"
        settings = {
            "CORE__DAGS_FOLDER": str(self.home / "dags"),
            "CORE__LOAD_EXAMPLES": "False",
            "CORE__EXECUTOR": "LocalExecutor",
            "CORE__PARALLELISM": "4",
            "CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "CORE__EXECUTION_API_SERVER_URL": f"{address}/execution/",
            "API__BASE_URL": address,
            "API__SECRET_KEY": "of-the-tests",
            "API_AUTH__JWT_SECRET": "of-the-tests, and long enough for the signature of its tokens, which is HS512",
            "DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{self.home}/airflow.db",
            "SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.2",
            "SCHEDULER__TASK_INSTANCE_HEARTBEAT_SEC": "2",
            "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "10",
            "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
            "WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
            "TRIGGERER__JOB_HEARTBEAT_SEC": "1",
            "TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "5",
        }
        return {
            "AIRFLOW_HOME": str(self.home),
            "AIRFLOW_CONN_MULTICOMPUTE_DEFAULT": json.dumps(CONNECTION),
            "FLEET_DESK": str(self.desk),
            **{f"AIRFLOW__{name}": value for name, value in settings.items()},
        }

    def last_output(self) -> str:
        """Return the last output of each process, for the report of a failure."""
        return "\n".join(f"--- {out.name}\n{out.read_text()[-3000:]}" for out in sorted(self.home.glob("*.out")))


@contextmanager
def airflow_site(home: Path) -> Iterator[AirflowSite]:
    """Run an Airflow for the duration of the block."""
    site = AirflowSite(home)
    try:
        site.prepare()
        site.start()
        yield site
    except BaseException:
        sys.stderr.write(site.last_output())
        raise
    finally:
        site.stop()

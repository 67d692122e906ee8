"""Processes that act at the same moment, and processes that act during a cloud call of another one."""

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from multicompute.testing import LocalClouds

ROOT = Path(__file__).parents[3]

Action = tuple[Any, ...]
"""A name of `crowd_runner.ACTIONS` and its arguments."""


class Crowd:
    """Processes that begin at the same moment, forked from one that has imported everything already."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.resilience.races.crowd_runner"]
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._begun = 0
        assert self._line() == "ready\n"

    def do(self, *actions: Action) -> list[dict[str, Any]]:
        """Run each action in a process of its own, all at the same moment, and return the results in this order."""
        self.begin(*actions)
        return self.finish()

    def begin(self, *actions: Action) -> None:
        """Start actions; `finish` waits for them."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(actions) + "\n")
        self._process.stdin.flush()
        self._begun = len(actions)

    def finish(self) -> list[dict[str, Any]]:
        """Return the results of the actions that were started."""
        done = [json.loads(self._line()) for _ in range(self._begun)]
        self._begun = 0
        assert [each for each in done if each["error"] == "unexpected"] == []
        return sorted(done, key=lambda each: int(each["action"]))

    def close(self) -> None:
        """End the process; its children have exited by now."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        assert self._process.wait(timeout=30) == 0
        self._process.stdout.close()

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()


class Interruption:
    """An action of another process, once, when a call reaches the cloud and before the cloud processes it.

    Args:
        clouds: the local cloud.
        operation: the name of the call.
        crowd: the processes that act.
        action: what they do.
        is_awaited: whether the call waits until the action is complete; else `crowd.finish` waits for it.
    """

    def __init__(
        self, clouds: LocalClouds, operation: str, crowd: Crowd, action: Action, *, is_awaited: bool = True
    ) -> None:
        self.done: list[dict[str, Any]] = []
        self.has_started = False
        self._lock = threading.Lock()
        self._crowd = crowd
        self._action = action
        self._is_awaited = is_awaited
        clouds.aws.faults.hook(operation, self._act)

    def _act(self, call: object) -> None:
        with self._lock:
            is_first, self.has_started = not self.has_started, True
        if is_first and self._is_awaited:
            self.done = self._crowd.do(self._action)
        elif is_first:
            self._crowd.begin(self._action)

"""Processes that begin their work at the same moment, and some that cut in at the moment of another one's call."""

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
    """Processes that begin together, forked by one that has imported everything already."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.resilience.races.crowd_runner"]
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._begun = 0
        assert self._line() == "ready\n"

    def do(self, *actions: Action) -> list[dict[str, Any]]:
        """Let each action be done by a process of its own, all at the same moment; returns what they came to, in their order."""
        self.begin(*actions)
        return self.finish()

    def begin(self, *actions: Action) -> None:
        """Let actions be begun; `finish` waits for them."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(actions) + "\n")
        self._process.stdin.flush()
        self._begun = len(actions)

    def finish(self) -> list[dict[str, Any]]:
        """What the actions that were begun came to."""
        done = [json.loads(self._line()) for _ in range(self._begun)]
        self._begun = 0
        assert [each for each in done if each["error"] == "unexpected"] == []
        return sorted(done, key=lambda each: int(each["deed"]))

    def close(self) -> None:
        """Let it end; its children have."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        assert self._process.wait(timeout=30) == 0
        self._process.stdout.close()

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()


class CutIn:
    """Lets somebody act at the moment at which another one's call reaches the cloud; only once, and before it is worked on.

    Args:
        is_awaited: the call goes on only when the deed is done; else as soon as it has begun, and `crowd.finish` waits for it.
    """

    def __init__(
        self, clouds: LocalClouds, operation: str, crowd: Crowd, action: Action, *, is_awaited: bool = True
    ) -> None:
        self.done: list[dict[str, Any]] = []
        self.has_begun = False
        self._lock = threading.Lock()
        self._crowd = crowd
        self._deed = action
        self._is_awaited = is_awaited
        clouds.aws.faults.hook(operation, self._act)

    def _act(self, call: object) -> None:
        with self._lock:
            is_first, self.has_begun = not self.has_begun, True
        if is_first and self._is_awaited:
            self.done = self._crowd.do(self._deed)
        elif is_first:
            self._crowd.begin(self._deed)

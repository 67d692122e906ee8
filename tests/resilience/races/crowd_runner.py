"""A process that has imported everything and forks a child for each action, all of which begin at the same moment.

Run it as a script. Each line on stdin is a list of actions in JSON, each a name of `ACTIONS` and its arguments. Each action writes
a line to stdout: {"action": its index in the list, "value": its result, "error": the name of the error that it raised, or ""}.
"""

import gc
import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

from multicompute import Cluster, errors
from multicompute.engine.recovery.reap import reap
from multicompute.engine.recovery.reconcile import reconcile
from multicompute.session import open_session

LONGEST_SECONDS = 90


def request(name: str, gpus: int) -> object:
    cluster = Cluster.request(gpus=gpus, type="h100", name=name, clouds=["aws"], regions=["us-east-1"])
    return {"id": cluster.id, "state": cluster.state, "nodes": [node.id for node in cluster.nodes]}


ACTIONS: dict[str, Callable[..., object]] = {
    "request": request,
    "terminate": lambda name: Cluster.get(name).terminate().state,
    "end": lambda name: Cluster.get(name).terminate(wait=False).state,
    "extend": lambda name: Cluster.get(name).extend("2h").timestamp(),
    "refresh": lambda name: Cluster.get(name).refresh().state,
    "reconcile": lambda: reconcile(open_session()).to_dict(),
    "reap": lambda: reap(open_session()).to_dict(),
}


def result_of(index: int, action: str, arguments: list[Any]) -> dict[str, object]:
    try:
        return {"action": index, "value": ACTIONS[action](*arguments), "error": ""}
    except errors.MulticomputeError as error:
        return {"action": index, "value": str(error), "error": type(error).__name__}
    except BaseException as error:  # noqa: BLE001 - the parent waits for a result of each child
        return {"action": index, "value": repr(error), "error": "unexpected"}


def run_together(actions: list[list[Any]]) -> None:
    """Fork a process for each action. All wait for the end of a pipe to be closed, when the last one was forked."""
    here, gate = os.pipe()
    for index, (action, *arguments) in enumerate(actions):
        if os.fork() == 0:
            signal.alarm(LONGEST_SECONDS)
            os.close(gate)
            os.read(here, 1)
            line = json.dumps(result_of(index, action, arguments)).encode() + b"\n"
            os.write(1, line)
            os._exit(0)
    os.close(here)
    os.close(gate)


def main() -> None:
    warm_up = [result_of(0, "request", ["warm-up", 8]), result_of(0, "terminate", ["warm-up"])]
    # The children report their results themselves, so this process need not wait for them.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    gc.collect()
    gc.freeze()
    if threading.active_count() != 1 or any(each["error"] for each in warm_up):
        raise RuntimeError(f"not ready to fork: {warm_up}, {threading.enumerate()}")
    os.write(1, b"ready\n")
    for line in sys.stdin.buffer:
        run_together(json.loads(line))


if __name__ == "__main__":
    main()

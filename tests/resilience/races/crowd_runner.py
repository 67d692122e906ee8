"""A process that has imported everything: it forks as many others as it is told to, which begin their work at the same moment.

Run as a script. Each line on stdin is a list of deeds in JSON, each a name of `ACTIONS` and its arguments; for each one a line comes out
when it is done: {"deed": its place in the list, "value": what it came to, "error": the name of the error that it raised, or ""}.
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


def done(place: int, action: str, arguments: list[Any]) -> dict[str, object]:
    try:
        return {"deed": place, "value": ACTIONS[action](*arguments), "error": ""}
    except errors.MulticomputeError as error:
        return {"deed": place, "value": str(error), "error": type(error).__name__}
    except BaseException as error:  # noqa: BLE001 - one that ended without a word would be waited for
        return {"deed": place, "value": repr(error), "error": "unexpected"}


def run_together(actions: list[list[Any]]) -> None:
    """Fork a process for each deed; all wait for one gate, which opens when the last is there."""
    here, gate = os.pipe()
    for place, (action, *arguments) in enumerate(actions):
        if os.fork() == 0:
            signal.alarm(LONGEST_SECONDS)
            os.close(gate)
            os.read(here, 1)
            line = json.dumps(done(place, action, arguments)).encode() + b"\n"
            os.write(1, line)
            os._exit(0)
    os.close(here)
    os.close(gate)


def main() -> None:
    # Nobody waits for the children here: what they came to is told by themselves.
    warm_up = [done(0, "request", ["warm-up", 8]), done(0, "terminate", ["warm-up"])]
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

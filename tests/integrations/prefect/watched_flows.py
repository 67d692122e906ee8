"""Flows that a runner starts in separate processes, and the runner itself: `python watched_flows.py` serves them."""

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

from prefect import flow, serve

from multicompute import Event
from multicompute.integrations.prefect import cluster, ends_its_clusters, request_cluster

TIMEOUT = 200


def write_note(note: str, *names: str) -> None:
    """Record the process and its clusters. The file is renamed into place, so that it is always complete."""
    draft = Path(f"{note}.draft")
    draft.write_text(json.dumps({"pid": os.getpid(), "names": names}))
    draft.rename(note)


def die_when_launched(event: Event) -> None:
    """Kill the process at the worst moment: nodes run, and only this process knows them."""
    if event.kind == "launched":
        os.kill(os.getpid(), signal.SIGKILL)


@flow
def inner(note: str, outer: str) -> None:
    write_note(note, outer, str(request_cluster(8, "a100", ttl="1h")["name"]))
    time.sleep(TIMEOUT)


@ends_its_clusters
@flow
def trains(note: str) -> None:
    inner(note, str(request_cluster(8, "h100", ttl="1h")["name"]))


@ends_its_clusters
@flow
def trains_in_a_block(note: str) -> None:
    other = request_cluster(8, "a100", ttl="1h")
    with cluster(gpus=8, type="h100", ttl="1h") as fleet:
        write_note(note, fleet.name, str(other["name"]))
        time.sleep(TIMEOUT)


@ends_its_clusters
@flow
def dies_while_it_launches(note: str) -> None:
    write_note(note)
    request_cluster(8, "h100", ttl="1h", progress=die_when_launched)


@flow
def is_begun_again(note: str) -> None:
    """Wait to be killed as long as the file `go` does not exist, as in the first run."""
    fleet = request_cluster(8, "h100", ttl="1h")
    write_note(note, str(fleet["name"]))
    while not Path(f"{note}.go").exists():
        time.sleep(0.1)


SERVED = (trains, trains_in_a_block, dies_while_it_launches, is_begun_again)

if __name__ == "__main__":
    # Without an event loop, `to_deployment` returns no coroutine.
    deployments: list[Any] = [each.to_deployment(name="here") for each in SERVED]
    serve(*deployments, pause_on_shutdown=False, print_starting_message=False)

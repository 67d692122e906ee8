"""Flows that a runner starts in processes of their own, and the runner: `python watched_flows.py` serves them."""

import json
import os
import signal
import time
from pathlib import Path

from prefect import flow, serve

from multicompute import Event
from multicompute.integrations.prefect import cluster, ends_its_clusters, request_cluster

PATIENCE = 200


def tell(note: str, *names: str) -> None:
    """Say who runs, and with which clusters; the file is whole when it is there."""
    draft = Path(f"{note}.draft")
    draft.write_text(json.dumps({"pid": os.getpid(), "names": names}))
    draft.rename(note)


def die_when_launched(event: Event) -> None:
    """The worst moment: machines run, and the process that knows of them is gone."""
    if event.kind == "launched":
        os.kill(os.getpid(), signal.SIGKILL)


@flow
def inner(note: str, outer: str) -> None:
    tell(note, outer, str(request_cluster(8, "a100", ttl="1h")["name"]))
    time.sleep(PATIENCE)


@ends_its_clusters
@flow
def trains(note: str) -> None:
    inner(note, str(request_cluster(8, "h100", ttl="1h")["name"]))


@ends_its_clusters
@flow
def trains_in_a_block(note: str) -> None:
    beside = request_cluster(8, "a100", ttl="1h")
    with cluster(gpus=8, type="h100", ttl="1h") as fleet:
        tell(note, fleet.name, str(beside["name"]))
        time.sleep(PATIENCE)


@ends_its_clusters
@flow
def dies_while_it_launches(note: str) -> None:
    tell(note)
    request_cluster(8, "h100", ttl="1h", progress=die_when_launched)


@flow
def is_begun_again(note: str) -> None:
    """Waits to be killed where nobody has written `go`; ends in the second run."""
    fleet = request_cluster(8, "h100", ttl="1h")
    tell(note, str(fleet["name"]))
    while not Path(f"{note}.go").exists():
        time.sleep(0.1)


SERVED = (trains, trains_in_a_block, dies_while_it_launches, is_begun_again)

if __name__ == "__main__":
    serve(*(each.to_deployment(name="here") for each in SERVED), pause_on_shutdown=False, print_starting_message=False)

"""Tasks that get and end a cluster, for flows whose steps share one; asking again in the same run gets the same cluster."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Unpack

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.transactions import Transaction, get_transaction

from multicompute.cluster import Cluster
from multicompute.cluster_requests import RequestArguments
from multicompute.errors import ClusterNotFound
from multicompute.integrations.prefect.block import Configuration, aload, configured, load
from multicompute.integrations.prefect.records import ashow_cost, show_cost
from multicompute.integrations.prefect.runs import asked_for
from multicompute.integrations.prefect.scope import aobtain, obtain, refuse_event_loop

_MINE: Final = "multicompute-cluster"


def _roll_back(transaction: Transaction) -> None:
    """End the cluster of a request whose transaction failed. Prefect calls it in a thread where the flow is async."""
    name, block = transaction.get(_MINE, (None, None))
    if name is not None:
        with configured(block):
            try:
                Cluster.get(name).terminate()
            except ClusterNotFound:
                return


# NO_CACHE: a result kept from an earlier run would name a cluster that has ended.
@task(name="request-cluster", cache_policy=NO_CACHE)
def request_cluster(
    gpus: int | None = None,
    type: str | Sequence[str] = (),
    *,
    config: Configuration = None,
    **arguments: Unpack[RequestArguments],
) -> dict[str, object]:
    """Get a cluster that other tasks work on; `terminate_cluster`, the flow's hooks or a failed transaction end it.

    Args:
        gpus: accelerators in all.
        type: accelerator, TPU slice or instance type; a list means any of these.
        config: a `Multicompute` block, or the name of one.
        **arguments: as `Cluster.request`.

    Returns:
        The cluster as `multicompute show --json` has it: a handle that is JSON, and that `terminate_cluster` takes.

    Raises:
        SpecError: called in an event loop, which would be blocked; or as `Cluster.request`, like all else.
    """
    refuse_event_loop("request_cluster", instead="`await arequest_cluster(...)`")
    block = load(config)
    with configured(block):
        wanted = asked_for(gpus, type, arguments, once=True)
        _remember(wanted, block)
        return obtain(wanted).to_dict()


@task(name="request-cluster", cache_policy=NO_CACHE)
async def arequest_cluster(
    gpus: int | None = None,
    type: str | Sequence[str] = (),
    *,
    config: Configuration = None,
    **arguments: Unpack[RequestArguments],
) -> dict[str, object]:
    """`request_cluster` for async flows."""
    block = await aload(config)
    with configured(block):
        wanted = asked_for(gpus, type, arguments, once=True)
        _remember(wanted, block)
        return (await aobtain(wanted)).to_dict()


request_cluster.on_rollback(_roll_back)
arequest_cluster.on_rollback(_roll_back)


@task(name="terminate-cluster", cache_policy=NO_CACHE)
def terminate_cluster(cluster: Mapping[str, object] | str, *, config: Configuration = None) -> dict[str, object]:
    """End a cluster and return when its cloud shows nothing of it. One that has ended already is left as it is.

    Args:
        cluster: what `request_cluster` returned, or a name.
        config: as it was for the request.

    Raises:
        ClusterNotFound: there was never one of this name.
        ProviderError: something is left after half an hour; `multicompute reap` goes on.
        SpecError: called in an event loop, which would be blocked.
    """
    refuse_event_loop("terminate_cluster", instead="`await aterminate_cluster(...)`")
    with configured(load(config)):
        ended = Cluster.get(_name(cluster)).terminate()
    show_cost(ended)
    return ended.to_dict()


@task(name="terminate-cluster", cache_policy=NO_CACHE)
async def aterminate_cluster(cluster: Mapping[str, object] | str, *, config: Configuration = None) -> dict[str, object]:
    """`terminate_cluster` for async flows."""
    with configured(await aload(config)):
        ended = await Cluster.get(_name(cluster)).aterminate()
    await ashow_cost(ended)
    return ended.to_dict()


def _remember(wanted: Mapping[str, Any], block: object) -> None:
    """Tell the task's transaction what a rollback has to end, before anything of it exists."""
    transaction = get_transaction()
    if transaction is not None:
        transaction.set(_MINE, (wanted["name"], block))


def _name(cluster: Mapping[str, object] | str) -> str:
    return cluster if isinstance(cluster, str) else str(cluster["name"])

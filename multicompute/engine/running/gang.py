"""Reads from the ledger which nodes a cluster has, and how they see each other."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from multicompute.errors import ClusterNotFound, RunError, SpecError
from multicompute.ledger import ClusterRecord, NodeRecord
from multicompute.node import ClusterState
from multicompute.remote.launchers.layout import Layout, Member
from multicompute.remote.reach import addresses
from multicompute.remote.results import NO_STATUS, RunResult
from multicompute.session import Session


@dataclass(frozen=True, slots=True)
class Gang:
    """The nodes of a cluster that is up.

    Attributes:
        record: The cluster.
        layout: The live nodes as they see each other.
        ids: The cloud's id of each live node, by rank.
        missing: The ranks whose nodes are gone and were not replaced.
    """

    record: ClusterRecord
    layout: Layout
    ids: dict[int, str]
    missing: tuple[int, ...]

    def chosen(self, ranks: int | Sequence[int] | None) -> list[int]:
        """Return the given ranks without repetitions, or all ranks, also missing ones.

        Raises:
            SpecError: The cluster has no such rank.
        """
        every = sorted([*self.ids, *self.missing])
        if ranks is None:
            return every
        wanted = list(dict.fromkeys([ranks] if isinstance(ranks, int) else ranks))
        for rank in wanted:
            if rank not in every:
                raise SpecError(
                    f"{self.record.name}: has no rank {rank}", hint=f"its ranks are {every[0]} to {every[-1]}"
                )
        return wanted

    def require(self, ranks: Sequence[int]) -> None:
        """Raise if the node of one of these ranks is gone.

        Raises:
            RunError: It is.
        """
        gone = self.gone(ranks)
        if gone:
            raise RunError(
                f"{self.record.name}: the node of rank {gone[0].rank} is gone; nothing was started",
                rank=gone[0].rank,
                results=gone,
                hint=f"`multicompute heal {self.record.name}` replaces it",
            )

    def gone(self, ranks: Sequence[int]) -> list[RunResult]:
        """Return the results for those of these ranks whose nodes are gone."""
        reason = "the node is gone"
        return [
            RunResult(rank, NO_STATUS, outcome="unreachable", error=reason) for rank in ranks if rank in self.missing
        ]


def gang(session: Session, cluster_id: str) -> Gang:
    """Return the nodes of a cluster, from the ledger; no cloud is called.

    Raises:
        ClusterNotFound: The cluster is not up: it has ended, is being terminated, or was never READY.
    """
    record = session.ledger.cluster(cluster_id)
    state = ClusterState(record.state)
    nodes = sorted((node for node in session.ledger.nodes(cluster_id) if node.rank >= 0), key=lambda node: node.rank)
    live = [node for node in nodes if node.ended_at is None]
    if not state.is_up or not live:
        hint = f"`multicompute wait {record.name}` waits until it is READY" if state.is_coming_up else None
        raise ClusterNotFound(f"{record.name}: nothing can run on it: it is {state}", hint=hint)
    ids = {node.rank: node.id for node in live}
    missing = tuple(sorted({node.rank for node in nodes} - set(ids)))
    members = _members(live, addresses(session, live))
    return Gang(record, Layout(record.name, tuple(members)), ids, missing)


def _members(nodes: Sequence[NodeRecord], addresses: Mapping[str, str]) -> list[Member]:
    slices: dict[str, int] = {}
    members = []
    for node in nodes:
        # Hosts of one slice have ids that begin with the id of the slice: "slice/0", "slice/1".
        number = slices.setdefault(node.id.rpartition("/")[0], len(slices))
        members.append(Member(node.rank, addresses[node.id], accelerators=math.ceil(node.accelerators), slice=number))
    return members

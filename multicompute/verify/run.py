"""The state of a run that its checks share: the clusters, the findings, and what it has spent."""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, TypeVar

from multicompute.cluster import Cluster
from multicompute.cost.billing import accrued, rounded
from multicompute.engine.operation.retry import call_provider
from multicompute.errors import MulticomputeError
from multicompute.node import Node, NodeState
from multicompute.provider import Provider, Resource, Selector
from multicompute.verify.findings import Finding, NotChecked, Status
from multicompute.verify.purchase import TTLS
from multicompute.verify.redaction import Redaction

if TYPE_CHECKING:
    from multicompute.ledger import AttemptRecord, ClusterRecord
    from multicompute.session import Session
    from multicompute.verify.purchase import Purchase

T = TypeVar("T")
TAGS: Final = {"purpose": "multicompute-verify"}
"""The user's tag of every cluster of a run."""
_TIMEOUT: Final = timedelta(minutes=15)
"""The longest time until a cluster is READY."""
_LETTERS: Final = "abcdefghjkmnpqrstuvwxyz23456789"
LIVE: Final = (NodeState.PENDING, NodeState.RUNNING, NodeState.IMPAIRED)


class Run:
    """A run of all checks in one cloud.

    Attributes:
        session: The ledger and the clouds.
        name: The provider.
        purchase: What the run buys.
        private: What a report must not show.
        clusters: The clusters that were launched, by "one", "gang" and "boot".
        findings: The findings so far, by the name of the check.
        launch_error: Why the first cluster was not launched; None if it was.
        left: What could not be deleted, for the terminal; () if nothing is left.
    """

    def __init__(self, session: "Session", purchase: "Purchase") -> None:
        """Create a run that has launched nothing yet."""
        self.session = session
        self.purchase = purchase
        self.name = purchase.offer.provider
        self.private = Redaction()
        self.private.add("user", _names_of(session.config.owner))
        self.clusters: dict[str, Cluster] = {}
        self.findings: dict[str, Finding] = {}
        self.launch_error: MulticomputeError | None = None
        self.left: tuple[str, ...] = ()
        self._prefix = "verify-" + "".join(session.random.choice(_LETTERS) for _ in range(6))

    # --- the cloud ----------------------------------------------------------------------------------------------------

    @property
    def provider(self) -> Provider:
        """The provider."""
        return self.session.provider(self.name)

    def call(self, call: Callable[[Provider], T]) -> T:
        """Return the result of a call to the cloud, repeated if the cloud throttles it or can't be reached."""
        return call_provider(self.session, self.name, call)

    def until(self, condition: Callable[[], bool], *, within: timedelta) -> bool:
        """Return whether the condition becomes true in time; it is checked at least twice."""
        deadline = self.session.clock.now() + within
        while not condition():
            if self.session.clock.now() >= deadline:
                return condition()
            self.session.clock.sleep(self.provider.poll_interval)
        return True

    def selector(self, cluster: Cluster) -> Selector:
        """Return a selector of everything of a cluster, by tags and by what the ledger knows."""
        return self.selectors(self.record(cluster))[-1]

    def selectors(self, record: "ClusterRecord") -> list[Selector]:
        """Return a selector for each region in which a cluster was tried, that of the last attempt at the end."""
        attempts = self.session.ledger.attempts(record.id)
        nodes = self.session.ledger.nodes(record.id)
        regions = dict.fromkeys(attempt.region for attempt in reversed(attempts))
        return [
            Selector(
                region=region,
                cluster_id=record.id,
                known_ids=tuple(node.id for node in nodes if node.region == region),
                tokens=tuple(attempt.token for attempt in attempts if attempt.region == region),
            )
            for region in reversed(regions)
        ]

    def live_nodes(self, selector: Selector) -> list[Node]:
        """Return the selected nodes that run or will run."""
        return [node for node in self.nodes(selector) if node.state in LIVE]

    def nodes(self, selector: Selector) -> Sequence[Node]:
        """List nodes, and keep their ids and addresses out of the report."""
        found = self.call(lambda provider: provider.nodes(selector))
        self.hide_nodes(found)
        return found

    def resources(self, selector: Selector) -> Sequence[Resource]:
        """List resources, and keep their ids out of the report."""
        found = self.call(lambda provider: provider.resources(selector))
        self.private.add("resource", (resource.id for resource in found))
        return found

    def hide_nodes(self, nodes: Iterable[Node]) -> None:
        """Keep the ids and addresses of nodes out of the report."""
        for node in nodes:
            self.private.add("node", (node.id,))
            self.private.add("address", (node.private_ip, node.public_ip))

    # --- clusters -----------------------------------------------------------------------------------------------------

    def buy(self, key: str, *, nodes: int, **arguments: Any) -> Cluster:
        """Launch one of the clusters of the run, in the region of the first one.

        Raises:
            NotChecked: The run could exceed its limit.
            MulticomputeError: It can't be launched; nothing of it is left running.
        """
        self._require_allowance(key)
        first = self.clusters.get("one")
        regions = [first.region] if first is not None and first.region else list(self.purchase.regions)
        cluster = Cluster.request(
            type=self.purchase.offer.instance_type,
            nodes=nodes,
            gpus=self.purchase.gpus and nodes * self.purchase.gpus,
            clouds=[self.name],
            regions=regions,
            interconnect="any",
            max_hourly=nodes * self.purchase.max_hourly_cost,
            name=self.cluster_name(key),
            ttl=TTLS[key],
            tags=TAGS,
            timeout=_TIMEOUT,
            progress=False,
            **arguments,
        )
        self.clusters[key] = cluster
        self.private.add("cluster", (cluster.id,))
        self.private.add("token", (attempt.token for attempt in self.session.ledger.attempts(cluster.id)))
        self.hide_nodes(cluster.nodes)
        return cluster

    def cluster_name(self, key: str) -> str:
        """Return the name of one of the clusters of the run."""
        return f"{self._prefix}-{key}"

    def records(self) -> "list[ClusterRecord]":
        """Return the records of the clusters of the run, from the ledger: also those that are unknown after an interruption."""
        if not self.session.has_ledger:
            return []
        names = {self.cluster_name(key) for key in TTLS}
        return [record for record in self.session.ledger.clusters(include_ended=True) if record.name in names]

    def record(self, cluster: Cluster) -> "ClusterRecord":
        """Return the record of a cluster as the ledger has it now."""
        return self.session.ledger.cluster(cluster.id)

    def open_attempt(self, cluster: Cluster) -> "AttemptRecord":
        """Return the attempt that has launched a cluster.

        Raises:
            NotChecked: No attempt of it is open.
        """
        for attempt in reversed(self.session.ledger.attempts(cluster.id)):
            if attempt.is_open:
                return attempt
        raise NotChecked("the launch was withdrawn")

    @property
    def spent(self) -> float:
        """USD for the nodes so far, at their purchase prices and at least the billing minimum."""
        return sum(rounded(accrued(self.session, record.id)) for record in self.records())

    def settled_at(self) -> datetime:
        """Return the time after which a listing shows everything that the run has launched (I4)."""
        now = self.session.clock.now()
        opened = (attempt.opened_at for record in self.records() for attempt in self.session.ledger.attempts(record.id))
        return max(opened, default=now) + self.provider.consistency_window

    def _require_allowance(self, key: str) -> None:
        total = self.spent + self.purchase.cost_of(key)
        if total > self.purchase.max_spend:
            raise NotChecked(f"it could cost more than the limit of ${self.purchase.max_spend:.2f}")

    # --- findings -----------------------------------------------------------------------------------------------------

    def has_passed(self, name: str) -> bool:
        """Return whether a check has passed."""
        return name in self.findings and self.findings[name].status is Status.PASSED

    def describe(self, error: MulticomputeError) -> str:
        """Return an error for the report: its kind, the vendor's code and message, without what identifies the account."""
        reports = list(
            dict.fromkeys(f"{report.outcome}: {report.code or ''} {report.message}" for report in error.attempts)
        )
        text = error.message if not reports else f"{error.message.splitlines()[0]} {'; '.join(reports[:3])}"
        text = f"{text} ({error.hint})" if error.hint and not reports else text
        code = f" {error.code}" if error.code and error.code not in text else ""
        return self.private.clean(f"{type(error).__name__}{code}: {text}")[:600]


def _names_of(owner: str) -> list[str]:
    """Return the names in an owner: "me@host" names the user, the host, and both."""
    return [owner, *owner.split("@")]


def ids_of(found: Iterable[Node | Resource]) -> set[str]:
    """Return the ids of nodes or resources."""
    return {each.id for each in found}

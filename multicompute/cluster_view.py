"""Shows a cluster and its nodes as rows for the terminal, and as HTML for notebooks."""

from typing import TYPE_CHECKING, Final, cast

from multicompute.markup import html_facts, html_table
from multicompute.text import Narrowing, short_id
from multicompute.units import format_instant, format_usd

if TYPE_CHECKING:
    from multicompute.cluster import Cluster

NODE_HEADERS: Final = ("rank", "node", "state", "instance type", "zone", "private address", "public address")
NODE_NARROWING: Final = Narrowing(drop=("zone", "public address", "instance type", "state"))
"""The columns to leave out of a table of nodes that is too wide. Rank, id and private address always stay."""


def render_html(cluster: "Cluster") -> str:
    """Return the cluster as HTML: the facts that `multicompute show` prints, and a table of its live nodes."""
    facts, nodes = html_facts("cluster", cluster_facts(cluster)), node_rows(cluster, wide=True)
    return facts + (html_table("nodes", NODE_HEADERS, nodes, right=frozenset({0})) if nodes else "")


def node_rows(cluster: "Cluster", *, wide: bool = False) -> list[tuple[str, ...]]:
    """Return a row for each live node, in the order of `NODE_HEADERS`; with the complete ids if `wide`."""
    return [
        (
            str(node.rank),
            node.id if wide else short_id(node.id),
            node.state.value,
            node.instance_type,
            node.zone or "-",
            node.private_ip or "-",
            node.public_ip or "-",
        )
        for node in cluster.nodes
    ]


def cluster_facts(cluster: "Cluster") -> list[tuple[str, str]]:
    """Return the facts about the cluster itself, as names and values."""
    spec, why, shown = cluster.spec, cluster.blocked_on or cluster.reason, cluster.to_dict()
    amount, types = shown["gpus"], cast("list[str]", shown["type"])
    gpus = "-" if amount is None else f"{amount:g}"
    # Nodes are indivisible, so there may be more; of a gang that has lost nodes there are fewer.
    differs = spec.gpus is not None and amount != spec.gpus
    place = f"{cluster.provider or ''} {cluster.zone or cluster.region or ''}".strip()
    return [
        ("name", cluster.name),
        ("id", cluster.id),
        ("state", cluster.state.value),
        *([("why", why)] if why else []),
        *([("workload", str(spec.workload))] if spec.workload is not None else []),
        ("place", place or "-"),
        ("accelerators", f"{gpus} {', '.join(types)}".strip() + (f" ({spec.gpus} requested)" if differs else "")),
        ("cost", f"{format_usd(cluster.hourly_cost)} per hour, {format_usd(cluster.accrued_cost)} so far"),
        ("created", format_instant(cluster.created_at)),
        ("expires", format_instant(cluster.expires_at) if cluster.expires_at else "never"),
        ("tags", ", ".join(f"{key}={value}" for key, value in cluster.tags.items()) or "-"),
    ]

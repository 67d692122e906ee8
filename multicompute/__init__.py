"""Accelerator clusters from any cloud in one call: the cheapest offer, all nodes or none, and nothing left running."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from multicompute import errors
    from multicompute._version import __version__
    from multicompute.cluster import Cluster
    from multicompute.node import ClusterState, Event, Node, NodeState
    from multicompute.offer import Offer
    from multicompute.plan import Candidate, Plan
    from multicompute.remote.results import RunResult
    from multicompute.spec import ClusterSpec

__all__ = [
    "Candidate",
    "Cluster",
    "ClusterSpec",
    "ClusterState",
    "Event",
    "Node",
    "NodeState",
    "Offer",
    "Plan",
    "RunResult",
    "__version__",
    "errors",
]

_MODULES = {
    "Candidate": "plan",
    "Cluster": "cluster",
    "ClusterSpec": "spec",
    "ClusterState": "node",
    "Event": "node",
    "Node": "node",
    "NodeState": "node",
    "Offer": "offer",
    "Plan": "plan",
    "RunResult": "remote.results",
    "__version__": "_version",
}


def __getattr__(name: str) -> object:
    # Lazy (PEP 562): importing the package loads nothing until a name is used.
    from importlib import import_module

    if name == "errors":
        return import_module("multicompute.errors")
    if name in _MODULES:
        value: object = getattr(import_module(f"multicompute.{_MODULES[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)

"""Clusters in the DAGs of Airflow 3. Needs `pip install "multicompute[airflow]"`."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from multicompute.integrations.airflow.hook import MulticomputeHook
    from multicompute.integrations.airflow.operators import (
        ClusterRequestOperator,
        ClusterRunOperator,
        ClusterTerminateOperator,
    )
    from multicompute.integrations.airflow.scope import cluster
    from multicompute.integrations.airflow.triggers import ClusterReadyTrigger

__all__ = [
    "ClusterReadyTrigger",
    "ClusterRequestOperator",
    "ClusterRunOperator",
    "ClusterTerminateOperator",
    "MulticomputeHook",
    "cluster",
]

_MODULES = {
    "ClusterReadyTrigger": "triggers",
    "ClusterRequestOperator": "operators",
    "ClusterRunOperator": "operators",
    "ClusterTerminateOperator": "operators",
    "MulticomputeHook": "hook",
    "cluster": "scope",
}


def __getattr__(name: str) -> object:
    # Lazy (PEP 562), because every process of Airflow imports this package just for the description of the provider.
    from importlib import import_module

    if name in _MODULES:
        value: object = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)

"""What Airflow is told of this provider: its connection type, its operators, and where they are."""

from typing import Final

_HERE: Final = "multicompute.integrations.airflow"
_NAME: Final = "multicompute"


def get_provider_info() -> dict[str, object]:
    """The description that Airflow checks against its `provider_info.schema.json`; the entry point names this function."""
    return {
        "package-name": _NAME,
        "name": _NAME,
        "description": "Accelerator fleets from any cloud: the cheapest offer, all or nothing, and nothing left running.",
        "integrations": [{"integration-name": _NAME, "external-doc-url": "https://pypi.org/project/multicompute/"}],
        "operators": [{"integration-name": _NAME, "python-modules": [f"{_HERE}.operators"]}],
        "hooks": [{"integration-name": _NAME, "python-modules": [f"{_HERE}.hook"]}],
        "triggers": [{"integration-name": _NAME, "python-modules": [f"{_HERE}.triggers"]}],
        "extra-links": [f"{_HERE}.operators.ClusterLink"],
        "connection-types": [
            {
                "connection-type": _NAME,
                "hook-class-name": f"{_HERE}.hook.MulticomputeHook",
                "hook-name": _NAME,
                "ui-field-behaviour": {
                    "hidden-fields": ["host", "port", "login", "schema", "extra"],
                    "relabeling": {"password": "Ledger password"},
                    "placeholders": {"password": "of the user in the ledger's URL, kept out of it"},
                },
                "conn-fields": {
                    "state": _text("Ledger", "postgresql://user@host/database, shared by all workers and triggerers"),
                    "config": _text("Configuration file", "A path that exists on every worker and triggerer"),
                    "default_ttl": _text("Default ttl", "End of life of clusters that name none, such as 12h"),
                    "clouds": _text("Clouds", "Names with commas between; every configured one when empty"),
                    "dashboard": _text(
                        "Dashboard", "The page of a cluster, a URL with {name}, {id}, {provider}, {region}"
                    ),
                },
            }
        ],
    }


def _text(label: str, description: str) -> dict[str, object]:
    return {"label": label, "description": description, "schema": {"type": ["string", "null"]}}

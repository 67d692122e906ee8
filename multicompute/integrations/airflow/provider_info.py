"""The description of this package as an Airflow provider: connection type, operators and their modules."""

from typing import Final

_HERE: Final = "multicompute.integrations.airflow"
_NAME: Final = "multicompute"


def get_provider_info() -> dict[str, object]:
    """Return the description, in the form of Airflow's `provider_info.schema.json`. The entry point names this function."""
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
                    "placeholders": {"password": "Password of the user in the ledger's URL, if the URL has none"},
                },
                "conn-fields": {
                    "state": _text("Ledger", "postgresql://user@host/database, shared by all workers and triggerers"),
                    "config": _text("Configuration file", "A path that exists on every worker and triggerer"),
                    "default_ttl": _text(
                        "Default ttl", "Time to live of clusters without a ttl of their own, such as 12h"
                    ),
                    "clouds": _text("Clouds", "Names separated by commas; all configured clouds if empty"),
                    "dashboard": _text(
                        "Dashboard", "URL of the page of a cluster, with {name}, {id}, {provider}, {region}"
                    ),
                },
            }
        ],
    }


def _text(label: str, description: str) -> dict[str, object]:
    return {"label": label, "description": description, "schema": {"type": ["string", "null"]}}

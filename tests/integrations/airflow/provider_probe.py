"""Prints in a separate process how Airflow sees the provider, as JSON on the last line."""

import json
import runpy
import sys
import time
from importlib.metadata import entry_points
from pathlib import Path

import airflow
import jsonschema
from airflow.providers_manager import ProvidersManager
from airflow.sdk import DAG, BaseOperator, dag, task
from airflow.sdk._shared.module_loading import import_string

EMPTY, EXAMPLE = sys.argv[1:]
IMPORTED = (DAG, BaseOperator, dag, task)


def seconds(path: str) -> float:
    """Return the processor time to run a DAG file, after the common imports of all DAG files."""
    begun = time.process_time()
    runpy.run_path(path)
    return time.process_time() - begun


def main() -> dict[str, object]:
    seconds(EMPTY)
    parsing = {"empty": seconds(EMPTY), "example": seconds(EXAMPLE)}
    (described,) = [
        found.load()() for found in entry_points(group="apache_airflow_provider") if "multicompute" in found.value
    ]
    schema = json.loads((Path(airflow.__file__).parent / "provider_info.schema.json").read_text())
    jsonschema.validate(described, schema)
    manager = ProvidersManager()
    hook = manager.hooks["multicompute"]
    assert hook is not None

    from multicompute.integrations.airflow import ClusterReadyTrigger, MulticomputeHook

    made = ClusterReadyTrigger(name="a-b", deadline="2027-01-01T00:00:00+00:00", multicompute_conn_id="c").serialize()
    path, arguments = json.loads(json.dumps(made))
    mine = MulticomputeHook("mine")
    return {
        "parsing": parsing,
        "is_known": "multicompute" in manager.providers,
        "hook": hook.hook_class_name,
        "fields": sorted(name for name in manager.connection_form_widgets if "multicompute" in name),
        "hidden": manager.field_behaviours["multicompute"]["hidden_fields"],
        "links": [name for name in manager.extra_links_class_names if "multicompute" in name],
        "trigger_again": import_string(path)(**arguments).serialize() == made,
        "variables": mine.variables(),
        "clouds": mine.clouds,
        "works": MulticomputeHook().test_connection(),
        "unreachable": mine.test_connection(),
    }


sys.stdout.write("\n" + json.dumps(main()))

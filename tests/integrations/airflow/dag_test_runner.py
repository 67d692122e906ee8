"""Runs `dag.test()` on the DAGs of the command line in a separate process, and prints their outcomes as JSON."""

import json
import sys
from typing import Any

from airflow.dag_processing.dagbag import DagBag


def outcome(bag: Any, dag_id: str, conf: dict[str, object]) -> dict[str, str]:
    run = bag.dags[dag_id].test(run_conf=conf)
    found = {"": str(run.state), **{ti.task_id: str(ti.state) for ti in run.get_task_instances()}}
    # What tasks returned, of those that returned text.
    returned = {ti.task_id: ti.xcom_pull(task_ids=ti.task_id) for ti in run.get_task_instances()}
    return found | {f"{task} returned": text for task, text in returned.items() if isinstance(text, str)}


def main(folder: str, wanted: list[str]) -> None:
    bag = DagBag(folder)
    assert bag.import_errors == {}, bag.import_errors
    found = []
    for each in wanted:
        dag_id, _, conf = each.partition("=")
        found.append(outcome(bag, dag_id, json.loads(conf or "{}")))
    sys.stdout.write("\n" + json.dumps(found))


main(sys.argv[1], sys.argv[2:])

"""The name and the tags of a task instance's cluster. They are the same for each try."""

import json
import re
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final

from multicompute.integrations.naming import DIGITS, name_with_digest, slug

# The tag values that every cloud accepts unchanged.
_TAG: Final = re.compile(r"(?!.*__)[a-z0-9_-]{1,63}")


def cluster_name(dag_id: str, run_id: str, task_id: str, map_index: int) -> str:
    """Return the name of the cluster that a task instance requests: a readable part and a digest of the instance.

    The try number is not part of it, so that a retry finds the cluster that an earlier try may have left.

    >>> cluster_name("nightly", "manual__2027-01-01", "train", -1)
    'nightly-train-699b20299f54'
    """
    return name_with_digest(f"{dag_id}-{task_id}", json.dumps([dag_id, run_id, task_id, map_index]), prefix="af")


def tags_of(dag_id: str, run_id: str, task_id: str) -> dict[str, str]:
    """Return the tags that name the DAG, the run and the task of a cluster."""
    return {"airflow-dag": tag(dag_id), "airflow-run": tag(run_id), "airflow-task": tag(task_id)}


def tag(text: str) -> str:
    """Return `text` as a tag value: unchanged if every cloud accepts it, otherwise simplified and with a digest.

    >>> tag("nightly"), tag("Nightly run")
    ('nightly', 'nightly-run-83e626842721')
    """
    if _TAG.fullmatch(text):
        return text
    return f"{slug(text)[:50].strip('-')}-{sha256(json.dumps(text).encode()).hexdigest()[:DIGITS]}"


def instance_of(context: Mapping[str, Any]) -> tuple[str, str, str, int]:
    """Return DAG, run, task and map index of the task instance that runs; -1 for a task that is not mapped."""
    ti = context["ti"]
    index = -1 if ti.map_index is None else ti.map_index
    return ti.dag_id, ti.run_id, ti.task_id, index

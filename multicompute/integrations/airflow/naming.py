"""What a task instance's cluster is called and tagged with: the same for each of its tries."""

import json
import re
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final

_PREFIX: Final = 27
_DIGITS: Final = 12
# What every cloud takes as the value of a tag, letter for letter.
_TAG: Final = re.compile(r"(?!.*__)[a-z0-9_-]{1,63}")


def cluster_name(dag_id: str, run_id: str, task_id: str, map_index: int) -> str:
    """The name of the cluster that a task instance asks for: readable in front, and no other instance's.

    The try number is not in it: a retry finds the cluster that the try before it may have left.

    >>> cluster_name("nightly", "manual__2027-01-01", "train", -1)
    'nightly-train-d6d4edc13b69'
    """
    readable = _slug(f"{dag_id}-{task_id}")[:_PREFIX].strip("-")
    if not readable[:1].isalpha():
        readable = f"af-{readable}"[:_PREFIX].strip("-")
    return f"{readable}-{_digest([dag_id, run_id, task_id, map_index])}"


def tags_of(dag_id: str, run_id: str, task_id: str) -> dict[str, str]:
    """The tags that say whose cluster it is, in the alphabet that all clouds take."""
    return {"airflow-dag": tag(dag_id), "airflow-run": tag(run_id), "airflow-task": tag(task_id)}


def tag(text: str) -> str:
    """`text` as the value of a tag: as it is where every cloud takes it, else simplified, with a digest to tell it apart.

    >>> tag("nightly"), tag("Nightly run")
    ('nightly', 'nightly-run-b9b2ab2c6f8b')
    """
    return text if _TAG.fullmatch(text) else f"{_slug(text)[:50].strip('-')}-{_digest(text)}"


def instance_of(context: Mapping[str, Any]) -> tuple[str, str, str, int]:
    """Dag, run, task and map index of the task instance that runs; -1 where the task is not mapped."""
    ti = context["ti"]
    index = -1 if ti.map_index is None else ti.map_index
    return ti.dag_id, ti.run_id, ti.task_id, index


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _digest(value: object) -> str:
    return sha256(json.dumps(value).encode()).hexdigest()[:_DIGITS]

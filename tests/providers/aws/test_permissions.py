"""The policy in the documentation allows exactly what the adapter calls."""

import json
import re
from pathlib import Path

import multicompute_aws
from multicompute_aws._list import _DEPENDENTS

ROOT = Path(__file__).parents[3]
POLICY = ROOT / "docs" / "permissions" / "aws-policy.json"
SOURCES = sorted(Path(multicompute_aws.__file__).parent.glob("_*.py"))
NOT_CALLED = {"CreateServiceLinkedRole"}
"""EC2 makes this call in the caller's name at the first spot request of an account."""


def _allowed() -> set[str]:
    statements = json.loads(POLICY.read_text())["Statement"]
    actions = [
        action
        for item in statements
        for action in ([item["Action"]] if isinstance(item["Action"], str) else item["Action"])
    ]
    return {action.partition(":")[2] for action in actions}


def _called() -> set[str]:
    """Return the operations in the sources: methods of the SDK's clients, names of paginators, and the table of dependent resources."""
    text = "\n".join(path.read_text() for path in SOURCES)
    verbs = (
        "allocate|associate|authorize|cancel|create|delete|describe|get|list|modify|release|revoke|run|start|terminate"
    )
    methods = re.findall(rf"\.((?:{verbs})_[a-z_]+)\b(?=[(,])", text) + re.findall(r'get_paginator\("(\w+)"\)', text)
    not_calls = {"get_paginator", "create_loader", "get_component"}
    written = {"".join(word.capitalize() for word in name.split("_")) for name in methods if name not in not_calls}
    return written | {operation for operation, _, _ in _DEPENDENTS.values()}


def test_the_policy_names_exactly_what_is_called() -> None:
    assert _called() == _allowed() - NOT_CALLED


def test_what_is_changed_or_deleted_must_carry_our_tag() -> None:
    for statement in json.loads(POLICY.read_text())["Statement"]:
        actions = [statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"]
        if any(
            re.match(r"ec2:(Associate|Delete|Terminate|Start|Cancel|Authorize|Modify|Release|Revoke)", action)
            for action in actions
        ):
            assert statement["Condition"] == {"Null": {"aws:ResourceTag/multicompute-id": "false"}}

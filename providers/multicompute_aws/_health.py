"""Asks EC2 which instances fail its status checks; EC2 answers with these only, so the question costs the same for any number of nodes."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from multicompute.node import Node, NodeState
from multicompute_aws._errors import Place, translate_errors

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client

# The most that one page may have.
_PAGE: Final = 1000
# "Status checks for Amazon EC2 instances", EC2 user guide: the filter, the member of the answer, and what it is called there. Filters are
# joined by "and", so that each check is a question of its own.
_CHECKS: Final = (
    ("system-status.status", "SystemStatus", "system"),
    ("instance-status.status", "InstanceStatus", "instance"),
    ("attached-ebs-status.status", "AttachedEbsStatus", "attached EBS"),
)


def with_health(ec2: "EC2Client", nodes: Sequence[Node], place: Place) -> list[Node]:
    """`nodes`, of which those that run and fail a status check are IMPAIRED, with the reason."""
    if not any(node.state is NodeState.RUNNING for node in nodes):
        return list(nodes)
    failing = _failing(ec2, place)
    return [
        replace(node, state=NodeState.IMPAIRED, reason="; ".join(failing[node.id]))
        if node.state is NodeState.RUNNING and node.id in failing
        else node
        for node in nodes
    ]


def _failing(ec2: "EC2Client", place: Place) -> dict[str, list[str]]:
    """Which checks each instance of the region fails; EC2 has no filter on tags here, so others' instances may be among them."""
    found: dict[str, list[str]] = {}
    for status_filter, member, check in _CHECKS:
        with translate_errors("DescribeInstanceStatus", place):
            pages: Any = ec2.get_paginator("describe_instance_status").paginate(
                Filters=[{"Name": status_filter, "Values": ["impaired"]}],
                PaginationConfig={"PageSize": _PAGE},
            )
            for page in pages:
                for item in page["InstanceStatuses"]:
                    found.setdefault(item["InstanceId"], []).append(_reason(check, item.get(member, {})))
    return found


def _reason(check: str, status: Mapping[str, Any]) -> str:
    """Why an instance fails a check: "the system status check fails: reachability failed since 2026-11-26 10:00 UTC"."""
    details = []
    for detail in status.get("Details", ()):
        since = detail.get("ImpairedSince")
        when = f" since {since:%Y-%m-%d %H:%M} UTC" if since else ""
        details.append(f"{detail.get('Name', '')} {detail.get('Status', '')}{when}")
    return f"the {check} status check fails" + (f": {', '.join(details)}" if details else "")

"""Reads which instances fail EC2's status checks. EC2 returns only these, so it costs the same calls for any number of nodes."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from multicompute.node import Node, NodeState
from multicompute.provider_kit.seam import mark_impaired
from multicompute.provider_kit.vendor_errors import Place
from multicompute_aws._errors import translate_errors

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client

# The most that one page may have.
_PAGE: Final = 1000
# "Status checks for Amazon EC2 instances", EC2 user guide: the filter, the member of the answer, and the name of the check. EC2 joins
# filters by "and", so each check takes a call of its own.
_CHECKS: Final = (
    ("system-status.status", "SystemStatus", "system"),
    ("instance-status.status", "InstanceStatus", "instance"),
    ("attached-ebs-status.status", "AttachedEbsStatus", "attached EBS"),
)


def with_health(ec2: "EC2Client", nodes: Sequence[Node], place: Place) -> list[Node]:
    """Return `nodes`, with those that run and fail a status check marked as IMPAIRED."""
    if not any(node.state is NodeState.RUNNING for node in nodes):
        return list(nodes)
    return mark_impaired(nodes, {node_id: "; ".join(reasons) for node_id, reasons in _failing(ec2, place).items()})


def _failing(ec2: "EC2Client", place: Place) -> dict[str, list[str]]:
    """Return the checks that each instance of the region fails, foreign ones included: EC2 can't filter these by tag."""
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
    """Return why an instance fails a check: "the system status check fails: reachability failed since 2026-11-26 10:00 UTC"."""
    details = []
    for detail in status.get("Details", ()):
        since = detail.get("ImpairedSince")
        when = f" since {since:%Y-%m-%d %H:%M} UTC" if since else ""
        details.append(f"{detail.get('Name', '')} {detail.get('Status', '')}{when}")
    return f"the {check} status check fails" + (f": {', '.join(details)}" if details else "")

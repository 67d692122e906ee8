"""The records of managed instance groups and of their resize requests."""

from dataclasses import dataclass, field, replace
from datetime import datetime

from multicompute_gcp.local.instance_plan import InstancePlan
from multicompute_gcp.local.records import PROJECT_NUMBER, Labels, described, timestamp, url_of
from multicompute_gcp.local.responses import Json
from multicompute_gcp.local.state import ResourceStore

ACTIVE = ("CREATING", "ACCEPTED")
"""The states of a resize request that may still create instances (compute.v1, InstanceGroupManagerResizeRequest.state)."""


@dataclass(slots=True)
class ResizeRequest:
    """A request for a number of instances, all at once.

    Attributes:
        names: The names of its instances.
        plan: The plan of its instances.
        queued_from: When it is in the queue; until then it is being created.
        error: Why it has failed; None if it has not.
        last_error: Why the last attempt to fulfil it failed.
    """

    name: str
    id: int
    body: Json
    names: list[str]
    plan: InstancePlan
    queued_from: datetime
    state: str = "CREATING"
    error: Json | None = None
    last_error: Json | None = None

    @property
    def labels(self) -> Labels:
        """No labels: resize requests have none."""
        return {}

    @property
    def is_active(self) -> bool:
        """Return whether it may still create instances."""
        return self.state in ACTIVE

    def as_json(self, now: datetime) -> Json:
        """Return the document of the request."""
        status: Json = {}
        if self.error is not None:
            status["error"] = {"errors": [self.error]}
        elif self.is_active and self.last_error is not None:
            status["lastAttempt"] = {"error": {"errors": [self.last_error]}}
        return self.body | {"state": self.state} | ({"status": status} if status else {})


@dataclass(slots=True)
class Group:
    """A managed instance group of one zone.

    Attributes:
        template: The URL of its instance template.
        requests: Its resize requests.
        members: Name -> the plan, for every instance that the group should have.
        repairs: Whether it makes a member again that was deleted or stopped by others.
        gone_at: When a requested deletion is done; None if none was requested.
    """

    name: str
    id: int
    zone: str
    body: Json
    template: str
    repairs: bool
    requests: ResourceStore[ResizeRequest] = field(default_factory=ResourceStore)
    members: dict[str, InstancePlan] = field(default_factory=dict)
    gone_at: datetime | None = None

    @property
    def scope(self) -> str:
        """The scope "zones/..."."""
        return f"zones/{self.zone}"

    @property
    def labels(self) -> Labels:
        """No labels: managed instance groups have none."""
        return {}

    @property
    def tags(self) -> Labels:
        """The tags in the description."""
        return described(self.body.get("description", ""))

    @property
    def policy(self) -> str:
        """The name of its workload policy; "" for none."""
        return str(self.body.get("resourcePolicies", {}).get("workloadPolicy", "")).rpartition("/")[2]

    def as_json(self, now: datetime) -> Json:
        """Return the document of the group."""
        return self.body | {"targetSize": len(self.members), "status": {"isStable": self.gone_at is None}}

    def managed(self, plan: InstancePlan) -> InstancePlan:
        """Return the plan with the metadata that a group adds to its instances."""
        metadata = plan.body["metadata"]
        path = f"projects/{PROJECT_NUMBER}/{self.scope}/instanceGroupManagers/{self.name}"
        added = [
            {"key": "instance-template", "value": self.template},
            # https://cloud.google.com/compute/docs/instance-groups/getting-info-about-migs: how to see which group an instance belongs to.
            {"key": "created-by", "value": path},
        ]
        items = [*metadata.get("items", []), *added]
        return replace(plan, body={**plan.body, "metadata": {**metadata, "items": items}})


def request_body(group: Group, name: str, number: int, given: Json, now: datetime) -> Json:
    """Return the document of a new resize request, without its state."""
    return {
        **given,
        "kind": "compute#instanceGroupManagerResizeRequest",
        "id": str(number),
        "creationTimestamp": timestamp(now),
        "zone": url_of(group.scope),
        "selfLink": url_of(group.scope, f"instanceGroupManagers/{group.name}/resizeRequests", name),
    }

"""The records of the local Google Cloud's resources, and their documents in Compute Engine's responses."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from multicompute_gcp.local.responses import Json

PROJECT = "multicompute-local"
PROJECT_NUMBER = "100000000001"
_API = "https://www.googleapis.com/compute/v1/"
# How long before its window an upcoming maintenance is announced.
_NOTICE = timedelta(hours=1)
Labels = dict[str, str]
Error = Json
"""An entry of an operation's `error.errors`."""


def timestamp(instant: datetime) -> str:
    """Return an instant as Google writes it, in RFC 3339."""
    return instant.isoformat(timespec="milliseconds")


def path_of(scope: str, collection: str = "", name: str = "") -> str:
    """Return the path of a resource.

    Example:
        >>> path_of("zones/us-central1-a", "instances", "one")
        'projects/multicompute-local/zones/us-central1-a/instances/one'
    """
    return "/".join(part for part in ("projects", PROJECT, scope, collection, name) if part)


def url_of(scope: str, collection: str = "", name: str = "") -> str:
    """Return the full URL of a resource, as responses have it."""
    return _API + path_of(scope, collection, name)


def fingerprint(value: object) -> str:
    """Return a fingerprint, which changes when the value changes."""
    digest = hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:8]
    return digest + "AAA="


@dataclass(slots=True)
class ComputeResource:
    """A resource of which only the labels change: a disk, a firewall rule, a resource policy, ..."""

    name: str
    id: int
    scope: str
    kind: str
    body: Json
    labels: Labels = field(default_factory=dict)
    listed_from: datetime | None = None

    @property
    def tags(self) -> Labels:
        """The labels; for a kind without labels, those in the description."""
        return self.labels or described(self.body.get("description", ""))

    def as_json(self, now: datetime) -> Json:
        """Return the document of the resource."""
        if not self.labels and "labelFingerprint" not in self.body:
            return self.body
        return self.body | {"labels": self.labels, "labelFingerprint": fingerprint(self.labels)}


def described(text: str) -> Labels:
    """Return the labels in a description, which is a JSON object for kinds without labels."""
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    if not isinstance(found, dict):
        return {}
    return {key: value for key, value in found.items() if isinstance(value, str)}


@dataclass(slots=True)
class Disk(ComputeResource):
    """A persistent disk; `user` is the instance that it is attached to, None for none."""

    user: "Instance | None" = None

    def as_json(self, now: datetime) -> Json:
        """Return the document of the disk."""
        users = [url_of(self.scope, "instances", self.user.name)] if self.user else []
        return self.body | {
            "labels": self.labels,
            "labelFingerprint": fingerprint(self.labels),
            "users": users,
            "status": "READY",
        }


@dataclass(slots=True)
class HostSpec:
    """The place and machine type of an instance, and everything else that capacity and quotas depend on."""

    zone: str
    region: str
    machine_type: str
    vcpus: int
    gpu: str
    gpus: float
    spot: bool
    reservation: str | None = None
    policies: tuple[str, ...] = ()
    is_flex: bool = False


@dataclass(slots=True)
class Instance:
    """An instance. Its status follows from the time; only its removal is a scheduled action.

    Attributes:
        host: Where it runs.
        runs_from: When it is RUNNING.
        listed_from: When lists begin to show it.
        disks: The attached disks, and whether each is deleted with the instance.
        action: The termination action, "STOP" or "DELETE".
        gone_at: When a requested deletion is done; None if none was requested.
        run_until: When its time limit ends; None for none.
        stopped_at: When it was stopped; None if it was not.
        is_ghost: Whether a stockout left it behind; a ghost is removed after a while.
        is_pending: Whether it waits for capacity, as a flex-start instance can.
        trouble: "REPAIRING", or the reason for a maintenance; "" for none.
    """

    name: str
    id: int
    host: HostSpec
    body: Json
    labels: Labels
    created_at: datetime
    runs_from: datetime
    listed_from: datetime
    disks: list[tuple[Disk, bool]] = field(default_factory=list)
    action: str = "STOP"
    gone_at: datetime | None = None
    run_until: datetime | None = None
    stopped_at: datetime | None = None
    is_ghost: bool = False
    is_pending: bool = False
    is_protected: bool = False
    is_suspended: bool = False
    trouble: str = ""
    _text: str | None = None

    @property
    def scope(self) -> str:
        """The scope "zones/..."."""
        return f"zones/{self.host.zone}"

    @property
    def has_address(self) -> bool:
        """Return whether it has a public address."""
        return any(interface.get("accessConfigs") for interface in self.body["networkInterfaces"])

    def status(self, now: datetime) -> str:
        """Return the status as the API names it."""
        if self.gone_at is not None:
            return "STOPPING"
        if self.stopped_at is not None:
            return "SUSPENDED" if self.is_suspended else "TERMINATED"
        if self.is_ghost:
            return "PROVISIONING"
        if self.is_pending:
            return "PENDING"
        if now >= self.runs_from:
            return "REPAIRING" if self.trouble == "REPAIRING" else "RUNNING"
        return "PROVISIONING" if now - self.created_at < (self.runs_from - self.created_at) / 2 else "STAGING"

    def takes_capacity(self) -> bool:
        """Return whether it uses capacity: also while it is being deleted, but not when it is stopped or waits for capacity."""
        return self.stopped_at is None and not self.is_pending

    def relabel(self, labels: Labels) -> None:
        """Replace the labels."""
        self.labels, self._text = labels, None

    def protect(self, *, is_protected: bool) -> None:
        """Set the deletion protection."""
        self.is_protected = self.body["deletionProtection"] = is_protected
        self._text = None

    def text(self, now: datetime) -> str:
        """Return the document as JSON text; the part that does not change with time is cached, for lists of ten thousand."""
        if self._text is None:
            static = self.body | {"labels": self.labels, "labelFingerprint": fingerprint(self.labels)}
            self._text = json.dumps(static)[:-1]
        return f"{self._text}, {json.dumps(self._changing(now))[1:]}"

    def as_json(self, now: datetime) -> Json:
        """Return the document."""
        found: Json = json.loads(self.text(now))
        return found

    def _changing(self, now: datetime) -> Json:
        found: Json = {"status": self.status(now)}
        if self.status(now) in ("RUNNING", "STOPPING", "TERMINATED", "SUSPENDED"):
            found["lastStartTimestamp"] = timestamp(self.runs_from)
        if self.stopped_at is not None:
            found["lastStopTimestamp"] = timestamp(self.stopped_at)
        if self.run_until is not None and self.stopped_at is None:
            found["resourceStatus"] = {"scheduling": {"terminationTimestamp": timestamp(self.run_until)}}
        if self.trouble not in ("", "REPAIRING"):
            planned = {"maintenanceReasons": [self.trouble], "latestWindowStartTime": timestamp(now + _NOTICE)}
            found.setdefault("resourceStatus", {})["upcomingMaintenance"] = planned | {"type": "UNSCHEDULED"}
        return found


@dataclass(slots=True)
class Operation:
    """A long-running operation of Compute Engine.

    Attributes:
        polls_left: How many more times it reports that it runs, even if it is done.
        errors, http_status: How it failed. Without an HTTP status it looks like a success to a client that checks only the status.
        more: Additional fields.
    """

    name: str
    id: int
    kind: str
    scope: str
    target: str
    target_id: int
    created_at: datetime
    done_at: datetime
    polls_left: int = 0
    errors: list[Error] = field(default_factory=list)
    http_status: int | None = None
    user: str = "local@multicompute-local.iam.gserviceaccount.com"
    message: str = ""
    more: Json = field(default_factory=dict)
    listed_from: datetime | None = None

    @property
    def labels(self) -> Labels:
        """No labels: operations have none."""
        return {}

    def is_done(self, now: datetime) -> bool:
        """Return whether it reports that it is done."""
        return self.polls_left <= 0 and now >= self.done_at

    def as_json(self, now: datetime) -> Json:
        """Return the document."""
        done = self.is_done(now)
        found: Json = {
            "kind": "compute#operation",
            "id": str(self.id),
            "name": self.name,
            "operationType": self.kind,
            "status": "DONE" if done else "RUNNING",
            "progress": 100 if done else 0,
            "user": self.user,
            "targetLink": self.target,
            "targetId": str(self.target_id),
            "insertTime": timestamp(self.created_at),
            "startTime": timestamp(self.created_at),
            "selfLink": url_of(self.scope, "operations", self.name),
            **self.more,
        }
        where, _, name = self.scope.partition("/")
        if name:
            found[where.removesuffix("s")] = url_of(self.scope)
        if self.message:
            found["statusMessage"] = self.message
        if done:
            found["endTime"] = timestamp(max(self.done_at, self.created_at))
            found |= self._failure()
        return found

    def _failure(self) -> Json:
        if not self.errors:
            return {}
        found: Json = {"error": {"errors": self.errors}}
        if self.http_status is not None:
            found["httpErrorStatusCode"] = self.http_status
            found["httpErrorMessage"] = self.errors[0].get("message", "")
        return found


@dataclass(frozen=True, slots=True)
class ReservationTerms:
    """The terms of a reservation that few have.

    Attributes:
        owner: The project that owns it and shares it with this one; "" for this project.
        is_readable: Whether the owner lets this project read it.
        is_specific: Whether only instances that name it use it.
        is_dense: Whether its deployment type is DENSE.
        blocks: How many machines each of its blocks has, by name.
        local_ssds: How many local SSDs each machine has.
        cpu_platform: The minimum CPU platform of the machines; "" for none.
    """

    owner: str = ""
    is_readable: bool = True
    is_specific: bool = True
    is_dense: bool = False
    blocks: Mapping[str, int] = field(default_factory=dict)
    local_ssds: int = 0
    cpu_platform: str = ""


@dataclass(slots=True)
class Reservation:
    """A reservation: of machines for requests that name it and have its properties, or of the chips of TPU slices.

    Attributes:
        name: Its name; the path of one that another project owns, projects/OWNER/reservations/NAME.
        machine_type: The type of its machines or slices.
        ends_at: When it is deleted, with the instances that are bound to it; None for never.
    """

    name: str
    id: int
    zone: str
    machine_type: str
    total: int
    labels: Labels
    created_at: datetime
    policies: tuple[str, ...] = ()
    ends_at: datetime | None = None
    terms: ReservationTerms = ReservationTerms()

    @property
    def short_name(self) -> str:
        """The name in its project."""
        return self.name.rsplit("/", 1)[-1]

    @property
    def owner(self) -> str:
        """The project that owns it."""
        return self.terms.owner or PROJECT

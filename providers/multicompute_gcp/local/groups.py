"""The methods on managed instance groups and their resize requests, and the queue in which the requests wait for capacity.

https://cloud.google.com/compute/docs/instance-groups/about-resize-requests-mig: a request is CREATING, and then ACCEPTED until all its
instances can be created at once.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from multicompute_gcp.local import capacity, quotas
from multicompute_gcp.local.calls import Call, Handler, ZonalKind, list_page, required
from multicompute_gcp.local.group_records import Group, ResizeRequest, request_body
from multicompute_gcp.local.instance_creation import create_instance, name_conflict
from multicompute_gcp.local.instance_plan import InstancePlan, read_instance_plan
from multicompute_gcp.local.operations import Operations
from multicompute_gcp.local.records import PROJECT, Instance, Operation, path_of, timestamp, url_of
from multicompute_gcp.local.references import check_exists, check_name, member, split_url
from multicompute_gcp.local.responses import GcpError, Json, invalid, not_found
from multicompute_gcp.local.scheduling import check_flex_start
from multicompute_gcp.local.state import State
from multicompute_gcp.local.templates import KIND as TEMPLATE

_KIND = "instanceGroupManager"
_COLLECTION = "instanceGroupManagers"
_REQUEST = "instanceGroupManagerResizeRequest"
# "The run duration must be between 10 minutes and 7 days": about-resize-requests-mig.
_SHORTEST, _LONGEST = timedelta(minutes=10), timedelta(days=7)
# https://cloud.google.com/compute/docs/instance-groups/about-workload-policies: the only machine series for workload policies.
_WORKLOADS = ("a3-highgpu-8g", "a3-megagpu-", "a3-ultragpu-", "a4-", "a4x-", "h4d-")


class Groups:
    """The methods on managed instance groups and resize requests.

    Attributes:
        fails_without_capacity: Whether a request without capacity fails at once instead of waiting.
    """

    def __init__(self, state: State, operations: Operations) -> None:
        """Answer from `state`; changes run as `operations`."""
        self._state = state
        self._operations = operations
        self._groups = ZonalKind(state, _KIND, lambda zone: state.zone(zone).groups)
        self.fails_without_capacity = False

    def handlers(self) -> Mapping[str, Handler]:
        """Return the handlers by method."""
        return {
            **self._groups.handlers(),
            "instanceGroupManagers.insert": self._insert,
            "instanceGroupManagers.delete": self._delete,
            "instanceGroupManagers.deleteInstances": self._delete_instances,
            f"{_REQUEST}s.insert": self._insert_request,
            f"{_REQUEST}s.get": lambda call: self._request(call)[1].as_json(self._state.now()),
            f"{_REQUEST}s.list": self._list_requests,
            f"{_REQUEST}s.cancel": self._cancel,
            f"{_REQUEST}s.delete": self._delete_request,
        }

    # --- groups -------------------------------------------------------------------------------------------------------

    def _insert(self, call: Call) -> Operation:
        zone, name, given = call.zone, required(call.body, "name"), call.body
        check_name("resource.name", name)
        store, scope = self._state.zone(zone).groups, f"zones/{zone}"
        if store.find(name) is not None:
            raise GcpError("alreadyExists", f"The resource '{path_of(scope, _COLLECTION, name)}' already exists", 409)
        template = self._template(zone, given)
        if int(given.get("targetSize", 0)):
            raise GcpError("invalid", "The local Compute Engine makes members by resize requests only.", 400)
        region = self._region(zone)
        if policy := given.get("resourcePolicies", {}).get("workloadPolicy"):
            policy_name = member(
                "resource.resourcePolicies", policy, "resourcePolicies", f"regions/{region}", by_name=False
            )
            check_exists(self._state, "resourcePolicy", "resourcePolicies", f"regions/{region}", policy_name)
        number = self._state.new_id()
        body: Json = {
            "baseInstanceName": name,
            **given,
            "kind": "compute#instanceGroupManager",
            "id": str(number),
            "creationTimestamp": timestamp(self._state.now()),
            "zone": url_of(scope),
            "selfLink": url_of(scope, _COLLECTION, name),
            "instanceTemplate": template,
            "instanceGroup": url_of(scope, "instanceGroups", name),
        }
        action = given.get("instanceLifecyclePolicy", {}).get("defaultActionOnFailure", "REPAIR")
        store.add(Group(name, number, zone, body, template, repairs=action == "REPAIR"))
        return self._operations.begin("insert", scope, body["selfLink"], number)

    def _template(self, zone: str, given: Json) -> str:
        """Return the URL of the template that a request names."""
        versions = given.get("versions") or [{}]
        url = given.get("instanceTemplate") or versions[0].get("instanceTemplate", "")
        field = "resource.instanceTemplate"
        if not url:
            raise GcpError("required", f"Required field '{field}' not specified", 400)
        project, rest = split_url(field, url)
        scope, _, name = rest.partition("/instanceTemplates/")
        if project != PROJECT or scope not in ("global", f"regions/{self._region(zone)}"):
            raise invalid(field, url, "The referenced resource is in another place than the request.")
        check_exists(self._state, TEMPLATE, "instanceTemplates", scope, name)
        return url_of(scope, "instanceTemplates", name)

    def _delete(self, call: Call) -> Operation:
        group = self._groups.found(call)
        waiting = [request.name for request in group.requests if request.is_active]
        if waiting:
            # Not documented. Refused, so that no adapter relies on it: a request can be cancelled before.
            path = path_of(group.scope, _COLLECTION, group.name)
            text = f"The resource '{path}' is not ready: its resize request '{waiting[0]}' is active"
            raise GcpError("resourceNotReady", text, 400)
        now, timing = self._state.now(), self._state.timing
        gone_at = group.gone_at or now + max(timing.operation, timing.shutdown)
        if group.gone_at is None:
            group.gone_at = gone_at
            # "Deletes the specified managed instance group and all of the instances in that group": compute.v1.
            for instance in self._members(group):
                if not instance.is_protected:
                    self._state.delete_instance(instance, gone_at)
            self._state.at(gone_at, lambda: self._end(group))
        return self._operations.begin("delete", group.scope, group.body["selfLink"], group.id, done_at=gone_at)

    def _end(self, group: Group) -> None:
        """Remove a group that was deleted; with a protected member it stays, and can be deleted again."""
        if self._members(group):
            group.gone_at = None
        else:
            self._state.zone(group.zone).groups.remove(group.name)

    def _delete_instances(self, call: Call) -> Operation:
        group, now, timing = self._groups.found(call), self._state.now(), self._state.timing
        named = [url.rpartition("/")[2] for url in call.body.get("instances", [])]
        others = [name for name in named if name not in group.members]
        if others and not call.body.get("skipInstancesOnValidationError"):
            raise invalid("instances", others[0], "Instance is not a member of the group.")
        for instance in self._members(group):
            if instance.name in named:
                self._state.delete_instance(instance, now + max(timing.operation, timing.shutdown))
        for name in named:
            group.members.pop(name, None)
        # "marked as DONE when the action is scheduled even if the instances are still being deleted": compute.v1.
        return self._operations.begin("deleteInstances", group.scope, group.body["selfLink"], group.id)

    def _members(self, group: Group) -> list[Instance]:
        instances = self._state.zone(group.zone).instances
        return [found for name in group.members if (found := instances.find(name)) is not None]

    # --- resize requests ----------------------------------------------------------------------------------------------

    def _insert_request(self, call: Call) -> Operation:
        group, given, name = self._groups.found(call), call.body, required(call.body, "name")
        check_name("resource.name", name)
        path = path_of(group.scope, f"{_COLLECTION}/{group.name}/resizeRequests", name)
        if group.requests.find(name) is not None:
            raise GcpError("alreadyExists", f"The resource '{path}' already exists", 409)
        if group.gone_at is not None:
            text = f"The resource '{path_of(group.scope, _COLLECTION, group.name)}' is not ready"
            raise GcpError("resourceNotReady", text, 400)
        plan = self._plan(group, given)
        names = self._names(group, given)
        for each in names:
            check_name("resource.instances", each)
            if name_conflict(self._state, plan, each) is not None:
                path = path_of(group.scope, "instances", each)
                raise GcpError("alreadyExists", f"The resource '{path}' already exists", 409)
        number = self._state.new_id()
        operation = self._operations.begin("insert", group.scope, url_of(group.scope), number)
        body = request_body(group, name, number, given, self._state.now())
        group.requests.add(ResizeRequest(name, number, body, names, plan, queued_from=operation.done_at))
        return operation

    def _names(self, group: Group, given: Json) -> list[str]:
        named, count = [item.get("name", "") for item in given.get("instances", [])], int(given.get("resizeBy", 0))
        if bool(named) == bool(count):
            raise GcpError("invalid", "Exactly one of resizeBy and instances must be given.", 400)
        if len(set(named)) != len(named):
            raise invalid("resource.instances", named, "Every instance needs a name of its own.")
        base = group.body["baseInstanceName"]
        return named or [f"{base}-{self._state.number():04x}" for _ in range(count)]

    def _plan(self, group: Group, given: Json) -> InstancePlan:
        """Return the plan of the instances of a request: the template with the run duration of the request."""
        project, rest = split_url("template", group.template)
        scope, _, name = rest.partition("/instanceTemplates/")
        template = self._state.store(TEMPLATE, scope).find(name)
        if project != PROJECT or template is None:
            raise not_found(rest)
        properties = dict(template.body["properties"])
        duration = given.get("requestedRunDuration")
        if duration is not None:
            limit = timedelta(seconds=int(duration.get("seconds", 0)))
            if not _SHORTEST <= limit <= _LONGEST:
                raise invalid("resource.requestedRunDuration", limit, "It must be from 10 minutes to 7 days.")
            scheduling = properties.get("scheduling", {})
            properties["scheduling"] = {**scheduling, "maxRunDuration": duration, "instanceTerminationAction": "DELETE"}
        plan = read_instance_plan(self._state, group.zone, properties, bulk=True)
        check_flex_start(plan.schedule.model, properties)
        if plan.schedule.is_spot:
            raise GcpError("invalid", "Resize requests can't create spot VMs.", 400)
        if group.policy and not plan.machine.name.startswith(_WORKLOADS):
            raise invalid("resource.resourcePolicies", group.policy, f"{plan.machine.name} has no workload policies.")
        if group.policy:
            plan = replace(plan, host=replace(plan.host, policies=(*plan.host.policies, group.policy)))
        return group.managed(plan)

    def _request(self, call: Call) -> tuple[Group, ResizeRequest]:
        group, name = self._groups.found(call), call.path["resizeRequest"]
        found = group.requests.find(name)
        if found is None:
            raise not_found(path_of(group.scope, f"{_COLLECTION}/{group.name}/resizeRequests", name))
        return group, found

    def _list_requests(self, call: Call) -> str:
        group = self._groups.found(call)
        return list_page(call, self._state, _REQUEST, group.scope, group.requests.in_order())

    def _cancel(self, call: Call) -> Operation:
        group, request = self._request(call)
        if request.state != "ACCEPTED":
            # "Cancel is only possible for requests that are accepted in the queue": compute.v1.
            raise GcpError(
                "invalid", f"Resize request '{request.name}' is {request.state} and can't be cancelled.", 400
            )
        request.state = "CANCELLED"
        return self._operations.begin("cancel", group.scope, request.body["selfLink"], request.id)

    def _delete_request(self, call: Call) -> Operation:
        group, request = self._request(call)
        if request.is_active:
            # "Requests that are still active cannot be deleted": compute.v1.
            raise GcpError("invalid", f"Resize request '{request.name}' is {request.state} and can't be deleted.", 400)
        group.requests.remove(request.name)
        return self._operations.begin("delete", group.scope, request.body["selfLink"], request.id)

    def _region(self, zone: str) -> str:
        return zone.rpartition("-")[0]

    # --- the queue ----------------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Create the instances of every request in the queue that fits, and repair groups; the caller holds the lock."""
        now = self._state.now()
        for records in list(self._state.zones.values()):
            for group in list(records.groups):
                for request in group.requests:
                    if request.is_active and group.gone_at is None:
                        self._grant(group, request, now)
                if group.repairs and group.gone_at is None:
                    self._repair(group, now)

    def _grant(self, group: Group, request: ResizeRequest, now: datetime) -> None:
        if now < request.queued_from:
            return
        request.state, host, count = "ACCEPTED", request.plan.host, len(request.names)
        has_address = any(item.get("accessConfigs") for item in request.plan.body["networkInterfaces"])
        over = quotas.exceeded(self._state, host, count, has_address=has_address)
        if over is not None:
            # create-resize-requests-mig: without quota "your resize request remains pending until you have sufficient quota".
            request.last_error = quotas.error(*over)
        elif capacity.available(self._state, host, count) < count:
            request.last_error = capacity.stockout(self._state, host, count)
            if self.fails_without_capacity:
                request.state, request.error = "FAILED", request.last_error
        else:
            for name in request.names:
                create_instance(self._state, request.plan, name)
                group.members[name] = request.plan
            request.state = "SUCCEEDED"

    def _repair(self, group: Group, now: datetime) -> None:
        """Make members again that others have deleted: the default of a group (compute.v1, defaultActionOnFailure)."""
        instances = self._state.zone(group.zone).instances
        for name, plan in list(group.members.items()):
            ends, made_at = plan.schedule.run_limit, _made_at(group, name)
            if ends is not None and made_at is not None and now >= made_at + ends:
                group.members.pop(name)
            elif instances.find(name) is None and name_conflict(self._state, plan, name) is None:
                create_instance(self._state, plan, name)

    def fail(self, name: str, error: Json) -> None:
        """Make a resize request that is in the queue fail.

        Raises:
            ValueError: No active resize request has this name.
        """
        for records in self._state.zones.values():
            for group in records.groups:
                request = group.requests.find(name)
                if request is not None and request.is_active:
                    request.state, request.error = "FAILED", error
                    return
        raise ValueError(f"{name}: no such resize request in the queue")


def _made_at(group: Group, name: str) -> datetime | None:
    return next((one.queued_from for one in group.requests if name in one.names), None)

"""Resources other than instances and disks: firewall rules, placement policies, networks."""

from collections.abc import Mapping

from multicompute_gcp.local.calls import Call, Handler, aggregated_page, list_page, required
from multicompute_gcp.local.hardware import hardware
from multicompute_gcp.local.operations import Operations
from multicompute_gcp.local.records import PROJECT, ComputeResource, Operation, path_of, timestamp, url_of
from multicompute_gcp.local.references import check_name, split_url
from multicompute_gcp.local.responses import GcpError, Json, invalid, not_found
from multicompute_gcp.local.state import State

_GLOBAL = "global"
_KINDS: Mapping[str, tuple[str, str]] = {
    "firewall": ("firewalls", "global"),
    "network": ("networks", "global"),
    "subnetwork": ("subnetworks", "region"),
    "route": ("routes", "global"),
    "router": ("routers", "region"),
    "resourcePolicy": ("resourcePolicies", "region"),
}


class OtherResources:
    """The methods on these resources; networks are read-only."""

    def __init__(self, state: State, operations: Operations) -> None:
        """Answer from `state`; changes run as `operations`."""
        self._state = state
        self._operations = operations

    def handlers(self) -> Mapping[str, Handler]:
        """Return the handlers by method."""
        found: dict[str, Handler] = {}
        for kind, (collection, _) in _KINDS.items():
            found[f"{collection}.get"] = self._getter(kind)
            found[f"{collection}.list"] = self._lister(kind)
        for kind in ("subnetwork", "router", "resourcePolicy"):
            found[f"{_KINDS[kind][0]}.aggregatedList"] = self._aggregator(kind)
        return found | {
            "firewalls.insert": self._insert_firewall,
            "firewalls.delete": self._deleter("firewall"),
            "resourcePolicies.insert": self._insert_policy,
            "resourcePolicies.delete": self._delete_policy,
        }

    # --- all kinds --------------------------------------------------------------------------------------------------

    def _scope(self, kind: str, call: Call) -> str:
        scope = _GLOBAL if _KINDS[kind][1] == _GLOBAL else f"regions/{call.region}"
        return scope if call.path["project"] == PROJECT else f"{call.path['project']}/{scope}"

    def _found(self, kind: str, call: Call) -> ComputeResource:
        scope, name = self._scope(kind, call), call.path[kind]
        resource = self._state.store(kind, scope).find(name)
        if resource is None:
            raise not_found(path_of(scope, _KINDS[kind][0], name))
        return resource

    def _getter(self, kind: str) -> Handler:
        return lambda call: self._found(kind, call).as_json(self._state.now())

    def _lister(self, kind: str) -> Handler:
        def handle(call: Call) -> str:
            scope = self._scope(kind, call)
            return list_page(call, self._state, kind, scope, self._state.store(kind, scope).in_order())

        return handle

    def _aggregator(self, kind: str) -> Handler:
        def handle(call: Call) -> str:
            scopes = {
                f"regions/{region}": self._state.store(kind, f"regions/{region}").in_order()
                for region in hardware().regions()
            }
            return aggregated_page(call, self._state, kind, scopes)

        return handle

    def _deleter(self, kind: str) -> Handler:
        return lambda call: self._delete(self._found(kind, call))

    def _insert(self, kind: str, scope: str, body: Json) -> Operation:
        collection, name = _KINDS[kind][0], required(body, "name")
        check_name("resource.name", name)
        store = self._state.store(kind, scope)
        if store.find(name) is not None:
            raise GcpError("alreadyExists", f"The resource '{path_of(scope, collection, name)}' already exists", 409)
        now, number = self._state.now(), self._state.new_id()
        filled: Json = {
            "kind": f"compute#{kind}",
            "id": str(number),
            "creationTimestamp": timestamp(now),
            **body,
            "selfLink": url_of(scope, collection, name),
        }
        if scope != _GLOBAL:
            filled["region"] = url_of(scope)
        # The next list shows these resources: `lag` is about instances, disks and slices.
        resource = ComputeResource(name, number, scope, kind, filled)
        store.add(resource)
        return self._operations.begin("insert", scope, filled["selfLink"], number)

    def _delete(self, resource: ComputeResource) -> Operation:
        operation = self._operations.begin("delete", resource.scope, resource.body["selfLink"], resource.id)
        self._state.at(
            operation.done_at, lambda: self._state.store(resource.kind, resource.scope).remove(resource.name)
        )
        return operation

    # --- firewall rules -----------------------------------------------------------------------------------------------

    def _insert_firewall(self, call: Call) -> Operation:
        body = call.body
        if bool(body.get("allowed")) == bool(body.get("denied")):
            raise GcpError("invalid", "Exactly one of the fields 'allowed' and 'denied' must be given.", 400)
        for rule in body.get("allowed") or body["denied"]:
            if not rule.get("IPProtocol"):
                raise GcpError("required", "Required field 'resource.allowed[0].IPProtocol' not specified", 400)
        given = body.get("network", "global/networks/default")
        project, rest = split_url("resource.network", given)
        if project != PROJECT:
            # https://cloud.google.com/vpc/docs/shared-vpc: firewall rules of a shared network are in the host project.
            raise invalid("resource.network", given, "Cross project referencing is not allowed for this resource.")
        network = self._state.store("network", _GLOBAL).find(rest.removeprefix("global/networks/"))
        if network is None:
            raise invalid("resource.network", given, "The referenced network resource cannot be found.")
        defaults: Json = {"direction": "INGRESS", "priority": 1000, "disabled": False}
        if not any(
            name in body for name in ("sourceRanges", "sourceTags", "sourceServiceAccounts", "destinationRanges")
        ):
            defaults["sourceRanges"] = ["0.0.0.0/0"]
        return self._insert("firewall", _GLOBAL, {**defaults, **body, "network": network.body["selfLink"]})

    # --- placement policies -------------------------------------------------------------------------------------------

    def _insert_policy(self, call: Call) -> Operation:
        kinds = (
            "groupPlacementPolicy",
            "workloadPolicy",
            "instanceSchedulePolicy",
            "snapshotSchedulePolicy",
            "diskConsistencyGroupPolicy",
        )
        if sum(1 for kind in kinds if kind in call.body) != 1:
            raise GcpError("invalid", f"Exactly one of {', '.join(kinds)} must be given.", 400)
        scope = f"regions/{call.region}"
        return self._insert("resourcePolicy", scope, {**call.body, "status": "READY"})

    def _delete_policy(self, call: Call) -> Operation:
        policy = self._found("resourcePolicy", call)
        for instance in self._state.instances(call.region):
            if policy.name in instance.host.policies:
                path = path_of(policy.scope, "resourcePolicies", policy.name)
                user = path_of(instance.scope, "instances", instance.name)
                raise GcpError(
                    "resourceInUseByAnotherResource",
                    f"The resource_policy resource '{path}' is already being used by '{user}'",
                    400,
                )
        for records in self._state.zones.values():
            for group in records.groups:
                if group.policy == policy.name:
                    path = path_of(policy.scope, "resourcePolicies", policy.name)
                    user = path_of(group.scope, "instanceGroupManagers", group.name)
                    text = f"The resource_policy resource '{path}' is already being used by '{user}'"
                    raise GcpError("resourceInUseByAnotherResource", text, 400)
        return self._delete(policy)

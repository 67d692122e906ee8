"""The methods on instance templates, of a region or global."""

from collections.abc import Mapping

from multicompute_gcp.local.calls import Call, Handler, aggregated_page, list_page, required
from multicompute_gcp.local.hardware import hardware
from multicompute_gcp.local.operations import Operations
from multicompute_gcp.local.records import ComputeResource, Operation, path_of, timestamp, url_of
from multicompute_gcp.local.references import check_labels, check_name
from multicompute_gcp.local.responses import GcpError, Json, invalid, not_found
from multicompute_gcp.local.state import State

KIND = "instanceTemplate"
_COLLECTION = "instanceTemplates"
_GLOBAL = "global"


class Templates:
    """The methods on instance templates."""

    def __init__(self, state: State, operations: Operations) -> None:
        """Answer from `state`; changes run as `operations`."""
        self._state = state
        self._operations = operations

    def handlers(self) -> Mapping[str, Handler]:
        """Return the handlers by method."""
        found: dict[str, Handler] = {"instanceTemplates.aggregatedList": self._aggregated}
        for prefix in ("instanceTemplates", "regionInstanceTemplates"):
            found |= {
                f"{prefix}.insert": self._insert,
                f"{prefix}.get": lambda call: self._found(call).as_json(self._state.now()),
                f"{prefix}.list": self._list,
                f"{prefix}.delete": self._delete,
            }
        return found

    def _insert(self, call: Call) -> Operation:
        scope, name = _scope(call), required(call.body, "name")
        check_name("resource.name", name)
        store = self._state.store(KIND, scope)
        if store.find(name) is not None:
            raise GcpError("alreadyExists", f"The resource '{path_of(scope, _COLLECTION, name)}' already exists", 409)
        properties = required(call.body, "properties")
        _check(properties)
        number = self._state.new_id()
        body: Json = {
            **call.body,
            "kind": "compute#instanceTemplate",
            "id": str(number),
            "creationTimestamp": timestamp(self._state.now()),
            "selfLink": url_of(scope, _COLLECTION, name),
        }
        if scope != _GLOBAL:
            body["region"] = url_of(scope)
        store.add(ComputeResource(name, number, scope, KIND, body))
        return self._operations.begin("insert", scope, body["selfLink"], number)

    def _delete(self, call: Call) -> Operation:
        template = self._found(call)
        for records in self._state.zones.values():
            for group in records.groups:
                if group.template.endswith(f"{template.scope}/{_COLLECTION}/{template.name}"):
                    # https://cloud.google.com/compute/docs/instance-templates/create-instance-templates: one that is in use can't be deleted.
                    path = path_of(template.scope, _COLLECTION, template.name)
                    user = path_of(group.scope, "instanceGroupManagers", group.name)
                    raise GcpError(
                        "resourceInUseByAnotherResource",
                        f"The instance_template resource '{path}' is already being used by '{user}'",
                        400,
                    )
        operation = self._operations.begin("delete", template.scope, template.body["selfLink"], template.id)
        store = self._state.store(KIND, template.scope)
        self._state.at(operation.done_at, lambda: store.remove(template.name))
        return operation

    def _found(self, call: Call) -> ComputeResource:
        scope, name = _scope(call), call.path["instanceTemplate"]
        found = self._state.store(KIND, scope).find(name)
        if found is None:
            raise not_found(path_of(scope, _COLLECTION, name))
        return found

    def _list(self, call: Call) -> str:
        scope = _scope(call)
        return list_page(call, self._state, KIND, scope, self._state.store(KIND, scope).in_order())

    def _aggregated(self, call: Call) -> str:
        scopes = [_GLOBAL, *(f"regions/{region}" for region in hardware().regions())]
        found = {scope: self._state.store(KIND, scope).in_order() for scope in scopes}
        return aggregated_page(call, self._state, KIND, found)


def _scope(call: Call) -> str:
    return f"regions/{call.region}" if "region" in call.path else _GLOBAL


def _check(properties: Json) -> None:
    """Refuse what no template may have; whether a zone has the machine type is known when instances are made."""
    machine = properties.get("machineType", "")
    if not machine or "/" in machine:
        # compute.v1, InstanceProperties.machineType: "This field only accepts a machine type name".
        raise invalid("resource.properties.machineType", machine, "It must be the name of a machine type.")
    check_labels("resource.properties.labels", properties.get("labels", {}))

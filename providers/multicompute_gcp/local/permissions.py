"""The permissions of the caller: which a call needs, and Google's refusals where one is missing."""

from collections.abc import Iterator, Mapping
from typing import Any

from multicompute_gcp.local.calls import Call
from multicompute_gcp.local.records import PROJECT, PROJECT_NUMBER
from multicompute_gcp.local.responses import GcpError, Json
from multicompute_gcp.local.state import State

ACT_AS = "iam.serviceAccounts.actAs"
_SERVICE_USE = "serviceusage.services.use"
_DEFAULT_ACCOUNT = f"{PROJECT_NUMBER}-compute@developer.gserviceaccount.com"
# A permission has the name of its method, with these exceptions: https://cloud.google.com/iam/docs/roles-permissions/compute and .../tpu.
_VERBS: Mapping[str, str] = {"aggregatedList": "list", "insert": "create", "bulkInsert": "create", "wait": "get"}
_NAMED: Mapping[str, tuple[str, ...]] = {
    "firewalls.insert": ("compute.firewalls.create", "compute.networks.updatePolicy"),
    "firewalls.delete": ("compute.firewalls.delete", "compute.networks.updatePolicy"),
    # It is read for the operations of machines, which are zonal.
    "globalOperations.aggregatedList": ("compute.globalOperations.list", "compute.zoneOperations.list"),
    "images.getFromFamily": (),
    "images.get": (),
    "instanceGroupManagers.insert": ("compute.instanceGroupManagers.create", "compute.instanceTemplates.useReadOnly"),
    "instanceGroupManagers.deleteInstances": ("compute.instanceGroupManagers.update",),
    "regionInstanceTemplates.insert": ("compute.instanceTemplates.create",),
    "regionInstanceTemplates.get": ("compute.instanceTemplates.get",),
    "regionInstanceTemplates.delete": ("compute.instanceTemplates.delete",),
    # Resize requests have no permissions of their own.
    "instanceGroupManagerResizeRequests.insert": ("compute.instanceGroupManagers.update",),
    "instanceGroupManagerResizeRequests.cancel": ("compute.instanceGroupManagers.update",),
    "instanceGroupManagerResizeRequests.delete": ("compute.instanceGroupManagers.update",),
    "instanceGroupManagerResizeRequests.get": ("compute.instanceGroupManagers.get",),
    "instanceGroupManagerResizeRequests.list": ("compute.instanceGroupManagers.get",),
    "monitoring.timeSeries.list": ("monitoring.timeSeries.list",),
    "tpu.nodes.patch": ("tpu.nodes.update",),
    "tpu.nodes.getGuestAttributes": ("tpu.nodes.get",),
}
# https://cloud.google.com/compute/docs/reference/rest/v1/instances/bulkInsert, "IAM Permissions": what a field of the instances needs.
_FIELDS: Mapping[str, tuple[str, ...]] = {
    "disks": ("compute.disks.create", "compute.images.useReadOnly"),
    "labels": ("compute.instances.setLabels",),
    "metadata": ("compute.instances.setMetadata",),
    "tags": ("compute.instances.setTags",),
    "resourcePolicies": ("compute.resourcePolicies.use",),
    "serviceAccounts": ("compute.instances.setServiceAccount",),
    "networkInterfaces": ("compute.networks.use", "compute.subnetworks.use"),
}
_EXTERNAL = ("compute.networks.useExternalIp", "compute.subnetworks.useExternalIp")


def check_permissions(state: State, call: Call) -> None:
    """Refuse a call that needs a permission that the caller does not have, and record the permissions that it needs.

    Raises:
        GcpError: A permission is missing.
    """
    needed = list(_needed(call))
    state.used_permissions.update(needed)
    missing = [permission for permission in needed if state.role is not None and permission not in state.role]
    if missing:
        raise _denied(call, missing[0])


def check_quota_project(state: State, headers: Mapping[str, str]) -> None:
    """Refuse a call whose credentials name a quota project that the caller may not use.

    https://cloud.google.com/docs/quotas/set-quota-project: the header x-goog-user-project, and the permission serviceusage.services.use.

    Raises:
        GcpError: The permission is missing.
    """
    named = {name.lower(): value for name, value in headers.items()}.get("x-goog-user-project")
    if named is None:
        return
    state.used_permissions.add(_SERVICE_USE)
    if state.role is not None and _SERVICE_USE not in state.role:
        text = f"Caller does not have required permission to use project {named}."
        raise GcpError("forbidden", f"{text} Grant the caller the roles/serviceusage.serviceUsageConsumer role.", 403)


def _needed(call: Call) -> Iterator[str]:
    if call.operation in _NAMED:
        yield from _NAMED[call.operation]
    else:
        collection, _, method = call.operation.rpartition(".")
        name = f"{collection}.{_VERBS.get(method, method)}"
        yield name.lower() if name.startswith("tpu.") else f"compute.{name}"
    if call.operation in ("instances.bulkInsert", "instances.insert"):
        yield from _of_instances(call.body.get("instanceProperties") or call.body)
    if call.operation in ("tpu.nodes.create", "tpu.queuedResources.create"):
        # tpu.v2, Node.serviceAccount: "If None is specified, the default compute service account will be used."
        yield ACT_AS


def _of_instances(properties: Json) -> Iterator[str]:
    for field, permissions in _FIELDS.items():
        if properties.get(field):
            yield from permissions
    if any(disk.get("initializeParams", {}).get("labels") for disk in properties.get("disks", ())):
        yield "compute.disks.setLabels"
    if any(interface.get("accessConfigs") for interface in properties.get("networkInterfaces", ())):
        yield from _EXTERNAL
    if properties.get("serviceAccounts"):
        yield ACT_AS


def _denied(call: Call, permission: str) -> GcpError:
    is_tpu = call.operation.startswith("tpu.")
    reason = "PERMISSION_DENIED" if is_tpu or call.operation.startswith("monitoring.") else "forbidden"
    if permission == ACT_AS:
        account = _account(call.body)
        text = f"The user does not have access to service account '{account}'. Ask a project owner to grant you the iam.serviceAccountUser role on it."
        return GcpError(reason, text, 403)
    where = f"projects/{PROJECT}" + (f"/zones/{call.path['zone']}" if "zone" in call.path and not is_tpu else "")
    if is_tpu:
        text = f"Permission '{permission}' denied on resource '//tpu.googleapis.com/{where}' (or it may not exist)."
        return GcpError(reason, text, 403)
    return GcpError(reason, f"Required '{permission}' permission for '{where}'", 403)


def _account(body: Json) -> str:
    specs: list[Any] = body.get("tpu", {}).get("nodeSpec") or [{"node": body}]
    node = specs[0].get("node", {})
    listed = (body.get("instanceProperties") or body).get("serviceAccounts") or [node.get("serviceAccount", {})]
    return str(listed[0].get("email") or _DEFAULT_ACCOUNT)

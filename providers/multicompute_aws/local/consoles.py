"""GetConsoleOutput, the same for both stores: what cloud-init writes about the host keys of an instance."""

import base64
from collections.abc import Mapping

from multicompute.testing.local.machines import reported_host_key
from multicompute_aws.local import wire
from multicompute_aws.local.hardware import instance_types
from multicompute_aws.local.instances import Call, Handler, candidates
from multicompute_aws.local.state import State
from multicompute_aws.local.wire import AwsError


class Consoles:
    """The consoles of instances."""

    def __init__(self, state: State) -> None:
        """Answer for the instances in `state`."""
        self._state = state

    def handlers(self) -> Mapping[str, Handler]:
        """Return the handlers by action."""
        return {"GetConsoleOutput": self._output}

    def _output(self, call: Call) -> bytes:
        node_id, now = str(call.params.get("InstanceId", "")), self._state.now()
        instance = next((each for each in candidates(call, now) if each.id == node_id), None)
        if instance is None:
            raise AwsError("InvalidInstanceID.NotFound", f"The instance ID '{node_id}' does not exist")
        if call.params.get("Latest") and instance_types()[instance.launch.instance_type].is_xen:
            # GetConsoleOutput, EC2 API: the latest output is there for instances on the Nitro System.
            raise AwsError("UnsupportedOperation", "Latest console output is not supported for this instance type")
        has_booted = instance.state(now) == "running"
        text = (
            "-----BEGIN SSH HOST KEY KEYS-----\r\n"
            f"{reported_host_key(node_id)} root@{node_id}\r\n"
            "-----END SSH HOST KEY KEYS-----\r\n"
        )
        output = base64.b64encode(text.encode() if has_booted else b"").decode()
        return wire.envelope(call.action, f"<instanceId>{node_id}</instanceId><output>{output}</output>")

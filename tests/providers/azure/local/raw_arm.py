"""Raw HTTP to a local Azure, and a resource group with a network for launches."""

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlencode, urlsplit

from multicompute_azure.local import AzureLocalCloud

SIZE = "Standard_ND96isr_H100_v5"
GROUPS, COMPUTE, DISKS, NETWORK = "2025-04-01", "2026-04-01", "2026-03-02", "2026-03-01"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMadeForTests somebody"


@dataclass
class Answer:
    """An HTTP response."""

    status: int
    headers: Mapping[str, str]
    body: Any

    @property
    def code(self) -> str:
        code: str = self.body["error"]["code"]
        return code

    @property
    def message(self) -> str:
        message: str = self.body["error"]["message"]
        return message


@dataclass
class Arm:
    """Raw requests to a local Azure; paths are below its subscription."""

    cloud: AzureLocalCloud
    headers: dict[str, str] = field(default_factory=dict)

    def __call__(self, method: str, path: str, body: Any = None, *, version: str = COMPUTE, **query: str) -> Answer:
        query = ({"api-version": version} if version else {}) | query
        return self.url(method, f"/subscriptions/{self.cloud.subscription_id}{path}?{urlencode(query)}", body)

    def url(self, method: str, url: str, body: Any = None) -> Answer:
        """Send a request to a complete URL, such as a link in a response."""
        parts = urlsplit(url)
        connection = HTTPConnection(urlsplit(self.cloud.endpoint_url).netloc, timeout=10)
        try:
            text = json.dumps(body) if body is not None and not isinstance(body, bytes) else body
            headers = {"Content-Type": "application/json"} | self.headers
            connection.request(method, f"{parts.path}?{parts.query}", text, headers)
            response = connection.getresponse()
            content = response.read()
            found = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, found, json.loads(content) if content else None)
        finally:
            connection.close()

    def all(self, path: str, *, version: str = COMPUTE, **query: str) -> list[dict[str, Any]]:
        """Return every entry of a list, from all its pages."""
        answer = self("GET", path, version=version, **query)
        found = list(answer.body["value"])
        while "nextLink" in answer.body:
            answer = self.url("GET", answer.body["nextLink"])
            found += answer.body["value"]
        return found


def scale_set(
    subnet: str, count: int = 2, *, size: str = SIZE, profile: Mapping[str, Any] | None = None, **changes: Any
) -> Any:
    """Return the body of a scale set that the local Azure accepts."""
    address = {"name": "ip", "properties": {"subnet": {"id": subnet}}}
    nic = {"primary": True, "deleteOption": "Delete", "ipConfigurations": [address]}
    key = {"path": "/home/ubuntu/.ssh/authorized_keys", "keyData": KEY}
    body: dict[str, Any] = {
        "location": "eastus",
        "zones": ["1"],
        "tags": {"team": "nlp"},
        "sku": {"name": size, "capacity": count},
        "properties": {
            "orchestrationMode": "Flexible",
            "platformFaultDomainCount": 1,
            "virtualMachineProfile": {
                "osProfile": {
                    "computerNamePrefix": "node",
                    "adminUsername": "ubuntu",
                    "customData": "aGVsbG8=",
                    "linuxConfiguration": {"disablePasswordAuthentication": True, "ssh": {"publicKeys": [key]}},
                },
                "storageProfile": {
                    "imageReference": {
                        "publisher": "microsoft-dsvm",
                        "offer": "ubuntu-hpc",
                        "sku": "2204",
                        "version": "latest",
                    },
                    "osDisk": {"createOption": "FromImage", "deleteOption": "Delete"},
                },
                "networkProfile": {
                    "networkApiVersion": "2020-11-01",
                    "networkInterfaceConfigurations": [{"name": "nic", "tags": {"team": "nlp"}, "properties": nic}],
                },
                **(profile or {}),
            },
        },
    }
    return copy.deepcopy(body) | changes


class Site:
    """A resource group with a network, and the launches in it."""

    def __init__(self, arm: Arm, group: str = "site", region: str = "eastus", prefix: str = "10.0.0.0/16") -> None:
        self.arm = arm
        self.group = f"/resourceGroups/{group}"
        self.compute = f"{self.group}/providers/Microsoft.Compute"
        self.network = f"{self.group}/providers/Microsoft.Network"
        arm("PUT", self.group, {"location": region}, version=GROUPS)
        subnet = {"name": "nodes", "properties": {"addressPrefix": prefix}}
        properties = {"addressSpace": {"addressPrefixes": ["10.0.0.0/16"]}, "subnets": [subnet]}
        made = arm(
            "PUT",
            f"{self.network}/virtualNetworks/net",
            {"location": region, "properties": properties},
            version=NETWORK,
        )
        self.subnet: str = made.body["properties"]["subnets"][0]["id"]

    def launch(self, count: int = 2, name: str = "gang", **changes: Any) -> Answer:
        """PUT a scale set."""
        return self.arm(
            "PUT", f"{self.compute}/virtualMachineScaleSets/{name}", scale_set(self.subnet, count, **changes)
        )

    def outcome(self, answer: Answer) -> dict[str, Any]:
        """Return the final status of the operation that a response began."""
        for _ in range(20):
            status: dict[str, Any] = self.arm.url("GET", answer.headers["azure-asyncoperation"]).body
            if status["status"] != "InProgress":
                return status
        raise AssertionError("the operation does not end")

    def machines(self, **query: str) -> list[dict[str, Any]]:
        return self.arm.all(f"{self.compute}/virtualMachines", **query)

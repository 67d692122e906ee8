"""Bare HTTP to the local Google Cloud, and the bodies of requests."""

import json
from datetime import timedelta
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlencode

from multicompute_gcp.local import GcpLocalCloud
from multicompute_gcp.local.routes import route
from multicompute_gcp.local.schema import document

PROJECT = "multicompute-local"
ZONE = "us-central1-a"
IMAGE = "projects/ubuntu-os-cloud/global/images/family/ubuntu-2204-lts"
Json = dict[str, Any]


class Api:
    """Bare HTTP to the local cloud; every successful response is checked against Google's schema."""

    def __init__(self, cloud: GcpLocalCloud) -> None:
        self.cloud = cloud

    def ask(self, method: str, path: str, body: object = None, **query: str) -> tuple[int, Json]:
        """Return the status and the JSON of a response."""
        host, port = self.cloud.endpoint_url.removeprefix("http://").split(":")
        connection = HTTPConnection(host, int(port), timeout=30)
        data = None if body is None else json.dumps(body).encode()
        target = f"{path}?{urlencode(query)}" if query else path
        connection.request(method, target, data)
        response = connection.getresponse()
        answer = json.load(response)
        connection.close()
        asked = route(method, path)
        if asked is not None and response.status == 200:
            schema = document({"compute": "compute.v1", "tpu": "tpu.v2", "monitoring": "monitoring.v3"}[asked.api])
            assert schema is not None, "google-api-python-client is not installed"
            schema.check_answer(asked.identifier, answer)
        return response.status, answer

    def ok(self, method: str, path: str, body: object = None, **query: str) -> Json:
        status, answer = self.ask(method, path, body, **query)
        assert status == 200, answer
        return answer

    def compute(self, method: str, path: str, body: object = None, **query: str) -> Json:
        """Return a successful response of Compute Engine; `path` is below the project."""
        return self.ok(method, f"/compute/v1/projects/{PROJECT}/{path}".rstrip("/"), body, **query)

    def tpu(self, method: str, path: str, body: object = None, **query: str) -> Json:
        """Return a successful response of the TPU API; `path` is below the project's locations."""
        return self.ok(method, f"/v2/projects/{PROJECT}/locations/{path}", body, **query)

    def refused(self, method: str, path: str, body: object = None, **query: str) -> tuple[int, str, str]:
        """Return status, reason and message of a refusal."""
        prefix = f"/v2/projects/{PROJECT}/locations/" if "/queuedResources" in path or "/nodes" in path else None
        status, answer = self.ask(method, (prefix or f"/compute/v1/projects/{PROJECT}/") + path, body, **query)
        assert status >= 400, answer
        error = answer["error"]
        reason = error["errors"][0]["reason"] if "errors" in error else error["status"]
        return status, reason, error["message"]

    def done(self, operation: Json) -> Json:
        """Wait for an operation of Compute Engine, and return it."""
        path = operation["selfLink"].partition(f"/projects/{PROJECT}/")[2]
        return self.compute("POST", f"{path}/wait")

    def instances(self, expression: str = "") -> list[Json]:
        """Return the instances on all pages."""
        found: list[Json] = []
        query = {"filter": expression} if expression else {}
        while True:
            page = self.compute("GET", "aggregated/instances", **query)
            for scope in page["items"].values():
                found += scope.get("instances", [])
            if "nextPageToken" not in page:
                return found
            query["pageToken"] = page["nextPageToken"]

    def names(self, expression: str = "") -> list[str]:
        return [instance["name"] for instance in self.instances(expression)]


def properties(**changes: Any) -> Json:
    """Return instance properties for bulkInsert: eight H100 each."""
    boot = {"boot": True, "autoDelete": True, "initializeParams": {"sourceImage": IMAGE, "labels": {"team": "nlp"}}}
    found: Json = {
        "machineType": "a3-highgpu-8g",
        "labels": {"team": "nlp"},
        "scheduling": {"onHostMaintenance": "TERMINATE"},
        "disks": [boot],
        "networkInterfaces": [{"network": "global/networks/default"}],
    }
    return found | changes


def bulk(count: int = 2, *, pattern: str = "gang-####", minimum: int | None = None, **changes: Any) -> Json:
    """Return the body of bulkInsert."""
    body: Json = {"count": str(count), "namePattern": pattern, "instanceProperties": properties(**changes)}
    return body if minimum is None else body | {"minCount": str(minimum)}


def alone(name: str = "one", zone: str = ZONE, **changes: Any) -> Json:
    """Return the body of insert for a machine without GPUs."""
    machine = f"zones/{zone}/machineTypes/e2-standard-2"
    return properties(machineType=machine, scheduling={}, **changes) | {"name": name}


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)

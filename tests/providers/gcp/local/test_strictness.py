"""The local Google Cloud is as strict as Google's own schemas, and has no method that Google does not have."""

import json
import re
import subprocess
import sys
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from multicompute_gcp.local import GcpLocalCloud
from multicompute_gcp.local.responses import GcpError
from multicompute_gcp.local.routes import methods, route
from multicompute_gcp.local.schema import document
from tests.providers.gcp.local.bare_google import PROJECT, ZONE, Api, bulk

BULK = f"zones/{ZONE}/instances/bulkInsert"

MUST_HAVE = {
    "monitoring.projects.timeSeries.list": {
        "filter": 'metric.type="compute.googleapis.com/instance/cpu/utilization"',
        "interval.startTime": "2026-11-24T11:00:00Z",
        "interval.endTime": "2026-11-24T12:00:00Z",
    }
}


def _shape(path: str) -> str:
    return re.sub(r"\{[^}]*\}", "{}", path)


def test_every_method_is_googles_by_verb_and_path(cloud: GcpLocalCloud) -> None:
    for identifier, (verb, path) in methods().items():
        name = identifier.split(".", 1)[0]
        schema = document({"compute": "compute.v1", "tpu": "tpu.v2", "monitoring": "monitoring.v3"}[name])
        assert schema is not None
        method = schema.methods[identifier]
        google = method["flatPath"] if name != "compute" else schema.base + method["path"]
        assert (verb, _shape(path)) == (method["httpMethod"], _shape(google)), identifier


def test_every_method_is_answered_by_something(api: Api) -> None:
    filled = {"project": PROJECT, "zone": ZONE, "region": "us-central1"}
    for identifier, (verb, path) in methods().items():
        if verb == "GET":
            concrete = "/" + re.sub(r"\{(\w+)\}", lambda match: filled.get(match[1], "some-1"), path)
            status, answer = api.ask(verb, concrete, **MUST_HAVE.get(identifier, {}))
            assert status in (200, 404), (identifier, answer)
            assert "has no method" not in str(answer)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"colour": "red"}, 'Unknown name "colour": Cannot find field.'),
        ({"name_pattern": "x-#"}, 'Unknown name "name_pattern"'),
        ({"count": "many"}, "Invalid value at 'count' (TYPE_INT64), \"many\""),
        ({"count": True}, "TYPE_INT64"),
        ({"instanceProperties": []}, "TYPE_MESSAGE"),
        (
            {"instanceProperties": {"labels": {"a": 1}}},
            "Invalid value at 'instanceProperties.labels.a' (TYPE_STRING), 1",
        ),
        ({"instanceProperties": {"disks": {}}}, "TYPE_ARRAY"),
        ({"instanceProperties": {"disks": [{"boot": "yes"}]}}, "Invalid value at 'instanceProperties.disks[0].boot'"),
        ({"instanceProperties": {"scheduling": {"provisioningModel": "CHEAP"}}}, "TYPE_ENUM"),
        ({"instanceProperties": {"guestAccelerators": [{"acceleratorCount": 2**31}]}}, "TYPE_INT32"),
        ({"instanceProperties": {"metadata": {"fingerprint": "%%"}}}, "TYPE_BYTES"),
        ({"instanceProperties": {"scheduling": {"maxRunDuration": "3600s"}}}, "TYPE_MESSAGE"),
    ],
)
def test_a_body_that_does_not_fit_the_schema_is_refused_with_googles_message(
    api: Api, change: dict[str, Any], says: str
) -> None:
    status, reason, message = api.refused("POST", BULK, bulk() | change)
    assert (status, reason) == (400, "badRequest")
    assert says in message


def test_errors_have_googles_format(api: Api) -> None:
    status, answer = api.ask("POST", f"/compute/v1/projects/{PROJECT}/{BULK}", {"colour": "red"})
    error = answer["error"]
    assert (status, error["code"], error["status"]) == (400, 400, "INVALID_ARGUMENT")
    assert error["errors"] == [{"message": error["message"], "domain": "global", "reason": "badRequest"}]
    assert error["details"][0]["@type"] == "type.googleapis.com/google.rpc.BadRequest"
    status, answer = api.ask("GET", f"/v2/projects/{PROJECT}/locations/us-east5-a/nodes/none")
    assert set(answer["error"]) == {"code", "message", "status"}


@pytest.mark.parametrize(
    ("path", "query", "says"),
    [
        ("aggregated/instances", {"colour": "red"}, 'Unknown name "colour": Cannot bind query parameter.'),
        ("aggregated/instances", {"returnPartialSuccess": "true"}, 'Unknown name "returnPartialSuccess"'),
        ("aggregated/instances", {"maxResults": "many"}, "TYPE_UINT32"),
        ("aggregated/instances", {"includeAllScopes": "perhaps"}, "TYPE_BOOL"),
    ],
)
def test_a_parameter_that_does_not_fit_is_refused(api: Api, path: str, query: dict[str, str], says: str) -> None:
    status, _, message = api.refused("GET", path, **query)
    assert status == 400
    assert says in message


def test_parameters_that_every_method_has_are_accepted(api: Api) -> None:
    query = {"$alt": "json;enum-encoding=int", "prettyPrint": "false", "fields": "items", "alt": "json"}
    api.compute("GET", "aggregated/instances", **query)
    url = f"/compute/v1/projects/{PROJECT}/aggregated/instances?filter=name%3Da&filter=name%3Db"
    assert api.ask("GET", url)[0] in (400, 404)


def test_a_missing_parameter_is_named() -> None:
    schema = document("compute.v1")
    assert schema is not None
    with pytest.raises(GcpError) as caught:
        schema.check("compute.instances.detachDisk", {}, None)
    assert (caught.value.reason, caught.value.message) == ("required", "Required parameter: deviceName")


def test_an_unexpected_body_and_broken_json_are_refused(api: Api, cloud: GcpLocalCloud) -> None:
    assert api.refused("DELETE", f"zones/{ZONE}/instances/one", {"a": 1})[0] == 400
    assert api.refused("POST", BULK, [1])[0] == 400
    url = f"{cloud.endpoint_url}/compute/v1/projects/{PROJECT}/{BULK}"
    with pytest.raises(HTTPError) as caught:
        urlopen(Request(url, b"{broken", {"Content-Type": "application/json"}))
    with caught.value as answer:
        assert answer.code == 400 and b"parseError" in answer.read()


def test_unknown_paths_projects_and_methods_are_not_found(api: Api) -> None:
    assert api.ask("GET", "/compute/v1/projects/other/zones")[0] == 404
    assert "has no method" in api.refused("POST", f"zones/{ZONE}/instances/one/reset")[2]
    assert route("PUT", "/compute/v1/projects/p/zones/z/instances") is None


def test_durations_and_instants_of_the_tpu_api_are_checked(api: Api) -> None:
    for policy in ({"validUntilDuration": "soon"}, {"validUntilTime": "tomorrow"}):
        status, code, message = api.refused("POST", "us-east5-a/queuedResources", {"queueingPolicy": policy})
        assert (status, code) == (400, "INVALID_ARGUMENT")
        assert "google.protobuf" in message


def test_without_googles_documents_requests_that_a_handler_cannot_read_are_refused() -> None:
    script = f"""
import json, sys, urllib.error, urllib.request
sys.modules["googleapiclient"] = None
from multicompute_gcp.local import GcpLocalCloud
cloud = GcpLocalCloud()
cloud.start()
def status(body):
    url = cloud.endpoint_url + "/compute/v1/projects/{PROJECT}/{BULK}"
    try:
        return urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode())).status
    except urllib.error.HTTPError as error:
        with error:
            return error.code
body = json.loads(sys.argv[1])
print(status(body | {{"colour": "red"}}), status(body | {{"count": "many"}}), len(cloud.running_ids()))
cloud.stop()
"""
    command = [sys.executable, "-c", script, json.dumps(bulk())]
    done = subprocess.run(command, timeout=60, capture_output=True, text=True, check=False)
    assert (done.stdout.split(), done.stderr) == (["200", "400", "2"], "")

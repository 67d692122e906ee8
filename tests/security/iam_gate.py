"""IAM in front of a local AWS: every call is signed and checked against a policy before it reaches the cloud.

moto's IAM checks signatures and actions, but neither the resources nor the conditions of a statement. These are checked here, for the few
operators that the policy in the documentation uses.
"""

import http.client
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import urlsplit

import boto3
from moto.core.exceptions import ServiceException
from moto.iam.access_control import IAMRequest
from moto.utilities.utils import get_partition
from werkzeug.exceptions import HTTPException

from multicompute.testing.local.server import Request, Response, Server
from multicompute_aws.local import AwsLocalCloud, wire
from multicompute_aws.local.app import ParsedRequest, parse

Policy = Mapping[str, Any]
Tags = Mapping[str, str]
# The kind of resource that a parameter names, for the actions that change or delete one.
_NAMED = {
    "AllocationId": "elastic-ip",
    "GroupId": "security-group",
    "GroupName": "placement-group",
    "VolumeId": "volume",
    "NetworkInterfaceId": "network-interface",
    "InstanceId": "instance",
    "InstanceIds": "instance",
    "SpotInstanceRequestIds": "spot-instances-request",
    "Resources": "instance",
}
_USED = ("image", "snapshot", "subnet", "security-group")


@dataclass(frozen=True)
class Touched:
    """A resource that a call needs permission for; `context` has the keys that conditions may use."""

    arn: str
    context: Tags = field(default_factory=dict)


def statements(policy: Policy) -> Iterator[tuple[list[str], list[str], Mapping[str, Any]]]:
    """Return the actions, resources and conditions of each statement."""
    for item in policy["Statement"]:
        assert item["Effect"] == "Allow"
        actions, resources = (
            [value] if isinstance(value, str) else value for value in (item["Action"], item["Resource"])
        )
        yield actions, resources, item.get("Condition", {})


def actions(policy: Policy) -> set[str]:
    """Return all actions of a policy."""
    return {action for named, _, _ in statements(policy) for action in named}


def without(policy: Policy, action: str) -> Policy:
    """Return the policy without one action."""
    kept = []
    for item, (named, _, _) in zip(policy["Statement"], statements(policy), strict=True):
        if rest := [each for each in named if each != action]:
            kept.append({**item, "Action": rest})
    return {**policy, "Statement": kept}


class Gate:
    """A server in front of a local cloud that forwards what a user with a policy may do.

    Attributes:
        calls: the actions that were called, "ec2:RunInstances".
        refused: those of them that were not forwarded.
    """

    def __init__(self, cloud: AwsLocalCloud) -> None:
        self.calls: list[str] = []
        self.refused: list[str] = []
        self._cloud = cloud
        self._server = Server(self._answer)
        self._policy: Policy = {"Statement": []}
        self._iam = boto3.Session().client("iam", region_name="us-east-1", endpoint_url=cloud.endpoint_url, **_ROOT)
        self._account = self._iam.create_user(UserName="trainer")["User"]["Arn"].split(":")[4]
        self._key = self._iam.create_access_key(UserName="trainer")["AccessKey"]

    def start(self) -> None:
        self._server.start()

    def stop(self) -> None:
        self._server.stop()

    @property
    def environment(self) -> dict[str, str]:
        """Return the variables of a user who has the policy and no other permission."""
        own = {name: value for name, value in self._cloud.environment.items() if name != "AWS_SESSION_TOKEN"}
        own |= {name: self._server.url for name in own if name.startswith("AWS_ENDPOINT_URL")}
        return own | {
            "AWS_ACCESS_KEY_ID": self._key["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": self._key["SecretAccessKey"],
        }

    def allow(self, policy: Policy) -> None:
        """Replace the user's policy, and forget the calls."""
        for_moto = {"Version": policy["Version"], "Statement": []}
        for named, _, _ in statements(policy):
            for_moto["Statement"].append({"Effect": "Allow", "Action": named, "Resource": "*"})
        self._iam.put_user_policy(UserName="trainer", PolicyName="all", PolicyDocument=json.dumps(for_moto))
        self._policy = policy
        self.calls.clear()
        self.refused.clear()

    def _answer(self, request: Request) -> Response:
        parsed = parse(request)
        # CloudWatch uses its old name in signatures.
        action = f"{'cloudwatch' if parsed.service == 'monitoring' else parsed.service}:{parsed.action}"
        self.calls.append(action)
        if self._is_permitted(request, parsed, action):
            return self._forwarded(request)
        self.refused.append(action)
        words = f"User: arn:aws:iam::{self._account}:user/trainer is not authorized to perform: {action}"
        if parsed.service == "ec2":
            return Response(403, wire.error_body(wire.AwsError("UnauthorizedOperation", words, 403)), "text/xml")
        if parsed.is_json or parsed.service in ("cloudwatch", "monitoring"):
            body = json.dumps({"__type": "AccessDeniedException", "message": words}).encode()
            return Response(400, body, "application/x-amz-json-1.1")
        error = f"<ErrorResponse><Error><Code>AccessDenied</Code><Message>{words}</Message></Error></ErrorResponse>"
        return Response(403, error.encode(), "text/xml")

    def _is_permitted(self, request: Request, parsed: ParsedRequest, action: str) -> bool:
        if get_partition(parsed.region) != "aws":
            # moto's DescribeRegions includes regions of other partitions, in which this user does not exist.
            return action in actions(self._policy)
        headers = {name.title(): value for name, value in request.headers.items()}
        path = request.path + (f"?{request.query}" if request.query else "")
        try:
            judged = IAMRequest(self._account, request.method, path, {}, request.body, headers, parsed.action)
            judged.check_signature()
            judged._action = action
            judged.check_action_permitted("*")
        except (HTTPException, ServiceException):
            return False
        if parsed.service != "ec2":
            return True
        params = wire.parse_request(parsed.action, parsed.form)
        if not all(self._allows(action, each) for each in self._touched(parsed.action, params)):
            return False
        # A call that creates a resource with tags needs the permission to tag, too.
        born = [
            each for each in self._touched(parsed.action, params) if any("RequestTag" in key for key in each.context)
        ]
        return all(
            self._allows("ec2:CreateTags", Touched(each.arn, {"ec2:CreateAction": parsed.action})) for each in born
        )

    def _allows(self, action: str, touched: Touched) -> bool:
        return any(
            action in named
            and any(fnmatchcase(touched.arn, pattern) for pattern in resources)
            and _holds(condition, touched.context)
            for named, resources, condition in statements(self._policy)
        )

    def _touched(self, action: str, params: Mapping[str, Any]) -> Iterator[Touched]:
        given = {each["ResourceType"]: each.get("Tags", []) for each in params.get("TagSpecifications", ())}

        def made(kind: str) -> Touched:
            tags = {f"aws:RequestTag/{tag['Key']}": tag["Value"] for tag in given.get(kind, ())}
            return Touched(_arn(kind), tags)

        if action == "RunInstances":
            yield from (Touched(_arn(kind)) for kind in _USED)
            yield from (made(kind) for kind in ("instance", "volume", "network-interface"))
            if params.get("InstanceMarketOptions", {}).get("MarketType") == "spot":
                yield made("spot-instances-request")
            if "Placement" in params:
                yield Touched(_arn("placement-group"))
            if "CapacityReservationSpecification" in params:
                yield Touched(_arn("capacity-reservation"))
        elif action == "CreateSecurityGroup":
            yield from (made("security-group"), Touched(_arn("vpc")))
        elif action == "CreatePlacementGroup":
            yield made("placement-group")
        elif action == "AllocateAddress":
            yield made("elastic-ip")
        elif re.match(
            "Associate|Authorize|Cancel|Create|Delete|GetConsole|Modify|Release|Revoke|Start|Terminate", action
        ):
            yield from self._existing(params)
        else:
            yield Touched("arn:aws:ec2:us-east-1:1:*/*")

    def _existing(self, params: Mapping[str, Any]) -> Iterator[Touched]:
        tags = {item.id: item.tags for item in self._cloud.alive()}
        for name, kind in _NAMED.items():
            for each in [params[name]] if isinstance(params.get(name), str) else params.get(name, ()):
                found = tags.get(each, {})
                yield Touched(_arn(kind), {f"aws:ResourceTag/{key}": value for key, value in found.items()})

    def _forwarded(self, request: Request) -> Response:
        address = urlsplit(self._cloud.endpoint_url)
        connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=60)
        try:
            path = request.path + (f"?{request.query}" if request.query else "")
            connection.request(request.method, path, request.body, dict(request.headers))
            answer = connection.getresponse()
            own = {name: value for name, value in answer.getheaders() if name.lower().startswith(("x-amz", "smithy"))}
            return Response(answer.status, answer.read(), answer.getheader("Content-Type") or "", own)
        finally:
            connection.close()


_ROOT: Mapping[str, Any] = {"aws_access_key_id": "root", "aws_secret_access_key": "root"}


def _arn(kind: str) -> str:
    account = "" if kind in ("image", "snapshot") else "123456789012"
    return f"arn:aws:ec2:us-east-1:{account}:{kind}/x"


def _holds(condition: Mapping[str, Any], context: Tags) -> bool:
    """Return whether a condition holds: Null (the key is missing) or StringEquals, for single-valued keys."""
    for operator, wanted in condition.items():
        for key, value in wanted.items():
            if operator == "Null":
                is_met = (key not in context) == (value == "true")
            else:
                assert operator == "StringEquals", operator
                is_met = context.get(key) in ([value] if isinstance(value, str) else value)
            if not is_met:
                return False
    return True

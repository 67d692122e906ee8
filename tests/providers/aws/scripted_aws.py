"""A server that speaks enough of AWS's protocols to record what a client sends, and to give the answers of a test."""

import json
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qsl

Answer = tuple[int, str]
HANG_UP: Answer = (0, "")
"""Stands for a connection that breaks without an answer."""


@dataclass(frozen=True)
class Request:
    """A call: its action, the region that it was signed for, and its parameters as they were sent."""

    action: str
    region: str
    params: Mapping[str, Any]

    def under(self, prefix: str) -> dict[str, str]:
        """The parameters below `prefix`, without it."""
        return {name[len(prefix) :]: value for name, value in self.params.items() if name.startswith(prefix)}


@dataclass
class ScriptedAws:
    """A context manager; `answers` maps an action to its answer, or to a list of answers that are given one by one."""

    answers: dict[str, Any] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)

    def __enter__(self) -> Self:
        script = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # Without it each answer waits 40 ms for the acknowledgement of its headers.
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                region = re.search(r"Credential=[^/]+/\d+/([^/]+)/", self.headers.get("Authorization", ""))
                target = self.headers.get("X-Amz-Target")
                params = json.loads(body) if target else dict(parse_qsl(body, keep_blank_values=True))
                action = target.rpartition(".")[2] if target else params["Action"]
                request = Request(action, region[1] if region else "", params)
                script.requests.append(request)
                status, text = script.answer(request)
                if not status:
                    self.close_connection = True
                    return
                self.send_response(status)
                self.send_header("Content-Length", str(len(text.encode())))
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *args: object) -> None:
                """Print nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def environment(self) -> dict[str, str]:
        return {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{self._server.server_address[1]}"}

    def answer(self, request: Request) -> Answer:
        wanted = self.answers.get(request.action)
        if isinstance(wanted, list):
            wanted = wanted.pop(0) if wanted else None
        if callable(wanted):
            wanted = wanted(request)
        found = wanted if wanted is not None else _DEFAULTS[request.action](request)
        return found if isinstance(found, tuple) else (200, found)

    def sent(self, action: str) -> list[Request]:
        return [request for request in self.requests if request.action == action]

    @property
    def actions(self) -> list[str]:
        return [request.action for request in self.requests]


def refusal(code: str, message: str = "no", status: int = 400) -> Answer:
    """Return an error in the form of EC2."""
    errors = f"<Errors><Error><Code>{code}</Code><Message>{message}</Message></Error></Errors>"
    return (status, f"<Response>{errors}<RequestID>r</RequestID></Response>")


def json_refusal(code: str, message: str = "no", status: int = 400) -> Answer:
    """Return an error in the form of the services with JSON."""
    return (status, json.dumps({"__type": code, "message": message}))


def instance_xml(
    instance_id: str = "i-0123456789abcdef0",
    *,
    state: str = "running",
    index: int = 0,
    instance_type: str = "p5.48xlarge",
    tags: Mapping[str, str] = {},
    reason: tuple[str, str] = ("", ""),
    interfaces: int = 1,
    extra: str = "",
) -> str:
    """Return an instance in the form of DescribeInstances."""
    marks = "".join(f"<item><key>{key}</key><value>{value}</value></item>" for key, value in tags.items())
    return (
        f"<item><instanceId>{instance_id}</instanceId><instanceType>{instance_type}</instanceType>"
        f"<instanceState><code>16</code><name>{state}</name></instanceState><amiLaunchIndex>{index}</amiLaunchIndex>"
        f"<stateReason><code>{reason[0]}</code><message>{reason[1]}</message></stateReason>"
        f"<placement><availabilityZone>us-east-1a</availabilityZone></placement>"
        f"<privateIpAddress>10.0.0.{index % 250}</privateIpAddress><clientToken>tok</clientToken>"
        f"<networkInterfaceSet>{_INTERFACE * interfaces}</networkInterfaceSet>{extra}<tagSet>{marks}</tagSet></item>"
    )


# As long as those of EC2.
_INTERFACE = (
    "<item><networkInterfaceId>eni-0123456789abcdef0</networkInterfaceId><subnetId>subnet-1</subnetId><vpcId>vpc-1</vpcId>"
    "<description/><ownerId>123456789012</ownerId><status>in-use</status><macAddress>02:dd:2c:5e:01:69</macAddress>"
    "<privateIpAddress>10.0.0.157</privateIpAddress><privateDnsName>ip-10-0-0-157.ec2.internal</privateDnsName>"
    "<sourceDestCheck>true</sourceDestCheck><groupSet><item><groupId>sg-1</groupId><groupName>g</groupName></item></groupSet>"
    "<attachment><attachmentId>eni-attach-1</attachmentId><deviceIndex>1</deviceIndex><networkCardIndex>3</networkCardIndex>"
    "<status>attached</status><attachTime>2026-08-01T08:15:26.000Z</attachTime><deleteOnTermination>true</deleteOnTermination>"
    "</attachment><privateIpAddressesSet><item><privateIpAddress>10.0.0.157</privateIpAddress><primary>true</primary></item>"
    "</privateIpAddressesSet><ipv6AddressesSet/><interfaceType>efa-only</interfaceType></item>"
)


def described(*instances: str, more: str = "") -> str:
    """Return an answer of DescribeInstances."""
    token = f"<nextToken>{more}</nextToken>" if more else ""
    return (
        "<DescribeInstancesResponse><reservationSet><item><instancesSet>"
        + "".join(instances)
        + f"</instancesSet></item></reservationSet>{token}</DescribeInstancesResponse>"
    )


def _launched(request: Request) -> str:
    count, kind = int(request.params["MinCount"]), request.params["InstanceType"]
    items = "".join(
        instance_xml(f"i-{index:017x}", state="pending", index=index, instance_type=kind) for index in range(count)
    )
    return f"<RunInstancesResponse><instancesSet>{items}</instancesSet></RunInstancesResponse>"


def _subnets(request: Request) -> str:
    return (
        "<R><subnetSet>"
        + "".join(
            f"<item><subnetId>subnet-{zone}</subnetId><vpcId>vpc-1</vpcId>"
            f"<availabilityZone>{request.region}{zone}</availabilityZone><mapPublicIpOnLaunch>true</mapPublicIpOnLaunch></item>"
            for zone in "ba"
        )
        + "</subnetSet></R>"
    )


def _image(request: Request) -> str:
    image_id = request.params["ImageId.1"]
    return (
        f"<R><imagesSet><item><imageId>{image_id}</imageId><rootDeviceName>/dev/xvda</rootDeviceName><blockDeviceMapping>"
        "<item><deviceName>/dev/xvda</deviceName><ebs><volumeSize>75</volumeSize></ebs></item>"
        "<item><deviceName>/dev/sdb</deviceName><virtualName>ephemeral0</virtualName></item>"
        "</blockDeviceMapping></item></imagesSet></R>"
    )


def network_cards(count: int, *, without_efa: int = 0) -> str:
    """Return an answer of DescribeInstanceTypes for a type with this many cards, the first of which take no EFA."""
    cards = "".join(
        f"<item><networkCardIndex>{index}</networkCardIndex><maximumNetworkInterfaces>2</maximumNetworkInterfaces>"
        f"<interfaceTypeSet><item>interface</item>{'' if index < without_efa else '<item>efa</item><item>efa-only</item>'}"
        "</interfaceTypeSet></item>"
        for index in range(count)
    )
    return (
        "<R><instanceTypeSet><item><instanceType>x</instanceType><networkInfo><networkCards>"
        f"{cards}</networkCards></networkInfo></item></instanceTypeSet></R>"
    )


def route_tables(target: str = "<gatewayId>igw-1</gatewayId>") -> str:
    """Return an answer of DescribeRouteTables: the main table of a VPC, with a default route to a target."""
    local = "<item><destinationCidrBlock>10.0.0.0/16</destinationCidrBlock><gatewayId>local</gatewayId><state>active</state></item>"
    default = f"<item><destinationCidrBlock>0.0.0.0/0</destinationCidrBlock>{target}<state>active</state></item>"
    main = "<associationSet><item><main>true</main></item></associationSet>"
    routes = f"<routeSet>{local}{default if target else ''}</routeSet>"
    return f"<R><routeTableSet><item><routeTableId>rtb-1</routeTableId>{routes}{main}</item></routeTableSet></R>"


_ADDRESS = "<R><publicIp>198.51.100.1</publicIp><allocationId>eipalloc-1</allocationId><domain>vpc</domain></R>"
_DEFAULTS: dict[str, Callable[[Request], str | Answer]] = {
    "GetParameter": lambda request: json.dumps({"Parameter": {"Name": request.params["Name"], "Value": "ami-1"}}),
    "DescribeImages": _image,
    "DescribeSubnets": _subnets,
    "DescribeInstanceTypes": lambda request: network_cards(32),
    "CreateSecurityGroup": lambda request: "<R><groupId>sg-1</groupId></R>",
    "AuthorizeSecurityGroupIngress": lambda request: "<R><return>true</return></R>",
    "AuthorizeSecurityGroupEgress": lambda request: "<R><return>true</return></R>",
    "CreatePlacementGroup": lambda request: "<R/>",
    "RunInstances": _launched,
    "TerminateInstances": lambda request: "<R/>",
    "CreateTags": lambda request: "<R/>",
    "DescribeInstances": lambda request: described(),
    "DescribeVolumes": lambda request: "<R><volumeSet/></R>",
    "DescribeNetworkInterfaces": lambda request: "<R><networkInterfaceSet/></R>",
    "DescribeSpotInstanceRequests": lambda request: "<R><spotInstanceRequestSet/></R>",
    "DescribeSecurityGroups": lambda request: "<R><securityGroupInfo/></R>",
    "DescribePlacementGroups": lambda request: "<R><placementGroupSet/></R>",
    "DescribeCapacityReservations": lambda request: "<R><capacityReservationSet/></R>",
    "DescribeRouteTables": lambda request: route_tables(),
    "DescribeAddresses": lambda request: "<R><addressesSet/></R>",
    "GetServiceQuota": lambda request: json.dumps({"Quota": {"Value": 100.0}}),
    "AllocateAddress": lambda request: refusal("DryRunOperation") if "DryRun" in request.params else _ADDRESS,
    "DescribeRegions": lambda request: (
        "<R><regionInfo><item><regionName>us-east-1</regionName></item><item><regionName>eu-west-1</regionName></item></regionInfo></R>"
    ),
}

"""What stands before moto: reads what is asked, meets faults, answers what moto lacks, and lets moto answer the rest."""

import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from multicompute.clock import Clock
from multicompute.testing.local_faults import disturbed
from multicompute.testing.local_server import Request, Response
from multicompute_aws.local import wire
from multicompute_aws.local.instances import Call, Handler
from multicompute_aws.local.moto_cloud import Moto
from multicompute_aws.local.services import Services, json_error
from multicompute_aws.local.state import State
from multicompute_aws.local.wire import AwsError

if TYPE_CHECKING:
    from multicompute.testing.faults import Fault, Faults

_SCOPE = re.compile(r"Credential=[^/]*/\d+/([^/]+)/([^/]+)/")
_XML = "text/xml;charset=UTF-8"
_THROTTLED = AwsError("RequestLimitExceeded", "Request limit exceeded.", 503)
_GLOBAL_REGION = "us-east-1"


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request asks for: the service, the region, the action, and its form or JSON."""

    service: str
    region: str
    action: str
    form: Mapping[str, str]
    is_json: bool


def read(request: Request) -> Asked:
    """Find service, region and action of a request, from its signature and its body."""
    scope = _SCOPE.search(request.headers.get("authorization", ""))
    region, service = (scope[1], scope[2]) if scope else (_GLOBAL_REGION, "ec2")
    target = request.headers.get("x-amz-target", "")
    if target:
        return Asked(service, region, target.rsplit(".", 1)[-1], {}, is_json=True)
    if "x-www-form-urlencoded" in request.headers.get("content-type", "") or request.query:
        text = request.body.decode("utf-8", "replace") if request.body else request.query
        form = dict(parse_qsl(text, keep_blank_values=True))
        return Asked(service, region, form.get("Action", ""), form, is_json=False)
    # Services that speak CBOR or REST name the operation in the path.
    return Asked(service, region, request.path.rsplit("/", 1)[-1], {}, is_json=False)


class Front:
    """The application that the local cloud's server serves.

    Args:
        handlers: the actions of EC2 that are not left to moto.
    """

    def __init__(
        self,
        state: State,
        moto: Moto,
        faults: "Faults",
        clock: Clock,
        services: Services,
        handlers: Mapping[str, Handler],
        admin: Callable[[Request], Response],
    ) -> None:
        self._state = state
        self._moto = moto
        self._faults = faults
        self._clock = clock
        self._services = services
        self._handlers = handlers
        self._admin = admin
        # moto's backends are made at first use and guarded by nothing; one call at a time is what they are made for.
        self._moto_lock = threading.Lock()

    def __call__(self, request: Request) -> Response | None:
        if request.path.startswith("/_local/"):
            return self._admin(request)
        asked = read(request)
        try:
            params = wire.parse_request(asked.action, asked.form) if asked.service == "ec2" else {}
        except AwsError as error:
            self._faults.record(asked.action, asked.region, {"region": asked.region})
            return _refusal(asked, error)
        fields = self._fields(asked, params)
        self._faults.record(asked.action, asked.region, fields)
        fault = self._faults.take(asked.action, fields)
        if fault is None:
            return self._answer(asked, params, request)
        return self._faulty(fault, asked, params, request)

    def _faulty(self, fault: "Fault", asked: Asked, params: Mapping[str, Any], request: Request) -> Response | None:
        def refuse(fault: "Fault") -> Response:
            if fault.kind == "throttle":
                return _refusal(asked, _THROTTLED)
            return _refusal(asked, AwsError(fault.code, fault.message or fault.code, fault.status))

        return disturbed(fault, self._clock, answer=lambda: self._answer(asked, params, request), refuse=refuse)

    def _answer(self, asked: Asked, params: Mapping[str, Any], request: Request) -> Response:
        try:
            if asked.service == "ec2":
                return self._ec2(asked, params, request)
            with self._state.lock:
                own = self._services.answer(asked.service, asked.action, asked.region, request)
            return own or self._theirs(asked, request)
        except AwsError as error:
            return _refusal(asked, error)

    def _ec2(self, asked: Asked, params: Mapping[str, Any], request: Request) -> Response:
        if not self._moto.has_region(asked.region):
            raise AwsError("AuthFailure", f"AWS was not able to validate the region {asked.region}", 401)
        handler = self._handlers.get(asked.action)
        if handler is None:
            return self._theirs(asked, request)
        with self._state.lock, self._moto_lock:
            call = Call(asked.action, self._state.region(asked.region), params, request)
            if params.get("DryRun") and asked.action != "RunInstances":
                raise AwsError("DryRunOperation", "Request would have succeeded, but DryRun flag is set.", 412)
            return Response(200, handler(call), _XML)

    def _theirs(self, asked: Asked, request: Request) -> Response:
        with self._moto_lock:
            response = self._moto.call(request)
        if response.status == 501 or (response.status >= 500 and b"<html" in response.body[:200].lower()):
            # The second is how moto says of a whole service that it does not have it.
            raise AwsError("InvalidAction", f"The action {asked.action} is not valid for this web service.")
        return response

    def _fields(self, asked: Asked, params: Mapping[str, Any]) -> dict[str, object]:
        """What the record of calls says about a call, and what faults can be bound to."""
        fields: dict[str, object] = {"region": asked.region, "service": asked.service}
        if asked.action == "RunInstances":
            fields |= self._launch_fields(asked.region, params)
        for name in ("InstanceIds", "Resources", "GroupId", "GroupName"):
            if name in params:
                fields[name] = params[name]
        if "Filters" in params:
            fields["filters"] = tuple(entry.get("Name", "") for entry in params["Filters"])
        return fields

    def _launch_fields(self, region: str, params: Mapping[str, Any]) -> dict[str, object]:
        nics = params.get("NetworkInterfaces") or [{}]
        subnet_id = params.get("SubnetId") or nics[0].get("SubnetId", "")
        subnet = self._moto.subnet(region, subnet_id) if subnet_id and self._moto.has_region(region) else None
        zone = params.get("Placement", {}).get("AvailabilityZone", "")
        target = params.get("CapacityReservationSpecification", {}).get("CapacityReservationTarget", {})
        return {
            "zone": subnet.availability_zone if subnet is not None else zone,
            "instance_type": params.get("InstanceType", ""),
            "count": params.get("MinCount", 0),
            "token": params.get("ClientToken", ""),
            "spot": params.get("InstanceMarketOptions", {}).get("MarketType") == "spot",
            "reservation": target.get("CapacityReservationId", ""),
            "dry_run": params.get("DryRun", False),
        }


def _refusal(asked: Asked, error: AwsError) -> Response:
    if asked.is_json:
        return json_error(error)
    return Response(error.status, wire.error_body(error), _XML)

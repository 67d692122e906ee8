"""The HTTP application of the local AWS: parses requests, injects faults, answers what moto lacks and passes on the rest."""

import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from multicompute.testing.faults import Fault, FaultKind
from multicompute.testing.local.fault_injection import FaultInjector
from multicompute.testing.local.server import Request, Response
from multicompute_aws.local import wire
from multicompute_aws.local.instances import Call, Handler, denied
from multicompute_aws.local.keys import Keys, key_of, refusal_of_key
from multicompute_aws.local.moto_cloud import Moto
from multicompute_aws.local.security_groups import LateGroups
from multicompute_aws.local.services import Services, json_error
from multicompute_aws.local.state import State
from multicompute_aws.local.wire import AwsError

_SCOPE = re.compile(r"Credential=[^/]*/\d+/([^/]+)/([^/]+)/")
_XML = "text/xml;charset=UTF-8"
_THROTTLED = AwsError("RequestLimitExceeded", "Request limit exceeded.", 503)
_GLOBAL_REGION = "us-east-1"
_LAUNCHING = ("RunInstances", "CreateVolume")
# https://github.com/skyplane-project/skyplane/issues/799
_UNVERIFIED = AwsError(
    "PendingVerification",
    "Your request for accessing resources in this region is being validated, and you will not be able to launch additional"
    " resources in this region until the validation is complete. We will notify you by email once your request has been validated.",
)
# They answer a dry run themselves, after checks of their own.
_CHECKED_BEFORE_DRY_RUN = ("RunInstances", "CreateSecurityGroup")


@dataclass(frozen=True, slots=True)
class ParsedRequest:
    """The service, the region and the action of a request; `form` has its parameters if it is a form."""

    service: str
    region: str
    action: str
    form: Mapping[str, str]
    is_json: bool


def parse(request: Request) -> ParsedRequest:
    """Return the service, the region and the action of a request, from its signature and its body."""
    scope = _SCOPE.search(request.headers.get("authorization", ""))
    region, service = (scope[1], scope[2]) if scope else (_GLOBAL_REGION, "ec2")
    target = request.headers.get("x-amz-target", "")
    if target:
        return ParsedRequest(service, region, target.rsplit(".", 1)[-1], {}, is_json=True)
    if "x-www-form-urlencoded" in request.headers.get("content-type", "") or request.query:
        text = request.body.decode("utf-8", "replace") if request.body else request.query
        form = dict(parse_qsl(text, keep_blank_values=True))
        return ParsedRequest(service, region, form.get("Action", ""), form, is_json=False)
    # Services that speak CBOR or REST name the operation in the path.
    return ParsedRequest(service, region, request.path.rsplit("/", 1)[-1], {}, is_json=False)


class AwsApp:
    """The application that serves EC2 and the services around it."""

    def __init__(
        self,
        state: State,
        moto: Moto,
        injector: FaultInjector,
        services: Services,
        handlers: Mapping[str, Handler],
        keys: Keys,
    ) -> None:
        """Answer the actions of EC2 in `handlers` and the requests that `services` knows; pass the others on to moto.

        `keys` decides which credentials are accepted.
        """
        self._keys = keys
        self._state = state
        self._moto = moto
        self._injector = injector
        self._services = services
        self._handlers = handlers
        self._late_groups = LateGroups(state, moto)
        # moto creates its backends at first use without a lock, and is written for one call at a time.
        self._moto_lock = threading.Lock()

    def __call__(self, request: Request) -> Response | None:
        """Answer a request."""
        parsed = parse(request)
        try:
            params = wire.parse_request(parsed.action, parsed.form) if parsed.service == "ec2" else {}
        except AwsError as error:
            self._injector.record(parsed.action, parsed.region, {"region": parsed.region})
            return _error(parsed, error)
        return self._injector.answer(
            parsed.action,
            self._fields(parsed, params),
            answer=lambda: self._answer(parsed, params, request),
            refuse=lambda fault: _error(parsed, _refusal(fault)),
        )

    def _answer(self, parsed: ParsedRequest, params: Mapping[str, Any], request: Request) -> Response:
        try:
            self._admit(parsed, request)
            if parsed.service == "ec2":
                return self._ec2(parsed, params, request)
            with self._state.lock:
                own = self._services.answer(parsed.service, parsed.action, parsed.region, request)
            return own or self._forward(parsed, request)
        except AwsError as error:
            return _error(parsed, error)

    def _admit(self, parsed: ParsedRequest, request: Request) -> None:
        """Refuse credentials that are not accepted, and regions that the account can't use."""
        if (fault := self._keys.fault(key_of(request))) is not None:
            raise refusal_of_key(parsed.service, fault)
        status = self._state.region_status.get(parsed.region)
        if status == "disabled":
            # Valid credentials are unknown there, and the answer is the same as to wrong ones.
            raise refusal_of_key(parsed.service, "unknown")
        if status == "unverified" and parsed.action in _LAUNCHING:
            raise _UNVERIFIED
        if status == "denied" and parsed.service != "sts":
            message = denied(self._moto.account, parsed.action, policy="service control policy")
            raise AwsError(
                "UnauthorizedOperation" if parsed.service == "ec2" else "AccessDeniedException", message, 403
            )

    def _ec2(self, parsed: ParsedRequest, params: Mapping[str, Any], request: Request) -> Response:
        if not self._moto.has_region(parsed.region):
            raise AwsError("AuthFailure", f"AWS was not able to validate the region {parsed.region}", 401)
        handler = self._handlers.get(parsed.action)
        with self._state.lock:
            region = self._state.region(parsed.region)
            with self._late_groups.hidden(parsed.action, region):
                if handler is None:
                    return self._forward(parsed, request)
                with self._moto_lock:
                    self._moto.ec2(parsed.region)
                    call = Call(parsed.action, region, params, request)
                    if params.get("DryRun") and parsed.action not in _CHECKED_BEFORE_DRY_RUN:
                        raise AwsError("DryRunOperation", "Request would have succeeded, but DryRun flag is set.", 412)
                    return Response(200, handler(call), _XML)

    def _forward(self, parsed: ParsedRequest, request: Request) -> Response:
        with self._moto_lock:
            if parsed.service == "ec2":
                # moto creates a region at its first use, and this completes it, or removes its default VPC if the account has none.
                self._moto.ec2(parsed.region)
            response = self._moto.call(request)
        if response.status == 501 or (response.status >= 500 and b"<html" in response.body[:200].lower()):
            # moto answers with an HTML page if it lacks the complete service.
            raise AwsError("InvalidAction", f"The action {parsed.action} is not valid for this web service.")
        return response

    def _fields(self, parsed: ParsedRequest, params: Mapping[str, Any]) -> dict[str, object]:
        """Return the parameters of a call for the record of calls, which the conditions of faults are compared with, too."""
        fields: dict[str, object] = {"region": parsed.region, "service": parsed.service}
        if parsed.action == "RunInstances":
            fields |= self._launch_fields(parsed.region, params)
        for name in ("InstanceIds", "Resources", "GroupId", "GroupName"):
            if name in params:
                fields[name] = params[name]
        if parsed.service == "ec2":
            fields["dry_run"] = params.get("DryRun", False)
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


def _refusal(fault: Fault) -> AwsError:
    if fault.kind is FaultKind.THROTTLE:
        return _THROTTLED
    return AwsError(fault.code, fault.message or fault.code, fault.status)


def _error(parsed: ParsedRequest, error: AwsError) -> Response:
    if parsed.is_json:
        return json_error(error)
    return Response(error.status, wire.error_body(error), _XML)

"""The JSON services beside EC2: image parameters of SSM, Service Quotas, the price list, CloudWatch; and EC2's spot prices."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from multicompute.testing.local_server import Request, Response
from multicompute_aws.local import wire
from multicompute_aws.local.admission import DEFAULT_QUOTA, QUOTAS, QuotaKind
from multicompute_aws.local.filters import Getter, matcher
from multicompute_aws.local.hardware import shapes, zones_of
from multicompute_aws.local.instances import Call, Handler
from multicompute_aws.local.monitoring import check_queries
from multicompute_aws.local.moto_cloud import Moto
from multicompute_aws.local.prices import product, spot_history
from multicompute_aws.local.state import State
from multicompute_aws.local.wire import AwsError

JSON_TYPE = "application/x-amz-json-1.1"
_PAGE = 100
JsonHandler = Callable[[str, Mapping[str, Any]], Mapping[str, Any] | None]
"""Region and parameters -> answer; None leaves it to moto."""


class Services:
    """What moto lacks of the services beside EC2."""

    def __init__(self, state: State, moto: Moto) -> None:
        self._state = state
        self._moto = moto
        self._handlers: Mapping[tuple[str, str], JsonHandler] = {
            ("ssm", "GetParameter"): self.get_parameter,
            ("ssm", "GetParameters"): self.get_parameters,
            ("servicequotas", "GetServiceQuota"): self.get_quota,
            ("servicequotas", "GetAWSDefaultServiceQuota"): self.get_quota,
            ("servicequotas", "ListServiceQuotas"): self.list_quotas,
            ("pricing", "GetProducts"): self.get_products,
            ("monitoring", "GetMetricData"): check_queries,
        }

    def answer(self, service: str, action: str, region: str, request: Request) -> Response | None:
        """The answer to a JSON request, or None where moto is to give it."""
        handler = self._handlers.get((service, action))
        # Older SDKs speak to CloudWatch in forms, which are moto's to read.
        if handler is None or "x-amz-target" not in request.headers:
            return None
        answered = handler(region, json.loads(request.body or b"{}"))
        return None if answered is None else Response(200, json.dumps(answered).encode(), JSON_TYPE)

    def get_parameter(self, region: str, params: Mapping[str, Any]) -> Mapping[str, Any] | None:
        found = self._parameter(region, params.get("Name", ""))
        return {"Parameter": found} if found else None

    def get_parameters(self, region: str, params: Mapping[str, Any]) -> Mapping[str, Any] | None:
        found = {name: self._parameter(region, name) for name in params.get("Names", ())}
        if not any(found.values()):
            return None
        return {
            "Parameters": [value for value in found.values() if value],
            "InvalidParameters": [name for name, value in found.items() if not value],
        }

    def _parameter(self, region: str, name: str) -> dict[str, Any] | None:
        image = self._moto.image_parameter(region, name)
        if image is None:
            return None
        return {
            "Name": name,
            "Type": "String",
            "Value": image,
            "Version": 1,
            "LastModifiedDate": self._state.now().timestamp(),
            "ARN": f"arn:aws:ssm:{region}::parameter{name}",
            "DataType": "aws:ec2:image",
        }

    def get_quota(self, region: str, params: Mapping[str, Any]) -> Mapping[str, Any]:
        code = params.get("QuotaCode")
        kind = next((kind for kind in QUOTAS if kind.code == code and params.get("ServiceCode") == "ec2"), None)
        if kind is None:
            raise AwsError("NoSuchResourceException", "The request failed because the specified quota does not exist.")
        return {"Quota": self._quota(region, kind)}

    def list_quotas(self, region: str, params: Mapping[str, Any]) -> Mapping[str, Any]:
        if params.get("ServiceCode") != "ec2":
            return {"Quotas": []}
        start, size = int(params.get("NextToken") or 0), int(params.get("MaxResults") or _PAGE)
        quotas = [self._quota(region, kind) for kind in QUOTAS]
        answer: dict[str, Any] = {"Quotas": quotas[start : start + size]}
        if start + size < len(quotas):
            answer["NextToken"] = str(start + size)
        return answer

    def _quota(self, region: str, kind: QuotaKind) -> dict[str, Any]:
        return {
            "ServiceCode": "ec2",
            "ServiceName": "Amazon Elastic Compute Cloud (Amazon EC2)",
            "QuotaArn": f"arn:aws:servicequotas:{region}:{self._moto.account}:ec2/{kind.code}",
            "QuotaCode": kind.code,
            "QuotaName": kind.name,
            "Value": self._state.quotas.get((region, kind.code), DEFAULT_QUOTA),
            "Unit": "None",
            "Adjustable": True,
            "GlobalQuota": False,
        }

    def get_products(self, region: str, params: Mapping[str, Any]) -> Mapping[str, Any]:
        wanted = {entry["Field"]: entry["Value"] for entry in params.get("Filters", ())}
        found = None
        if params.get("ServiceCode") == "AmazonEC2" and {"instanceType", "regionCode"} <= wanted.keys():
            found = product(wanted["instanceType"], wanted["regionCode"])
        attributes = found["product"]["attributes"] if found else {}
        fits = found is not None and all(attributes.get(field) == value for field, value in wanted.items())
        return {"FormatVersion": "aws_v1", "PriceList": [json.dumps(found)] if fits else []}

    def handlers(self) -> Mapping[str, Handler]:
        """The actions of EC2 that are answered here."""
        return {"DescribeSpotPriceHistory": self.spot_prices}

    def spot_prices(self, call: Call) -> bytes:
        names = call.params.get("InstanceTypes") or ()
        unknown = [name for name in names if name not in shapes()]
        if unknown:
            raise AwsError("InvalidParameterValue", f"Invalid value '{unknown[0]}' for InstanceType.")
        zones = {name: sorted(found) for name, found in zones_of(call.region.name).items()}
        products = call.params.get("ProductDescriptions") or ["Linux/UNIX"]
        entries = []
        if "Linux/UNIX" in products:
            entries = spot_history(names or sorted(zones), call.region.name, zones, self._state.now())
        if zone := call.params.get("AvailabilityZone"):
            entries = [entry for entry in entries if entry["AvailabilityZone"] == zone]
        matches = matcher(call.params.get("Filters", ()), _SPOT_FILTERS, lambda entry: {})
        found = [entry for entry in entries if matches(entry)]
        values: dict[str, Any] = {"SpotPriceHistory": found}
        return wire.answer(call.action, values)


_SPOT_FILTERS: dict[str, Getter[Mapping[str, Any]]] = {
    "availability-zone": lambda entry: (entry["AvailabilityZone"],),
    "instance-type": lambda entry: (entry["InstanceType"],),
    "product-description": lambda entry: (entry["ProductDescription"],),
    "spot-price": lambda entry: (entry["SpotPrice"],),
}


def json_error(error: AwsError) -> Response:
    """An error as the JSON services answer it."""
    body = json.dumps({"__type": error.code, "message": error.message}).encode()
    return Response(error.status, body, JSON_TYPE, {"x-amzn-ErrorType": error.code})

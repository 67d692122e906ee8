"""The JSON services (image parameters of SSM, Service Quotas, price list, CloudWatch) and EC2's spot prices."""

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from multicompute.testing.local.server import Request, Response, json_response
from multicompute_aws.local import wire
from multicompute_aws.local.addresses import ADDRESS_QUOTA
from multicompute_aws.local.admission import DEFAULT_QUOTA, QUOTAS
from multicompute_aws.local.filters import Getter, matcher
from multicompute_aws.local.hardware import instance_types
from multicompute_aws.local.instances import Call, Handler
from multicompute_aws.local.json_requests import check_parameters
from multicompute_aws.local.monitoring import check_queries
from multicompute_aws.local.moto_cloud import Moto
from multicompute_aws.local.prices import product, spot_history
from multicompute_aws.local.state import State
from multicompute_aws.local.wire import AwsError

JSON_TYPE = "application/x-amz-json-1.1"
_PAGE = 100
_MOST_PRICES = 1000
_QUOTA_NAMES = {**{kind.code: kind.name for kind in QUOTAS}, ADDRESS_QUOTA[0]: ADDRESS_QUOTA[1]}
JsonHandler = Callable[[str, Mapping[str, Any]], Mapping[str, Any] | None]
"""Returns the response for a region and parameters, or None to pass the request on to moto."""


class Services:
    """The requests to JSON services that moto lacks or answers differently."""

    def __init__(self, state: State, moto: Moto) -> None:
        """Answer from the conditions in `state`; requests that are not handled here go to `moto`."""
        self._state = state
        self._moto = moto
        self._handlers: Mapping[tuple[str, str], JsonHandler] = {
            ("ssm", "GetParameter"): self._get_parameter,
            ("ssm", "GetParameters"): self._get_parameters,
            ("servicequotas", "GetServiceQuota"): self._get_quota,
            ("servicequotas", "GetAWSDefaultServiceQuota"): self._get_quota,
            ("servicequotas", "ListServiceQuotas"): self._list_quotas,
            ("pricing", "GetProducts"): self._get_products,
            ("monitoring", "GetMetricData"): check_queries,
        }

    def answer(self, service: str, action: str, region: str, request: Request) -> Response | None:
        """Return the response to a JSON request, or None to pass it on to moto."""
        handler = self._handlers.get((service, action))
        # Older SDKs send forms to CloudWatch, which moto reads.
        if handler is None or "x-amz-target" not in request.headers:
            return None
        params = json.loads(request.body or b"{}")
        check_parameters(service, action, params)
        found = handler(region, params)
        return None if found is None else json_response(200, found, content_type=JSON_TYPE)

    def _get_parameter(self, region: str, params: Mapping[str, Any]) -> Mapping[str, Any] | None:
        found = self._parameter(region, params.get("Name", ""))
        return {"Parameter": found} if found else None

    def _get_parameters(self, region: str, params: Mapping[str, Any]) -> Mapping[str, Any] | None:
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

    def _get_quota(self, region: str, params: Mapping[str, Any]) -> Mapping[str, Any]:
        code = params.get("QuotaCode")
        if params.get("ServiceCode") != "ec2" or code not in _QUOTA_NAMES:
            raise AwsError("NoSuchResourceException", "The request failed because the specified quota does not exist.")
        return {"Quota": self._quota(region, code, _QUOTA_NAMES[code])}

    def _list_quotas(self, region: str, params: Mapping[str, Any]) -> Mapping[str, Any]:
        if params.get("ServiceCode") != "ec2":
            return {"Quotas": []}
        start, size = int(params.get("NextToken") or 0), int(params.get("MaxResults") or _PAGE)
        quotas = [self._quota(region, code, name) for code, name in _QUOTA_NAMES.items()]
        found: dict[str, Any] = {"Quotas": quotas[start : start + size]}
        if start + size < len(quotas):
            found["NextToken"] = str(start + size)
        return found

    def _quota(self, region: str, code: str, name: str) -> dict[str, Any]:
        return {
            "ServiceCode": "ec2",
            "ServiceName": "Amazon Elastic Compute Cloud (Amazon EC2)",
            "QuotaArn": f"arn:aws:servicequotas:{region}:{self._moto.account}:ec2/{code}",
            "QuotaCode": code,
            "QuotaName": name,
            "Value": self._state.quotas.get((region, code), DEFAULT_QUOTA),
            "Unit": "None",
            "Adjustable": True,
            "GlobalQuota": False,
        }

    def _get_products(self, region: str, params: Mapping[str, Any]) -> Mapping[str, Any]:
        wanted = {entry["Field"]: entry["Value"] for entry in params.get("Filters", ())}
        found = None
        if params.get("ServiceCode") == "AmazonEC2" and {"instanceType", "regionCode"} <= wanted.keys():
            found = product(wanted["instanceType"], wanted["regionCode"])
        attributes = found["product"]["attributes"] if found else {}
        fits = found is not None and all(attributes.get(field) == value for field, value in wanted.items())
        return {"FormatVersion": "aws_v1", "PriceList": [json.dumps(found)] if fits else []}

    def handlers(self) -> Mapping[str, Handler]:
        """Return the handlers of EC2's actions."""
        return {"DescribeSpotPriceHistory": self._spot_prices}

    def _spot_prices(self, call: Call) -> bytes:
        names = call.params.get("InstanceTypes") or ()
        unknown = [name for name in names if name not in instance_types()]
        if unknown:
            raise AwsError("InvalidParameterValue", f"Invalid value '{unknown[0]}' for InstanceType.")
        zones = {name: sorted(found) for name, found in self._state.offered(call.region.name).items()}
        products = call.params.get("ProductDescriptions") or ["Linux/UNIX"]
        wanted = names or sorted(zones) if "Linux/UNIX" in products else ()
        now = self._state.now()
        until = min(_instant(call.params.get("EndTime")) or now, now)
        since = _instant(call.params.get("StartTime")) or until
        entries = [
            entry
            for name in wanted
            for zone in zones.get(name, ())
            if call.params.get("AvailabilityZone") in (None, zone)
            for entry in spot_history(
                name, zone, call.region.name, self._state.spot_prices.get((zone, name), ()), since=since, until=until
            )
        ]
        matches = matcher(call.params.get("Filters", ()), _SPOT_FILTERS, lambda entry: {})
        found = [entry for entry in entries if matches(entry)]
        start, size = (
            int(call.params.get("NextToken") or 0),
            min(call.params.get("MaxResults") or _MOST_PRICES, _MOST_PRICES),
        )
        more = str(start + size) if start + size < len(found) else ""
        values: dict[str, Any] = {"SpotPriceHistory": found[start : start + size], "NextToken": more}
        return wire.response_body(call.action, values)


def _instant(given: str | None) -> datetime | None:
    return datetime.fromisoformat(given) if given else None


_SPOT_FILTERS: dict[str, Getter[Mapping[str, Any]]] = {
    "availability-zone": lambda entry: (entry["AvailabilityZone"],),
    "instance-type": lambda entry: (entry["InstanceType"],),
    "product-description": lambda entry: (entry["ProductDescription"],),
    "spot-price": lambda entry: (entry["SpotPrice"],),
}


def json_error(error: AwsError) -> Response:
    """Return an error in the format of the JSON services."""
    document = {"__type": error.code, "message": error.message}
    return json_response(error.status, document, {"x-amzn-ErrorType": error.code}, JSON_TYPE)

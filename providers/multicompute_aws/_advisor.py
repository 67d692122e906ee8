"""Reads interruption rates of spot instances from the data of the Spot Instance Advisor."""

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import timedelta
from typing import Any, Final

from botocore.awsrequest import AWSRequest
from botocore.exceptions import BotoCoreError
from botocore.httpsession import URLLib3Session
from botocore.utils import get_environ_proxies

from multicompute.clock import Clock
from multicompute.errors import MulticomputeError, TransientError
from multicompute.price_feed import Interruption
from multicompute.provider_kit.endpoints import is_loopback
from multicompute_aws._settings import AwsSettings

OPERATION: Final = "spot-advisor-data.json"
# The page https://aws.amazon.com/ec2/spot/instance-advisor/ reads this file; alexei-led/spotinfo, internal/spot/data.go, has the address.
_BUCKET: Final = "spot-bid-advisor"
_PUBLIC: Final = f"https://{_BUCKET}.s3.amazonaws.com/{OPERATION}"
# What the values of `r` mean: the share of the spot instances that was interrupted within the last month.
_RANGES: Final[Mapping[int, tuple[float, float]]] = {
    0: (0.0, 0.05),
    1: (0.05, 0.10),
    2: (0.10, 0.15),
    3: (0.15, 0.20),
    4: (0.20, 1.0),
}
_ATTEMPTS: Final = 3
_PAUSE: Final = timedelta(milliseconds=500)
_TIMEOUT: Final = 30


def address(settings: AwsSettings) -> str:
    """Return the address of the data: the setting, else the bucket on the configured endpoint of S3, else the public file."""
    endpoint = settings.endpoint("s3")
    return settings.spot_advisor_url or (f"{endpoint}/{_BUCKET}/{OPERATION}" if endpoint else _PUBLIC)


def interruptions(
    settings: AwsSettings,
    regions: Collection[str],
    types: Collection[str],
    *,
    clock: Clock,
    on_request: Callable[[str], None],
) -> list[Interruption]:
    """Return the interruption rates of Linux instances.

    Raises:
        MulticomputeError: The data could not be read, or have another format.
    """
    url = address(settings)
    body = _fetched(url, on_request, clock)
    try:
        return list(_rates(json.loads(body)["spot_advisor"], regions, types))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise MulticomputeError(
            f"aws: {url}: not in the format of the Spot Advisor: {error!r}", provider="aws"
        ) from error


def _rates(data: Mapping[str, Any], regions: Collection[str], types: Collection[str]) -> Iterator[Interruption]:
    for region in sorted(set(regions) & data.keys()):
        rows = data[region].get("Linux") or {}
        for name in sorted(set(types) & rows.keys()):
            limits = _RANGES.get(rows[name].get("r"))
            if limits is not None:
                yield Interruption(name, region, *limits, period="month")


def _fetched(url: str, on_request: Callable[[str], None], clock: Clock) -> bytes:
    """Return the file at an address, which needs no credentials."""
    session = URLLib3Session(timeout=_TIMEOUT, proxies={} if is_loopback(url) else get_environ_proxies(url))
    problem = ""
    try:
        for attempt in range(_ATTEMPTS):
            if attempt:
                clock.sleep(attempt * _PAUSE)
            on_request(OPERATION)
            try:
                answer = session.send(AWSRequest("GET", url).prepare())
            except BotoCoreError as error:
                problem = str(error)
                continue
            if answer.status_code == 200:
                content: bytes = answer.content
                return content
            problem = f"HTTP {answer.status_code}"
            if answer.status_code not in (408, 429) and answer.status_code < 500:
                break
    finally:
        session.close()
    raise TransientError(f"aws: {url}: {problem}", provider="aws")

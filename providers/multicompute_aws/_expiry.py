"""Moves the end of life of nodes, in the tag that their timers read."""

from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from multicompute.provider import TAG_EXPIRES_AT, Selector, expiry_tag
from multicompute.provider_kit.calls import batches
from multicompute.provider_kit.vendor_errors import Place
from multicompute_aws._errors import translate_errors
from multicompute_aws._list import live_instances
from multicompute_aws._session import Clients

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client

# The most resources that one CreateTags call takes.
_TAGGED_AT_ONCE: Final = 1000


def set_expiry(clients: Clients, selector: Selector, expires_at: datetime | None) -> None:
    """Write the expiry tag of the selected instances, see `Provider.set_expiry`; their timers read it within a minute."""
    tags: Any = [{"Key": TAG_EXPIRES_AT, "Value": expiry_tag(expires_at)}]

    def in_region(ec2: "EC2Client", place: Place) -> None:
        ids = [item["InstanceId"] for item in live_instances(ec2, selector, place)]
        for batch in batches(ids, _TAGGED_AT_ONCE):
            with translate_errors("CreateTags", place):
                ec2.create_tags(Resources=batch, Tags=tags)

    clients.in_regions(selector.region, in_region)

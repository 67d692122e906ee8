"""Moves the end of life of nodes, in the tag that their timers read."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from multicompute.provider import TAG_EXPIRES_AT, TAG_ID, Selector
from multicompute.provider_kit.calls import batches
from multicompute.provider_kit.vendor_errors import Place
from multicompute_aws._errors import translate_errors
from multicompute_aws._list import live_instances, token_of
from multicompute_aws._session import Clients
from multicompute_aws._tags import ec2_tags, plain_tags
from multicompute_aws._until import reads_groups, set_until

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client

# The most resources that one CreateTags call takes.
_TAGGED_AT_ONCE: Final = 1000


def set_expiry(clients: Clients, selector: Selector, expiry: str, restore: Mapping[str, str]) -> None:
    """Write the expiry tag of the selected instances, see `Provider.set_expiry`; their timers read it within a minute.

    `restore` is set on those that lack our tags and were launched with one of the tokens of the selector.
    """

    def in_region(ec2: "EC2Client", place: Place) -> None:
        live = live_instances(ec2, selector, place)
        # First: if this fails, the tags still say what the nodes do.
        set_until(ec2, [item for item in live if reads_groups(item)], expiry, place)
        untagged = [item for item in live if TAG_ID not in plain_tags(item.get("Tags")) and token_of(item, selector)]
        if restore:
            _set_tags(ec2, untagged, {**restore, TAG_EXPIRES_AT: expiry}, place)
        else:
            untagged = []
        _set_tags(ec2, [item for item in live if item not in untagged], {TAG_EXPIRES_AT: expiry}, place)

    clients.in_regions(selector.region, in_region)


def _set_tags(ec2: "EC2Client", items: Iterable[Mapping[str, Any]], tags: Mapping[str, str], place: Place) -> None:
    pairs: Any = ec2_tags(tags)
    for batch in batches([item["InstanceId"] for item in items], _TAGGED_AT_ONCE):
        with translate_errors("CreateTags", place):
            ec2.create_tags(Resources=list(batch), Tags=pairs)

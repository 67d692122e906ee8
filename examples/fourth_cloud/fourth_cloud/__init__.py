"""Fourth, a cloud that does not exist: an example of a provider, complete and small enough to copy."""

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from multicompute.provider import TagLimits
from multicompute.provider_kit.plugin import Plugin

if TYPE_CHECKING:
    from multicompute.provider import ProviderPlugin

# Annotated, so that a type checker compares it with the protocol. `extra` and `modules` are left out: they are for SDKs that are an extra of
# multicompute itself, and this distribution depends on its SDK.
plugin: "ProviderPlugin" = Plugin(
    name="fourth",
    tables=Path(__file__).parent / "data",
    # Fourth accepts 32 labels, five of which are ours.
    tag_limits=TagLimits(count=27, key_length=63, value_length=255, key_pattern=r"[A-Za-z0-9._/-]+"),
    # Fourth's price list: "by the second, from the first".
    billing_minimum=timedelta(0),
    settings="fourth_cloud._settings:FourthSettings",
    provider="fourth_cloud._provider:FourthProvider",
    local_cloud="fourth_cloud.local:FourthLocalCloud",
    sign_in="export FOURTH_API_KEY=...",
)

"""Writes the script that a node runs at first boot: the expiry timer and the user's setup."""

import base64
import gzip
from datetime import datetime
from typing import Final

from multicompute.errors import InvalidRequestError
from multicompute.provider import TAG_EXPIRES_AT, expiry_tag
from multicompute.provider_kit.boot import expiry_script, setup_commands, timer_commands

# https://learn.microsoft.com/azure/virtual-machines/custom-data: 65,535 characters once it is in base64; cloud-init unpacks gzip.
LIMIT: Final = 65535 * 3 // 4

_ARM: Final = "https://management.azure.com"
_API: Final = "2021-02-01"
_DELETE_API: Final = "2024-07-01"

# In JSON the quotes of a value are escaped, so that no other tag's value can look like ours.
_CLOUD: Final = f"""\
metadata=http://169.254.169.254/metadata
ask() {{ curl -sf -m 5 --noproxy '*' -H Metadata:true -D "$run/headers" "$metadata/$1"; }}
read_expiry() {{
  ask 'instance/compute/tagsList?api-version={_API}' | tr -d '\\r\\n' |
    grep -oE '"name" *: *"{TAG_EXPIRES_AT}" *, *"value" *: *"[^"]*"' | cut -d'"' -f8
}}
"""


def _deletion(identity: str | None) -> str:
    """How the node has its machine deleted: with a managed identity that may.

    Without one it powers off, which stops the work but not the bill: Azure bills a machine that was shut down from inside until it
    is deallocated or deleted.
    """
    if not identity:
        return ""
    return f"""\
arm={_ARM}
delete_node() {{
  local token id
  token=$(ask "identity/oauth2/token?api-version=2018-02-01&resource=$arm/&msi_res_id={identity}" |
    sed -n 's/.*"access_token" *: *"\\([^"]*\\)".*/\\1/p')
  id=$(ask 'instance/compute/resourceId?api-version={_API}&format=text')
  [[ -n $token && -n $id ]] && curl -sf -m 30 -X DELETE -H "Authorization: Bearer $token" \\
    "$arm$id?api-version={_DELETE_API}&forceDeletion=true" > /dev/null
}}
"""


def custom_data(*, expires_at: datetime | None, identity: str | None, setup: str) -> str:
    """The custom data of a node in base64; the same arguments give the same text, as a repeated launch needs.

    Args:
        expires_at: the end of the lease at the launch, None for none.
        identity: resource id of the user-assigned identity with which the node has itself deleted, None for none.
        setup: the user's script.

    Raises:
        InvalidRequestError: it stays over Azure's limit although it is packed.
    """
    script = expiry_script(expiry=expiry_tag(expires_at), cloud=_CLOUD + _deletion(identity))
    lines = ["#!/bin/bash", *timer_commands(script), *setup_commands(setup)]
    return base64.b64encode(_packed("\n".join(lines) + "\n")).decode()


def _packed(script: str) -> bytes:
    plain = script.encode()
    if len(plain) <= LIMIT:
        return plain
    # Without a time in it: Azure compares the bytes when a launch is repeated.
    packed = gzip.compress(plain, mtime=0)
    if len(packed) > LIMIT:
        raise InvalidRequestError(
            f"azure: setup: {len(packed):,} bytes of custom data, packed; Azure takes {LIMIT:,}",
            provider="azure",
            code="InvalidCustomData",
            hint="let setup= download the rest, from Blob Storage for example",
        )
    return packed

"""The custom data of a node: the timer that enforces the lease, and the user's setup."""

import base64
from datetime import datetime
from typing import Final

from multicompute.provider import TAG_EXPIRES_AT
from multicompute.provider_kit.boot import boot_script, fitted

# https://learn.microsoft.com/azure/virtual-machines/custom-data: 65,535 characters once it is in base64; cloud-init unpacks gzip.
LIMIT: Final = 65535 * 3 // 4

_ARM: Final = "https://management.azure.com"
_API: Final = "2021-02-01"
_DELETE_API: Final = "2024-07-01"

# "User data for Azure Virtual Machine": what can be changed of one instance of a Uniform scale set, which has no tags of its own.
_USER_DATA: Final = "2021-01-01"

_ASK: Final = """\
metadata=http://169.254.169.254/metadata
ask() { curl -sf -m 5 --noproxy '*' -H Metadata:true -D "$run/headers" "$metadata/$1"; }
"""
# The tags come as JSON, in which the quotes of a value are escaped: no other tag's value can look like our tag.
_TAGGED: Final = f"""\
read_expiry() {{
  ask 'instance/compute/tagsList?api-version={_API}' | tr -d '\\r\\n' |
    grep -oE '"name" *: *"{TAG_EXPIRES_AT}" *, *"value" *: *"[^"]*"' | cut -d'"' -f8
}}
"""


_RECORDED: Final = f"""\
read_expiry() {{
  ask 'instance/compute/userData?api-version={_USER_DATA}&format=text' | base64 -d 2>/dev/null |
    sed -n 's/^{TAG_EXPIRES_AT}=//p' | tail -n 1
}}
"""


def custom_data(*, expires_at: datetime | None, identity: str | None, setup: str, is_uniform: bool = False) -> str:
    """Return the custom data of a node in base64; the same arguments give the same text, as a repeated launch needs.

    Args:
        expires_at: The end of the lease at the launch, None for none.
        identity: The resource id of the user-assigned identity with which the node deletes itself, None for none.
        setup: The user's script.
        is_uniform: Whether the node is in a Uniform scale set, and reads its expiry from its user data instead of its tags.

    Raises:
        InvalidRequestError: It exceeds Azure's limit even when compressed.
    """
    cloud = _ASK + (_RECORDED if is_uniform else _TAGGED) + _deletion(identity)
    script = boot_script(expires_at=expires_at, cloud=cloud, setup=setup)
    packed = fitted(
        script,
        LIMIT,
        provider="azure",
        field="custom data",
        code="InvalidCustomData",
        hint="let setup= download the rest, from Blob Storage for example",
    )
    return base64.b64encode(packed).decode()


def _deletion(identity: str | None) -> str:
    """Return the shell function with which the node has its machine deleted, by a managed identity that may delete it.

    Without an identity the node powers off, which stops the work but not the bill: Azure bills a machine that was shut down from inside
    until it is deallocated or deleted.
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

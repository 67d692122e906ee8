"""The metadata of a node: the timer that enforces the lease, the key that may log in, and the user's setup."""

from datetime import datetime
from typing import Final

from multicompute.provider import TAG_EXPIRES_AT, LaunchRequest, expiry_tag
from multicompute.provider_kit.boot import boot_script, fitted

# https://cloud.google.com/compute/docs/metadata/setting-custom-metadata: 256 KB for one value.
LIMIT: Final = 256 * 1024
SSH_USER: Final = "ubuntu"
"""The user that the guest agent makes for the key of a request."""

# By address, so it is found on nodes that use another name server.
_METADATA: Final = "http://169.254.169.254/computeMetadata/v1/instance"
_CLOUD: Final = f"""\
metadata={_METADATA}
ask() {{ curl -sf -m 5 --noproxy '*' -H 'Metadata-Flavor: Google' -D "$run/headers" "$metadata/$1"; }}
read_expiry() {{ ask attributes/{TAG_EXPIRES_AT}; }}
"""
GUEST_NAMESPACE: Final = "multicompute"
"""The namespace of the guest attributes in which the hosts of a slice publish the ids of their machines."""
GUEST_KEY: Final = "worker-"
"""The key of the guest attribute, before the number of the worker."""
# Cloud Monitoring identifies the chips of a host by the id of its machine, which the TPU API does not have, so each host publishes it.
_PUBLISH_ID: Final = f"""\
publish_id() {{
  local ask=(curl -sf -m 5 --noproxy '*' -H 'Metadata-Flavor: Google') metadata={_METADATA} worker number
  worker=$("${{ask[@]}}" "$metadata/attributes/agent-worker-number") && number=$("${{ask[@]}}" "$metadata/id") || return 0
  "${{ask[@]}}" -X PUT --data "$number" "$metadata/guest-attributes/{GUEST_NAMESPACE}/{GUEST_KEY}$worker" > /dev/null
}}
publish_id"""
# Google runs the script at every boot, and the setup must run at the first one only.
_FIRST_BOOT_ONLY: Final = "[ -e /var/lib/multicompute/setup-status ] && exit 0"


def metadata_of(request: LaunchRequest, *, delete_url: str = "", of_slice: bool = False) -> dict[str, str]:
    """Return the metadata of a node; the same request gives the same metadata.

    Args:
        request: The launch.
        delete_url: The resource that the node deletes when its lease has ended, with the permissions of its service account; "" for none.
        of_slice: Whether the node is a host of a TPU slice.

    Raises:
        InvalidRequestError: The script exceeds Google's limit.
    """
    script = fitted(
        startup_script(setup=request.setup, expires_at=request.expires_at, delete_url=delete_url, of_slice=of_slice),
        LIMIT,
        provider="gcp",
        field="startup script",
        code="InvalidStartupScript",
        hint="let setup= download the rest, from Cloud Storage for example",
        may_compress=False,
    )
    items = {
        "startup-script": script.decode(),
        TAG_EXPIRES_AT: expiry_tag(request.expires_at),
        # Only the key of the request may log in: neither the project's keys nor the accounts of OS Login.
        "block-project-ssh-keys": "TRUE",
        "enable-oslogin": "FALSE",
    }
    if of_slice or request.ssh_public_key:
        # The guest agent publishes the node's host keys there.
        items["enable-guest-attributes"] = "TRUE"
    if request.ssh_public_key:
        items["ssh-keys"] = f"{SSH_USER}:{request.ssh_public_key.strip()}"
    return items


def startup_script(*, setup: str, expires_at: datetime | None, delete_url: str = "", of_slice: bool = False) -> str:
    """Return the startup script of a node; see `metadata_of` for the arguments."""
    commands = [_PUBLISH_ID] if of_slice else []
    if setup.strip():
        commands.append(_FIRST_BOOT_ONLY)
    return boot_script(expires_at=expires_at, cloud=_CLOUD + _deletion(delete_url), commands=commands, setup=setup)


def _deletion(url: str) -> str:
    if not url:
        return ""
    return f"""\
url='{url}'
delete_node() {{
  local token
  token=$(ask service-accounts/default/token | sed -n 's/.*"access_token" *: *"\\([^"]*\\)".*/\\1/p')
  [[ -n $token ]] && curl -sf -m 20 -X DELETE -H "Authorization: Bearer $token" "$url" > /dev/null
}}
"""

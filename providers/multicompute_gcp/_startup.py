"""Writes what a node is told at boot: the timer that ends it with its lease, the user's setup, and the key that may log in."""

from datetime import datetime
from typing import Final

from multicompute.errors import InvalidRequestError
from multicompute.provider import TAG_EXPIRES_AT, LaunchRequest, expiry_tag
from multicompute.provider_kit.boot import expiry_script, setup_commands, timer_commands

# https://cloud.google.com/compute/docs/metadata/setting-custom-metadata: 256 KB for one value.
_LIMIT: Final = 256 * 1024
_SSH_USER: Final = "ubuntu"

# By its address: it must be found where names are looked up elsewhere, too.
_METADATA: Final = "http://169.254.169.254/computeMetadata/v1/instance"
_CLOUD: Final = f"""\
metadata={_METADATA}
ask() {{ curl -sf -m 5 --noproxy '*' -H 'Metadata-Flavor: Google' -D "$run/headers" "$metadata/$1"; }}
read_expiry() {{ ask attributes/{TAG_EXPIRES_AT}; }}
"""
# Where a host of a slice says at boot which machine it is, by its place in the slice: Cloud Monitoring tells of its chips by that.
GUEST_NAMESPACE: Final = "multicompute"
GUEST_KEY: Final = "worker-"
_INTRODUCTION: Final = f"""\
introduce() {{
  local ask=(curl -sf -m 5 --noproxy '*' -H 'Metadata-Flavor: Google') metadata={_METADATA} worker number
  worker=$("${{ask[@]}}" "$metadata/attributes/agent-worker-number") && number=$("${{ask[@]}}" "$metadata/id") || return 0
  "${{ask[@]}}" -X PUT --data "$number" "$metadata/guest-attributes/{GUEST_NAMESPACE}/{GUEST_KEY}$worker" > /dev/null
}}
introduce"""


def metadata_of(request: LaunchRequest, *, delete_url: str = "", of_slice: bool = False) -> dict[str, str]:
    """The metadata of a node; the same request gives the same.

    Args:
        request: what is launched.
        delete_url: what the node may ask to be deleted when its lease has ended, with the rights of its service account.
        of_slice: whether it is a host of a TPU slice.

    Raises:
        InvalidRequestError: the script is longer than Google takes.
    """
    script = startup_script(
        setup=request.setup, expires_at=request.expires_at, delete_url=delete_url, of_slice=of_slice
    )
    if len(script) > _LIMIT:
        raise InvalidRequestError(
            f"gcp: setup: {len(script):,} bytes of startup script; Google takes {_LIMIT:,}",
            provider="gcp",
            code="InvalidStartupScript",
            hint="let setup= download the rest, from Cloud Storage for example",
        )
    items = {
        "startup-script": script,
        TAG_EXPIRES_AT: expiry_tag(request.expires_at),
        # Who may log in is said here and nowhere else: neither the project's keys nor OS Login's accounts.
        "block-project-ssh-keys": "TRUE",
        "enable-oslogin": "FALSE",
    }
    if of_slice:
        items["enable-guest-attributes"] = "TRUE"
    if request.ssh_public_key:
        items["ssh-keys"] = f"{_SSH_USER}:{request.ssh_public_key.strip()}"
    return items


def startup_script(*, setup: str, expires_at: datetime | None, delete_url: str = "", of_slice: bool = False) -> str:
    """The startup script, which Google runs at every boot; the user's part of it runs at the first."""
    script = expiry_script(expiry=expiry_tag(expires_at), cloud=_CLOUD + _deletion(delete_url))
    lines = ["#!/bin/bash", *timer_commands(script), *([_INTRODUCTION] if of_slice else [])]
    if first := setup_commands(setup):
        lines += ["[ -e /var/lib/multicompute/setup-status ] && exit 0", *first]
    return "\n".join(lines) + "\n"


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

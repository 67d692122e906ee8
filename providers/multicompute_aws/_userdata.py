"""Writes the script that a node runs at first boot: the expiry timer, the key that may log in, and the user's setup."""

import base64
import gzip
from datetime import datetime
from typing import Final

from multicompute.boot_script import expiry_script, setup_commands, timer_commands
from multicompute.errors import InvalidRequestError
from multicompute.provider import TAG_EXPIRES_AT, expiry_tag

# https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-add-user-data.html: 16 KB before it is encoded; cloud-init unpacks gzip.
LIMIT: Final = 16 * 1024

# Tags in the metadata are enabled at the launch; a tag that was changed shows there within seconds.
_CLOUD: Final = f"""\
metadata=http://169.254.169.254/latest
ask() {{ curl -sf -m 5 --noproxy '*' -D "$run/headers" "$@"; }}
read_expiry() {{
  local token
  token=$(ask -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' "$metadata/api/token") &&
    ask -H "X-aws-ec2-metadata-token: $token" "$metadata/meta-data/tags/instance/{TAG_EXPIRES_AT}"
}}
"""


def user_data(*, expires_at: datetime | None, ssh_public_key: str | None, setup: str) -> bytes:
    """The user data of a node; the same arguments give the same bytes, as a repeated launch needs.

    Raises:
        InvalidRequestError: it stays over EC2's limit of 16 KiB although it is packed.
    """
    # Powering off terminates: the node is launched with that shutdown behaviour.
    script = expiry_script(expiry=expiry_tag(expires_at), cloud=_CLOUD)
    key = [_authorized(ssh_public_key.strip())] if ssh_public_key else []
    return _packed("\n".join(["#!/bin/bash", *timer_commands(script), *key, *setup_commands(setup)]) + "\n")


def _authorized(key: str) -> str:
    encoded = base64.b64encode(f"{key}\n".encode()).decode()
    return f"""\
for user in ubuntu ec2-user admin; do
  home=$(getent passwd "$user" | cut -d: -f6)
  [ -n "$home" ] || continue
  install -d -m 0700 -o "$user" -g "$user" "$home/.ssh"
  echo {encoded} | base64 -d >> "$home/.ssh/authorized_keys"
  chmod 0600 "$home/.ssh/authorized_keys" && chown "$user:$user" "$home/.ssh/authorized_keys"
done"""


def _packed(script: str) -> bytes:
    plain = script.encode()
    if len(plain) <= LIMIT:
        return plain
    # Without a time in it: the bytes are part of what EC2 compares when a launch is repeated.
    packed = gzip.compress(plain, mtime=0)
    if len(packed) > LIMIT:
        raise InvalidRequestError(
            f"aws: setup: {len(packed):,} bytes of user data, packed; EC2 takes {LIMIT:,}",
            provider="aws",
            code="InvalidUserData",
            hint="let setup= download the rest, from S3 for example",
        )
    return packed

"""The user data of a node: the timer that enforces the lease, the key that may log in, and the user's setup."""

import base64
from datetime import datetime
from typing import Final

from multicompute.provider import TAG_EXPIRES_AT
from multicompute.provider_kit.boot import boot_script, fitted

# https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-add-user-data.html: 16 KB before it is encoded; cloud-init unpacks gzip.
LIMIT: Final = 16 * 1024

# A tag that was changed shows in the metadata within seconds, and so do the names of the security groups. One of these names the expiry of
# nodes whose tags can't be in the metadata, see `_until`. The node is launched with the shutdown behaviour "terminate", so powering off
# deletes it and no `delete_node` is needed.
_CLOUD: Final = f"""\
metadata=http://169.254.169.254/latest
ask() {{ curl -sf -m 5 --noproxy '*' -D "$run/headers" "$@"; }}
read_expiry() {{
  local token
  token=$(ask -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' "$metadata/api/token") || return 1
  get() {{ ask -H "X-aws-ec2-metadata-token: $token" "$metadata/meta-data/$1"; }}
  get tags/instance/{TAG_EXPIRES_AT} || get security-groups | sed -n 's/^multicompute-.*-until-//p' | tail -n 1
}}
"""


def user_data(*, expires_at: datetime | None, ssh_public_key: str | None, setup: str) -> bytes:
    """Return the user data of a node; the same arguments give the same bytes, as a repeated launch needs.

    Raises:
        InvalidRequestError: It exceeds EC2's limit of 16 KiB even when compressed.
    """
    key = [_authorize(ssh_public_key.strip())] if ssh_public_key else []
    script = boot_script(expires_at=expires_at, cloud=_CLOUD, commands=key, setup=setup)
    return fitted(
        script,
        LIMIT,
        provider="aws",
        field="user data",
        code="InvalidUserData",
        hint="let setup= download the rest, from S3 for example",
    )


def _authorize(key: str) -> str:
    encoded = base64.b64encode(f"{key}\n".encode()).decode()
    return f"""\
for user in ubuntu ec2-user admin; do
  home=$(getent passwd "$user" | cut -d: -f6)
  [ -n "$home" ] || continue
  install -d -m 0700 -o "$user" -g "$user" "$home/.ssh"
  echo {encoded} | base64 -d >> "$home/.ssh/authorized_keys"
  chmod 0600 "$home/.ssh/authorized_keys" && chown "$user:$user" "$home/.ssh/authorized_keys"
done"""

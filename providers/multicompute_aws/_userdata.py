"""Writes the script that a node runs at first boot: the expiry timer, the key that may log in, and the user's setup."""

import base64
import gzip
from datetime import datetime
from typing import Final

from multicompute.errors import InvalidRequestError
from multicompute.provider import TAG_EXPIRES_AT, expiry_tag

# https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-add-user-data.html: 16 KB before it is encoded; cloud-init unpacks gzip.
LIMIT: Final = 16 * 1024

EXPIRY_PATH: Final = "/usr/local/sbin/multicompute-expiry"
STATE_PATH: Final = "/var/lib/multicompute/expires-at"
_METADATA: Final = "http://169.254.169.254/latest"

_SERVICE: Final = f"""\
[Unit]
Description=Power off when the lease of this node has ended

[Service]
Type=oneshot
ExecStart={EXPIRY_PATH}
"""

_TIMER: Final = """\
[Unit]
Description=Look every minute whether the lease of this node has ended

[Timer]
OnBootSec=60
OnUnitActiveSec=60
AccuracySec=5

[Install]
WantedBy=timers.target
"""


def expiry_script(*, metadata: str = _METADATA, state: str = STATE_PATH) -> str:
    """The script that the timer runs: reads the expiry from this node's own tag, and powers off when it is past.

    The last expiry that could be read is kept on disk, so that it holds while the metadata service does not answer. Powering off
    terminates, because the node was launched with that shutdown behaviour.
    """
    return f"""\
#!/bin/bash
metadata={metadata}
state={state}
token=$(curl -sf -m 5 -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' "$metadata/api/token") &&
  expiry=$(curl -sf -m 5 -H "X-aws-ec2-metadata-token: $token" "$metadata/meta-data/tags/instance/{TAG_EXPIRES_AT}")
if [[ $expiry =~ ^([0-9]+|never)$ ]]; then
  printf '%s\\n' "$expiry" > "$state.new" && mv -f "$state.new" "$state"
else
  expiry=$(cat "$state" 2>/dev/null)
fi
[[ $expiry =~ ^[0-9]+$ ]] || exit 0
if (( $(date +%s) >= expiry )); then
  logger -t multicompute "lease ended at $expiry, powering off" 2>/dev/null
  systemctl poweroff || shutdown -h now
fi
"""


def user_data(*, expires_at: datetime | None, ssh_public_key: str | None, setup: str) -> bytes:
    """The user data of a node; the same arguments give the same bytes, as a repeated launch needs.

    Raises:
        InvalidRequestError: it stays over EC2's limit of 16 KiB although it is packed.
    """
    lines = [
        "#!/bin/bash",
        "install -d -m 0755 /usr/local/sbin /var/lib/multicompute",
        _file(STATE_PATH, expiry_tag(expires_at) + "\n", mode="0644"),
        _file(EXPIRY_PATH, expiry_script(), mode="0755"),
        _file("/etc/systemd/system/multicompute-expiry.service", _SERVICE, mode="0644"),
        _file("/etc/systemd/system/multicompute-expiry.timer", _TIMER, mode="0644"),
        "systemctl daemon-reload",
        "systemctl enable --now multicompute-expiry.timer",
    ]
    if ssh_public_key:
        lines.append(_authorized(ssh_public_key.strip()))
    if setup.strip():
        # Last, so that nothing in it can keep the timer or the key from being set up.
        lines += [
            _file("/var/lib/multicompute/setup", setup if setup.startswith("#!") else f"#!/bin/bash\n{setup}\n"),
            "/var/lib/multicompute/setup > /var/log/multicompute-setup.log 2>&1",
            "echo $? > /var/lib/multicompute/setup-status",
        ]
    return _packed("\n".join(lines) + "\n")


def _file(path: str, content: str, *, mode: str = "0700") -> str:
    """A command that writes a file; the content is encoded, so that nothing in it can be read as a command."""
    encoded = base64.b64encode(content.encode()).decode()
    return f"echo {encoded} | base64 -d > {path} && chmod {mode} {path}"


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

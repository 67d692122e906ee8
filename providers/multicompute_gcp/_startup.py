"""Writes what a node is told at boot: the timer that ends it with its lease, the user's setup, and the key that may log in."""

import base64
from datetime import datetime
from typing import Final

from multicompute.errors import InvalidRequestError
from multicompute.provider import TAG_EXPIRES_AT, LaunchRequest, expiry_tag

# https://cloud.google.com/compute/docs/metadata/setting-custom-metadata: 256 KB for one value.
_LIMIT: Final = 256 * 1024
_METADATA: Final = "http://metadata.google.internal/computeMetadata/v1/instance"
STATE_PATH: Final = "/var/lib/multicompute/expires-at"
_SSH_USER: Final = "ubuntu"

_SERVICE: Final = """\
[Unit]
Description=End this node when its lease has ended

[Service]
Type=oneshot
ExecStart=/usr/local/sbin/multicompute-expiry
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


def metadata_of(request: LaunchRequest, *, delete_url: str = "") -> dict[str, str]:
    """The metadata of a node; the same request gives the same.

    Args:
        request: what is launched.
        delete_url: what the node may ask to be deleted when its lease has ended, with the rights of its service account.

    Raises:
        InvalidRequestError: the script is longer than Google takes.
    """
    script = startup_script(setup=request.setup, expires_at=request.expires_at, delete_url=delete_url)
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
    if request.ssh_public_key:
        items["ssh-keys"] = f"{_SSH_USER}:{request.ssh_public_key.strip()}"
    return items


def expiry_script(*, metadata: str = _METADATA, state: str = STATE_PATH, delete_url: str = "") -> str:
    """The script that the timer runs: reads the expiry from the node's metadata, and ends the node when it is past.

    The last expiry that could be read is kept on disk, so that it holds while the metadata server does not answer.
    """
    delete = ""
    if delete_url:
        delete = f"""\
  token=$(curl -sf -m 5 -H 'Metadata-Flavor: Google' "$metadata/service-accounts/default/token" |
    sed -n 's/.*"access_token" *: *"\\([^"]*\\)".*/\\1/p')
  curl -sf -m 20 -X DELETE -H "Authorization: Bearer $token" '{delete_url}' > /dev/null && exit 0
"""
    return f"""\
#!/bin/bash
metadata={metadata}
state={state}
expiry=$(curl -sf -m 5 -H 'Metadata-Flavor: Google' "$metadata/attributes/{TAG_EXPIRES_AT}")
if [[ $expiry =~ ^([0-9]+|never)$ ]]; then
  printf '%s\\n' "$expiry" > "$state.new" && mv -f "$state.new" "$state"
else
  expiry=$(cat "$state" 2>/dev/null)
fi
[[ $expiry =~ ^[0-9]+$ ]] || exit 0
if (( $(date +%s) >= expiry )); then
  logger -t multicompute "lease ended at $expiry" 2>/dev/null
{delete}  systemctl poweroff || shutdown -h now
fi
"""


def startup_script(*, setup: str, expires_at: datetime | None, delete_url: str = "") -> str:
    """The startup script, which Google runs at every boot; the user's part of it runs at the first."""
    lines = [
        "#!/bin/bash",
        "install -d -m 0755 /usr/local/sbin /var/lib/multicompute",
        f"[ -e {STATE_PATH} ] || echo {expiry_tag(expires_at)} > {STATE_PATH}",
        _file("/usr/local/sbin/multicompute-expiry", expiry_script(delete_url=delete_url), mode="0755"),
        _file("/etc/systemd/system/multicompute-expiry.service", _SERVICE, mode="0644"),
        _file("/etc/systemd/system/multicompute-expiry.timer", _TIMER, mode="0644"),
        "systemctl daemon-reload",
        "systemctl enable --now multicompute-expiry.timer",
    ]
    if setup.strip():
        # Last, so that nothing in it can keep the timer from being set up.
        lines += [
            "[ -e /var/lib/multicompute/setup-status ] && exit 0",
            _file("/var/lib/multicompute/setup", setup if setup.startswith("#!") else f"#!/bin/bash\n{setup}\n"),
            "/var/lib/multicompute/setup > /var/log/multicompute-setup.log 2>&1",
            "echo $? > /var/lib/multicompute/setup-status",
        ]
    return "\n".join(lines) + "\n"


def _file(path: str, content: str, *, mode: str = "0700") -> str:
    """A command that writes a file; the content is encoded, so that nothing in it can be read as a command."""
    encoded = base64.b64encode(content.encode()).decode()
    return f"echo {encoded} | base64 -d > {path} && chmod {mode} {path}"

"""Writes the script that a node runs at first boot: the expiry timer and the user's setup."""

import base64
import gzip
from datetime import datetime
from typing import Final

from multicompute.errors import InvalidRequestError
from multicompute.provider import TAG_EXPIRES_AT, expiry_tag

# https://learn.microsoft.com/azure/virtual-machines/custom-data: 65,535 characters once it is in base64; cloud-init unpacks gzip.
LIMIT: Final = 65535 * 3 // 4

EXPIRY_PATH: Final = "/usr/local/sbin/multicompute-expiry"
STATE_PATH: Final = "/var/lib/multicompute/expires-at"
_METADATA: Final = "http://169.254.169.254/metadata"
_ARM: Final = "https://management.azure.com"
_API: Final = "2021-02-01"
_DELETE_API: Final = "2024-07-01"

_SERVICE: Final = f"""\
[Unit]
Description=End this node when its lease has ended

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


def expiry_script(
    *, identity: str | None = None, metadata: str = _METADATA, state: str = STATE_PATH, arm: str = _ARM
) -> str:
    """The script that the timer runs: reads the expiry from this node's own tags, and ends the node when it is past.

    With a managed identity that may do so, it has the machine deleted. Without one it powers off, which stops the work but not the
    bill: Azure bills a machine that was shut down from inside until it is deallocated or deleted. The last expiry that could be read is
    kept on disk, so that it holds while the metadata service does not answer.

    Args:
        identity: resource id of the user-assigned identity to delete with, None for none.
    """
    return f"""\
#!/bin/bash
metadata={metadata}
state={state}
ask() {{ curl -sf -m 5 --noproxy '*' -H Metadata:true "$metadata/$1"; }}
expiry=$(ask 'instance/compute/tagsList?api-version={_API}' |
  grep -o '"name":"{TAG_EXPIRES_AT}","value":"[^"]*"' | cut -d'"' -f8)
if [[ $expiry =~ ^([0-9]+|never)$ ]]; then
  printf '%s\\n' "$expiry" > "$state.new" && mv -f "$state.new" "$state"
else
  expiry=$(cat "$state" 2>/dev/null)
fi
[[ $expiry =~ ^[0-9]+$ ]] || exit 0
(( $(date +%s) >= expiry )) || exit 0
{_deletion(identity, arm)}logger -t multicompute "lease ended at $expiry, powering off" 2>/dev/null
systemctl poweroff || shutdown -h now
"""


def _deletion(identity: str | None, arm: str) -> str:
    if not identity:
        return ""
    return f"""\
token=$(ask 'identity/oauth2/token?api-version=2018-02-01&resource={arm}/&msi_res_id={identity}' |
  sed -n 's/.*"access_token" *: *"\\([^"]*\\)".*/\\1/p')
id=$(ask 'instance/compute/resourceId?api-version={_API}&format=text')
if [[ -n $token && -n $id ]] && curl -sf -m 30 -X DELETE -H "Authorization: Bearer $token" \\
    "{arm}$id?api-version={_DELETE_API}&forceDeletion=true"; then
  logger -t multicompute "lease ended at $expiry, being deleted" 2>/dev/null
  exit 0
fi
"""


def custom_data(*, expires_at: datetime | None, identity: str | None, setup: str) -> str:
    """The custom data of a node in base64; the same arguments give the same text, as a repeated launch needs.

    Raises:
        InvalidRequestError: it stays over Azure's limit although it is packed.
    """
    lines = [
        "#!/bin/bash",
        "install -d -m 0755 /usr/local/sbin /var/lib/multicompute",
        _file(STATE_PATH, expiry_tag(expires_at) + "\n", mode="0644"),
        _file(EXPIRY_PATH, expiry_script(identity=identity), mode="0755"),
        _file("/etc/systemd/system/multicompute-expiry.service", _SERVICE, mode="0644"),
        _file("/etc/systemd/system/multicompute-expiry.timer", _TIMER, mode="0644"),
        "systemctl daemon-reload",
        "systemctl enable --now multicompute-expiry.timer",
    ]
    if setup.strip():
        # Last, so that nothing in it can keep the timer from being set up.
        lines += [
            _file("/var/lib/multicompute/setup", setup if setup.startswith("#!") else f"#!/bin/bash\n{setup}\n"),
            "/var/lib/multicompute/setup > /var/log/multicompute-setup.log 2>&1",
            "echo $? > /var/lib/multicompute/setup-status",
        ]
    return base64.b64encode(_packed("\n".join(lines) + "\n")).decode()


def _file(path: str, content: str, *, mode: str = "0700") -> str:
    """A command that writes a file; the content is encoded, so that nothing in it can be read as a command."""
    encoded = base64.b64encode(content.encode()).decode()
    return f"echo {encoded} | base64 -d > {path} && chmod {mode} {path}"


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

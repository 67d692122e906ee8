"""The script that a node runs at boot on any cloud: the timer that enforces the lease, and the user's setup."""

import base64
import gzip
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from multicompute.provider import expiry_tag
from multicompute.provider_kit.vendor_errors import Place, invalid_request

SCRIPT: Final = "/usr/local/sbin/multicompute-expiry"
"""The path on the node of the script that the timer runs."""

SETUP: Final = "/var/lib/multicompute/setup"
"""The path on the node of the user's script."""

_UNITS: Final = "/etc/systemd/system/multicompute-expiry"

# Without TimeoutStartSec a oneshot service may run forever, and the timer would wait for it.
_SERVICE: Final = f"""\
[Unit]
Description=Terminate this node when its lease has ended

[Service]
Type=oneshot
ExecStart={SCRIPT}
TimeoutStartSec=120
"""

# OnUnitActiveSec counts from the last start, whether it succeeded or not: a failed run is repeated a minute later.
_TIMER: Final = """\
[Unit]
Description=Check every minute whether the lease of this node has ended

[Timer]
OnBootSec=60
OnUnitActiveSec=60
AccuracySec=5

[Install]
WantedBy=timers.target
"""

_HEAD: Final = """\
#!/bin/bash
launched_until=%s
state=/var/lib/multicompute/expires-at
run=/run/multicompute
uptime=/proc/uptime
delete_node() { false; }
"""

# The end is ten or eleven digits of epoch seconds. Anything else is refused, such as what bash would read as octal or wrap at 64 bits.
_BODY: Final = """\
is_end() { [[ $1 =~ ^([1-9][0-9]{9,10}|never)$ ]]; }

mkdir -p "$run" || true
rm -f "$run/headers"
known=$(cat "$state" 2>/dev/null) || true
is_end "$known" || known=$launched_until
end=$(read_expiry) || true
if ! is_end "$end"; then
  end=$known
elif [[ $end != "$known" ]]; then
  { printf '%s\\n' "$end" > "$state.new" && mv -f "$state.new" "$state"; } || true
fi
[[ $end != never ]] || exit 0

# The metadata service's clock; while the service does not answer, that clock plus the uptime since; after a boot without it the node's own.
up=$(cut -d. -f1 "$uptime")
stamp=$(sed -n 's/^[Dd]ate: *//p' "$run/headers" 2>/dev/null | tail -n 1 | tr -d '\\r') || true
booted=$(cat "$run/booted" 2>/dev/null) || true
if [[ -n $stamp ]] && now=$(date -u -d "$stamp" +%s 2>/dev/null); then
  printf '%s\\n' "$((now - up))" > "$run/booted" || true
elif [[ $booted =~ ^[1-9][0-9]{9,10}$ ]]; then
  now=$((booted + up))
else
  now=$(date +%s)
fi
(( now >= end )) || exit 0

logger -t multicompute "the lease ended at $end" 2>/dev/null || true
if delete_node; then exit 0; fi
systemctl poweroff || shutdown -h now
"""


def boot_script(*, expires_at: datetime | None, cloud: str, commands: Sequence[str] = (), setup: str = "") -> str:
    """Return the script that a node runs at boot; the same arguments give the same text, as a repeated launch needs.

    Args:
        expires_at: The end of the lease at the launch, None for none.
        cloud: The shell functions of the cloud, see `expiry_script`.
        commands: What else to run before the user's setup.
        setup: The user's script, "" for none.
    """
    timer = timer_commands(expiry_script(expiry=expiry_tag(expires_at), cloud=cloud))
    return "\n".join(["#!/bin/bash", *timer, *commands, *setup_commands(setup)]) + "\n"


def fitted(
    script: str, limit: int, *, provider: str, field: str, code: str, hint: str, may_compress: bool = True
) -> bytes:
    """Return a boot script as the cloud accepts it: as it is, or compressed where it is too long.

    Args:
        script: The script.
        limit: The most bytes that the cloud accepts.
        provider: The provider's name.
        field: The cloud's name for what it is sent in, "user data".
        code: The code of the error, in the cloud's style.
        hint: Where `setup=` could download the rest from.
        may_compress: Whether the node decompresses gzip, as cloud-init does.

    Raises:
        InvalidRequestError: It is too long all the same.
    """
    plain = script.encode()
    if len(plain) <= limit:
        return plain
    # Without a time in it: clouds compare the bytes when a launch is repeated with the same token.
    sent = gzip.compress(plain, mtime=0) if may_compress else plain
    if len(sent) > limit:
        compressed = ", compressed" if may_compress else ""
        text = f"setup: {len(sent):,} bytes of {field}{compressed}; the limit is {limit:,}"
        raise invalid_request(text, code=code, place=Place(provider), hint=hint)
    return sent


def expiry_script(*, expiry: str, cloud: str) -> str:
    """Return the script that the timer runs: it reads the end of the lease from the cloud and terminates the node after it.

    The last end that was read is kept on disk, so it still holds while the metadata service does not answer, and after a reboot.

    Args:
        expiry: The value of the expiry tag at the launch, which holds until another has been read.
        cloud: Shell functions. `read_expiry` prints the present value of the tag and writes the headers of the answer to
            "$run/headers". `delete_node`, optional, asks the cloud to delete the node and succeeds if the cloud accepts; otherwise the
            node powers off.
    """
    return _HEAD % expiry + cloud + _BODY


def timer_commands(script: str) -> list[str]:
    """Return the commands that install the timer; they may run at every boot."""
    return [
        "install -d -m 0755 /usr/local/sbin /var/lib/multicompute",
        write_file(SCRIPT, script, mode="0755"),
        write_file(f"{_UNITS}.service", _SERVICE, mode="0644"),
        write_file(f"{_UNITS}.timer", _TIMER, mode="0644"),
        "systemctl daemon-reload",
        "systemctl enable --now multicompute-expiry.timer",
    ]


def setup_commands(setup: str) -> list[str]:
    """Return the commands that run the user's setup. They must come last: nothing in it may keep the rest from running."""
    if not setup.strip():
        return []
    return [
        write_file(SETUP, setup if setup.startswith("#!") else f"#!/bin/bash\n{setup}\n"),
        f"{SETUP} > /var/log/multicompute-setup.log 2>&1",
        "echo $? > /var/lib/multicompute/setup-status",
    ]


def write_file(path: str, content: str, *, mode: str = "0700") -> str:
    """Return a command that writes a file. The content is encoded, so the shell reads no part of it as a command."""
    encoded = base64.b64encode(content.encode()).decode()
    return f"echo {encoded} | base64 -d > {path} && chmod {mode} {path}"

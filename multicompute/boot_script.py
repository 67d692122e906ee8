"""Writes what a node does at boot on any cloud: the timer that ends it with its lease, and the user's setup."""

import base64
from typing import Final

SCRIPT: Final = "/usr/local/sbin/multicompute-expiry"
"""Where the script of the timer stands on the node."""

_UNITS: Final = "/etc/systemd/system/multicompute-expiry"

# A oneshot may run for ever unless it is told otherwise, and the timer would wait for it.
_SERVICE: Final = f"""\
[Unit]
Description=End this node when its lease has ended

[Service]
Type=oneshot
ExecStart={SCRIPT}
TimeoutStartSec=120
"""

# OnUnitActiveSec counts from the last start, whether it went well or not: what failed is tried again a minute later.
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

_HEAD: Final = """\
#!/bin/bash
launched_until=%s
state=/var/lib/multicompute/expires-at
run=/run/multicompute
uptime=/proc/uptime
delete_node() { false; }
"""

# The end is ten or eleven digits of epoch seconds: what bash would read as octal, or wrap around at 64 bits, is none.
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

# The clock of the metadata service; while it is silent the time since then; after a boot without it the node's own clock.
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


def expiry_script(*, expiry: str, cloud: str) -> str:
    """The script that the timer runs: reads the end of the lease from the cloud, and ends the node when it is past.

    The last end that could be read is kept on disk, so that it holds while the metadata service does not answer, and through reboots.

    Args:
        expiry: the end at the launch as the tag says it, for as long as no other has been read.
        cloud: shell functions: `read_expiry` prints what the tag says now, and leaves the headers of the answer in "$run/headers";
            `delete_node`, where the node may have itself deleted, succeeds when the cloud has taken that on. Otherwise it powers off.
    """
    return _HEAD % expiry + cloud + _BODY


def timer_commands(script: str) -> list[str]:
    """The commands that put the timer in place, at the first boot or again."""
    return [
        "install -d -m 0755 /usr/local/sbin /var/lib/multicompute",
        write_file(SCRIPT, script, mode="0755"),
        write_file(f"{_UNITS}.service", _SERVICE, mode="0644"),
        write_file(f"{_UNITS}.timer", _TIMER, mode="0644"),
        "systemctl daemon-reload",
        "systemctl enable --now multicompute-expiry.timer",
    ]


def setup_commands(setup: str) -> list[str]:
    """The commands that run the user's setup; they come last, so that nothing in it can keep the rest from being done."""
    if not setup.strip():
        return []
    return [
        write_file("/var/lib/multicompute/setup", setup if setup.startswith("#!") else f"#!/bin/bash\n{setup}\n"),
        "/var/lib/multicompute/setup > /var/log/multicompute-setup.log 2>&1",
        "echo $? > /var/lib/multicompute/setup-status",
    ]


def write_file(path: str, content: str, *, mode: str = "0700") -> str:
    """A command that writes a file; the content is encoded, so that nothing in it can be read as a command."""
    encoded = base64.b64encode(content.encode()).decode()
    return f"echo {encoded} | base64 -d > {path} && chmod {mode} {path}"

"""Real disks that are full or read-only, for one process: mounted in a mount namespace of its own, which ends with it."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path

_MOUNT = {
    # The ledger is moved to a small disk, whose free space is filled to the last byte.
    "full": 'mount -t tmpfs -o size=2M none "$FOLDER.disk" && cp -a "$FOLDER/." "$FOLDER.disk/" '
    '&& mount --bind "$FOLDER.disk" "$FOLDER" && { cat /dev/zero > "$FOLDER/filler" 2>/dev/null; true; }',
    "read-only folder": 'mount --bind "$FOLDER" "$FOLDER" && mount -o remount,ro,bind "$FOLDER"',
    "read-only file": 'mount --bind "$FOLDER/state.db" "$FOLDER/state.db" && mount -o remount,ro,bind "$FOLDER/state.db"',
}
DISKS = tuple(_MOUNT)
_MOUNT[""] = "true"


@cache
def can_mount() -> bool:
    """Return whether this process may mount in a namespace of its own: as root, outside of most containers."""
    if sys.platform != "linux" or shutil.which("unshare") is None:
        return False
    return (
        subprocess.run(
            ["unshare", "-m", "mount", "-t", "tmpfs", "none", "/mnt"], check=False, capture_output=True
        ).returncode
        == 0
    )


def run_on(
    disk: str, folder: Path, command: list[str], *, environment: Mapping[str, str]
) -> "subprocess.CompletedProcess[str]":
    """Run a command while the disk of `folder` is full or read-only."""
    Path(f"{folder}.disk").mkdir(exist_ok=True)
    script = f'{_MOUNT[disk]} && exec "$@"'
    return subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "sh", *command],
        env={**os.environ, **environment, "FOLDER": str(folder)},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )

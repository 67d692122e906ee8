"""A node whose disk, clock, uptime and power are files in a folder. It runs its boot script with the real bash and curl."""

import base64
import gzip
import os
import re
import shutil
import subprocess
from pathlib import Path

from tests.resilience.leases.metadata_services import MetadataService

METADATA, ARM = "http://169.254.169.254", "https://management.azure.com"
_COMMANDS = {
    # Conversions by the real command; the current time from the clock of the node.
    "date": 'case "$*" in *-d*) exec /usr/bin/env -i /bin/date "$@";; esac\ncat "{folder}/clock"',
    "logger": 'echo "$@" >> "{folder}/log"',
    "systemctl": 'echo "$@" >> "{folder}/systemctl"\n[ "$1" != poweroff ] || exit "$(cat "{folder}/systemctl-status")"',
    "shutdown": 'echo "$@" >> "{folder}/shutdown"\nexit "$(cat "{folder}/shutdown-status")"',
}


class Machine:
    """A node.

    Attributes:
        clock: epoch seconds of its own clock, which may be wrong.
        up: seconds since it booted.
        environment: variables for its scripts, in addition to PATH.
        arm: the URL of Azure Resource Manager.
    """

    def __init__(self, folder: Path, service: MetadataService) -> None:
        self.folder, self.service = folder, service
        self.disk = folder / "disk"
        self.clock, self.up = service.now, 0
        self.environment: dict[str, str] = {}
        self.arm = service.url
        self._commands = folder / "bin"
        for path in (self._commands, self.disk / "run", self.disk / "etc/systemd/system", self.disk / "var/log"):
            path.mkdir(parents=True)
        for name, body in _COMMANDS.items():
            self._commands.joinpath(name).write_text(f"#!/bin/bash\n{body.format(folder=folder)}\n")
            self._commands.joinpath(name).chmod(0o755)
        self.let_power_off()

    def let_power_off(self, *, systemctl: bool = True, shutdown: bool = True) -> None:
        """Set whether the two commands to power off work."""
        (self.folder / "systemctl-status").write_text("0" if systemctl else "1")
        (self.folder / "shutdown-status").write_text("0" if shutdown else "1")

    def boot(self, boot_script: str | bytes) -> None:
        """Boot with user data, custom data or a startup script, as the cloud received it."""
        if isinstance(boot_script, str) and not boot_script.startswith("#!"):
            boot_script = base64.b64decode(boot_script)
        if isinstance(boot_script, bytes):
            is_gzip = boot_script.startswith(b"\x1f\x8b")
            boot_script = (gzip.decompress(boot_script) if is_gzip else boot_script).decode()
        script = re.sub(r"(?<=\s)/(usr/local|etc/systemd|var)/", rf"{self.disk}/\1/", boot_script)
        assert self._run("bash", "-c", script).returncode == 0
        self.pass_time(60)

    def reboot(self) -> None:
        """Reboot: the disk stays, /run is emptied."""
        shutil.rmtree(self.disk / "run")
        (self.disk / "run").mkdir()
        self.up = 0
        self.pass_time(60)

    def pass_time(self, seconds: int) -> None:
        """Let time pass on the node and in the cloud."""
        self.clock += seconds
        self.up += seconds
        self.service.now += seconds

    def tick(self, *options: str) -> int:
        """Run the script of the timer, and return its exit status."""
        (self.folder / "clock").write_text(f"{self.clock}\n")
        (self.folder / "uptime").write_text(f"{self.up}.42 12345.67\n")
        text = (self.disk / "usr/local/sbin/multicompute-expiry").read_text()
        text = text.replace("uptime=/proc/uptime", f"uptime={self.folder / 'uptime'}")
        for path in ("/var/lib", "/run"):
            text = re.sub(rf"^(\w+)={path}/", rf"\1={self.disk}{path}/", text, flags=re.MULTILINE)
        text = text.replace(METADATA, self.service.url).replace(ARM, self.arm)
        script = self.folder / "expiry"
        script.write_text(text)
        return self._run("bash", *options, str(script)).returncode

    def tick_at(self, instant: int, *options: str) -> int:
        """Let time pass until `instant` by the clock of the cloud, and run the script of the timer."""
        self.pass_time(instant - self.service.now)
        return self.tick(*options)

    def _run(self, *command: str) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": f"{self._commands}:/usr/bin:/bin", **self.environment}
        result = subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False, timeout=60
        )
        assert "syntax" not in result.stderr, result.stderr
        return result

    def calls_of(self, name: str) -> list[str]:
        """Return the arguments of each call of a command."""
        path = self.folder / name
        return path.read_text().splitlines() if path.exists() else []

    @property
    def power_offs(self) -> int:
        """How many times a power-off was requested."""
        return self.calls_of("systemctl").count("poweroff") + self.calls_of("shutdown").count("-h now")

    @property
    def ends(self) -> int:
        """How many times the node has powered itself off or requested its deletion."""
        return self.power_offs + self.service.deletions

    @property
    def remembered(self) -> str:
        """The expiry on its disk, "" if none was written."""
        path = self.disk / "var/lib/multicompute/expires-at"
        return path.read_text().strip() if path.exists() else ""

    def unit(self, suffix: str) -> Path:
        """Return the unit file of the timer or the service."""
        return self.disk / f"etc/systemd/system/multicompute-expiry.{suffix}"

    def forget(self) -> None:
        """Empty the file with the expiry, as a crash in the middle of a write may do."""
        (self.disk / "var/lib/multicompute/expires-at").write_bytes(b"")

    def block_writes(self) -> None:
        """Make every write of the expiry fail, as on a full or read-only disk."""
        os.makedirs(self.disk / "var/lib/multicompute/expires-at.new/full", exist_ok=True)

"""The operating systems of the nodes of a local cloud: what a node does by itself, because of its boot script."""

import base64
import gzip
import hashlib
import re
import struct
import threading
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final

from multicompute.clock import Clock
from multicompute.provider import TAG_EXPIRES_AT
from multicompute.provider_kit.boot import SCRIPT, SETUP
from multicompute.testing.faults import ANY_OPERATION, Call
from multicompute.testing.local.cloud import LocalCloud

_INTERVAL: Final = timedelta(milliseconds=200)
"""The shortest interval between checks of the machines."""
_TIMER_DELAY: Final = timedelta(seconds=30)
"""The time from the expiry until the timer ends a node: it checks every minute, so half of that on average."""
_SETUP: Final = re.compile(rf"^echo (\S+) \| base64 -d > {SETUP} ", re.MULTILINE)
_KEY: Final = re.compile(r'echo (\S+) \| base64 -d >> "[^"]*/authorized_keys"')
_POWER_OFF: Final = re.compile(r"^\s*(systemctl poweroff|poweroff|shutdown -[hP] now)\b", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class _Boot:
    """The parts of a boot script that a local machine carries out.

    Attributes:
        has_timer: Whether it installs the timer that ends the node at its expiry.
        powers_off: Whether the user's setup powers the node off.
    """

    has_timer: bool
    powers_off: bool


class Machines:
    """The machines of a local cloud. No operating system runs on them, but two effects of the boot script are simulated.

    A node powers off when its setup script says so, and half a minute after the expiry in its tags. Nothing runs in the background:
    each call of the cloud's API first does what is due.
    """

    def __init__(self, cloud: LocalCloud, clock: Clock, *, has_timers: bool = True) -> None:
        """Simulate the machines of a cloud.

        Args:
            cloud: The cloud.
            clock: The clock of the machines.
            has_timers: False for machines on which the timer of the lease does not work.
        """
        self._cloud = cloud
        self._clock = clock
        self._has_timers = has_timers
        self._boots: dict[str, _Boot] = {}
        self._set_up: set[str] = set()
        self._due: datetime | None = None
        self._lock = threading.Lock()

    def install(self) -> None:
        """Do what is due before each call of the cloud, until `faults.clear()`."""
        self._cloud.faults.hook(ANY_OPERATION, self.on_call)

    def on_call(self, call: Call) -> None:
        """Do what is due."""
        now = self._clock.now()
        if (self._due is None or now >= self._due) and self._lock.acquire(blocking=False):
            try:
                self._due = now + _INTERVAL
                self._run_due(now)
            finally:
                self._lock.release()

    def _run_due(self, now: datetime) -> None:
        running = self._cloud.running_ids()
        if not running:
            return
        tags = {resource.id: resource.tags.get(TAG_EXPIRES_AT, "") for resource in self._cloud.alive()}
        for node_id in running:
            # A node may end in the meantime, and a cloud may have no boot scripts.
            with suppress(ValueError, KeyError, NotImplementedError):
                boot = self._boot(node_id)
                is_first_boot = node_id not in self._set_up
                self._set_up.add(node_id)
                if (boot.powers_off and is_first_boot) or (boot.has_timer and _has_passed(tags.get(node_id, ""), now)):
                    self._cloud.power_off(node_id)

    def _boot(self, node_id: str) -> _Boot:
        if node_id not in self._boots:
            boot = _read(self._cloud.boot_script(node_id))
            self._boots[node_id] = boot if self._has_timers else replace(boot, has_timer=False)
        return self._boots[node_id]


# All nodes of a cluster have the same script.
@lru_cache(maxsize=32)
def _read(sent: str) -> _Boot:
    script = boot_script_text(sent)
    encoded = _SETUP.search(script)
    setup = base64.b64decode(encoded[1]).decode() if encoded else ""
    return _Boot(has_timer=f" > {SCRIPT} " in script, powers_off=bool(_POWER_OFF.search(setup)))


def boot_script_text(script: str) -> str:
    """Return a boot script as text: clouds take it as it is, in base64, or compressed and in base64."""
    if not script or script.startswith("#!"):
        return script
    sent = base64.b64decode(script)
    return (gzip.decompress(sent) if sent.startswith(b"\x1f\x8b") else sent).decode()


def reported_host_key(node_id: str) -> str:
    """Return the host key that a machine without a shell reports to its cloud: a digest of its id in the form of a public key."""
    kind, digest = b"ssh-ed25519", hashlib.sha256(node_id.encode()).digest()
    blob = struct.pack(">I", len(kind)) + kind + struct.pack(">I", len(digest)) + digest
    return f"{kind.decode()} {base64.b64encode(blob).decode()}"


def keys_in(script: str) -> list[str]:
    """Return the public keys that a boot script lets log in."""
    found = re.findall(_KEY, boot_script_text(script))
    return [base64.b64decode(encoded).decode().strip() for encoded in found]


def _has_passed(expiry: str, now: datetime) -> bool:
    return expiry.isdigit() and int(expiry) <= (now - _TIMER_DELAY).timestamp()

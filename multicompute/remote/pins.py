"""The host keys of a cluster's nodes in a file, in the form of `known_hosts` with the ids of nodes in place of addresses."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

_FILE: Final = "known_hosts"
_JUMP: Final = "jump:"


class Pins:
    """The host keys of a cluster. Lines are only ever added, and the first one of a host holds, so no process can replace a key."""

    def __init__(self, folder: Path | None) -> None:
        """Use the folder of a cluster; None keeps nothing."""
        self._path = None if folder is None else folder / _FILE

    def nodes(self) -> dict[str, str]:
        """Return the host keys of nodes, by the id of the node."""
        return {name: key for name, key in self._read().items() if not name.startswith(_JUMP)}

    def jump_hosts(self) -> dict[str, str]:
        """Return the host keys of jump hosts, by "user@address:port"."""
        return {name.removeprefix(_JUMP): key for name, key in self._read().items() if name.startswith(_JUMP)}

    def add(self, nodes: Mapping[str, str], jump_hosts: Mapping[str, str]) -> None:
        """Add the host keys of hosts that have none yet."""
        known = self._read()
        given = {**nodes, **{f"{_JUMP}{name}": key for name, key in jump_hosts.items()}}
        new = {name: key for name, key in given.items() if name not in known}
        if self._path is None or not new:
            return
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lines = "".join(f"{name} {key}\n" for name, key in sorted(new.items()))
        # One write in append mode: several processes may connect for the first time at once.
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(descriptor, lines.encode())
        finally:
            os.close(descriptor)

    def _read(self) -> dict[str, str]:
        if self._path is None or not self._path.exists():
            return {}
        found: dict[str, str] = {}
        for line in self._path.read_text(encoding="utf-8").splitlines():
            name, _, key = line.partition(" ")
            if key:
                found.setdefault(name, key)
        return found

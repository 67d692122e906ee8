"""Keeps what was found on the nodes of a cluster, so that not every command has to ask them again."""

import json
import os
from collections.abc import Iterable, Mapping, MutableMapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from multicompute.remote.launchers.fabric import Facts, parse

_FILE: Final = "nodes.json"


class Findings:
    """The reports of nodes by the id of the node: in memory, and in a file next to the keys of the cluster.

    Only a speed-up: a file that can't be read or written is as good as none.
    """

    def __init__(self, reports: MutableMapping[str, str], folder: Path | None) -> None:
        """Use these reports, and those in the file of a folder; None for no file."""
        self._reports = reports
        self._path = None if folder is None else folder / _FILE
        self._is_read = False

    def get(self, node_id: str) -> Facts | None:
        """Return what was found on a node, None if it was never asked."""
        if node_id not in self._reports and not self._is_read:
            for known, text in self._read().items():
                self._reports.setdefault(known, text)
        report = self._reports.get(node_id)
        return None if report is None else parse(report)

    def add(self, reports: Mapping[str, str]) -> None:
        """Keep the reports of nodes in place of earlier ones."""
        self._reports.update(reports)
        if self._path is None or not reports:
            return
        text = json.dumps({**self._read(), **reports})
        made = self._path.with_name(f".{_FILE}.{os.getpid()}")
        with suppress(OSError):
            made.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            made.write_text(text, encoding="utf-8")
            made.replace(self._path)

    def unknown(self, node_ids: Iterable[str]) -> set[str]:
        """Return which of these nodes were never asked."""
        return {node_id for node_id in node_ids if self.get(node_id) is None}

    def _read(self) -> dict[str, str]:
        self._is_read = True
        try:
            found = json.loads(self._path.read_text(encoding="utf-8")) if self._path is not None else {}
        except (OSError, ValueError):
            return {}
        return {str(node_id): str(report) for node_id, report in found.items()} if isinstance(found, dict) else {}

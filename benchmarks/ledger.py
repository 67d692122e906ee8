"""What writing things down first (I1) costs: ms per intent, against the bare engine, a bare file and SQLAlchemy Core.

Run: python benchmarks/ledger.py. SQLAlchemy is measured where it is installed; the project itself does not need it.
"""

import importlib.util
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path

from multicompute.ledger import AttemptRecord, AttemptState, ClusterRecord, Ledger
from multicompute.node import ClusterState, Event
from multicompute.offer import InstanceType, Offer, Part, Quote

ROUNDS = 300
NOW = datetime(2027, 1, 1, tzinfo=UTC)


def median_ms(work: Callable[[int], object]) -> float:
    times = []
    for number in range(ROUNDS):
        start = time.perf_counter()
        work(number)
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e3


def ours(folder: Path) -> float:
    """An attempt opened by the ledger: three statements and a commit on disk."""
    ledger = Ledger(f"sqlite:///{folder}/ours.db")
    record = ClusterRecord("c-1", "train", ClusterState.REQUESTED, "me", {"gpus": 8}, "{}", NOW)
    ledger.claim(record)
    quote = Quote(55.04, date(2026, 7, 20), "a list")
    offer = Offer(InstanceType("cloud", "big", "h100", 8, 80), "north-1", "north-1a", "on_demand", quote)

    def work(number: int) -> None:
        attempt = AttemptRecord(f"t-{number}", "c-1", number, AttemptState.OPEN, (Part(offer, 8),), NOW)
        assert ledger.open_attempt(attempt, Event(NOW, "attempt", "trying", "c-1", {"nodes": 8}))

    return median_ms(work)


def bare_sqlite(folder: Path) -> float:
    """One row inserted and committed with the same guarantees."""
    connection = sqlite3.connect(folder / "bare.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE attempts (token TEXT PRIMARY KEY, text TEXT)")

    def work(number: int) -> None:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO attempts VALUES (?, ?)", (f"t-{number}", "x" * 400))
        connection.execute("COMMIT")

    return median_ms(work)


def bare_file(folder: Path) -> float:
    """A line appended and forced to the disk: the floor."""
    with (folder / "log").open("ab") as file:

        def work(number: int) -> None:
            file.write(b"x" * 400 + b"\n")
            file.flush()
            os.fdatasync(file.fileno())

        return median_ms(work)


def sqlalchemy_core(folder: Path) -> float:
    """The same row through SQLAlchemy Core."""
    import sqlalchemy as sa

    engine = sa.create_engine(f"sqlite:///{folder}/core.db")

    @sa.event.listens_for(engine, "connect")
    def _safe(connection: sqlite3.Connection, _: object) -> None:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")

    table = sa.Table(
        "attempts", sa.MetaData(), sa.Column("token", sa.Text, primary_key=True), sa.Column("text", sa.Text)
    )
    table.create(engine)

    def work(number: int) -> None:
        with engine.begin() as connection:
            connection.execute(table.insert().values(token=f"t-{number}", text="x" * 400))

    return median_ms(work)


def import_ms(module: str) -> float:
    """A cold import in a process of its own, less the process itself."""

    def run(code: str) -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        return time.perf_counter() - start

    pairs = [(run(f"import {module}"), run("pass")) for _ in range(9)]
    return statistics.median(loaded - empty for loaded, empty in pairs) * 1e3


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        floor = bare_file(folder)
        rows = [
            ("append + fdatasync", floor),
            ("sqlite3, one row", bare_sqlite(folder)),
            ("the ledger's intent", ours(folder)),
        ]
        if importlib.util.find_spec("sqlalchemy"):
            rows.insert(2, ("SQLAlchemy Core, one row", sqlalchemy_core(folder)))
        for label, value in rows:
            print(f"{label:28} {value:7.3f} ms   {value / floor:5.1f} x the floor")
        for module in ("sqlite3", "multicompute.ledger", "sqlalchemy"):
            if importlib.util.find_spec(module.partition(".")[0]):
                print(f"import {module:21} {import_ms(module):7.1f} ms")


if __name__ == "__main__":
    main()

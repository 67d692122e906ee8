"""The engines that could store and query the catalog, on the packaged tables and on ten and a hundred times their rows.

    python benchmarks/catalog_engines.py [--scales 1 10 100] [--rounds 15] [--write benchmarks/results/catalog_engines.txt]

Every engine answers one query in its own process: the 50 cheapest offers of h100 with eight per node. "cold" is the time of the
complete process, minus a Python process that only imports `multicompute.offer`, which every answer needs. "warm" is the same
query again. "reasons" reads all offers of h100 and counts why each is rejected, as a plan does. The engines alternate, so that
other load on the machine affects all of them equally. Engines that are not installed are listed.
"""

import argparse
import csv
import io
import json
import os
import platform
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path
from time import perf_counter
from typing import TextIO

ROOT = Path(__file__).parents[1]
CLOUDS = ("aws", "azure", "gcp")
SHARD = "h100"
Row = tuple[str, str, str, str, str, str, str]
"""Accelerator, number of them, price, provider, region, zones, instance type and purchase joined by a blank."""

FLOOR = "import sys, time\nimport multicompute.errors, multicompute.offer, pathlib\n"
CHILD = (
    FLOOR
    + """
folder, rounds = sys.argv[1], int(sys.argv[2])
start = time.perf_counter()
{imports}
imported = time.perf_counter()
{load}
found = query()
loaded = time.perf_counter()
def median(action):
    times = [0.0]
    for _ in range(rounds):
        begin = time.perf_counter()
        action()
        times.append(time.perf_counter() - begin)
    return sorted(times)[len(times) // 2]
counted = sorted(reasons().items()) if rounds else ""
print(imported - start, loaded - imported, median(query), median(reasons), end=" ")
print(len(found), round(sum(row[0] for row in found), 4), counted)
"""
)

COUNT = """
def reasons():
    found = {}
    for count, purchase in every():
        reason = "surplus" if count != 8 else "spot" if purchase == "spot" else ""
        found[reason] = found.get(reason, 0) + 1
    return found
"""

PLAIN = """
def query():
    found = []
    for row in shard:
        if row[0] == "8":
            for zone in row[4].split(";"):
                found.append((float(row[1]), row[2], row[3], zone, row[5]))
    found.sort()
    return found[:50]
def every():
    return ((float(row[0]), row[5].rpartition(" ")[2]) for row in shard for zone in row[4].split(";"))
"""


@dataclass(frozen=True)
class Engine:
    """A storage format for the catalog.

    Attributes:
        name: the name in the table of results.
        imports, load: the code that its process runs; `load` defines `query`.
        build: writes its file or folder from the rows.
        needs: the distribution that must be installed; "" for the standard library.
        most: the maximum number of lines to measure; engines that read everything are too slow with more.
    """

    name: str
    imports: str
    load: str
    build: Callable[[Path, Path], None]
    needs: str = ""
    most: int = 500_000


def rows(tables: Path) -> Iterator[Row]:
    """Yield every line of the tables in a folder with one sub-folder per provider."""
    for path in sorted(tables.glob("*/*/offers.csv")):
        provider, shard = path.parts[-3:-1]
        with path.open(newline="") as file:
            for line in csv.DictReader(file):
                name = f"{line['instance_type']} {line['purchase']}"
                yield (
                    shard, line["accelerators"], line["hourly_usd"], provider, line["region"], line["zones"], name,
                )  # fmt: skip


def build_nothing(tables: Path, folder: Path) -> None:
    """Do nothing: the shards are the tables themselves."""


def build_csv(tables: Path, folder: Path) -> None:
    with (folder / "all.csv").open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows(tables))


def build_json(tables: Path, folder: Path) -> None:
    shards: dict[str, list[Sequence[str]]] = {}
    for shard, *line in rows(tables):
        shards.setdefault(shard, []).append(line)
    (folder / "all.json").write_text(json.dumps(shards, separators=(",", ":")))


def build_sqlite(tables: Path, folder: Path) -> None:
    with sqlite3.connect(folder / "all.sqlite") as database:
        database.execute(
            "create table offers (shard text, hourly real, accelerators real, provider text, region text, zone text, name text,"
            " primary key (shard, hourly, provider, region, zone, name, accelerators)) without rowid"
        )
        database.executemany("insert into offers values (?, ?, ?, ?, ?, ?, ?)", by_zone(tables))
    database.close()


def by_zone(tables: Path) -> Iterator[tuple[str, float, float, str, str, str, str]]:
    for shard, count, hourly, provider, region, zones, name in rows(tables):
        for zone in zones.split(";"):
            yield shard, float(hourly), float(count), provider, region, zone, name


def build_numpy(tables: Path, folder: Path) -> None:
    import numpy

    names = ("shard", "hourly", "accelerators", "provider", "region", "zone", "name")
    columns = dict(zip(names, map(numpy.array, zip(*by_zone(tables), strict=True)), strict=True))
    numpy.savez(folder / "all.npz", **columns)


def build_polars(tables: Path, folder: Path) -> None:
    import polars

    names = ["shard", "hourly", "accelerators", "provider", "region", "zone", "name"]
    frame = polars.DataFrame(list(by_zone(tables)), schema=names, orient="row").sort("shard", "hourly")
    frame.write_parquet(folder / "all.parquet")


def build_duckdb(tables: Path, folder: Path) -> None:
    import duckdb

    plain = folder / "all.tmp.csv"
    with plain.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("shard", "hourly", "accelerators", "provider", "region", "zone", "name"))
        writer.writerows(by_zone(tables))
    with duckdb.connect(str(folder / "all.duckdb")) as database:
        database.execute(f"create table offers as select * from read_csv('{plain}') order by shard, hourly")
    plain.unlink()


ENGINES = (
    Engine(
        "shards of CSV (ours)",
        "from pathlib import Path\nfrom multicompute.catalog import Catalog",
        """
catalog = Catalog({name: Path(folder, "tables", name) for name in ("aws", "azure", "gcp")})
def query():
    found = []
    for line in catalog.listings("h100"):
        instance = line.instance
        if instance.accelerators == 8:
            for zone in line.zones or ("",):
                found.append(
                    (line.quote.hourly_cost, instance.provider, line.region.name, zone, instance.name, line.purchase)
                )
    found.sort()
    return found[:50]
def every():
    for line in catalog.listings("h100"):
        for _ in range(len(line.zones) or 1):
            yield line.instance.accelerators, line.purchase
""",
        build_nothing,
        most=10**9,
    ),
    Engine(
        "sqlite3",
        "import sqlite3",
        """
database = sqlite3.connect(f"file:{folder}/all.sqlite?mode=ro", uri=True)
def query():
    return database.execute(
        "select hourly, provider, region, zone, name from offers where shard = 'h100' and accelerators = 8"
        " order by hourly, provider, region, zone, name limit 50"
    ).fetchall()
def every():
    for count, name in database.execute("select accelerators, name from offers where shard = 'h100'"):
        yield count, name.rpartition(" ")[2]
""",
        build_sqlite,
        most=10**9,
    ),
    Engine(
        "one JSON file", "import json", 'shard = json.load(open(folder + "/all.json"))["h100"]\n' + PLAIN, build_json
    ),
    Engine(
        "one CSV file",
        "import csv",
        'shard = [row[1:] for row in csv.reader(open(folder + "/all.csv", newline="")) if row[0] == "h100"]\n' + PLAIN,
        build_csv,
    ),
    Engine(
        "numpy",
        "import numpy",
        """
columns = dict(numpy.load(folder + "/all.npz"))
def query():
    chosen = numpy.flatnonzero((columns["shard"] == "h100") & (columns["accelerators"] == 8))
    chosen = chosen[numpy.argsort(columns["hourly"][chosen], kind="stable")[:50]]
    names = ("hourly", "provider", "region", "zone", "name")
    return list(zip(*(columns[name][chosen].tolist() for name in names)))
def every():
    chosen = columns["shard"] == "h100"
    for count, name in zip(columns["accelerators"][chosen].tolist(), columns["name"][chosen].tolist()):
        yield count, name.rpartition(" ")[2]
""",
        build_numpy,
        "numpy",
    ),
    Engine(
        "polars",
        "import polars",
        """
frame = polars.read_parquet(folder + "/all.parquet")
def query():
    chosen = frame.filter((polars.col("shard") == "h100") & (polars.col("accelerators") == 8))
    return chosen.sort("hourly").head(50).select("hourly", "provider", "region", "zone", "name").rows()
def every():
    for count, name in frame.filter(polars.col("shard") == "h100").select("accelerators", "name").rows():
        yield count, name.rpartition(" ")[2]
""",
        build_polars,
        "polars",
    ),
    Engine(
        "duckdb",
        "import duckdb",
        """
database = duckdb.connect(folder + "/all.duckdb", read_only=True)
def query():
    return database.execute(
        "select hourly, provider, region, zone, name from offers where shard = 'h100' and accelerators = 8"
        " order by hourly limit 50"
    ).fetchall()
def every():
    for count, name in database.execute("select accelerators, name from offers where shard = 'h100'").fetchall():
        yield count, name.rpartition(" ")[2]
""",
        build_duckdb,
        "duckdb",
    ),
)


@dataclass(frozen=True)
class Result:
    """The median seconds of one engine, and its `answer`, to compare the answers of all engines."""

    cold: float
    imports: float
    load: float
    warm: float
    reasons: float
    answer: str


def run(script: str, *arguments: str) -> tuple[float, str]:
    """Run a process; return its seconds and its output."""
    environment = {"PATH": os.defpath, "PYTHONPATH": f"{ROOT}:{ROOT / 'providers'}"}
    begin = perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True, env=environment
    )
    return perf_counter() - begin, done.stdout


def measure(engines: Sequence[Engine], folder: Path, rounds: int) -> dict[str, Result]:
    """Measure the engines alternately on the data in `folder`."""
    walls: dict[str, list[float]] = {engine.name: [] for engine in engines}
    inner: dict[str, list[list[float]]] = {engine.name: [] for engine in engines}
    answers: dict[str, str] = {}
    floors: list[float] = []
    scripts = {engine.name: CHILD.format(imports=engine.imports, load=engine.load + COUNT) for engine in engines}
    for script in scripts.values():
        run(script, str(folder), "0")  # fills the bytecode and page caches
    for _ in range(rounds):
        floors.append(run(FLOOR)[0])
        for name, script in scripts.items():
            wall, output = run(script, str(folder), "0")
            walls[name].append(wall)
            inner[name].append([float(word) for word in output.split()[:2]])
    for name, script in scripts.items():
        words = run(script, str(folder), "201")[1].split()
        inner[name].append(
            [statistics.median(column) for column in zip(*inner[name], strict=True)] + [*map(float, words[2:4])]
        )
        answers[name] = " ".join(words[4:])
    floor = statistics.median(floors)
    return {name: Result(statistics.median(walls[name]) - floor, *inner[name][-1], answers[name]) for name in scripts}


def packed(paths: Iterable[Path]) -> int:
    """Return the compressed size in a wheel, in bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in paths:
            archive.write(path)
    return buffer.tell()


def sizes(engine: Engine, folder: Path) -> str:
    """Return the MB that an engine adds to an installation: its data in the wheel, and the distribution that it needs."""
    own = {
        "shards": sorted((folder / "tables").rglob("*.csv")),
        "sqlite3": [folder / "all.sqlite"],
        "one JSON": [folder / "all.json"],
        "one CSV": [folder / "all.csv"],
        "numpy": [folder / "all.npz"],
        "polars": [folder / "all.parquet"],
        "duckdb": [folder / "all.duckdb"],
    }
    data = next(packed(paths) for name, paths in own.items() if engine.name.startswith(name))
    if not engine.needs:
        return f"{data / 1e6:.2f}"
    files = [Path(str(file.locate())) for name in companions(engine) for file in metadata.files(name) or ()]
    library = sum(path.stat().st_size for path in files if path.is_file())
    return f"{data / 1e6:.2f} + {library / 1e6:.0f}"


def companions(engine: Engine) -> list[str]:
    """Return the distributions that an engine consists of."""
    installed = {dist.metadata["Name"] for dist in metadata.distributions()}
    return sorted(name for name in installed if name == engine.needs or name.startswith(f"{engine.needs}-runtime"))


def grow(folder: Path, scale: int, *, same: bool) -> None:
    """Write the tables with more rows, of all other accelerators or, with `same`, of the queried one.

    The additional rows are copies of the instance types and offers under other names in the same shards.
    """
    for cloud in CLOUDS:
        target = folder / "tables" / cloud
        shutil.copytree(ROOT / "providers" / f"multicompute_{cloud}" / "data", target)
        for shard in target.iterdir():
            if shard.is_dir() and (shard.name == SHARD) is same:
                for path in (shard / "types.csv", shard / "offers.csv"):
                    header, *lines = path.read_text().splitlines()
                    copies = (line.replace(",", f"-x{i},", 1) for i in range(1, scale) for line in lines)
                    path.write_text("\n".join([header, *lines, *copies]) + "\n")


def report(scales: Sequence[int], rounds: int, out: TextIO) -> None:
    """Measure all engines and write the tables of results."""
    present = [engine for engine in ENGINES if not engine.needs or util.find_spec(engine.needs)]
    absent = [engine.name for engine in ENGINES if engine not in present]
    print(
        f"Python {platform.python_version()} on {platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        file=out,
    )
    print(
        f"medians of {rounds} processes, which alternate; cold is the time beyond a Python process that imports multicompute.offer",
        file=out,
    )
    print(f"not installed: {', '.join(absent) or 'none'}", file=out)
    for scale in scales:
        for same in (False, True) if scale > 1 else (False,):
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                grow(folder, scale, same=same)
                lines = sum(1 for _ in rows(folder / "tables"))
                engines = [engine for engine in present if engine.most >= lines]
                for engine in engines:
                    engine.build(folder / "tables", folder)
                where = f"the rows of {SHARD} itself" if same else "the rows of all other accelerators"
                title = "the packaged tables" if scale == 1 else f"{scale} times {where}"
                print(f"\n{title}: {lines:,} lines", file=out)
                table(measure(engines, folder, rounds), {engine.name: sizes(engine, folder) for engine in engines}, out)


def table(results: dict[str, Result], size: dict[str, str], out: TextIO) -> None:
    if len({result.answer for result in results.values()}) != 1:
        raise SystemExit(f"the engines disagree: { {name: result.answer for name, result in results.items()} }")
    ours = next(iter(results.values()))
    print(
        f"{'engine':<22}{'cold ms':>9}{'x ours':>8}{'import ms':>11}{'first query ms':>16}{'warm us':>10}{'x ours':>8}"
        f"{'reasons us':>12}{'x ours':>8}{'MB to install':>16}",
        file=out,
    )
    for name, result in results.items():
        print(
            f"{name:<22}{1e3 * result.cold:>9.1f}{result.cold / ours.cold:>8.1f}{1e3 * result.imports:>11.1f}"
            f"{1e3 * result.load:>16.1f}{1e6 * result.warm:>10.0f}{result.warm / ours.warm:>8.1f}"
            f"{1e6 * result.reasons:>12.0f}{result.reasons / ours.reasons:>8.1f}{size[name]:>16}",
            file=out,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the engines that could hold the catalog.")
    parser.add_argument("--scales", type=int, nargs="+", default=[1, 10, 100])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--write", type=Path, help="also keep the results in this file")
    options = parser.parse_args()
    out = io.StringIO()
    report(options.scales, options.rounds, out)
    print(out.getvalue(), end="")
    if options.write:
        options.write.write_text(out.getvalue(), encoding="utf-8")


if __name__ == "__main__":
    main()

"""Writes the offer tables of one provider: a pure function from content to files, which every writer of tables uses."""

import csv
import io
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from multicompute.catalog import tables
from multicompute.catalog.content import MISSING, Content, Entry, Row

Files = Mapping[str, bytes]
"""Path below the folder of a provider, such as "h100/offers.csv" -> content."""


def rendered(content: Content) -> Files:
    """Return the files of one provider's folder. The same content always gives the same files."""
    keys = _source_keys({entry.cells["source"] for entry in (*content.types, *content.lines)})
    sources = ({"key": key, "source": text} for text, key in keys.items())
    regions = sorted(content.regions, key=lambda row: row["region"])
    index = sorted({(entry.cells["instance_type"], entry.shard) for entry in content.types})
    found = {
        "sources.csv": table(tables.SOURCES, sources),
        "regions.csv": table(tables.REGIONS, regions),
        "zones.csv": table(tables.ZONES, _zone_rows(content)),
        "index.csv": table(tables.INDEX, ({"instance_type": name, "shard": shard} for name, shard in index)),
        "shards.csv": table(tables.SHARDS, _shard_rows(content)),
    }
    types, lines, interruptions = (
        _by_shard(entries) for entries in (content.types, content.lines, content.interruptions)
    )
    for shard in sorted(types):
        for file, columns, rows in (
            ("types.csv", tables.TYPES, sorted(types[shard], key=_by_name)),
            ("offers.csv", tables.OFFERS, sorted(lines.get(shard, ()), key=_by_region)),
        ):
            found[f"{shard}/{file}"] = table(columns, ({**row, "source": keys[row["source"]]} for row in rows))
        if shard in interruptions:
            rates = sorted(interruptions[shard], key=lambda row: (row["region"], row["instance_type"]))
            found[f"{shard}/interruptions.csv"] = table(tables.INTERRUPTIONS, rates)
    if content.missing:
        found["missing.csv"] = table(MISSING, sorted(content.missing, key=lambda row: tuple(row.values())))
    return found


def write_files(files: Files, folder: Path) -> None:
    """Write files below a folder, and wait until they are on the disk.

    Raises:
        OSError: A file can't be written.
    """
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())


def _by_shard(entries: Iterable[Entry]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = defaultdict(list)
    for entry in entries:
        found[entry.shard].append(entry.cells)
    return found


def _zone_rows(content: Content) -> Iterator[Row]:
    """Yield the lines of `zones.csv`: the zones that are known of the region, or that an offer in it names."""
    offered: dict[str, set[str]] = {name: set(zones) for name, zones in content.zones.items()}
    for entry in content.lines:
        offered.setdefault(entry.cells["region"], set()).update(filter(None, entry.cells["zones"].split(";")))
    for name in sorted(row["region"] for row in content.regions):
        if zones := offered.get(name):
            yield {"region": name, "zones": ";".join(sorted(zones))}


def _by_name(cells: Row) -> tuple[str, float]:
    return cells["instance_type"], float(cells["accelerators"])


def _by_region(cells: Row) -> tuple[str, str, float, str, str]:
    return cells["region"], *_by_name(cells), cells["purchase"], cells["zones"]


def _shard_rows(content: Content) -> Iterator[Row]:
    types, lines = _by_shard(content.types), _by_shard(content.lines)
    for shard in sorted(types):
        dates = [cells["as_of"] for cells in lines.get(shard, ())]
        yield {
            "shard": shard,
            "types": str(len(types[shard])),
            "lines": str(len(dates)),
            "offers": str(sum(len(cells["zones"].split(";")) for cells in lines.get(shard, ()))),
            "oldest": min(dates, default=""),
            "newest": max(dates, default=""),
        }


def _source_keys(texts: Iterable[str]) -> dict[str, str]:
    """Return a short key for each source text: its first words, and a number if those are not unique."""
    found: dict[str, str] = {}
    used: set[str] = set()
    for text in sorted(texts):
        words = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:24].strip("-")
        key, count = words, 1
        while key in used:
            key, count = f"{words}-{count + 1}", count + 1
        found[text] = key
        used.add(key)
    return found


def table(columns: Sequence[str], rows: Iterable[Row]) -> bytes:
    """Return a table as the content of a file, without the cells of other columns."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()

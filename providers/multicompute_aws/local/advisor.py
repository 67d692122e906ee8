"""The data of the Spot Instance Advisor: how often spot instances are interrupted, by region and type."""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

PATH = "/spot-bid-advisor/spot-advisor-data.json"
"""The path of the file: the bucket on an endpoint of S3, and its name."""
RANGES = (
    {"index": 0, "label": "<5%", "dots": 0, "max": 5},
    {"index": 1, "label": "5-10%", "dots": 1, "max": 11},
    {"index": 2, "label": "10-15%", "dots": 2, "max": 16},
    {"index": 3, "label": "15-20%", "dots": 3, "max": 22},
    {"index": 4, "label": ">20%", "dots": 4, "max": 100},
)


def document(sold: Mapping[str, Iterable[str]], changes: Mapping[tuple[str, str], int]) -> dict[str, Any]:
    """Return the file.

    Args:
        sold: Region -> the types that are sold as spot there.
        changes: (Instance type, region) -> its range, where a test has set one.
    """
    rates = {
        region: {
            "Linux": {
                name: {"s": _saving(name, region), "r": changes.get((name, region), _range(name, region))}
                for name in sorted(names)
            },
            "Windows": {},
        }
        for region, names in sorted(sold.items())
    }
    return {"global_rate": "<10%", "ranges": list(RANGES), "instance_types": {}, "spot_advisor": rates}


def _number(*texts: str) -> int:
    return hashlib.sha256(" ".join(texts).encode()).digest()[0]


def _range(name: str, region: str) -> int:
    return _number(name, region) % len(RANGES)


def _saving(name: str, region: str) -> int:
    return 30 + _number("saving", name, region) % 50

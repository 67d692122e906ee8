"""What was found on nodes is kept for later commands, also of other processes."""

from pathlib import Path

import pytest

from multicompute.engine.running.findings import Findings

REPORT = "cpus 8\nnvidia 4\n"


def test_what_was_found_is_found_again_by_another_process(tmp_path: Path) -> None:
    Findings({}, tmp_path / "cluster").add({"i-1": REPORT})
    Findings({}, tmp_path / "cluster").add({"i-2": "cpus 2\n"})
    later = Findings({}, tmp_path / "cluster")
    assert later.unknown(["i-1", "i-2", "i-3"]) == {"i-3"}
    found = later.get("i-1")
    assert found is not None and (found.cpus, found.nvidia) == (8, 4)


def test_a_later_report_replaces_an_earlier_one(tmp_path: Path) -> None:
    findings = Findings({}, tmp_path)
    findings.add({"i-1": REPORT})
    findings.add({"i-1": "cpus 2\n"})
    for each in (findings, Findings({}, tmp_path)):
        found = each.get("i-1")
        assert found is not None and found.cpus == 2


@pytest.mark.parametrize("text", ["", "{", "[1]", "3"])
def test_a_file_that_can_not_be_read_is_as_good_as_none(text: str, tmp_path: Path) -> None:
    (tmp_path / "nodes.json").write_text(text)
    findings = Findings({}, tmp_path)
    assert findings.get("i-1") is None
    findings.add({"i-1": REPORT})
    assert Findings({}, tmp_path).get("i-1") is not None


def test_without_a_folder_reports_stay_in_memory() -> None:
    findings = Findings({}, None)
    findings.add({"i-1": REPORT})
    assert findings.get("i-1") is not None
    assert Findings({}, None).get("i-1") is None

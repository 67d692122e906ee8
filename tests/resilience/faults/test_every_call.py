"""Whatever a cloud answers to whichever call, an operation succeeds, goes elsewhere, or says what is wrong and leaves nothing.

`make test` runs a sample in which every call and every error occurs, `make campaign` all of it, `make reliability` all of it into
docs/reliability.md.
"""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from multicompute import errors
from tests.resilience.faults.campaign import Campaign, Case
from tests.resilience.faults.harnesses import WORLDS
from tests.resilience.faults.matrix import PAGE, ends, read
from tests.resilience.faults.operations import OPERATIONS
from tests.resilience.faults.troubles import COLUMNS, troubles

EVERY = "MULTICOMPUTE_CAMPAIGN_EXAMPLES" in os.environ
RESULTS = os.environ.get("MULTICOMPUTE_CAMPAIGN_RESULTS")
"""The folder into which the ends are written for the report; then the report is not compared with them."""
IS_OLD = "docs/reliability.md is of another code than this: write it again with `make reliability`, and look at what has changed"


def cases_of(campaign: Campaign, operation: str) -> list[Case]:
    sample = [case for case in campaign.sample() if case.operation == operation]
    # The page has to know what the sample comes to.
    return list(dict.fromkeys([*campaign.cases(operation), *sample])) if EVERY else sample


def run(campaign: Campaign, cases: list[Case]) -> tuple[dict[Case, str], list[str]]:
    """What the cases came to, and which of them came to no good end."""
    ended: dict[Case, str] = {}
    wrong = []
    for case in cases:
        try:
            ended[case] = campaign.run(case)
        except (AssertionError, errors.MulticomputeError) as error:
            wrong.append(f"{case}: {error!r:.300}")
            campaign.world.restart()
        except BaseException as error:
            error.add_note(str(case))
            raise
    return ended, wrong


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("world", WORLDS)
def test_an_operation_ends_well_whatever_a_call_is_answered_with(campaigns: Any, world: str, operation: str) -> None:
    cases = cases_of(campaigns[world], operation)
    assert cases
    ended, wrong = run(campaigns[world], cases)
    assert wrong == []
    if RESULTS is not None:
        write(Path(RESULTS) / f"{world}-{operation}.json", world, ended)
        return
    page = read(PAGE.read_text())
    told = {case: ends(page, (world, operation, case.call, case.trouble.column), once=case.once) for case in ended}
    assert {str(case): end for case, end in ended.items() if end not in told[case]} == {}, IS_OLD


def write(path: Path, world: str, ended: dict[Case, str]) -> None:
    cases = [
        [world, case.operation, case.call, case.at, case.trouble.name, case.trouble.column, case.once, end]
        for case, end in ended.items()
    ]
    path.write_text(json.dumps({"columns": COLUMNS, "operations": list(OPERATIONS), "cases": cases}))


@pytest.mark.parametrize("world", WORLDS)
def test_the_sample_meets_every_call_and_every_error(campaigns: Any, world: str) -> None:
    campaign = campaigns[world]
    sample = campaign.sample()
    assert {(case.operation, case.call) for case in sample} == {
        (operation, call) for operation, calls in campaign.calls.items() for call in calls
    }
    assert {case.trouble.name for case in sample} == {
        trouble.name
        for trouble in troubles(world)
        if any(trouble.fits(call) for calls in campaign.calls.values() for call in calls)
    }


@pytest.mark.skipif(RESULTS is not None, reason="the report is about to be written")
@pytest.mark.parametrize("world", WORLDS)
def test_the_report_has_every_call_and_no_case_that_there_is_not(campaigns: Any, world: str) -> None:
    campaign = campaigns[world]
    page = {cell[1:]: both for cell, both in read(PAGE.read_text()).items() if cell[0] == world}
    # Not how many there are: how often a call is made, such as to wait, may differ from run to run.
    there_are = {
        (case.operation, case.call, case.trouble.column): None
        for operation in OPERATIONS
        for case in (*campaign.cases(operation), *campaign.sample())
    }
    assert sorted(page) == sorted(there_are), IS_OLD
    assert all(once or for_good for once, for_good in page.values())

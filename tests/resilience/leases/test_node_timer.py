"""A node ends itself with its lease: the boot script of each cloud runs against that cloud's metadata service."""

import re
import shutil
import subprocess
from configparser import ConfigParser

import pytest

from tests.resilience.leases.conftest import KINDS, NOW, Fleet
from tests.resilience.leases.lease_machine import Machine

END = NOW + 3600
LATER = END + 7200
DAY = 86_400


def assert_powers_off_at(node: Machine, expiry: int) -> None:
    """Check that a node powers off at this instant, and not a second earlier."""
    node.tick_at(expiry - 1)
    assert node.power_offs == 0
    node.tick_at(expiry)
    assert node.power_offs == 1


def assert_ends_at(node: Machine, expiry: int) -> None:
    """Check that a node ends at this instant, in the way of its cloud, and not a second earlier."""
    node.tick_at(expiry - 1)
    assert node.ends == 0
    node.tick_at(expiry)
    assert node.ends == 1


GARBAGE = [
    "soon",
    "-5",
    "1790000000; touch pwned",
    "$(touch pwned)",
    "<html>404</html>",
    "1",
    "0790000000",
    "99999999999999999999",
    "1.79e9",
]


def test_a_node_lives_to_the_end_of_its_lease_and_no_longer(fleet: Fleet) -> None:
    node = fleet.node(END)
    for instant in (NOW + 120, END - 61, END - 1):
        assert node.tick_at(instant) == 0
        assert node.ends == 0
    assert node.tick_at(END) == 0
    assert node.ends == 1
    assert node.power_offs == (0 if fleet.kind.deletes else 1)


def test_a_renewed_lease_ends_at_its_new_end(fleet: Fleet) -> None:
    node = fleet.node(END)
    node.tick_at(END - 60)
    fleet.service.set_tag(str(LATER))
    for instant in (END, END + 60, LATER - 1):
        node.tick_at(instant)
        assert node.ends == 0
    node.tick_at(LATER)
    assert node.ends == 1


def test_a_lease_that_was_shortened_ends_earlier(fleet: Fleet) -> None:
    node = fleet.node(LATER)
    fleet.service.set_tag(str(END))
    node.tick_at(END)
    assert node.ends == 1


@pytest.mark.parametrize("launched_until", [END, None])
def test_a_node_without_an_expiry_never_terminates_itself(fleet: Fleet, launched_until: int | None) -> None:
    node = fleet.node(launched_until, tag="never")
    node.tick()
    node.tick_at(END + 400 * DAY)
    fleet.service.is_up = False
    node.tick_at(END + 401 * DAY)
    assert node.ends == 0


@pytest.mark.parametrize("wrong_by", [-400 * DAY, -5 * 3600, 5 * 3600, 400 * DAY])
def test_a_node_whose_clock_is_wrong_goes_by_the_clock_of_the_metadata_service(fleet: Fleet, wrong_by: int) -> None:
    node = fleet.node(END)
    node.clock += wrong_by
    assert_ends_at(node, END)


@pytest.mark.parametrize("wrong_by", [-5 * DAY, 5 * DAY])
def test_a_wrong_clock_changes_no_expiry_while_the_metadata_service_is_silent(fleet: Fleet, wrong_by: int) -> None:
    node = fleet.node(END)
    node.clock += wrong_by
    node.tick()
    fleet.service.is_up = False
    # The clock is corrected, or set more wrong: the time since the last tick is measured by the uptime.
    node.clock -= 2 * wrong_by
    assert_powers_off_at(node, END)


def test_a_node_uses_its_own_clock_if_the_service_sends_no_date(fleet: Fleet) -> None:
    fleet.service.sends_date = False
    node = fleet.node(END)
    assert_ends_at(node, END)


def test_without_metadata_the_last_expiry_that_was_read_applies(fleet: Fleet) -> None:
    node = fleet.node(END)
    fleet.service.set_tag(str(LATER))
    node.tick()
    assert node.remembered == str(LATER)
    fleet.service.is_up = False
    node.tick_at(END)
    # Without the metadata service there is no token for a deletion either, so the node powers off.
    assert_powers_off_at(node, LATER)


def test_a_node_that_never_reached_its_metadata_uses_the_expiry_of_its_launch(fleet: Fleet) -> None:
    fleet.service.is_up = False
    node = fleet.node(END)
    assert_powers_off_at(node, END)


def test_a_node_without_a_tag_uses_the_last_expiry_and_the_clock_of_the_service(fleet: Fleet) -> None:
    node = fleet.node(END, tag=None)
    node.clock += 5 * DAY
    assert_ends_at(node, END)


def test_a_reboot_keeps_the_renewed_end_though_the_metadata_service_is_silent(fleet: Fleet) -> None:
    node = fleet.node(END)
    fleet.service.set_tag(str(LATER))
    node.tick()
    fleet.service.is_up = False
    node.reboot()
    node.tick_at(END)
    assert node.ends == 0
    node.reboot()
    node.tick_at(LATER)
    assert node.power_offs == 1


def test_a_reboot_with_metadata_changes_nothing(fleet: Fleet) -> None:
    node = fleet.node(END)
    node.tick()
    node.reboot()
    node.clock += 5 * DAY
    assert_ends_at(node, END)


def test_a_disk_that_has_lost_the_expiry_falls_back_to_that_of_the_launch(fleet: Fleet) -> None:
    node = fleet.node(END)
    fleet.service.set_tag(str(LATER))
    node.tick()
    node.forget()
    fleet.service.is_up = False
    node.tick_at(END)
    assert node.power_offs == 1


def test_a_full_disk_does_not_keep_the_tag_from_being_obeyed(fleet: Fleet) -> None:
    node = fleet.node(END)
    node.block_writes()
    fleet.service.set_tag(str(LATER))
    node.tick_at(END)
    assert node.ends == 0
    node.tick_at(LATER)
    assert node.ends == 1


def test_a_tag_that_is_no_time_is_ignored_and_the_last_expiry_applies(fleet: Fleet) -> None:
    node = fleet.node(END)
    fleet.service.set_tag(str(LATER))
    node.tick()
    node.pass_time(END - NOW)
    for garbage in GARBAGE:
        fleet.service.set_tag(garbage)
        node.tick()
        assert (garbage, node.ends, node.remembered) == (garbage, 0, str(LATER))
    assert not list(node.folder.rglob("pwned"))
    node.tick_at(LATER)
    assert node.ends == 1


def test_the_metadata_service_is_not_called_through_a_proxy(fleet: Fleet) -> None:
    node = fleet.node(END)
    node.environment["http_proxy"] = "http://127.0.0.1:9"
    fleet.service.set_tag(str(LATER))
    node.tick_at(END)
    assert (node.ends, node.remembered) == (0, str(LATER))


def test_a_node_that_could_not_power_off_tries_the_other_command_and_again_a_minute_later(fleet: Fleet) -> None:
    fleet.service.may_delete = False
    node = fleet.node(END)
    node.let_power_off(systemctl=False, shutdown=False)
    assert node.tick_at(END) != 0
    assert (node.calls_of("systemctl")[-1], node.calls_of("shutdown")) == ("poweroff", ["-h now"])
    node.let_power_off(systemctl=False)
    assert node.tick_at(END + 60) == 0
    assert node.calls_of("shutdown") == ["-h now"] * 2
    node.let_power_off()
    assert node.tick_at(END + 120) == 0
    assert node.calls_of("shutdown") == ["-h now"] * 2
    assert node.calls_of("systemctl").count("poweroff") == 3


@pytest.mark.parametrize("fleet", [name for name, kind in KINDS.items() if kind.deletes], indirect=True)
def test_a_node_that_may_not_delete_itself_powers_off(fleet: Fleet) -> None:
    fleet.service.may_delete = False
    node = fleet.node(END)
    node.tick_at(END)
    assert (fleet.service.deletions, node.power_offs) == (1, 1)


@pytest.mark.parametrize("fleet", [name for name, kind in KINDS.items() if kind.deletes], indirect=True)
def test_a_deletion_that_the_cloud_accepted_and_did_not_carry_out_is_requested_again(fleet: Fleet) -> None:
    node = fleet.node(END)
    node.tick_at(END)
    node.tick_at(END + 60)
    assert (fleet.service.deletions, node.power_offs) == (2, 0)


def test_the_script_works_with_errexit_and_nounset(fleet: Fleet) -> None:
    node = fleet.node(END)
    assert node.tick("-eu", "-o", "pipefail") == 0
    fleet.service.set_tag("soon")
    assert node.tick("-eu", "-o", "pipefail") == 0
    fleet.service.is_up = False
    assert node.tick_at(END - 1, "-eu", "-o", "pipefail") == 0
    assert node.ends == 0
    fleet.service.is_up = True
    assert node.tick_at(END, "-eu", "-o", "pipefail") == 0
    assert node.ends == 1


def test_the_script_calls_the_cloud_and_no_other_host(fleet: Fleet) -> None:
    node = fleet.node(END)
    script = (node.disk / "usr/local/sbin/multicompute-expiry").read_text()
    asked = set(re.findall(r"https?://[^/'\"$ \n]+", script))
    assert asked - {fleet.service.url, "https://management.azure.com"} == {"http://169.254.169.254"}


def test_the_timer_is_enabled_before_the_setup_script_of_the_user_runs_and_whatever_it_does(fleet: Fleet) -> None:
    node = fleet.node(END, setup="echo began > began; exit 3")
    assert node.calls_of("systemctl") == ["daemon-reload", "enable --now multicompute-expiry.timer"]
    assert (node.folder / "began").read_text() == "began\n"
    assert (node.disk / "var/lib/multicompute/setup-status").read_text() == "3\n"
    node.tick_at(END)
    assert node.ends == 1


@pytest.mark.parametrize("fleet", ["gcp", "tpu"], indirect=True)
def test_a_startup_script_that_runs_at_every_boot_runs_the_setup_once_and_keeps_the_renewed_expiry(
    fleet: Fleet,
) -> None:
    node = fleet.node(END, setup="echo ran >> ran")
    fleet.service.set_tag(str(LATER))
    node.tick()
    fleet.service.is_up = False
    node.reboot()
    node.boot(fleet.boot_script(END, "echo ran >> ran"))
    assert (node.folder / "ran").read_text() == "ran\n"
    node.tick_at(END)
    assert node.ends == 0


def test_the_timer_fires_every_minute_and_after_a_reboot(fleet: Fleet) -> None:
    node = fleet.node(END)
    timer, service = (ConfigParser(interpolation=None) for _ in range(2))
    # Keys of systemd units have capitals.
    timer.optionxform = service.optionxform = str  # type: ignore[assignment, method-assign]
    timer.read(node.unit("timer"))
    service.read(node.unit("service"))
    assert dict(timer["Timer"]) == {"OnBootSec": "60", "OnUnitActiveSec": "60", "AccuracySec": "5"}
    assert dict(timer["Install"]) == {"WantedBy": "timers.target"}
    assert service["Service"]["Type"] == "oneshot"
    assert service["Service"]["ExecStart"] == "/usr/local/sbin/multicompute-expiry"
    assert int(service["Service"]["TimeoutStartSec"]) <= 120, "a script that hangs must not block the timer"
    assert (node.disk / "usr/local/sbin/multicompute-expiry").stat().st_mode & 0o777 == 0o755


def test_systemd_finds_nothing_wrong_with_the_units(fleet: Fleet) -> None:
    node = fleet.node(END)
    program = node.disk / "usr/local/sbin/multicompute-expiry"
    service = node.unit("service")
    service.write_text(service.read_text().replace("/usr/local/sbin/multicompute-expiry", str(program)))
    assert str(program) in service.read_text()
    # Without systemd, only the previous test checks the units.
    if shutil.which("systemd-analyze"):
        checked = subprocess.run(
            ["systemd-analyze", "verify", str(node.unit("timer")), str(service)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert (checked.returncode, [line for line in checked.stderr.splitlines() if "multicompute" in line]) == (0, [])

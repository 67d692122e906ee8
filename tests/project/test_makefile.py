"""The output of the commands in the Makefile."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def test_every_installation_prints_the_errors_of_pip_and_not_its_warnings() -> None:
    lines = re.findall(r"-m pip install .*", MAKEFILE)
    assert len(lines) == 3
    assert all("-qq" in line.split() and "--disable-pip-version-check" in line for line in lines)


def test_a_run_lists_the_number_of_skipped_tests_for_each_reason() -> None:
    file = "tests/integrations/airflow/test_provider.py"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", file]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    section = done.stdout.partition("skipped tests, by reason")[2]
    assert re.search(r"^ +5  Airflow has an environment of its own: make test-airflow$", section, re.MULTILINE)


def test_make_test_names_what_it_does_not_run_and_the_command_that_does() -> None:
    test = MAKEFILE.partition("\ntest: ")[2].partition("\n\n")[0]
    named = set(re.findall(r'@echo "  make (\S+) ', test))
    assert named == {"test-airflow", "test-remote", "kill", "campaign"}
    assert named <= set(re.findall(r"^([\w-]+):", MAKEFILE, re.MULTILINE))

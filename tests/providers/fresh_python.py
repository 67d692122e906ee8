"""Runs code in a Python that has imported nothing yet."""

import subprocess
import sys


def printed(code: str) -> str:
    """Run code in a new process, and return what it prints."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()

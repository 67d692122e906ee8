"""Runs the command `multicompute` for `python -m multicompute`."""

import sys

from multicompute.cli import main

if __name__ == "__main__":
    sys.exit(main())

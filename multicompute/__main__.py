"""`python -m multicompute` is the command `multicompute`."""

import sys

from multicompute.cli import main

if __name__ == "__main__":
    sys.exit(main())

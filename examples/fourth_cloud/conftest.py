"""Lets the tests run from the folder as it is; in a distribution of your own, `pip install --editable .` does that."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

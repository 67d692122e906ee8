"""Makes the package importable without installing it; for a distribution of your own, use `pip install --editable .`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

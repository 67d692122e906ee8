"""The limits of Compute Engine on the run time of instances."""

from datetime import timedelta
from typing import Final

# https://cloud.google.com/compute/docs/instances/limit-vm-runtime: from 30 seconds to 120 days.
MIN_RUN: Final = timedelta(seconds=30)
MAX_RUN: Final = timedelta(days=120)
# https://cloud.google.com/compute/docs/instances/about-flex-start-vms: from ten minutes to seven days.
MIN_FLEX_START: Final = timedelta(minutes=10)
MAX_FLEX_START: Final = timedelta(days=7)

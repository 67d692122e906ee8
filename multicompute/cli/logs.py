"""Prints log records as lines on stderr: for `supervise`, and for --verbose and --debug."""

import argparse
import logging
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager


def requested_log(options: argparse.Namespace) -> AbstractContextManager[None]:
    """Print inside the block what `--verbose` or `--debug` asks for."""
    return log_lines(logging.DEBUG if options.debug else logging.INFO)


@contextmanager
def log_lines(level: int, *, with_events: bool = True) -> Iterator[None]:
    """Print log records as lines with their time in UTC.

    Args:
        level: The lowest level that is printed.
        with_events: Also print the events of clusters.
    """
    lines = logging.StreamHandler(sys.stderr)
    form = logging.Formatter("%(asctime)s %(message)s", datefmt="%Y-%m-%dT%H:%M:%SZ")
    form.converter = time.gmtime
    lines.setFormatter(form)
    if not with_events:
        lines.addFilter(lambda record: not hasattr(record, "event"))
    logger = logging.getLogger("multicompute")
    before = logger.level
    logger.addHandler(lines)
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.removeHandler(lines)
        logger.setLevel(before)

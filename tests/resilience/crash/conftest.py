"""Fixtures for the tests of killed processes."""

from collections.abc import Callable, Iterator

import pytest

from tests.resilience.crash.crash_site import CrashSite


# Not for the session: other modules start clouds in this process, and a process can run only one moto.
@pytest.fixture(scope="module", name="site_of")
def _site_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], CrashSite]]:
    """Return a function that returns the site of a kind, which is created on first use and again after a failure."""
    sites: dict[str, CrashSite] = {}

    def site_of(name: str) -> CrashSite:
        if name in sites and sites[name].is_dirty:
            sites.pop(name).close()
        if name not in sites:
            sites[name] = CrashSite(name, tmp_path_factory.mktemp(name))
        return sites[name]

    yield site_of
    for site in sites.values():
        site.close()

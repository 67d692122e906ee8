"""What the tests of killed processes share."""

from collections.abc import Callable, Iterator

import pytest

from tests.resilience.crash.crash_site import CrashSite


# Not for the session: other modules start clouds of their own in this process, and moto is one to a process.
@pytest.fixture(scope="module", name="site_of")
def _site_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], CrashSite]]:
    """The site of a cloud, or of its slices, made when a test first asks for it, and anew after a failure."""
    sites: dict[str, CrashSite] = {}

    def site_of(name: str) -> CrashSite:
        if name in sites and sites[name].is_spoilt:
            sites.pop(name).close()
        if name not in sites:
            sites[name] = CrashSite(name, tmp_path_factory.mktemp(name))
        return sites[name]

    yield site_of
    for site in sites.values():
        site.close()

"""Only a loopback address is reached without https."""

import pytest

from multicompute.errors import ConfigError
from multicompute.provider_kit.endpoints import check_endpoint, endpoint_problem, is_loopback


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://localhost", "https://a.localhost:2", "http://[::1]:3"])
def test_a_loopback_address_needs_no_https(url: str) -> None:
    assert is_loopback(url)
    assert endpoint_problem(url) == ""
    check_endpoint(url, name="endpoint_url", provider="example")


@pytest.mark.parametrize("url", [None, "", "http://10.0.0.1", "https://example.com", "http://127.0.0.1.example.com"])
def test_any_other_address_is_not_loopback(url: str | None) -> None:
    assert not is_loopback(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://10.0.0.1:5",
        "http://example.com",
        "ftp://127.0.0.1",
        "127.0.0.1:5",
        "https://",
        "https://[::1",
        "http://127.0.0.1:99999",
    ],
)
def test_an_endpoint_without_https_or_that_is_no_url_is_refused_by_its_name(url: str) -> None:
    with pytest.raises(ConfigError, match="example: MY_ENDPOINT="):
        check_endpoint(url, name="MY_ENDPOINT", provider="example")


def test_https_and_the_vendors_default_are_accepted() -> None:
    assert endpoint_problem("https://example.com") == ""
    check_endpoint("https://example.com", name="endpoint_url", provider="example")
    check_endpoint(None, name="endpoint_url", provider="example")

"""Where credentials and endpoints are found, and which settings are refused, without a network call."""

from pathlib import Path

import pytest

from multicompute import errors
from multicompute.provider import Settings
from multicompute_aws import _settings, plugin
from multicompute_aws._session import Clients
from multicompute_aws._settings import AwsSettings
from tests.providers.fresh_python import printed


@pytest.fixture(autouse=True)
def not_on_ec2(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # The machine that runs the tests may be an EC2 instance, and the results must not depend on it.
    monkeypatch.setattr(_settings, "_VENDOR_FILE", tmp_path / "sys_vendor")


def test_configured_loads_no_sdk() -> None:
    code = (
        "import sys; from multicompute_aws import plugin; from multicompute.provider import Settings; "
        "plugin.configured(Settings(environment={'AWS_ACCESS_KEY_ID': 'a', 'AWS_SECRET_ACCESS_KEY': 'b'})); "
        "print([name for name in ('boto3', 'botocore', 'moto') if name in sys.modules])"
    )
    assert printed(code) == "[]"


def test_importing_the_plug_in_object_loads_neither_the_sdk_nor_pydantic() -> None:
    code = "import sys, multicompute_aws; print([name for name in ('boto3', 'pydantic') if name in sys.modules])"
    assert printed(code) == "[]"


def test_every_setting_is_described_and_known_to_the_plug_in_object() -> None:
    described = tuple(name for name, field in AwsSettings.model_fields.items() if field.description)
    assert plugin.setting_names == described
    assert "regions" in described and "environment" not in described


@pytest.mark.parametrize(
    "environment",
    [
        {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"},
        {"AWS_ENDPOINT_URL": "http://127.0.0.1:5000"},
        {"AWS_ENDPOINT_URL_EC2": "http://localhost:5000"},
        {"AWS_ENDPOINT_URL": "http://[::1]:5000"},
        {"AWS_WEB_IDENTITY_TOKEN_FILE": "/t", "AWS_ROLE_ARN": "arn:aws:iam::1:role/r"},
        {"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/c"},
    ],
    ids=lambda environment: next(iter(environment)),
)
def test_the_conventions_of_aws_count_as_configured(environment: dict[str, str]) -> None:
    assert plugin.configured(Settings(environment=environment)).ok


def test_profiles_are_looked_for_in_both_files(tmp_path: Path) -> None:
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "credentials").write_text("[keys]\naws_access_key_id = a\n")
    (tmp_path / ".aws" / "config").write_text("[profile sso]\nsso_session = s\n")
    home = {"HOME": str(tmp_path)}
    assert not plugin.configured(Settings(environment=home)).ok
    for name in ("keys", "sso"):
        assert plugin.configured(Settings(environment=home | {"AWS_PROFILE": name})).ok
        assert plugin.configured(Settings({"profile": name}, home)).ok
    missing = plugin.configured(Settings({"profile": "other"}, home))
    assert not missing.ok and "'other'" in missing.why


def test_a_machine_on_ec2_may_have_a_role_unless_its_metadata_service_is_disabled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vendor = tmp_path / "vendor"
    vendor.write_text("Amazon EC2\n")
    monkeypatch.setattr(_settings, "_VENDOR_FILE", vendor)
    home = {"HOME": str(tmp_path)}
    assert plugin.configured(Settings(environment=home)).ok
    assert not plugin.configured(Settings(environment=home | {"AWS_EC2_METADATA_DISABLED": "true"})).ok


def test_opening_without_credentials_is_refused_with_a_hint() -> None:
    with pytest.raises(errors.AuthError, match="aws configure"):
        plugin.open(Settings())


@pytest.mark.parametrize("url", ["http://10.0.0.1:5000", "http://example.com", "ftp://127.0.0.1", "127.0.0.1:5000"])
def test_an_endpoint_without_https_on_another_machine_is_refused(url: str) -> None:
    with pytest.raises(errors.ConfigError, match="endpoint_url"):
        plugin.configured(Settings({"endpoint_url": url}))
    with pytest.raises(errors.ConfigError):
        plugin.configured(Settings(environment={"AWS_ENDPOINT_URL": url}))


def test_an_endpoint_in_a_profile_is_checked_by_the_same_rule(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text("[profile p]\nregion = us-east-1\nendpoint_url = http://example.com\n")
    settings = AwsSettings.of(Settings({"profile": "p"}, {"AWS_CONFIG_FILE": str(config)}))
    with pytest.raises(errors.ConfigError, match=r"example\.com"):
        Clients(settings).ec2("us-east-1")


def test_no_credential_of_the_user_is_sent_to_a_local_cloud(tmp_path: Path) -> None:
    credentials = tmp_path / "credentials"
    credentials.write_text("[default]\naws_access_key_id = AKIAMINE\naws_secret_access_key = secret\n")
    environment = {"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_SHARED_CREDENTIALS_FILE": str(credentials)}
    client = Clients(AwsSettings.of(Settings(environment=environment))).ec2("us-east-1")
    assert client._request_signer._credentials.access_key == "local"  # type: ignore[attr-defined]


def test_each_region_has_one_client_that_is_made_once() -> None:
    clients = Clients(AwsSettings.of(Settings({"endpoint_url": "http://127.0.0.1:1"})))
    assert clients.ec2("us-east-1") is clients.ec2("us-east-1")
    assert clients.ec2("us-east-1") is not clients.ec2("eu-west-1")


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"regions": 3}, "regions"),
        ({"vpc": ["v"]}, "vpc"),
        ({"ssh_from": "anywhere"}, "ssh_from"),
        ({"subnets": [1]}, "subnets"),
    ],
)
def test_a_setting_of_the_wrong_type_is_named(values: dict[str, object], named: str) -> None:
    with pytest.raises(errors.ConfigError, match=named):
        AwsSettings.of(Settings(values))


def test_lists_may_be_written_with_commas() -> None:
    assert AwsSettings.of(Settings({"regions": "us-east-1, eu-west-1"})).regions == ("us-east-1", "eu-west-1")


def test_a_local_cloud_is_polled_quickly_and_ec2_is_not(tmp_path: Path) -> None:
    local = plugin.open(Settings({"endpoint_url": "http://127.0.0.1:1"}))
    real = plugin.open(Settings(environment={"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}))
    assert local.poll_interval.total_seconds() <= 0.1 < real.poll_interval.total_seconds()
    assert local.consistency_window < real.consistency_window < real.attempt_timeout


def test_a_zone_in_the_settings_is_a_place_to_launch_in_and_its_region_one_to_list_in() -> None:
    read = AwsSettings.of(Settings({"regions": "us-east-1a, us-east-1b, us-west-2-lax-1a, eusc-de-east-1"}))
    assert read.listed_regions == ("us-east-1", "us-west-2", "eusc-de-east-1")
    assert read.home_region == "us-east-1"
    assert Clients(read).regions() == read.listed_regions
    assert plugin.configured(Settings({"regions": ["us-east-1a"]})).regions == ("us-east-1a",)

"""Where credentials and the project are found, and which settings are refused, without a network call."""

import json
from datetime import timedelta
from pathlib import Path

import pytest

from multicompute.errors import AuthError, ConfigError
from multicompute.provider import Configured, Settings
from multicompute_gcp import _settings, plugin
from multicompute_gcp._settings import GcpSettings
from tests.providers.fresh_python import printed


@pytest.fixture(autouse=True)
def _not_on_google(monkeypatch: pytest.MonkeyPatch) -> None:
    # The machine that runs the tests may be an instance of Google's, and the results must not depend on it.
    monkeypatch.setattr(_settings, "_PRODUCT_FILE", Path("/nowhere"))


def _configured(environment: dict[str, str], **values: object) -> Configured:
    return plugin.configured(Settings(values, environment))


def _adc(home: Path, **content: str) -> None:
    folder = home / ".config" / "gcloud"
    folder.mkdir(parents=True)
    (folder / "application_default_credentials.json").write_text(json.dumps(content))


def test_without_credentials_the_provider_is_not_configured_and_can_not_be_opened(tmp_path: Path) -> None:
    assert not _configured({"HOME": str(tmp_path)}).ok
    with pytest.raises(AuthError, match="application default credentials"):
        plugin.open(Settings({}, {"HOME": str(tmp_path)}))


def test_a_loopback_endpoint_needs_neither_credentials_nor_project() -> None:
    assert _configured({}, endpoint_url="http://127.0.0.1:1").ok
    assert GcpSettings.of(Settings({"endpoint_url": "http://127.0.0.1:1"})).named_project == "local"


def test_a_local_compute_engine_is_never_combined_with_real_tpus() -> None:
    read = GcpSettings.of(Settings({"endpoint_url": "http://127.0.0.1:1/"}))
    assert read.tpu_endpoint == "http://127.0.0.1:1"
    other = GcpSettings.of(Settings({"endpoint_url": "http://127.0.0.1:1", "tpu_endpoint_url": "http://127.0.0.1:2/"}))
    assert other.tpu_endpoint == "http://127.0.0.1:2"


def test_plain_http_to_another_machine_is_refused() -> None:
    with pytest.raises(ConfigError, match="plain http"):
        _configured({}, tpu_endpoint_url="http://example.org")


def test_application_default_credentials_with_a_project_are_enough(tmp_path: Path) -> None:
    _adc(tmp_path, type="authorized_user", quota_project_id="p-1")
    found = _configured({"HOME": str(tmp_path)})
    assert found.ok
    assert "p-1" in found.why


def test_with_credentials_but_no_project_the_message_names_what_is_missing(tmp_path: Path) -> None:
    _adc(tmp_path, type="authorized_user")
    found = _configured({"HOME": str(tmp_path)})
    assert not found.ok
    assert "GOOGLE_CLOUD_PROJECT" in found.why
    assert _configured({"HOME": str(tmp_path), "GOOGLE_CLOUD_PROJECT": "p"}).ok


def test_the_project_of_gclouds_active_configuration_is_used(tmp_path: Path) -> None:
    _adc(tmp_path, type="authorized_user")
    folder = tmp_path / ".config" / "gcloud"
    (folder / "active_config").write_text("work")
    (folder / "configurations").mkdir()
    (folder / "configurations" / "config_work").write_text("[core]\nproject = p-2\n")
    assert "p-2" in _configured({"HOME": str(tmp_path)}).why


def test_a_credentials_file_that_does_not_exist_is_named_in_the_message(tmp_path: Path) -> None:
    named = str(tmp_path / "key.json")
    found = _configured({"HOME": str(tmp_path), "GOOGLE_APPLICATION_CREDENTIALS": named})
    assert not found.ok
    assert named in found.why


def test_an_instance_of_googles_may_have_a_service_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    product = tmp_path / "product_name"
    product.write_text("Google Compute Engine\n")
    monkeypatch.setattr(_settings, "_PRODUCT_FILE", product)
    assert _configured({"HOME": str(tmp_path)}).ok


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("project", 7),
        ("ssh_from", "somewhere"),
        ("tpu_create", "later"),
        ("queue_wait", 5),
        ("queue_wait", "soon"),
        ("queue_wait", "0s"),
        ("queue_wait", "4000d"),
        ("extension_room", -1),
        ("extension_room", "-1d"),
        ("extension_room", True),
        ("gpu_subnetworks", [1]),
        ("endpoint_url", "localhost"),
    ],
)
def test_a_malformed_setting_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=name):
        GcpSettings.of(Settings({name: value}))


def test_the_room_for_extensions_may_be_zero() -> None:
    assert GcpSettings.of(Settings({"extension_room": "0s"})).extension_room == timedelta(0)
    assert GcpSettings.of(Settings({"extension_room": "2d"})).extension_room == timedelta(days=2)
    assert GcpSettings.of(Settings({})).extension_room == timedelta(days=7)


def test_every_setting_is_described_and_known_to_the_plug_in_object() -> None:
    described = tuple(name for name, field in GcpSettings.model_fields.items() if field.description)
    assert plugin.setting_names == described
    assert "extension_room" in described and "environment" not in described


def test_configured_loads_no_sdk() -> None:
    code = (
        "import sys; from multicompute_gcp import plugin; from multicompute.provider import Settings;"
        "plugin.configured(Settings({'endpoint_url': 'http://127.0.0.1:1'}));"
        "print([m for m in sys.modules if m.split('.')[0] in ('google', 'requests')])"
    )
    assert printed(code) == "[]"


def test_importing_the_plug_in_object_loads_neither_the_sdk_nor_pydantic() -> None:
    code = "import sys, multicompute_gcp; print([m for m in sys.modules if m.split('.')[0] in ('google', 'requests', 'pydantic')])"
    assert printed(code) == "[]"


def test_opening_the_provider_does_not_load_the_slow_package_of_compute_engine() -> None:
    code = (
        "import sys, multicompute_gcp._provider as p; from multicompute.provider import Settings;"
        "p.GcpProvider(Settings({'endpoint_url': 'http://127.0.0.1:1'})); print('google.cloud.compute_v1' in sys.modules)"
    )
    assert printed(code) == "False"

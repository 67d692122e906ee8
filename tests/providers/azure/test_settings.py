"""Where credentials and the subscription are found, and which settings are refused, without a network call."""

import json
from pathlib import Path

import pytest

from multicompute.errors import AuthError, ConfigError
from multicompute.provider import Settings
from multicompute_azure import plugin
from multicompute_azure._settings import AzureSettings
from tests.providers.fresh_python import printed

SECRET = {"AZURE_CLIENT_ID": "app", "AZURE_TENANT_ID": "us", "AZURE_CLIENT_SECRET": "s"}


def test_importing_the_plug_in_object_loads_neither_the_sdk_nor_pydantic() -> None:
    code = (
        "import sys, multicompute_azure; "
        "print([name for name in sys.modules if name.startswith(('azure.', 'msal', 'pydantic'))])"
    )
    assert printed(code) == "[]"


def test_configured_loads_no_sdk() -> None:
    code = (
        "import sys; from multicompute_azure import plugin; from multicompute.provider import Settings; "
        f"plugin.configured(Settings(environment={SECRET!r})); "
        "print([name for name in sys.modules if name.startswith(('azure.', 'msal'))])"
    )
    assert printed(code) == "[]"


def test_every_setting_is_described_and_known_to_the_plug_in_object() -> None:
    described = tuple(name for name, field in AzureSettings.model_fields.items() if field.description)
    assert plugin.setting_names == described
    assert "locations" in described and "environment" not in described


def test_opening_the_provider_imports_no_management_client() -> None:
    code = (
        "import sys; from multicompute.provider import Settings; from multicompute_azure import plugin\n"
        "plugin.open(Settings({'endpoint_url': 'http://127.0.0.1:1'}))\n"
        "print([name for name in sys.modules if name in ('azure.mgmt.compute', 'azure.mgmt.network', 'azure.identity')])"
    )
    assert printed(code) == "[]"


def test_a_local_endpoint_needs_no_credentials() -> None:
    found = plugin.configured(Settings({"endpoint_url": "http://127.0.0.1:8080"}))
    assert found.ok
    assert "127.0.0.1" in found.why


@pytest.mark.parametrize("url", ["http://example.com", "http://10.0.0.1:8080", "http://127.0.0.1.example.com"])
def test_plain_http_to_another_machine_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="loopback"):
        plugin.configured(Settings({"endpoint_url": url}))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"endpoint_url": "localhost:80"}, "not a URL"),
        ({"locations": 3}, "list of texts"),
        ({"vnet": ["a"]}, "vnet"),
        ({"identity": "my-identity"}, "resource id"),
        ({"subnet": "nodes"}, "subnet='nodes': is a name, and no vnet"),
        ({"subnet": "/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/virtualNetworks/v"}, "subnet="),
        ({"vnet": "net"}, "vnet='net': is a name, and no resource_group"),
        ({"vnet": "/subscriptions/s", "resource_group": "g"}, "vnet=.*resource id"),
        ({"location": ["eastus"]}, "did you mean locations"),
        ({"ssh_from": "everywhere"}, "ssh_from"),
    ],
)
def test_a_setting_of_the_wrong_type_or_form_is_named(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        AzureSettings.of(Settings(values))


def test_configured_reports_whether_credentials_or_the_subscription_are_missing() -> None:
    nothing = plugin.configured(Settings())
    assert not nothing.ok
    assert "credentials" in nothing.why
    no_subscription = plugin.configured(Settings(environment=SECRET))
    assert not no_subscription.ok
    assert "subscription" in no_subscription.why
    with pytest.raises(AuthError, match="subscription"):
        plugin.open(Settings(environment=SECRET))


def test_a_service_principal_in_the_environment_is_found() -> None:
    assert plugin.configured(Settings(environment=SECRET | {"AZURE_SUBSCRIPTION_ID": "sub"})).ok
    assert plugin.configured(Settings({"subscription_id": "sub"}, SECRET)).ok


def test_the_sign_in_of_the_azure_cli_is_found_with_its_default_subscription(tmp_path: Path) -> None:
    profile = {"subscriptions": [{"id": "one"}, {"id": "two", "isDefault": True}]}
    (tmp_path / "azureProfile.json").write_text(json.dumps(profile), encoding="utf-8-sig")
    settings = Settings(environment={"AZURE_CONFIG_DIR": str(tmp_path)})
    assert plugin.configured(settings).ok
    assert AzureSettings.of(settings).subscription == "two"


@pytest.mark.parametrize("content", ["", "{", "[]", '{"subscriptions": [1]}'])
def test_a_profile_of_the_cli_that_can_not_be_read_counts_as_empty(tmp_path: Path, content: str) -> None:
    (tmp_path / "azureProfile.json").write_text(content)
    assert not plugin.configured(Settings(environment={"AZURE_CONFIG_DIR": str(tmp_path)})).ok

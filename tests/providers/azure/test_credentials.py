"""Each provider reads the credentials that the environment of its settings names, and reads them again after they were rejected."""

from pathlib import Path
from typing import Any

import azure.identity
import pytest

from multicompute.provider import Settings
from multicompute_azure._credentials import credential_of
from multicompute_azure._provider import AzureProvider
from multicompute_azure._settings import AzureSettings

ALL = ("ClientSecretCredential", "CertificateCredential", "WorkloadIdentityCredential", "DefaultAzureCredential")
BASE = {"AZURE_SUBSCRIPTION_ID": "s", "AZURE_TENANT_ID": "t", "AZURE_CLIENT_ID": "c"}
SECRET = {"AZURE_CLIENT_SECRET": "one"}


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, tuple[Any, ...], dict[str, Any]]]:
    """The credentials of the SDK that were made, by name and arguments; they reach no network."""
    found: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def recorder(name: str) -> Any:
        def make(*args: Any, **options: Any) -> str:
            found.append((name, args, options))
            return f"{name} {len(found)}"

        return make

    for name in ALL:
        monkeypatch.setattr(azure.identity, name, recorder(name))
    return found


def settings(**environment: str) -> AzureSettings:
    return AzureSettings.of(Settings({}, {**BASE, **environment}))


@pytest.mark.parametrize(
    ("environment", "name"),
    [
        (SECRET, "ClientSecretCredential"),
        ({"AZURE_CLIENT_CERTIFICATE_PATH": "/cert.pem"}, "CertificateCredential"),
        ({"AZURE_FEDERATED_TOKEN_FILE": "/token"}, "WorkloadIdentityCredential"),
        ({}, "DefaultAzureCredential"),
        ({**SECRET, "AZURE_TOKEN_CREDENTIALS": "ManagedIdentityCredential"}, "DefaultAzureCredential"),
        ({**SECRET, "AZURE_TOKEN_CREDENTIALS": "prod"}, "ClientSecretCredential"),
    ],
)
def test_the_kind_of_credentials_follows_from_the_environment_of_the_settings(
    made: list[Any], environment: dict[str, str], name: str
) -> None:
    credential_of(settings(**environment), None)
    assert [kind for kind, _, _ in made] == [name]


def test_two_providers_in_one_process_use_their_own_secrets(made: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_CLIENT_SECRET", "of-the-process")
    for secret in ("one", "two"):
        AzureProvider(Settings({}, {**BASE, "AZURE_CLIENT_SECRET": secret}))._clients._authorized()
    assert [args for _, args, _ in made] == [("t", "c", "one"), ("t", "c", "two")]


def test_after_a_rejection_the_credentials_are_made_again(made: list[Any], tmp_path: Path) -> None:
    clients = AzureProvider(Settings({}, {**BASE, "AZURE_FEDERATED_TOKEN_FILE": str(tmp_path)}))._clients
    first = clients._authorized()
    assert clients._authorized() is first
    clients.renew()
    assert clients._authorized() != first
    assert len(made) == 2


def test_credentials_for_the_public_cloud_are_not_sent_to_a_local_one(made: list[Any]) -> None:
    local = {"endpoint_url": "http://127.0.0.1:5000"}
    assert credential_of(AzureSettings.of(Settings(local, {**BASE, **SECRET})), None) is None
    elsewhere = {"AZURE_AUTHORITY_HOST": "https://login.microsoftonline.com"}
    assert credential_of(AzureSettings.of(Settings(local, {**BASE, **SECRET, **elsewhere})), None) is None
    assert made == []

"""The credentials of one set of settings, read from their source: a secret, a certificate, a token file, or what the SDK finds."""

from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import urlsplit

from multicompute.errors import AuthError
from multicompute_azure._settings import AzureSettings

if TYPE_CHECKING:
    from azure.core.credentials import AccessToken, TokenCredential

# The values of AZURE_TOKEN_CREDENTIALS with which the SDK reads a service principal or a token file ("DefaultAzureCredential overview").
_FROM_ENVIRONMENT: Final = ("", "prod", "environmentcredential", "workloadidentitycredential")


def credential_of(settings: AzureSettings, transport: Any) -> "TokenCredential | None":
    """Return the credentials of `settings`; None on a local cloud that needs none.

    What the environment of the settings names is used before anything else, so two sessions in one process use their own credentials;
    azure-identity by itself reads the environment of the process.

    Args:
        settings: The settings, with the environment to read.
        transport: The connections to use for tokens.

    Raises:
        ClientAuthenticationError, ValueError: A certificate can't be read.
    """
    if settings.is_local:
        return _explicit(settings, _PlainHttp(transport)) if is_local_authority(settings) else None
    if settings.environment.get("AZURE_TOKEN_CREDENTIALS", "").lower() in _FROM_ENVIRONMENT:
        found = _explicit(settings, None)
        if found is not None:
            return found
    from azure.identity import DefaultAzureCredential

    chain = DefaultAzureCredential(
        additionally_allowed_tenants=["*"],
        managed_identity_client_id=settings.environment.get("AZURE_CLIENT_ID"),
    )
    return _InTenant(chain, settings.tenant_id) if settings.tenant_id else chain


def is_local_authority(settings: AzureSettings) -> bool:
    """Return whether the environment names the local cloud itself as the authority: only then does it get credentials."""
    authority, endpoint = settings.environment.get("AZURE_AUTHORITY_HOST"), settings.endpoint_url
    return bool(authority and endpoint and urlsplit(authority).netloc == urlsplit(endpoint).netloc)


def _explicit(settings: AzureSettings, transport: Any) -> "TokenCredential | None":
    """Return the service principal or the workload identity that the environment names; None if it names neither.

    A file is read when a token is needed: anew after credentials were rejected, as they are then built again.
    """
    from azure.identity import CertificateCredential, ClientSecretCredential, WorkloadIdentityCredential

    env = settings.environment
    tenant, client = settings.tenant_id or env.get("AZURE_TENANT_ID"), env.get("AZURE_CLIENT_ID")
    if not tenant or not client:
        return None
    options: dict[str, Any] = {"additionally_allowed_tenants": ["*"]}
    if authority := env.get("AZURE_AUTHORITY_HOST"):
        options["authority"] = authority
    if transport is not None:
        # The SDK accepts an authority over https only, and would ask the public one about it.
        host = urlsplit(authority or "").netloc
        options |= {"authority": f"https://{host}", "transport": transport, "disable_instance_discovery": True}
    if secret := env.get("AZURE_CLIENT_SECRET"):
        return ClientSecretCredential(tenant, client, secret, **options)
    if path := env.get("AZURE_CLIENT_CERTIFICATE_PATH"):
        options |= {
            "password": env.get("AZURE_CLIENT_CERTIFICATE_PASSWORD"),
            "send_certificate_chain": env.get("AZURE_CLIENT_SEND_CERTIFICATE_CHAIN", "").lower() in ("1", "true"),
        }
        return CertificateCredential(tenant, client, path, **options)
    if path := env.get("AZURE_FEDERATED_TOKEN_FILE"):
        return WorkloadIdentityCredential(tenant_id=tenant, client_id=client, token_file_path=path, **options)
    return None


class AnonymousCredential:
    """A credential for a local cloud, for which the SDK needs one but does not use it."""

    def get_token(self, *scopes: str, **options: Any) -> "AccessToken":
        """Refuse to return a token: none may be sent to a local cloud."""
        raise AuthError("azure: no token is sent to a local cloud", provider="azure")


class _InTenant:
    """A credential whose tokens are all of the configured tenant."""

    def __init__(self, credential: Any, tenant_id: str) -> None:
        self._credential = credential
        self._tenant_id = tenant_id

    def get_token(self, *scopes: str, **options: Any) -> "AccessToken":
        token: AccessToken = self._credential.get_token(*scopes, **{**options, "tenant_id": self._tenant_id})
        return token


class _PlainHttp:
    """Connections to a local cloud's authority, which the SDK only asks over https."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport

    def send(self, request: Any, **options: Any) -> Any:
        request.url = "http://" + request.url.removeprefix("https://")
        return self._transport.send(request, **options)

    def open(self) -> None:
        """Do nothing: the connections belong to the provider."""

    def close(self) -> None:
        """Do nothing: the connections belong to the provider."""

    def sleep(self, duration: float) -> None:
        self._transport.sleep(duration)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Do nothing: the connections belong to the provider."""

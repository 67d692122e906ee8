"""Microsoft Entra ID for the local Azure: secrets, the tokens that they are exchanged for, and their rotation."""

from typing import Final
from urllib.parse import parse_qs

from multicompute.testing.local.server import Request, Response, json_response
from multicompute_azure.local.arm import TENANT, ArmError

_LIFE_SECONDS: Final = 86399
AUTHORITY: Final = f"/{TENANT}/"
"""The path of the authority."""


class Identity:
    """The secrets of the applications that may use each subscription, and the service that exchanges them for tokens.

    A subscription without a secret accepts every request, as a local cloud does by default.
    """

    def __init__(self) -> None:
        """Require no credentials yet."""
        self._secrets: dict[str, str] = {}
        self._tokens: dict[str, str] = {}
        self._code = "ExpiredAuthenticationToken"

    def rotate(self, subscription: str, code: str = "ExpiredAuthenticationToken") -> str:
        """Require a new secret for a subscription and return it; its old secret and all tokens of it are rejected.

        Args:
            subscription: The id of the subscription.
            code: The code with which Resource Manager rejects the old tokens.
        """
        number = int(self._secrets.get(subscription, "secret-0-").split("-")[1]) + 1
        self._secrets[subscription] = f"secret-{number}-{subscription}"
        self._code = code
        return self._secrets[subscription]

    def clear(self) -> None:
        """Require no credentials any more."""
        self._secrets.clear()
        self._tokens.clear()

    def check(self, request: Request, subscription: str) -> None:
        """Refuse a request to a subscription without a valid token.

        Raises:
            ArmError: The token is missing, malformed, rejected, or that of another subscription.
        """
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        if kind and (kind.lower() != "bearer" or not token):
            raise ArmError("InvalidAuthenticationToken", "The access token is invalid.", 401)
        if subscription not in self._secrets:
            return
        if not token:
            text = "Authentication failed. The 'Authorization' header is missing."
            raise ArmError("AuthenticationFailed", text, 401)
        secret = self._tokens.get(token, "")
        if secret not in self._secrets.values():
            raise ArmError(self._code, "The access token is not valid any more.", 401)
        if self._secrets[subscription] != secret:
            text = f"The client 'local' does not have authorization over scope '/subscriptions/{subscription}'."
            raise ArmError("AuthorizationFailed", text, 403)

    def __call__(self, request: Request) -> Response:
        """Answer a request to the authority: its description, or the exchange of a secret or an assertion for a token."""
        url = f"https://{request.headers.get('host', '')}{AUTHORITY}"
        if request.method == "GET":
            names = {"token_endpoint": "oauth2/v2.0/token", "authorization_endpoint": "oauth2/v2.0/authorize"}
            document = {name: url + path for name, path in names.items()}
            return json_response(200, {**document, "issuer": f"{url}v2.0"})
        form = {name: values[0] for name, values in parse_qs(request.body.decode()).items()}
        secret = form.get("client_secret") or form.get("client_assertion") or ""
        if secret not in self._secrets.values():
            # "Microsoft Entra authentication and authorization error codes": the codes of a secret and of an assertion.
            text = (
                "AADSTS700024: Client assertion is not within its valid time range."
                if "client_assertion" in form
                else "AADSTS7000222: The provided client secret keys for app 'local' are expired."
            )
            return json_response(401, {"error": "invalid_client", "error_description": text})
        token = f"token-{len(self._tokens)}"
        self._tokens[token] = secret
        life = {"expires_in": _LIFE_SECONDS, "ext_expires_in": _LIFE_SECONDS}
        return json_response(200, {"token_type": "Bearer", "access_token": token, **life})

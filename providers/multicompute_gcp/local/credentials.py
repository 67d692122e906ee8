"""Service account keys of the local Google Cloud, and the tokens that they are exchanged for."""

import base64
import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from multicompute.testing.local.server import Request, Response, json_response
from multicompute_gcp.local.records import PROJECT
from multicompute_gcp.local.responses import GcpError

TOKEN_PATH = "/token"
_LIFETIME_SECONDS = 3600
_KEY_BITS = 2048


class Keys:
    """The keys of one service account. Without any key, calls need no credentials, as those of most tests."""

    def __init__(self) -> None:
        """Start without keys."""
        self._keys: set[str] = set()
        self._revoked: set[str] = set()
        self._tokens: dict[str, str] = {}

    def clear(self) -> None:
        """Forget every key."""
        for records in (self._keys, self._revoked, self._tokens):
            records.clear()

    def add(self, path: Path, *, endpoint: str) -> str:
        """Create a key, write it to a file as Google's console does, and return its id."""
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import rsa

        private = rsa.generate_private_key(public_exponent=65537, key_size=_KEY_BITS).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        key_id = secrets.token_hex(20)
        email = f"local@{PROJECT}.iam.gserviceaccount.com"
        content = {
            "type": "service_account",
            "project_id": PROJECT,
            "private_key_id": key_id,
            "private_key": private.decode(),
            "client_email": email,
            "client_id": "1",
            "token_uri": f"{endpoint}{TOKEN_PATH}",
        }
        path.write_text(json.dumps(content), encoding="utf-8")
        self._keys.add(key_id)
        return key_id

    def revoke(self, key_id: str) -> None:
        """Reject a key and every token that was issued for it."""
        if key_id not in self._keys:
            raise ValueError(f"{key_id}: no such key")
        self._revoked.add(key_id)

    def expire_tokens(self) -> None:
        """Reject every token that was issued so far; the keys stay valid."""
        self._tokens.clear()

    def issue_token(self, request: Request) -> Response:
        """Answer a request for a token: a signed assertion whose header names the key (RFC 7523)."""
        assertion = parse_qs(request.body.decode()).get("assertion", [""])[0]
        key_id = str(_header(assertion).get("kid", ""))
        if key_id not in self._keys - self._revoked:
            # https://github.com/googleapis/google-cloud-python/issues/10004: the answer for a key that was deleted.
            refusal = {"error": "invalid_grant", "error_description": "Invalid JWT Signature."}
            return json_response(400, refusal)
        token = secrets.token_urlsafe(24)
        self._tokens[token] = key_id
        return json_response(200, {"access_token": token, "expires_in": _LIFETIME_SECONDS, "token_type": "Bearer"})

    def check(self, headers: Mapping[str, str]) -> None:
        """Refuse a call without a valid token, if there are keys.

        Raises:
            GcpError: The token is missing, expired or of a revoked key.
        """
        token = headers.get("authorization", "").removeprefix("Bearer ")
        # A client may also send an assertion of its own in place of a token (https://google.aip.dev/auth/4111).
        key_id = self._tokens.get(token) or str(_header(token).get("kid", ""))
        if self._keys and key_id not in self._keys - self._revoked:
            raise GcpError(
                "authError", "Request had invalid authentication credentials.", 401, location="Authorization"
            )


def _header(assertion: str) -> dict[str, Any]:
    head = assertion.partition(".")[0]
    try:
        found = json.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}

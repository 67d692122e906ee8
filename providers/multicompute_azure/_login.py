"""Checks the public key of a login before anything is created."""

from typing import Final

from multicompute.provider_kit.vendor_errors import Place, invalid_request

# "Detailed steps: Create and manage SSH keys for authentication to a Linux VM in Azure": ECDSA and ECDH keys are not supported.
_KINDS: Final = ("ssh-rsa", "ssh-ed25519")


def check_login_key(key: str | None, place: Place) -> None:
    """Refuse a public key that Azure would refuse afterwards.

    Raises:
        InvalidRequestError: Azure accepts no key of this kind.
    """
    kind = key.split(maxsplit=1)[0] if key and key.strip() else ""
    if kind and kind not in _KINDS:
        text = f"Azure accepts RSA and Ed25519 keys only, not {kind}"
        hint = "name another key: `ssh-keygen -t ed25519` creates one"
        raise invalid_request(text, code="InvalidSshKey", place=place, scope="account", hint=hint)

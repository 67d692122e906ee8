"""Secrets that are easy to find, and a search for them in every form in which a text may contain them."""

import base64
import json
import logging
import traceback
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import quote

# Of the form that the services accept, so the code treats them like real ones.
AWS_SECRET_KEY = "wJalrXUtnFEMImarkedK7MDENGbPxRfiCYEXAMPLE"
AWS_SESSION_TOKEN = "IQoJb3JpZ2luX2VjmarkedsessionEXAMPLEtoken"
AZURE_CLIENT_SECRET = "aZ8Q~markedclientsecretEXAMPLE0123456789"
POSTGRES_PASSWORD = "pgmarkedpasswordEXAMPLE"
PROXY_PASSWORD = "proxymarkedpasswordEXAMPLE"
TOKEN_IN_SETUP = "hf_markedtokeninsetupEXAMPLE0123456789"
PRIVATE_SSH_KEY = "b3BlbnNzaC1markedprivatekeyEXAMPLE0123456"
SETUP = f"export HF_TOKEN={TOKEN_IN_SETUP}\npip install --quiet my-training\n"


@dataclass(frozen=True)
class Google:
    """The file of a service account, and the secret in it."""

    text: str
    secret: str


@cache
def google() -> Google:
    """Return a new key for each run: one in a repository would not be a secret."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    plain = serialization.NoEncryption()
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain).decode()
    account = {
        "type": "service_account",
        "project_id": "marked-project",
        "private_key_id": "0123456789abcdef",
        "private_key": pem,
        "client_email": "trainer@marked-project.iam.gserviceaccount.com",
        "client_id": "1",
        "token_uri": "https://oauth2.googleapis.com/token",
    }
    return Google(json.dumps(account), pem.splitlines()[5])


def secrets() -> Mapping[str, str]:
    """Return each secret by its name."""
    return {
        "AWS secret key": AWS_SECRET_KEY,
        "AWS session token": AWS_SESSION_TOKEN,
        "Google private key": google().secret,
        "Azure client secret": AZURE_CLIENT_SECRET,
        "PostgreSQL password": POSTGRES_PASSWORD,
        "proxy password": PROXY_PASSWORD,
        "token in the setup script": TOKEN_IN_SETUP,
        "private SSH key": PRIVATE_SSH_KEY,
    }


def environment(folder: Path) -> dict[str, str]:
    """Return the variables that put all secrets to use."""
    account = folder / "account.json"
    account.write_text(google().text)
    return {
        "AWS_ACCESS_KEY_ID": "AKIAMARKED0000000000",
        "AWS_SECRET_ACCESS_KEY": AWS_SECRET_KEY,
        "AWS_SESSION_TOKEN": AWS_SESSION_TOKEN,
        "GOOGLE_APPLICATION_CREDENTIALS": str(account),
        "AZURE_TENANT_ID": "00000000-0000-0000-0000-00000000aaaa",
        "AZURE_CLIENT_ID": "00000000-0000-0000-0000-00000000bbbb",
        "AZURE_CLIENT_SECRET": AZURE_CLIENT_SECRET,
        "PGPASSWORD": POSTGRES_PASSWORD,
    }


@cache
def forms(secret: str, depth: int = 2) -> frozenset[str]:
    """Return the forms of a text within another: as it is, in a URL, and in base64 at any offset, also encoded twice as in user data."""
    found = {secret, quote(secret, safe="")}
    for shift in range(3) if depth else ():
        encoded = base64.b64encode(b"x" * shift + secret.encode()).decode()
        # Without the characters that depend on the neighbouring text.
        found |= forms(encoded[-(-shift * 4 // 3) : -4], depth - 1)
    return frozenset(found)


def found_in(text: str | bytes, *, but: Iterable[str] = ()) -> list[str]:
    """Return the names of the secrets that a text contains."""
    plain = text.decode("latin-1") if isinstance(text, bytes) else text
    return [
        name for name, secret in secrets().items() if name not in but and any(form in plain for form in forms(secret))
    ]


# botocore logs complete requests at DEBUG, with the header that contains a session token and with the user data. A user who enables that
# wants it, and a library must not disable another library's logger. Only botocore's own lines are excused, and only for these two.
SDK_LINES = {"botocore": ("AWS session token", "token in the setup script")}


def leaked(records: list[logging.LogRecord]) -> set[tuple[str, str]]:
    """Return the logger and the secret of each log line that contains one and is not excused."""
    formatter, found = logging.Formatter("%(name)s %(message)s"), set()
    for record in records:
        excused = SDK_LINES.get(record.name.partition(".")[0], ())
        found |= {(record.name, name) for name in found_in(formatter.format(record), but=excused)}
    return found


def everything_of(error: BaseException) -> str:
    """Return everything that a handler of an error may print."""
    return "\n".join([str(error), repr(error), *traceback.format_exception(error), repr(vars(error))])

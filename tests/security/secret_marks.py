"""Secrets that are easy to find again, and a search for them in whatever form they may have got somewhere."""

import base64
import json
import logging
import traceback
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import quote

# Neither a letter nor a digit more than the services accept, so that they go where real ones go.
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
    """A service account's file, and what in it is secret."""

    text: str
    secret: str


@cache
def google() -> Google:
    """Made anew in each run: a key that is in a repository is nobody's secret."""
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
    """What each secret is called, and its text."""
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
    """The variables with which all of them are in use."""
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
    """How a text may look in another: as it is, in a URL, and in base64 at any place, also twice over as in user data."""
    found = {secret, quote(secret, safe="")}
    for shift in range(3) if depth else ():
        encoded = base64.b64encode(b"x" * shift + secret.encode()).decode()
        # Without the characters that depend on what stands before and behind.
        found |= forms(encoded[-(-shift * 4 // 3) : -4], depth - 1)
    return frozenset(found)


def found_in(text: str | bytes, *, but: Iterable[str] = ()) -> list[str]:
    """The names of the secrets that a text gives away."""
    plain = text.decode("latin-1") if isinstance(text, bytes) else text
    return [
        name for name, secret in secrets().items() if name not in but and any(form in plain for form in forms(secret))
    ]


# botocore writes whole requests at DEBUG, with the header that carries a session token and with the user data: whoever turns that on
# asks for it, and a library does not turn another's logger off. Its own lines are all that is excused, and only for these two.
SDK_LINES = {"botocore": ("AWS session token", "token in the setup script")}


def given_away(records: list[logging.LogRecord]) -> set[tuple[str, str]]:
    """Logger and secret, wherever a line of a log has one that is not excused."""
    formatter, found = logging.Formatter("%(name)s %(message)s"), set()
    for record in records:
        excused = SDK_LINES.get(record.name.partition(".")[0], ())
        found |= {(record.name, name) for name in found_in(formatter.format(record), but=excused)}
    return found


def everything_of(error: BaseException) -> str:
    """All that a handler of an error may print."""
    return "\n".join([str(error), repr(error), *traceback.format_exception(error), repr(vars(error))])

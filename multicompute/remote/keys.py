"""Makes the key pair of a cluster, which is kept on this machine."""

import os
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from multicompute.errors import MulticomputeError


@dataclass(frozen=True, slots=True)
class KeyPair:
    """An ed25519 key pair, in OpenSSH's formats.

    Attributes:
        private: The private key; not shown.
        public: The public key on one line, "ssh-ed25519 AAAA... comment".
    """

    private: str = field(repr=False)
    public: str


def generate(comment: str) -> KeyPair:
    """Make a new key pair.

    Raises:
        MulticomputeError: asyncssh is not installed.
    """
    # Not asyncssh itself, whose import takes 0.2 s: every request makes a key.
    _require()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()
    return KeyPair(private, _public_of(private, comment))


def ensure(path: Path, comment: str) -> KeyPair:
    """Return the key pair whose private half is in a file, making it if there is none; the public half is next to it.

    Only the user may read the private key. Of two processes that make the same one, both return that of the first.

    Raises:
        MulticomputeError: asyncssh is not installed, or the files can't be read or written.
    """
    _require()
    try:
        if not path.exists():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _make(path, generate(comment).private)
        private = path.read_text(encoding="utf-8")
        public, file = _public_of(private, comment), path.with_name(f"{path.name}.pub")
        known = file.read_text(encoding="utf-8").strip() if file.exists() else ""
        if known.split()[:2] == public.split()[:2]:
            # With the comment of who made it, which the private half lacks.
            return KeyPair(private, known)
        file.write_text(f"{public}\n", encoding="utf-8")
    except (OSError, ValueError) as error:
        raise MulticomputeError(f"{path}: no key can be kept there: {error}") from error
    return KeyPair(private, public)


def is_usable(path: Path) -> bool:
    """Return whether a file, or the file next to a public key, holds a private key that can be read without a passphrase."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_ssh_private_key

    private = path.with_suffix("") if path.suffix == ".pub" else path
    try:
        load_ssh_private_key(private.read_bytes(), None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm):
        return False
    return True


def _make(path: Path, private: str) -> None:
    """Write a file in one step, unless another process was faster."""
    made = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(private)
        os.link(made, path)
    except FileExistsError:
        pass
    finally:
        made.unlink()


def _public_of(private: str, comment: str) -> str:
    """Return the public half of a private key in OpenSSH's format.

    Raises:
        ValueError: It is no such key.
    """
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_private_key

    public = load_ssh_private_key(private.encode(), None).public_key()
    return f"{public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()} {comment}".strip()


def _require() -> None:
    if find_spec("asyncssh") is None:
        raise MulticomputeError("keys need asyncssh", hint='pip install "multicompute[ssh]"')

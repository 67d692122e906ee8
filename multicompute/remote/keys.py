"""Makes key pairs: the one of a cluster, kept on this machine, and the host keys that nodes get at their launch."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

from multicompute.errors import MulticomputeError


@dataclass(frozen=True, slots=True)
class KeyPair:
    """An ed25519 key pair, in OpenSSH's formats.

    Attributes:
        private: the private key; not shown.
        public: the public key on one line, "ssh-ed25519 AAAA... comment".
    """

    private: str = field(repr=False)
    public: str


def generate(comment: str) -> KeyPair:
    """Make a new key pair.

    Raises:
        MulticomputeError: asyncssh is not installed.
    """
    key = _asyncssh().generate_private_key("ssh-ed25519", comment=comment)
    return KeyPair(key.export_private_key("openssh").decode(), key.export_public_key("openssh").decode().strip())


def ensure(path: Path, comment: str) -> KeyPair:
    """Return the key pair whose private half is in a file, making it if there is none; the public half lies beside it.

    Only the user may read the private key. Of two processes that make the same one, both return that of the first.

    Raises:
        MulticomputeError: asyncssh is not installed, or the files can't be read or written.
    """
    asyncssh = _asyncssh()
    try:
        if not path.exists():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _make(path, generate(comment).private)
        private = path.read_text(encoding="utf-8")
        public = asyncssh.import_private_key(private).export_public_key("openssh").decode().strip()
        path.with_name(f"{path.name}.pub").write_text(f"{public}\n", encoding="utf-8")
    except (OSError, asyncssh.KeyImportError) as error:
        raise MulticomputeError(f"{path}: no key can be kept there: {error}") from error
    return KeyPair(private, public)


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


def _asyncssh() -> ModuleType:
    try:
        import asyncssh
    except ModuleNotFoundError as error:
        raise MulticomputeError("keys need asyncssh", hint='pip install "multicompute[ssh]"') from error
    return asyncssh

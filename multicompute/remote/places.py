"""The files of a cluster on this machine: the key pair that was made for it, and the host keys of its nodes."""

import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

from multicompute.config import data_folder
from multicompute.errors import MulticomputeError
from multicompute.remote import keys
from multicompute.spec import SSH_KEY_AUTO

if TYPE_CHECKING:
    from multicompute.ledger import ClusterRecord
    from multicompute.session import Session

PUBLIC_KEY: Final = "ssh_public_key"
"""The key in the data of the event "requested" that has the public half, for processes on other machines."""
_NAME: Final = "id_ed25519"


def key_folder(session: "Session") -> Path | None:
    """Return the folder for the keys of clusters, `$XDG_DATA_HOME/multicompute/keys`; None if the environment names none."""
    environment = session.config.environment
    if not environment.get("XDG_DATA_HOME") and not environment.get("HOME"):
        return None
    return data_folder(environment) / "keys"


def cluster_folder(session: "Session", cluster_id: str) -> Path | None:
    """Return the folder of a cluster, whether or not it exists."""
    folder = key_folder(session)
    return None if folder is None else folder / cluster_id


def user_file(session: "Session", name: str) -> Path | None:
    """Return a file in the user's home folder, None if it does not exist."""
    home = session.config.environment.get("HOME")
    path = Path(home, name) if home else None
    return path if path is not None and path.is_file() else None


def make_key(session: "Session", cluster_id: str, name: str) -> str | None:
    """Return the public half of the key pair of a cluster, made if there is none; None where nothing could log in with it.

    Raises:
        MulticomputeError: It can't be written.
    """
    folder = cluster_folder(session, cluster_id)
    if folder is None or find_spec("asyncssh") is None:
        return None
    return keys.ensure(folder / _NAME, f"multicompute-{name}").public


def public_key_of(session: "Session", cluster_id: str) -> str | None:
    """Return the public half of the key pair that was made for a cluster on any machine, as the ledger has it; None for none."""
    for event in session.ledger.events(cluster_id):
        if found := event.data.get(PUBLIC_KEY):
            return str(found)
    return None


def private_key_of(session: "Session", cluster: "ClusterRecord") -> Path | None:
    """Return the file of the private key with which to log in to the nodes of a cluster; None to try the agent's keys.

    Raises:
        MulticomputeError: The key pair was made on another machine.
    """
    named = cluster.spec.get("ssh_key")
    if named and named != SSH_KEY_AUTO:
        return Path(str(named)).expanduser()
    folder = cluster_folder(session, cluster.id)
    if folder is not None and (folder / _NAME).is_file():
        return folder / _NAME
    if public_key_of(session, cluster.id) is None:
        return None
    raise MulticomputeError(
        f"{cluster.name}: its key pair is on the machine that requested it, not in {folder}",
        hint="run the command there, or name a key of yours in the request: ssh_key=",
    )


def forget_cluster(session: "Session", cluster_id: str) -> None:
    """Delete the key pair and the host keys of a cluster that has ended."""
    folder = cluster_folder(session, cluster_id)
    if folder is not None and folder.is_dir():
        shutil.rmtree(folder, ignore_errors=True)

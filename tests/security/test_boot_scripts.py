"""A real shell reads the boot script as intended, whatever names, tags, keys and setup scripts contain.

The script does not run unchanged: its paths are moved into a folder, and commands that would change a machine are replaced by ones that
record how they were called.
"""

import base64
import gzip
import re
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from multicompute import ClusterSpec, errors
from multicompute.provider import LaunchRequest, Settings
from multicompute.provider_kit.boot import write_file
from multicompute_aws._boot import user_data
from multicompute_azure._boot import custom_data
from multicompute_azure._settings import AzureSettings
from multicompute_gcp._boot import metadata_of, startup_script

END = datetime(2026, 12, 1, tzinfo=UTC)
PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ"
# Replacements for the node's commands, which record how they were called and do nothing.
STAND_INS = ("systemctl", "shutdown", "chown", "getent", "logger", "curl")
NASTY = [
    "$(touch pwned)",
    "`touch pwned`",
    "'; touch pwned; '",
    '"; touch pwned; "',
    "\nEOF\ntouch pwned\n",
    "\\",
    "\r\n",
    "%s %n",
    "é 漢字 🚀",
    "--boundary\nContent-Type: text/cloud-config\n\nruncmd: [touch pwned]",
    "#cloud-config\nruncmd:\n - touch pwned\n",
    "${HOME} ~ * ? [a] !! & | < >",
]
TEXTS = st.one_of(
    st.lists(st.sampled_from(NASTY), min_size=1, max_size=4).map("".join),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=200),
).filter(lambda text: bool(text.strip()))
Sent = Callable[[str], str | bytes]
CLOUDS: Mapping[str, Sent] = {
    "aws": lambda setup: user_data(expires_at=END, ssh_public_key=None, setup=setup),
    "gcp": lambda setup: startup_script(setup=setup, expires_at=END),
    "tpu": lambda setup: startup_script(
        setup=setup, expires_at=END, delete_url="https://tpu.googleapis.com/v2/x?force=true"
    ),
    "azure": lambda setup: custom_data(expires_at=END, identity=None, setup=setup),
}


def as_read_by_the_node(sent: str | bytes) -> str:
    """Return the script that the node gets from what the cloud is sent."""
    if isinstance(sent, str) and not sent.startswith("#!"):
        sent = base64.b64decode(sent)
    if isinstance(sent, bytes):
        sent = (gzip.decompress(sent) if sent.startswith(b"\x1f\x8b") else sent).decode()
    return sent


class Boot:
    """A boot in a folder; `calls` has the calls of the commands that would have changed a machine."""

    def __init__(self, folder: Path, script: str, *, home: Path | None = None) -> None:
        self.folder = folder
        commands = folder / "bin"
        for path in (commands, folder / "etc/systemd/system", folder / "var/log"):
            path.mkdir(parents=True)
        for name in STAND_INS:
            answer = (
                f'[ "$1 $2" = "passwd ubuntu" ] && echo "ubuntu:x:1:1::{home}:/bin/sh"' if name == "getent" else ":"
            )
            self._command(commands / name, f'printf "%s\\n" "{name} $*" >> "{folder}/calls"\n{answer}\n')
        # Without owners, since this machine may not have those users.
        self._command(
            commands / "install",
            'exec /usr/bin/install -d -m "$3" "${@: -1}"\n' if home else 'exec /usr/bin/install "$@"\n',
        )
        confined = re.sub(r"(?<=\s)/(usr/local|etc/systemd|var)/", rf"{folder}/\1/", script)
        # The user's script is only compared, not run.
        confined = re.sub(
            rf"^{re.escape(str(folder))}/var/lib/multicompute/setup > .*$", "true", confined, flags=re.MULTILINE
        )
        self.done = subprocess.run(
            ["bash", "-c", confined],
            cwd=folder,
            env={"PATH": f"{commands}:/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    @staticmethod
    def _command(path: Path, body: str) -> None:
        path.write_text(f"#!/bin/bash\n{body}")
        path.chmod(0o755)

    @property
    def setup(self) -> bytes:
        return (self.folder / "var/lib/multicompute/setup").read_bytes()

    @property
    def calls(self) -> list[str]:
        path = self.folder / "calls"
        return path.read_text().splitlines() if path.exists() else []

    def unexpected_files(self) -> list[str]:
        """Return the files that the boot script should not have created."""
        known = {"bin", "etc", "usr", "var", "calls"}
        return sorted(path.name for path in self.folder.iterdir() if path.name not in known)


def is_understood(shell: str, script: str) -> bool:
    """Return whether a shell can parse a script."""
    with tempfile.NamedTemporaryFile("w", suffix=".sh") as file:
        file.write(script)
        file.flush()
        return subprocess.run([shell, "-n", file.name], capture_output=True, check=False, timeout=60).returncode == 0


WIDE = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.parametrize("cloud", CLOUDS)
@WIDE
@given(setup=TEXTS)
def test_a_node_writes_the_setup_script_byte_for_byte_and_does_nothing_else(cloud: str, setup: str) -> None:
    assert ClusterSpec(gpus=8, type=("h100",), setup=setup).setup == setup
    script = as_read_by_the_node(CLOUDS[cloud](setup))
    assert script.isascii() and is_understood("bash", script)
    with tempfile.TemporaryDirectory() as folder:
        boot = Boot(Path(folder), script)
        expected = setup if setup.startswith("#!") else f"#!/bin/bash\n{setup}\n"
        assert boot.setup == expected.encode()
        assert (boot.folder / "var/lib/multicompute/setup").stat().st_mode & 0o777 == 0o700
        assert boot.calls == ["systemctl daemon-reload", "systemctl enable --now multicompute-expiry.timer"]
        assert boot.unexpected_files() == []
        assert (boot.done.returncode, boot.done.stdout, boot.done.stderr) == (0, "", "")


@pytest.mark.parametrize("cloud", CLOUDS)
@pytest.mark.parametrize("setup", NASTY)
def test_no_part_of_a_setup_script_is_in_the_text_of_the_boot_script(cloud: str, setup: str) -> None:
    marked = f"marked-{setup}-marked"
    script = as_read_by_the_node(CLOUDS[cloud](marked))
    assert "marked" not in script
    assert script.startswith("#!/bin/bash\n")


@WIDE
@given(content=TEXTS)
def test_a_plain_sh_writes_a_file_byte_for_byte(content: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        command = write_file(f"{folder}/file", content)
        assert is_understood("sh", command)
        subprocess.run(["sh", "-c", command], check=True, capture_output=True, timeout=60)
        assert Path(folder, "file").read_bytes() == content.encode()


@WIDE
@given(comment=TEXTS)
def test_a_key_becomes_one_line_of_authorized_keys_or_is_refused(comment: str, tmp_path_factory: Any) -> None:
    folder = tmp_path_factory.mktemp("key")
    file = folder / "id.pub"
    file.write_bytes(f"{PUBLIC_KEY} {comment}\n".encode())
    spec = ClusterSpec(gpus=8, type=("h100",), ssh_key=str(file))
    try:
        key = spec.ssh_public_key()
    except errors.SpecError:
        assert re.search(r"[\x00-\x08\x0a-\x1f\x7f\x85\u2028\u2029]", comment)
        return
    assert key is not None
    home = folder / "home"
    home.mkdir()
    boot = Boot(
        folder / "node", as_read_by_the_node(user_data(expires_at=END, ssh_public_key=key, setup="")), home=home
    )
    assert (home / ".ssh/authorized_keys").read_bytes() == f"{key}\n".encode()
    assert boot.unexpected_files() == []
    request = LaunchRequest(
        token="t", cluster_id="c", cluster_name="n", owner="o", parts=(), tags={}, ssh_public_key=key
    )
    assert metadata_of(request)["ssh-keys"] == f"ubuntu:{key}"


@pytest.mark.parametrize("second", ["\n", "\r\n", "\r", "\x0b", "\x0c", "\x85", "\u2028", "\u2029"])
def test_a_file_with_two_keys_is_refused(second: str, tmp_path: Path) -> None:
    """In a cloud that reads one key per line, a second line would allow a second user to log in."""
    file = tmp_path / "id.pub"
    file.write_bytes(f"{PUBLIC_KEY} me{second}{PUBLIC_KEY} somebody\n".encode())
    with pytest.raises(errors.SpecError, match="no OpenSSH public key"):
        ClusterSpec(gpus=8, type=("h100",), ssh_key=str(file)).ssh_public_key()


@pytest.mark.parametrize("text", ["\0", "a\0b"])
@pytest.mark.parametrize("where", ["setup", "name", "image", "tag", "tag's name"])
def test_a_nul_is_refused_in_every_argument(text: str, where: str) -> None:
    argument: dict[str, Any] = {where: text}
    if where.startswith("tag"):
        argument = {"tags": {"key": text} if where == "tag" else {text: "value"}}
    with pytest.raises(errors.SpecError):
        ClusterSpec(gpus=8, type=("h100",), **argument)


@given(name=TEXTS)
def test_a_name_has_no_character_with_a_meaning_in_a_shell(name: str) -> None:
    try:
        accepted = ClusterSpec(gpus=8, type=("h100",), name=name).name
    except errors.SpecError:
        return
    assert accepted is not None and re.fullmatch(r"[a-z0-9-]+", accepted)


IDENTITY = "/subscriptions/0000/resourceGroups/rg_(1).x-y/providers/Microsoft.ManagedIdentity/userAssignedIdentities/id"


def test_an_identity_is_in_the_script_as_it_was_configured() -> None:
    read = AzureSettings.of(Settings(values={"identity": IDENTITY}))
    script = as_read_by_the_node(custom_data(expires_at=END, identity=read.identity, setup=""))
    timer = base64.b64decode(re.findall(r"echo (\S+) \| base64 -d > /usr/local", script)[0]).decode()
    assert f"msi_res_id={IDENTITY}" in timer and is_understood("bash", timer)


@pytest.mark.parametrize("nasty", [*NASTY, " ", '"', "\n", "a'b", "$HOME"])
def test_an_identity_with_a_meaning_in_a_shell_is_refused(nasty: str) -> None:
    """It is part of the node's timer script, which runs as root."""
    with pytest.raises(errors.ConfigError, match="identity"):
        AzureSettings.of(Settings(values={"identity": IDENTITY + nasty}))

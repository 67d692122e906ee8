"""Opens SSH connections: checks host keys, goes through jump hosts and proxy commands, and bounds logins."""

import asyncio
import socket
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import asyncssh

from multicompute.clock import Random
from multicompute.remote.target import SshHost, Target

KEEPALIVE_INTERVAL: Final = 2.5
KEEPALIVE_COUNT: Final = 3
KEEPALIVE_SECONDS: Final = KEEPALIVE_INTERVAL * (KEEPALIVE_COUNT + 1)
"""After so long without an answer a node counts as lost."""

_CONNECT_SECONDS: Final = 15
_LOGIN_SECONDS: Final = 20
_CLOSE_SECONDS: Final = 2.0
# sshd drops logins at random when more than 10 are under way (MaxStartups 10:30:100).
_LOGINS_PER_SERVER: Final = 8
_RETRIES: Final = 4
# A node that is booting refuses connections, then logins. From OpenSSH 9.8 on its server locks out addresses that fail too often
# (PerSourcePenalties), so the pauses grow.
_FIRST_PAUSE: Final = 2.0
_LONGEST_PAUSE: Final = 15.0
# Without certificates, whose authority is not known.
_HOST_KEY_KINDS: Final = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "rsa-sha2-512",
    "rsa-sha2-256",
)


class ConnectFailure(Exception):
    """A connection that could not be opened.

    Attributes:
        is_untrusted: Whether the host presented another key than the pinned one.
        is_final: Whether another attempt would fail in the same way, even on a node that is still booting.
    """

    def __init__(self, reason: str, *, is_untrusted: bool = False, is_final: bool = False) -> None:
        super().__init__(reason)
        self.is_untrusted = is_untrusted
        self.is_final = is_untrusted or is_final


class _Client(asyncssh.SSHClient):
    """Accepts an unknown host key only on first contact, and keeps what the host presented."""

    def __init__(self, *, learns: bool) -> None:
        self._learns = learns
        self.presented: asyncssh.SSHKey | None = None

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        self.presented = key
        return self._learns


class Connections:
    """The connections to a set of nodes, one for each, opened when first used."""

    def __init__(self, targets: Iterable[Target], *, random: Random, concurrency: int) -> None:
        self._targets = {target.rank: target for target in targets}
        self._random = random
        # Nodes by rank; jump hosts, which nodes share, by what they are.
        self._open: dict[int | SshHost, asyncssh.SSHClientConnection] = {}
        self._locks: defaultdict[int | SshHost, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._logins = asyncio.Semaphore(concurrency)
        self._logins_of: defaultdict[tuple[str, int], asyncio.Semaphore] = defaultdict(
            lambda: asyncio.Semaphore(_LOGINS_PER_SERVER)
        )
        self._keys: dict[Path, Mapping[str, Any]] = {}
        self._proxies: list[asyncio.subprocess.Process] = []
        self._agents: list[asyncssh.SSHAgentClient] = []
        self.host_keys: dict[SshHost, str] = {}
        """The host keys of all hosts that were connected to."""

    def target(self, rank: int) -> Target:
        """Return the node of a rank."""
        return self._targets[rank]

    async def open(self, rank: int) -> asyncssh.SSHClientConnection:
        """Return the connection to a node, opening it if there is none.

        Raises:
            ConnectFailure: It can't be opened.
        """
        target = self._targets[rank]
        loop = asyncio.get_running_loop()
        deadline = loop.time() + target.patience.total_seconds()
        pause = _FIRST_PAUSE
        while True:
            try:
                return await self._connection(rank, target.host)
            except ConnectFailure as failure:
                left = deadline - loop.time()
                if failure.is_final or left <= 0:
                    raise
            await asyncio.sleep(min(self._random.uniform(0.7, 1.0) * pause, left))
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def close(self) -> None:
        """Close all connections."""
        open_ones = list(self._open.values())
        # The tunnelled ones first: they close through the others.
        for connection in reversed(open_ones):
            connection.close()
        waits = [asyncio.ensure_future(connection.wait_closed()) for connection in open_ones]
        if waits:
            _, late = await asyncio.wait(waits, timeout=_CLOSE_SECONDS)
            for connection in open_ones if late else ():
                connection.abort()
            await asyncio.gather(*waits, return_exceptions=True)
        for agent in self._agents:
            agent.close()
            await agent.wait_closed()
        for process in self._proxies:
            if process.returncode is None:
                process.terminate()
            await process.wait()

    async def _connection(self, key: int | SshHost, host: SshHost) -> asyncssh.SSHClientConnection:
        async with self._locks[key]:
            known = self._open.get(key)
            if known is not None and not known.is_closed():
                return known
            connection = await self._login(host)
            self._open[key] = connection
            return connection

    async def _login(self, host: SshHost) -> asyncssh.SSHClientConnection:
        attempt = 0
        while True:
            try:
                return await self._attempt(host)
            except (ConnectionResetError, asyncssh.ConnectionLost) as error:
                # What MaxStartups looks like from outside.
                attempt += 1
                if attempt > _RETRIES:
                    raise ConnectFailure(f"{host} closed the connection before the login: {error}") from error
                await asyncio.sleep(self._random.uniform(0.2, 0.5) * 2**attempt)

    async def _attempt(self, host: SshHost) -> asyncssh.SSHClientConnection:
        options = await self._options(host)
        route = await self._route(host, options)
        client = _Client(learns=bool(options.pop("learns")))
        async with self._logins, self._logins_of[host.address, host.port or 22]:
            try:
                connection = await asyncssh.connect(
                    host.address, client_factory=lambda: client, **options, **await route()
                )
            except (ConnectionResetError, asyncssh.ConnectionLost):
                raise
            except (asyncssh.Error, OSError, ValueError) as error:
                raise self._failure(host, client, error) from error
        key = connection.get_server_host_key()
        if key is not None:
            self.host_keys[host] = _text_of(key)
        return connection

    async def _options(self, host: SshHost) -> dict[str, Any]:
        options: dict[str, Any] = {
            "config": [str(host.ssh_config)] if host.ssh_config and host.ssh_config.exists() else None,
            "connect_timeout": _CONNECT_SECONDS,
            "login_timeout": _LOGIN_SECONDS,
            "keepalive_interval": KEEPALIVE_INTERVAL,
            "keepalive_count_max": KEEPALIVE_COUNT,
            # Whatever the user's configuration says for shells that they open themselves.
            "agent_forwarding": False,
            "x11_forwarding": False,
            "command": None,
            "env": None,
            "send_env": None,
            **self._trust(host),
            **await self._key(host.identity),
        }
        if host.port is not None:
            options["port"] = host.port
        if host.user:
            options["username"] = host.user
        if host.ssh_config is None:
            options["preferred_auth"] = ("publickey",)
            # A quarter less CPU than asyncssh's first choice where the processor has AES, as all of the clouds' have.
            options["encryption_algs"] = "^aes128-gcm@openssh.com"
        return options

    def _trust(self, host: SshHost) -> dict[str, Any]:
        """Return whom to trust: the pinned key, else what `known_hosts` has, else whoever answers first."""
        pinned = host.host_key or self.host_keys.get(host)
        if pinned:
            try:
                key = asyncssh.import_public_key(pinned)
            except asyncssh.KeyImportError as error:
                raise ConnectFailure(f"the pinned host key of {host} can't be read: {error}", is_final=True) from error
            return _trusting([key])
        if host.known_hosts is not None and host.known_hosts.exists():
            known = asyncssh.read_known_hosts(str(host.known_hosts))
            found = known.match(host.address, "", host.port if host.port != 22 else None)
            if found[1]:  # a certificate authority's key
                return {"known_hosts": found, "learns": False}
            if found[0]:
                return _trusting(found[0])
        return {**_trusting([]), "learns": True}

    async def _key(self, identity: Path | None) -> Mapping[str, Any]:
        if identity is None:
            return {}
        if identity not in self._keys:
            self._keys[identity] = await self._read_identity(identity.expanduser())
        return self._keys[identity]

    async def _read_identity(self, path: Path) -> Mapping[str, Any]:
        """Return the options that offer exactly one key: from the file, else the same key from the agent.

        Servers give up after six keys (MaxAuthTries), and a full agent has more.
        """
        private = path.with_suffix("") if path.suffix == ".pub" else path
        try:
            return {"client_keys": [asyncssh.read_private_key(str(private))], "agent_path": None}
        except FileNotFoundError:
            pass
        except (asyncssh.KeyEncryptionError, asyncssh.KeyImportError) as error:
            if "passphrase" not in str(error).lower() and "decrypt" not in str(error).lower():
                raise ConnectFailure(f"{private}: can't be read as a private key: {error}", is_final=True) from error
        except OSError as error:
            raise ConnectFailure(f"{private}: can't be read: {error.strerror}", is_final=True) from error
        public = private.with_name(f"{private.name}.pub")
        try:
            wanted = asyncssh.read_public_key(str(public)).public_data
            agent = await asyncssh.connect_agent()
            # It signs as long as it is open.
            self._agents.append(agent)
            keys = [key for key in await agent.get_keys() if key.public_data == wanted]
        except (OSError, asyncssh.Error, ValueError) as error:
            raise ConnectFailure(
                f"{private}: no private key without a passphrase, and no agent that has it: {error}", is_final=True
            ) from error
        if not keys:
            raise ConnectFailure(
                f"{private}: no private key without a passphrase, and the agent lacks it", is_final=True
            )
        return {"client_keys": keys, "agent_path": None}

    async def _route(self, host: SshHost, options: dict[str, Any]) -> Callable[[], Awaitable[dict[str, Any]]]:
        """Return what opens the way to a host: directly, through a jump host, or through a proxy command."""
        jump, command = host.jump, host.proxy_command
        if jump is None and not command and options["config"]:
            jump, command = await _configured_route(host, options)

        async def route() -> dict[str, Any]:
            if command:
                return {"sock": await self._proxy(command), "proxy_command": None, "tunnel": None}
            return {"tunnel": tunnel, "proxy_command": None}

        # One login at the jump host for all nodes behind it, made before this host takes a place among the logins.
        tunnel = await self._connection(jump, jump) if jump is not None else None
        return route

    async def _proxy(self, command: tuple[str, ...]) -> socket.socket:
        ours, theirs = socket.socketpair()
        try:
            # In a session of its own: a Ctrl-C at the terminal must not cut the connection before all is ended.
            process = await asyncio.create_subprocess_exec(
                *command, stdin=theirs.fileno(), stdout=theirs.fileno(), start_new_session=True
            )
        except OSError as error:
            ours.close()
            raise ConnectFailure(
                f"ssh_proxy_command: {command[0]} can't be started: {error.strerror}; install it", is_final=True
            ) from error
        finally:
            theirs.close()
        self._proxies.append(process)
        return ours

    def _failure(self, host: SshHost, client: _Client, error: Exception) -> ConnectFailure:
        if isinstance(error, asyncssh.HostKeyNotVerifiable):
            shown = f" ({client.presented.get_fingerprint()})" if client.presented is not None else ""
            return ConnectFailure(
                f"the host key of {host} is not the pinned one{shown}; nothing was sent to it", is_untrusted=True
            )
        if isinstance(error, asyncssh.PermissionDenied):
            key = f"with the key {host.identity}" if host.identity else "with the agent's keys"
            return ConnectFailure(f"{host} refused the login {key}; check ssh_user and ssh_key")
        if isinstance(error, TimeoutError):
            return ConnectFailure(f"{host} does not answer")
        if isinstance(error, asyncssh.Error):
            return ConnectFailure(f"no SSH connection to {host}: {error.reason or error}")
        return ConnectFailure(f"{host} can't be reached: {getattr(error, 'strerror', None) or error}")


async def _configured_route(host: SshHost, options: dict[str, Any]) -> tuple[SshHost | None, tuple[str, ...]]:
    """Read ProxyJump and ProxyCommand from the user's configuration.

    asyncssh would follow them itself, but would log in to the jump host once for each node.
    """
    chosen = {name: options[name] for name in ("config", "port", "username") if name in options}
    found = await asyncssh.SSHClientConnectionOptions.construct(None, host=host.address, **chosen)
    if isinstance(found.tunnel, str) and found.tunnel.lower() != "none":
        jump: SshHost | None = None
        for hop in found.tunnel.split(","):
            jump = _hop(hop.strip(), host, jump)
        return jump, ()
    return None, tuple(found.proxy_command or ())


def _hop(text: str, host: SshHost, previous: SshHost | None) -> SshHost:
    user, _, place = text.rpartition("@")
    address, colon, port = place.rpartition(":")
    return SshHost(
        address=address if colon else place,
        port=int(port) if colon else None,
        user=user,
        known_hosts=host.known_hosts,
        ssh_config=host.ssh_config,
        jump=previous,
    )


def _trusting(keys: Sequence[asyncssh.SSHKey]) -> dict[str, Any]:
    """Return the options that trust these keys, and ask for their kinds first.

    The other kinds as well: a host that has lost its key shows its new one then, instead of hanging up.
    """
    kinds = [kind.decode() for key in keys for kind in key.sig_algorithms]
    preferred = [kind for kind in kinds if kind in _HOST_KEY_KINDS]
    others = [kind for kind in _HOST_KEY_KINDS if kind not in preferred]
    return {"known_hosts": (list(keys), [], []), "learns": False, "server_host_key_algs": preferred + others}


def _text_of(key: asyncssh.SSHKey) -> str:
    return " ".join(key.export_public_key("openssh").decode().split()[:2])


async def connect_all(connections: Connections, ranks: Sequence[int]) -> dict[int, ConnectFailure]:
    """Connect to all nodes at once; return the failures by rank."""

    async def connect(rank: int) -> ConnectFailure | None:
        try:
            await connections.open(rank)
        except ConnectFailure as failure:
            return failure
        return None

    failures = await asyncio.gather(*(connect(rank) for rank in ranks))
    return {rank: failure for rank, failure in zip(ranks, failures, strict=True) if failure is not None}


async def connect_within(
    connections: Connections, ranks: Sequence[int], *, within: timedelta | None, random: Random
) -> dict[int, ConnectFailure]:
    """Connect to all nodes, trying again until `within` has passed; return the failures that are left."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + (within or timedelta()).total_seconds()
    pause = _FIRST_PAUSE
    while True:
        failures = await connect_all(connections, ranks)
        left = deadline - loop.time()
        if not failures or left <= 0 or any(failure.is_final for failure in failures.values()):
            return failures
        await asyncio.sleep(min(random.uniform(0.7, 1.0) * pause, left))
        pause = min(2 * pause, _LONGEST_PAUSE)
        ranks = sorted(failures)


def allow_files(connections: int) -> None:
    """Raise this process's limit of open files where it does not allow for so many connections."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    needed = 2 * connections + 256
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < needed:
        allowed = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))

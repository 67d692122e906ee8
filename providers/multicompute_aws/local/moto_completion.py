"""Adds to a user's own moto, in this process, what launches need and moto lacks."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from multicompute.clock import SystemClock
from multicompute.testing.faults import Faults
from multicompute.testing.local.fault_injection import FaultInjector
from multicompute.testing.local.server import Request, Response
from multicompute_aws.local.account import Account
from multicompute_aws.local.app import AwsApp, ParsedRequest, parse
from multicompute_aws.local.images import IMAGE_PARAMETERS
from multicompute_aws.local.keys import Keys
from multicompute_aws.local.moto_cloud import Moto
from multicompute_aws.local.state import USER_TERMINATED, Region, State

# What moto's classes of responses return: status, headers, body.
MotoResponse = tuple[int, dict[str, str], bytes | str]
# `multicompute_aws._session` has the adapter's clients add it.
_USER_AGENT: Final = "multicompute"
_ACCOUNT: Final = "_multicompute_account"
_HOME: Final = "us-east-1"
_ENDED: Final = ("terminated", "shutting-down")


@contextmanager
def completed_moto() -> Iterator[None]:
    """Complete moto while the block runs: `mock_aws()` and the moto servers of this process, in all threads.

    The adapter's own calls get the answers of the local AWS, which keeps instances, groups and images in moto's store. All other calls
    get moto's own answers, and those of the local AWS only where moto has none.
    """
    _patches.install()
    try:
        yield
    finally:
        _patches.remove()


class _CompletedAccount:
    """An account of moto with what moto lacks; it is stored in a backend of moto, so a reset of moto deletes it."""

    def __init__(self, number: str, application: Any) -> None:
        self._moto = Moto(number, application)
        self._state = State(SystemClock().now)
        self._account = Account(self._state, self._moto, "moto")
        self._app: AwsApp = self._account.start(FaultInjector(Faults(), SystemClock()), Keys())

    def answer(self, parsed: ParsedRequest, request: Request) -> Response | None:
        """Answer a request, as things are in moto: other clients may have changed them."""
        if parsed.service == "ec2" and self._moto.has_region(parsed.region):
            with self._state.lock:
                _take_over(self._state.region(parsed.region), self._moto, self._state)
        return self._app(request)

    def has(self, parsed: ParsedRequest, request: Request) -> bool:
        """Return whether it can answer a request that moto can't."""
        if parsed.service == "ec2":
            return parsed.action in self._account.handlers
        return parsed.service == "servicequotas" and "x-amz-target" in request.headers


def _take_over(region: Region, moto: Moto, state: State) -> None:
    """Note what clients that moto has answered itself have done to the instances of the adapter."""
    if not region.instances:
        return
    now = state.now()
    in_moto = {each.id: each.state for each in moto.ec2(region.name).all_instances()}
    for instance in list(region.instances.values()):
        found = in_moto.get(instance.id, "terminated")
        if found in _ENDED:
            region.terminate(instance, now, USER_TERMINATED, now)
        else:
            instance.is_stopped = found in ("stopping", "stopped")


class _Patches:
    """The patches of moto's response classes, which are in place while at least one block runs."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._blocks = 0
        self._patched: list[tuple[type, Any]] = []
        self._application: Any = None
        # Whether the thread is inside a call that the local AWS passes on to moto.
        self._forwarding = threading.local()

    def install(self) -> None:
        """Patch moto, unless it is patched already."""
        with self._lock:
            self._blocks += 1
            if self._blocks > 1:
                return
            try:
                for kind in _response_classes():
                    self._patched.append((kind, vars(kind).get("_dispatch")))
                    kind._dispatch = self._dispatch_of(kind._dispatch)
            except BaseException:
                self.remove()
                raise

    def remove(self) -> None:
        """Undo the patches after the last block."""
        with self._lock:
            self._blocks -= 1
            if self._blocks:
                return
            for kind, own in self._patched:
                if own is None:
                    del kind._dispatch  # type: ignore[attr-defined] # moto has no annotations
                else:
                    kind._dispatch = own  # type: ignore[attr-defined] # likewise
            self._patched = []
            self._application = None

    def _dispatch_of(self, original: Callable[..., MotoResponse]) -> Callable[..., MotoResponse]:
        """Return what replaces the method of a response class that answers a request."""

        def dispatch(handler: Any, request: Any, *rest: Any, **named: Any) -> MotoResponse:
            def by_moto() -> MotoResponse:
                return original(handler, request, *rest, **named)

            if getattr(self._forwarding, "is_on", False):
                return by_moto()
            # First, because the form of a request can be read only once.
            ours = _request_of(request)
            reader = type(handler)()
            reader.setup_class(request, *rest, **named)
            return self._answer(ours, reader.current_account, by_moto)

        return dispatch

    def _answer(self, request: Request, number: str, by_moto: Callable[[], MotoResponse]) -> MotoResponse:
        parsed = parse(request)
        if _USER_AGENT in request.headers.get("user-agent", "") or _asks_for_image(parsed, request):
            return self._answer_ourselves(parsed, request, number)
        try:
            return by_moto()
        except NotImplementedError:
            if not self._account(number).has(parsed, request):
                raise
            return self._answer_ourselves(parsed, request, number)

    def _answer_ourselves(self, parsed: ParsedRequest, request: Request, number: str) -> MotoResponse:
        account = self._account(number)
        self._forwarding.is_on = True
        try:
            response = account.answer(parsed, request)
        finally:
            self._forwarding.is_on = False
        if response is None:
            raise AssertionError("only a fault closes the connection, and none is injected")
        return response.status, {"Content-Type": response.content_type, **response.headers}, response.body

    def _account(self, number: str) -> _CompletedAccount:
        from moto.ec2.models import ec2_backends

        with self._lock:
            if self._application is None:
                self._application = Moto.application()
            found: _CompletedAccount | None = vars(ec2_backends[number][_HOME]).get(_ACCOUNT)
            if found is None:
                found = _CompletedAccount(number, self._application)
                vars(ec2_backends[number][_HOME])[_ACCOUNT] = found
            return found


_patches: Final = _Patches()


def _response_classes() -> tuple[Any, ...]:
    """Return the classes of moto that answer the requests of the services that are completed."""
    from moto.ec2.responses import EC2Response
    from moto.servicequotas.responses import ServiceQuotasResponse
    from moto.ssm.responses import SimpleSystemManagerResponse

    return EC2Response, SimpleSystemManagerResponse, ServiceQuotasResponse


def _asks_for_image(parsed: ParsedRequest, request: Request) -> bool:
    """Return whether a request reads an image parameter that AWS publishes and moto lacks."""
    if parsed.service != "ssm" or parsed.action not in ("GetParameter", "GetParameters"):
        return False
    return any(f'"{name}"'.encode() in request.body for name in IMAGE_PARAMETERS)


def _request_of(request: Any) -> Request:
    """Return a request that moto answers, as the local AWS reads it: werkzeug's, or the SDK's own in older versions of moto."""
    body = request.get_data() if hasattr(request, "get_data") else request.body or b""
    path, _, query = _after_host(str(request.url)).partition("?")
    return Request(
        method=request.method,
        path=path,
        query=query,
        headers={_text(name).lower(): _text(value) for name, value in request.headers.items()},
        body=body.encode() if isinstance(body, str) else body,
    )


def _after_host(url: str) -> str:
    return "/" + url.partition("://")[2].partition("/")[2]


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)

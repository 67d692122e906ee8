"""Providers that break one promise each: the real adapter on its local cloud, with a fault in front of it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from multicompute.clock import Clock
from multicompute.errors import AuthError
from multicompute.node import Node, NodeState
from multicompute.offer import Part
from multicompute.provider import (
    TAG_EXPIRES_AT,
    Account,
    Check,
    LaunchRequest,
    Provider,
    Quotas,
    Resource,
    Selector,
    Teardown,
)


class Wrapped:
    """A provider without a fault, which waits in longer steps than a local one: virtual time costs nothing, but calls do."""

    poll_interval = timedelta(seconds=10)
    attempt_timeout = timedelta(minutes=2)

    def __init__(self, real: Provider) -> None:
        self.real: Any = real
        self.launched: dict[str, LaunchRequest] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def launch(self, request: LaunchRequest) -> tuple[Node, ...]:
        self.launched[request.cluster_id] = request
        nodes: tuple[Node, ...] = self.real.launch(request)
        return nodes

    def nodes(self, selector: Selector) -> tuple[Node, ...]:
        nodes: tuple[Node, ...] = self.real.nodes(selector)
        return nodes

    def terminate(self, selector: Selector) -> Teardown:
        step: Teardown = self.real.terminate(selector)
        return step


class ExpiryTagMissing(Wrapped):
    def launch(self, request: LaunchRequest) -> tuple[Node, ...]:
        tags = {key: value for key, value in request.tags.items() if key != TAG_EXPIRES_AT}
        return super().launch(replace(request, tags=tags))


class UserTagMissing(Wrapped):
    def launch(self, request: LaunchRequest) -> tuple[Node, ...]:
        return super().launch(
            replace(request, tags={key: value for key, value in request.tags.items() if key != "purpose"})
        )


class TokenNotHonoured(Wrapped):
    def launch(self, request: LaunchRequest) -> tuple[Node, ...]:
        is_repeated = request.cluster_id in self.launched
        return super().launch(replace(request, token=f"{request.token}0") if is_repeated else request)


class NodeNotListed(Wrapped):
    def nodes(self, selector: Selector) -> tuple[Node, ...]:
        return super().nodes(selector)[: None if selector.owner is None else -1]


class OtherClusterListed(Wrapped):
    def nodes(self, selector: Selector) -> tuple[Node, ...]:
        is_plain = selector == Selector(region=selector.region, cluster_id=selector.cluster_id)
        return super().nodes(Selector(region=selector.region) if is_plain else selector)


class ExpiryNotWritten(Wrapped):
    def set_expiry(
        self, selector: Selector, expires_at: datetime | None, *, restore: Mapping[str, str] | None = None
    ) -> None:
        pass


class EndedNodeListedAsRunning(Wrapped):
    def __init__(self, real: Provider) -> None:
        super().__init__(real)
        self.ended: dict[str, Node] = {}

    def nodes(self, selector: Selector) -> tuple[Node, ...]:
        found = {node.id: node for node in super().nodes(selector)}
        return tuple((found | {key: node for key, node in self.ended.items() if selector.cluster_id}).values())

    def terminate(self, selector: Selector) -> Teardown:
        if not selector.only:
            self.ended.clear()
        elif not self.ended:
            found = super().nodes(replace(selector, only=()))
            self.ended = {node.id: node for node in found if node.id in selector.only}
        return super().terminate(selector)


class TerminateNotDone(Wrapped):
    """Reports the first teardown of a gang as done without doing anything."""

    def __init__(self, real: Provider) -> None:
        super().__init__(real)
        self.is_over = False

    def terminate(self, selector: Selector) -> Teardown:
        if self.is_over or not _is_gang(self, selector):
            return super().terminate(selector)
        self.is_over = True
        return Teardown()


class ResourceLeft(Wrapped):
    """Reports the first teardown of a gang as done when its nodes are gone, and leaves what belongs to the complete cluster."""

    def __init__(self, real: Provider) -> None:
        super().__init__(real)
        self.is_over = False

    def terminate(self, selector: Selector) -> Teardown:
        if self.is_over or not _is_gang(self, selector):
            return super().terminate(selector)
        steps = [super(ResourceLeft, self).terminate(replace(selector, token=token)) for token in selector.tokens]
        self.is_over = all(step.is_done for step in steps)
        return next((step for step in steps if not step.is_done), Teardown())


class TerminateNeverDone(Wrapped):
    """Accepts every teardown of a gang, and does nothing."""

    poll_interval = timedelta(minutes=5)
    attempt_timeout = timedelta(minutes=10)

    def terminate(self, selector: Selector) -> Teardown:
        if not _is_gang(self, selector):
            return super().terminate(selector)
        return Teardown(self.real.resources(selector), waiting_for="the cloud")


class BootScriptDropped(Wrapped):
    def launch(self, request: LaunchRequest) -> tuple[Node, ...]:
        return super().launch(replace(request, setup=""))


class HalfAGang(Wrapped):
    def launch(self, request: LaunchRequest) -> tuple[Node, ...]:
        return super().launch(replace(request, parts=tuple(Part(part.offer, 1) for part in request.parts)))


class NeverRuns(Wrapped):
    def nodes(self, selector: Selector) -> tuple[Node, ...]:
        found = super().nodes(selector)
        return tuple(replace(node, state=NodeState.PENDING) for node in found if node.state is not NodeState.GONE)


class QuotaUnreadable(Wrapped):
    def quotas(self, region: str, *, reservations: Sequence[str] = ()) -> Quotas:
        return Quotas(notes=("quotas can't be read: the permission is missing",))


class RightMissing(Wrapped):
    def check(self) -> tuple[Check, ...]:
        checks: tuple[Check, ...] = self.real.check()
        return (*checks, Check("delete machines", ok=False, detail="me@example.org is not allowed to", hint="allow it"))


class OtherClusterTornDown(Wrapped):
    def terminate(self, selector: Selector) -> Teardown:
        if _is_gang(self, selector):
            for cluster_id in self.launched:
                super().terminate(Selector(region=selector.region, cluster_id=cluster_id))
        return super().terminate(selector)


class CredentialsRefused(Wrapped):
    @property
    def account(self) -> Account:
        raise AuthError("the key AKIA0123456789ABCDEF of me@example.org has expired", code="ExpiredToken")


class Crashes(Wrapped):
    """Has a bug that shows when the gang is up."""

    def resources(self, selector: Selector) -> tuple[Resource, ...]:
        if any(request.node_count > 1 for request in self.launched.values()):
            raise ZeroDivisionError("a bug")
        resources: tuple[Resource, ...] = self.real.resources(selector)
        return resources


def _is_gang(provider: Wrapped, selector: Selector) -> bool:
    """Return whether this is a teardown of a complete gang of several nodes."""
    request = provider.launched.get(selector.cluster_id or "")
    return request is not None and request.node_count > 1 and not selector.only and selector.token is None


class BrokenPlugin:
    """The plug-in of a provider, which opens it with a fault in front of it and with the clock of its cloud."""

    def __init__(self, real: Any, fault: type[Wrapped], clock: Clock) -> None:
        self._real = real
        self._fault = fault
        self._clock = clock

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def open(self, settings: Any) -> Any:
        return self._fault(type(self._real.open(settings))(settings, clock=self._clock))

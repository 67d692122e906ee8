"""New groups that calls do not find yet, and security groups in accounts without a default VPC."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime

from multicompute_aws.local.instances import Call, Handler
from multicompute_aws.local.moto_cloud import Moto
from multicompute_aws.local.state import Region, State
from multicompute_aws.local.wire import AwsError

_CREATING = {"CreateSecurityGroup": "security", "CreatePlacementGroup": "placement"}


class SecurityGroups:
    """CreateSecurityGroup, as far as moto answers differently from EC2."""

    def __init__(self, state: State, moto: Moto) -> None:
        """Keep the groups in `moto`."""
        self._state = state
        self._moto = moto

    def handlers(self) -> Mapping[str, Handler]:
        """Return the handlers by action."""
        return {"CreateSecurityGroup": self._create}

    def _create(self, call: Call) -> bytes:
        """Create a group; EC2 looks for the VPC before it answers a dry run."""
        if not call.params.get("VpcId") and not self._moto.has_default_vpc(call.region.name):
            raise AwsError("VPCIdNotSpecified", "No default VPC for this user")
        if call.params.get("DryRun"):
            raise AwsError("DryRunOperation", "Request would have succeeded, but DryRun flag is set.", 412)
        return self._moto.call_or_refuse(call.request)


class LateGroups:
    """The groups that were created less than `State.group_lag` ago.

    "If you successfully run the CreateSecurityGroup command, and then immediately run another command, it may return an
    InvalidGroup.NotFound error" ("Eventual consistency in the Amazon EC2 API", EC2 developer guide). The names of new groups are
    taken at once. https://github.com/aws/aws-sdk-js/issues/318 shows it for AuthorizeSecurityGroupIngress.
    """

    def __init__(self, state: State, moto: Moto) -> None:
        """Hide groups of `moto` and of `state`."""
        self._state = state
        self._moto = moto
        # The region and the id or name of a group -> when calls find it.
        self._found_from: dict[tuple[str, str], datetime] = {}

    @contextmanager
    def hidden(self, action: str, region: Region) -> Iterator[None]:
        """Hide the late groups of a region during a call, and remember those that the call creates."""
        if not self._state.group_lag and not self._found_from:
            yield
        elif action in _CREATING:
            before = self._names(region)
            yield
            visible = self._state.now() + self._state.group_lag
            self._found_from |= {(region.name, name): visible for name in self._names(region) - before}
        else:
            with self._without(region):
                yield

    def _names(self, region: Region) -> set[str]:
        return {*self._moto.security_group_ids(region.name), *region.placement_groups}

    @contextmanager
    def _without(self, region: Region) -> Iterator[None]:
        now = self._state.now()
        self._found_from = {key: time for key, time in self._found_from.items() if time > now}
        late = {name for where, name in self._found_from if where == region.name}
        placements = {name: group for name, group in region.placement_groups.items() if name in late}
        for name in placements:
            del region.placement_groups[name]
        with self._moto.without_security_groups(region.name, late):
            try:
                yield
            finally:
                region.placement_groups |= placements

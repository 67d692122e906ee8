"""How nodes are named and reached."""

import pytest

from multicompute.errors import ConfigError
from multicompute.remote.target import SshHost, Target, proxy_command


def filled(template: str, **values: str) -> tuple[str, ...]:
    return proxy_command(template, host="10.0.0.3", port=22, user="ubuntu", values=values)


def test_a_proxy_command_is_filled_with_the_node_s_data() -> None:
    template = "gcloud compute start-iap-tunnel {instance_id} %p --listen-on-stdin --zone={zone}"
    assert filled(template, instance_id="a-1", zone="us-east1-b") == (
        *("gcloud", "compute", "start-iap-tunnel", "a-1", "22", "--listen-on-stdin", "--zone=us-east1-b"),
    )


def test_openssh_s_placeholders_are_known() -> None:
    assert filled("ssh -W %h:%p %r@jump 100%%") == ("ssh", "-W", "10.0.0.3:22", "ubuntu@jump", "100%")


def test_no_value_can_add_an_argument() -> None:
    assert filled("connect {instance_id}", instance_id="x; rm -rf / 'a b'") == ("connect", "x; rm -rf / 'a b'")


@pytest.mark.parametrize("template", ["", "connect 'x", "connect {unknown}"])
def test_a_template_that_makes_no_sense_is_refused(template: str) -> None:
    with pytest.raises(ConfigError, match="ssh_proxy_command"):
        filled(template, zone="z")


def test_a_host_is_shown_as_users_write_it() -> None:
    assert str(SshHost("10.0.0.3")) == "10.0.0.3"
    assert str(SshHost("10.0.0.3", 2222, "ubuntu")) == "ubuntu@10.0.0.3:2222"
    assert str(Target(2, SshHost("10.0.0.3"))) == "rank 2 (10.0.0.3)"
    assert str(Target(2, SshHost("10.0.0.3"), name="i-1")) == "rank 2 (i-1)"

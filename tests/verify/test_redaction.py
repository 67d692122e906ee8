"""A report shows nothing that identifies an account or a person."""

import pytest

from multicompute.verify.redaction import Redaction

PRIVATE = {
    "arn": "arn:aws:iam::123456789012:user/ada is not authorized",
    "account": "account 123456789012 is suspended",
    "subscription": "scope '/subscriptions/00000000-0000-0000-0000-00000000a2e0/resourceGroups/secret-team/providers/x'",
    "project": "Required 'compute.instances.create' permission for 'projects/secret-project/zones/us-central1-a'",
    "instance": "The instance ID 'i-0123456789abcdef0' does not exist",
    "key": "the key AKIA0123456789ABCDEF was deactivated",
    "user": "ada@example.org has no access",
    "address": "no route to 10.128.0.49 nor 2001:db8:85a3:0:0:8a2e:370:7334",
    "message": "Encoded authorization failure message: " + "kWcbQv3x7" * 20,
    "file": "can't read /home/ada/.ssh/id_ed25519",
    "owner": "the owner ada.lovelace, and secret-project",
}
PARTS = ("123456789012", "a2e0", "secret", "0123456789abcdef", "ada", "10.128", "8a2e", "kWcb")


@pytest.mark.parametrize("text", PRIVATE.values(), ids=PRIVATE)
def test_private_values_are_removed_from_a_vendors_message(text: str) -> None:
    redaction = Redaction()
    redaction.add("user", ["ada.lovelace"])
    redaction.add("account", ["secret-project"])
    cleaned = redaction.clean(text)
    assert [part for part in PARTS if part in cleaned] == []
    assert "<" in cleaned


def test_what_a_reader_needs_stays() -> None:
    text = "InsufficientInstanceCapacity: no p5.48xlarge in us-east-1a, Standard_NC24ads_A100_v4 or a3-highgpu-8g at 12:00:05"
    assert Redaction().clean(text) == text


def test_short_values_are_not_removed_from_the_middle_of_words() -> None:
    redaction = Redaction()
    redaction.add("user", ["me", "root", None])
    assert redaction.clean("the root volume of some rooted machine") == "the <user> volume of some rooted machine"

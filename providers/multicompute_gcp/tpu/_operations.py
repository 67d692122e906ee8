"""Reads the operations of the TPU API."""

from multicompute.provider_kit.vendor_errors import Place
from multicompute_gcp._errors import answer_of_status, refusal
from multicompute_gcp._session import Clients


def is_finished(clients: Clients, name: str, operation: str, place: Place) -> bool:
    """Return whether the operation of this name has finished; `operation` is the name of the call that started it.

    Raises:
        MulticomputeError: It has failed.
    """
    answer = clients.get(clients.tpu_url(name), "operations.get", place)
    if answer is None or not answer.get("done"):
        return answer is None
    if answer.get("error"):
        raise refusal(answer_of_status(answer["error"]), operation, place)
    return True

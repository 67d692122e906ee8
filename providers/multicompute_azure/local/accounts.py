"""Further subscriptions of the local Azure, each as complete as the first one and without any of its resources."""

from collections.abc import Mapping
from dataclasses import replace

from multicompute.testing.local.server import Application, Request, Response
from multicompute_azure.local.arm import SUBSCRIPTION


class Subscriptions:
    """The application that passes each request on to the subscription that it names.

    Every subscription answers with the id of the first one; here it becomes the subscription's own.
    """

    def __init__(self, first: Application, others: Mapping[str, Application]) -> None:
        """Pass requests on to `first`, and those that name one of `others` (id -> application) to it."""
        self._first = first
        self._others = others

    def __call__(self, request: Request) -> Response | None:
        """Answer a request."""
        for account, app in list(self._others.items()):
            if account in request.path or account.encode() in request.body:
                return _answer(app, request, account)
        return self._first(request)


def _answer(app: Application, request: Request, account: str) -> Response | None:
    own, first = account.encode(), SUBSCRIPTION.encode()
    response = app(
        replace(
            request,
            path=request.path.replace(account, SUBSCRIPTION),
            query=request.query.replace(account, SUBSCRIPTION),
            body=request.body.replace(own, first),
        )
    )
    if response is None:
        return None
    headers = {name: value.replace(SUBSCRIPTION, account) for name, value in response.headers.items()}
    return replace(response, body=response.body.replace(first, own), headers=headers)

"""The project that the credentials are used with."""

import re

from multicompute.errors import AccessDeniedError
from multicompute.provider import Account
from multicompute.provider_kit.vendor_errors import Place
from multicompute_gcp._session import Clients

_NUMBER = re.compile(r"(\d+)-compute@developer\.gserviceaccount\.com")
"""Compute Engine's default service account, whose name begins with the number of its project."""


def account(clients: Clients) -> Account:
    """Return the project by its id and its number, since the settings may name either.

    Compute Engine shows the id of a project but not its number, except in the name of the default service account
    (https://cloud.google.com/compute/docs/access/service-accounts#default_service_account). Both never change, and no
    other project ever gets them (https://cloud.google.com/resource-manager/docs/creating-managing-projects).
    """
    try:
        project = clients.get(clients.compute_url(), "projects.get", Place("gcp")) or {}
    except AccessDeniedError:
        # Without the permission to read the project, the configured name has to do.
        project = {}
    name = project.get("name", clients.project)
    number = _NUMBER.fullmatch(project.get("defaultServiceAccount", ""))
    ids = dict.fromkeys((name, clients.project, *number.groups())) if number else dict.fromkeys((name, clients.project))
    return Account(tuple(ids), f"Google Cloud project {name}" + (f" ({number[1]})" if number else ""))

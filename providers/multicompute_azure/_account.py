"""The subscription that the credentials are used with."""

from multicompute.errors import AuthError, MulticomputeError
from multicompute.provider import Account
from multicompute.provider_kit.vendor_errors import Place
from multicompute_azure._session import Clients


def account(clients: Clients) -> Account:
    """Return the subscription, whose id is unique in all of Azure; the tenant is only shown, as a subscription can move."""
    try:
        tenant = clients.subscription_record(Place("azure", clients.settings.home_region)).get("tenantId", "")
    except AuthError:
        raise
    except MulticomputeError:
        # Without the permission to read the subscription, its id alone has to do.
        tenant = ""
    where = f" of tenant {tenant}" if tenant else ""
    return Account((clients.subscription.lower(),), f"Azure subscription {clients.subscription}{where}")

"""Reads what Azure knows of an image: the plan that it is sold with, and whether it supports Trusted Launch."""

import re
import threading
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from multicompute.errors import AccessDeniedError, AuthError
from multicompute.provider_kit.vendor_errors import Place
from multicompute_azure._errors import log
from multicompute_azure._image import Image
from multicompute_azure._session import COMPUTE, Clients, path_of

# The definition of a gallery image, in any subscription; a version of it has neither plan nor features.
_DEFINITION: Final = re.compile(
    r"/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft\.Compute/galleries/[^/]+/images/[^/]+",
    re.IGNORECASE,
)
# A gallery may be in a subscription that the credentials can't see.
_OTHER_SUBSCRIPTION: Final = "SubscriptionNotFound"
# Values of the feature SecurityType ("Trusted Launch for Azure virtual machines" and the reference of gallery images).
_TRUSTED: Final = frozenset({"trustedlaunch", "trustedlaunchsupported", "trustedlaunchandconfidentialvmsupported"})


class ImageDetails:
    """The details of images, each read once per region: what a version has does not change."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._known: dict[tuple[str, str], Image] = {}
        self._lock = threading.Lock()

    def described(self, image: Image, place: Place) -> Image:
        """Return `image` with its plan, and whether it supports Trusted Launch.

        Images of community galleries, of direct shares, and managed images have no plan, and are not read.

        Raises:
            MulticomputeError: Azure does not answer.
        """
        if image.is_plain:
            return image
        key = (place.region, str(sorted(image.reference.items())))
        with self._lock:
            if key not in self._known:
                self._known[key] = self._read(image, place)
            return self._known[key]

    def _read(self, image: Image, place: Place) -> Image:
        is_marketplace = "publisher" in image.reference
        try:
            found = self._of_marketplace(image.reference, place) if is_marketplace else self._of_gallery(image, place)
        except (AccessDeniedError, AuthError) as error:
            if isinstance(error, AuthError) and error.code != _OTHER_SUBSCRIPTION:
                raise
            log.warning("%s: the plan of the image is not known: %s", place, error.message)
            found = None
        if found is None:
            # Every image of the HPC and Ubuntu families supports it. If Azure were left to its default, it would turn secure boot on.
            return replace(image, supports_trusted_launch=is_marketplace)
        properties = found.get("properties") or {}
        features = {str(item.get("name")): str(item.get("value")) for item in properties.get("features") or ()}
        return replace(
            image,
            plan=_plan(properties.get("plan") or properties.get("purchasePlan") or {}),
            supports_trusted_launch=features.get("SecurityType", "").lower() in _TRUSTED,
        )

    def _of_marketplace(self, reference: Mapping[str, Any], place: Place) -> dict[str, Any] | None:
        names = f"publishers/{reference['publisher']}/artifacttypes/vmimage/offers/{reference['offer']}"
        path = path_of(None, f"{COMPUTE}/locations/{place.region}/{names}/skus/{reference['sku']}/versions")
        version = str(reference["version"])
        if version.lower() == "latest":
            newest = self._clients.list_all("virtualMachineImages.list", place, path, _top="1", _orderby="name desc")
            version = str(next(newest, {}).get("name") or "")
        return self._clients.find("virtualMachineImages.get", place, f"{path}/{version}") if version else None

    def _of_gallery(self, image: Image, place: Place) -> dict[str, Any] | None:
        definition = _DEFINITION.match(str(image.reference.get("id") or ""))
        if definition is None:
            return {}
        return self._clients.find_by_id("galleryImages.get", place, definition[0])


def _plan(given: Mapping[str, Any]) -> Mapping[str, str] | None:
    if not given.get("name"):
        return None
    return {name: str(given.get(name) or "") for name in ("name", "publisher", "product")}

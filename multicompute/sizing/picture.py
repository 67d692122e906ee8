"""The figure of a plan. Loads matplotlib, so that only `plot` imports it."""

from io import BytesIO

from matplotlib.figure import Figure  # noqa: TID253 - this module is imported only to draw


class Picture(Figure):
    """A figure that notebooks show without pyplot."""

    def _repr_png_(self) -> bytes:
        target = BytesIO()
        self.savefig(target, format="png", dpi=100)
        return target.getvalue()

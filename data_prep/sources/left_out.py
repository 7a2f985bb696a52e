"""Images without a row in the label table, and rows without an image: a few are counted, many stop the run."""

from dataclasses import dataclass

from data_prep.errors import DataError

UNMATCHED_LIMIT = 0.01  # share of the images, and of the rows, that may have no counterpart
MAX_NAMED = 1000  # of each kind


@dataclass(frozen=True)
class LeftOut:
    """What has no counterpart.

    Attributes:
        images: number of images without a row.
        image_names: the first of them that may be named.
        rows: number of rows without an image.
        row_names: the first of them, in words that name no patient.
    """

    images: int
    image_names: tuple[str, ...]
    rows: int
    row_names: tuple[str, ...]

    def check(self, place: object, images: int, rows: int) -> None:
        """Check the shares of all `images` and `rows` of a place that are left out.

        Raises:
            DataError: one of them is above `UNMATCHED_LIMIT`.
        """
        parts = []
        if self.images > UNMATCHED_LIMIT * images:
            names = ", ".join(map(repr, self.image_names[:3])) or "none is a PNG or JPEG file"
            parts.append(f"{self.images} of {images} images have no row in the label table ({names})")
        if self.rows > UNMATCHED_LIMIT * rows:
            parts.append(f"{self.rows} of {rows} rows have no image ({', '.join(self.row_names[:3])})")
        if parts:
            raise DataError(
                f"{place}: {', and '.join(parts)}; the limit is {UNMATCHED_LIMIT:.0%}: correct the names, or go on "
                "without them with --allow-missing"
            )

"""What may be shown of the name of an image: a DICOM file's may be the patient's, or a UID."""

RASTER_SUFFIXES = (".png", ".jpg", ".jpeg")


def is_harmless(name: str) -> bool:
    """Tell whether a name may be shown: that of a PNG or JPEG file."""
    return name.lower().endswith(RASTER_SUFFIXES)


def row_name(number: int, image: str) -> str:
    """Return how a message names the row of an image, counted from 1."""
    return f"row {number} ({printable(image)!r})" if is_harmless(image) else f"row {number}"


def printable(path: str) -> str:
    """Escape unprintable characters of a path, and shorten it, for tables and terminals."""
    return escaped(path)[:200]


def escaped(path: str) -> str:
    """Escape unprintable characters of a path."""
    return path if path.isprintable() else "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in path)

"""IDX files, the format of MNIST and its relatives: an array of unsigned bytes behind a header, often gzipped.

LeCun, Cortes, Burges: The MNIST database of handwritten digits, "File formats". All numbers are big-endian:

    00 00 08 k      the magic number: type 08 (unsigned byte), k dimensions
    k times 4 bytes the sizes of the dimensions
    the values      row by row

A file is untrusted: its header is checked against its length before memory is taken for what it declares.
"""

import gzip
import io
import math
import os
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from data_prep.errors import DataError
from data_prep.regular_file import open_regular

UNSIGNED_BYTE = 0x08
MAX_DIMENSIONS = 3
MAX_VALUES = 2**30  # 1.4 million images of 28 x 28 pixels; the largest published set of this format has 0.8 million
# A gzipped file may decompress to 100 times its size plus 1 MiB; MNIST's grow to 2 to 5 times theirs, a bomb to 1,000.
MAX_EXPANSION_RATIO, FREE_EXPANSION_BYTES = 100, 2**20

_GZIP_MAGIC = b"\x1f\x8b"


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Read an IDX file of unsigned bytes, gzipped or not, whatever its name.

    Returns:
        The array with the dimensions of the header: (n, height, width) for images, (n,) for labels.

    Raises:
        DataError: the file cannot be read, is not such a file, is damaged, or is too large; the message names it.
    """
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            if file.read(2) == _GZIP_MAGIC:
                file.seek(0)
                with gzip.GzipFile(fileobj=file) as stream:
                    return _parse(path, stream, MAX_EXPANSION_RATIO * size + FREE_EXPANSION_BYTES)
            file.seek(0)
            return _parse(path, file, size)
    except (OSError, EOFError, zlib.error) as error:
        what = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise DataError(f"{path}: the IDX file cannot be read ({what}); name another one, or fetch it again") from error


def _parse(path: Path, stream: BinaryIO | gzip.GzipFile, most_bytes: int) -> NDArray[np.uint8]:
    """Read header and values from a stream that can have `most_bytes` bytes."""
    magic = stream.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0":
        raise DataError(f"{path}: not an IDX file: it begins with {magic.hex(' ') or 'nothing'}, not with 00 00")
    kind, dimensions = magic[2:]
    if kind != UNSIGNED_BYTE:
        raise DataError(f"{path}: values of type {kind:#04x}; only unsigned bytes ({UNSIGNED_BYTE:#04x}) are read")
    if not 1 <= dimensions <= MAX_DIMENSIONS:
        raise DataError(f"{path}: {dimensions} dimensions; there must be 1 to {MAX_DIMENSIONS}")
    header = stream.read(4 * dimensions)
    if len(header) < 4 * dimensions:
        raise DataError(f"{path}: damaged IDX file: it ends in its header; fetch it again")
    shape = struct.unpack(f">{dimensions}I", header)
    declared = " x ".join(map(str, shape))
    values = math.prod(shape)
    if not 1 <= values <= MAX_VALUES:
        raise DataError(f"{path}: its header declares {declared} values; there must be 1 to {MAX_VALUES}")
    if values > most_bytes:
        raise DataError(f"{path}: its header declares {declared} values, far more than the file holds; fetch it again")
    content = io.BytesIO(stream.read(values + 1))
    found = content.getbuffer().nbytes
    if found != values:
        what = "more values than" if found > values else f"{found} values, not"
        raise DataError(f"{path}: damaged IDX file: {what} the {declared} of its header; fetch it again")
    return np.frombuffer(content.getbuffer(), np.uint8).reshape(shape)

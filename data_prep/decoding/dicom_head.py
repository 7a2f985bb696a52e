"""Recognising DICOM data that begin without the preamble and prefix of a file (PS3.10, section 7.1).

Scanners and network tools write such data sets. They are recognised by their first elements (PS3.5, section 7.1): tags
that rise from the groups that stand first, each with a value representation or, without one, a short length.
"""

import itertools
import struct
from collections.abc import Iterator

_FIRST_GROUPS = (0x0002, 0x0008)  # file meta, identification
_SHORT_VRS = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
_LONG_VRS = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())  # two bytes are reserved, the length has four
_MOST_BYTES = 2**16  # of the value of an element among the first
_LEAST_ELEMENTS = 2

_Element = tuple[int, int, int]  # tag, length of the value, where the next element begins


def is_bare_dataset(head: bytes) -> bool:
    """Check whether `head`, the first 132 bytes of a file or more, begins a DICOM data set, without preamble."""
    if len(head) < 8:
        return False
    orders = (order for order in "<>" if struct.unpack_from(f"{order}H", head)[0] in _FIRST_GROUPS)
    return any(_is_plausible(list(_elements(head, order))) for order in orders)


def _is_plausible(elements: list[_Element]) -> bool:
    """Check that there are elements enough, or a first one longer than the head, and that their tags rise."""
    rising = all(before[0] < after[0] for before, after in itertools.pairwise(elements))
    return rising and len(elements) >= _LEAST_ELEMENTS and all(length <= _MOST_BYTES for _, length, _ in elements)


def _elements(head: bytes, order: str) -> Iterator[_Element]:
    """Iterate over the elements that begin in `head`; `order` is that of the bytes, "<" or ">"."""
    position = 0
    while position + 12 <= len(head):
        group, element = struct.unpack_from(f"{order}HH", head, position)
        representation = head[position + 4 : position + 6]
        if representation in _SHORT_VRS:
            (length,), start = struct.unpack_from(f"{order}H", head, position + 6), position + 8
        elif representation in _LONG_VRS:
            (length,), start = struct.unpack_from(f"{order}I", head, position + 8), position + 12
        else:
            (length,), start = struct.unpack_from(f"{order}I", head, position + 4), position + 8
        position = start + length
        yield (group << 16) + element, length, position

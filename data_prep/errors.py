"""What is wrong with the person's data, said so that the person can mend it."""

import difflib
from collections.abc import Iterable


class DataError(ValueError):
    """Data that cannot be used as they are. The message is one line: the value, the limit, the remedy.

    The command line prints it as it is and exits with code 2.
    """


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``'; did you mean X?'`` with the known name nearest to `name`, or else all the known names."""
    names = list(known)
    folded = {known_name.lower(): known_name for known_name in names}
    near = difflib.get_close_matches(name.lower(), folded, n=1, cutoff=0.5)
    return f"; did you mean {folded[near[0]]}?" if near else f"; known are {', '.join(names)}"

"""Errors in the user's data: one line each, with the value, the limit and the remedy."""

import difflib
from collections.abc import Iterable


class DataError(ValueError):
    """Data that cannot be used as they are. The message is one line: the value, the limit, the remedy.

    The command line prints the message unchanged and exits with code 2.
    """


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``'; did you mean X?'`` with the known name closest to `name`; if none is close, list all."""
    names = list(known)
    by_lower_case = {known_name.lower(): known_name for known_name in names}
    closest = difflib.get_close_matches(name.lower(), by_lower_case, n=1, cutoff=0.5)
    if closest:
        return f"; did you mean {by_lower_case[closest[0]]}?"
    return f"; known are {', '.join(names)}" if names else ""

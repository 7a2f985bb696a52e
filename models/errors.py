"""Errors that the user can correct: in a setting, a weights file or the choice of data."""

import difflib
from collections.abc import Iterable


class SettingError(ValueError):
    """A setting that is invalid here. The message names the value, the limit and the remedy, on one line."""


class DivergenceError(SettingError):
    """Training that diverged: a value is not finite. The message names the epoch, the step and the remedy."""


def unknown_name(what: str, name: str, known: Iterable[str]) -> SettingError:
    """Return the error for an unknown name; it suggests the most similar known one.

    Args:
        what: kind of thing that is named, such as "backbone".
        name: what the user gave.
        known: all valid names; may be empty.
    """
    known = sorted(known)
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
    hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
    return SettingError(f"unknown {what} {name!r}{hint}")

"""Errors that the person can put right: a setting, a weights file, a choice of data."""

import difflib
from collections.abc import Iterable


class SettingError(ValueError):
    """A setting that cannot be met. The message names the value, the limit and the remedy, on one line."""


class DivergenceError(SettingError):
    """Training met a value that is not finite. The message names the epoch, the step and the remedy."""


def unknown_name(what: str, name: str, known: Iterable[str]) -> SettingError:
    """The error for a name that is not known, with the nearest known one."""
    known = sorted(known)
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
    hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
    return SettingError(f"unknown {what} {name!r}{hint}")

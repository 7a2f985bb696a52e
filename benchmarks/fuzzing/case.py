"""A drawn file, what it means, and how what a reader makes of it is judged."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from data_prep.errors import DataError

Random = np.random.Generator

CANARIES = ("Doe^Jane", "MRN4711", "19620230")
"""What stands for an identity in a drawn file: no reason may show any of them."""


@dataclass(frozen=True)
class Case:
    """A drawn file.

    Attributes:
        suffix: of its name.
        data: its content.
        rules: the productions that were drawn, in order, to find what a failure has to do with.
        legal: the standard allows it; a reader may refuse it all the same, but that is counted.
        expected: what a right reader makes of it, if it takes it; text says why none may; None: any may be right.
        asked: what the user states besides the file: labels of a table, images of an archive.
    """

    suffix: str
    data: bytes
    rules: tuple[str, ...]
    legal: bool
    expected: Any = None
    asked: tuple[str, ...] = ()


class Format(NamedTuple):
    """A format that is fuzzed: how a file is drawn and read, and what is wrong with what was read ("" if nothing)."""

    draw: Callable[[Random], Case]
    read: Callable[[Case], Any]
    difference: Callable[[Any, Any], str]


class Verdict(NamedTuple):
    """What became of a file, and a line on it: the reason, or what is wrong."""

    outcome: str
    detail: str = ""


RIGHT = "read right"
UNJUDGED = "read; the standard leaves open what is right"
LEGAL_REFUSED = "legal, refused with a reason"
REFUSED = "not legal, refused with a reason"
CONTAINED = "stopped or crashed in the sandbox, refused"
WRONG = "WRONG IN SILENCE"
TRACEBACK = "TRACEBACK"
UNPRINTABLE = "REASON IS NOT ONE PRINTABLE LINE"
IDENTITY = "REASON SHOWS AN IDENTITY"
OVER = "OVER ITS LIMITS"
CRASH = "CRASH"
HANG = "HANG"
BROKEN = (WRONG, TRACEBACK, UNPRINTABLE, IDENTITY, OVER, CRASH, HANG)
"""What must not happen."""

_IN_SANDBOX = ("crashed", "takes more than", "more memory than", "was killed")


def judge(kind: Format, case: Case) -> Verdict:
    """Read a file and compare it with what it means."""
    try:
        read = kind.read(case)
    except DataError as error:
        return _refusal(str(error), case.legal)
    except Exception as error:
        return Verdict(TRACEBACK, f"{type(error).__name__}: {error}"[:200])
    if case.expected is None:
        return Verdict(UNJUDGED)
    wrong = kind.difference(read, case.expected)
    return Verdict(WRONG, wrong) if wrong else Verdict(RIGHT)


def _refusal(reason: str, legal: bool) -> Verdict:
    if any(canary in reason for canary in CANARIES):
        return Verdict(IDENTITY, reason)
    if not reason or not reason.isprintable() or len(reason) > 2000:
        return Verdict(UNPRINTABLE, repr(reason)[:300])
    if any(words in reason for words in _IN_SANDBOX):
        return Verdict(CONTAINED, reason)
    return Verdict(LEGAL_REFUSED if legal else REFUSED, reason)


def chance(random: Random, share: float) -> bool:
    """Draw whether something with this share of the cases happens."""
    return bool(random.random() < share)


def pick(random: Random, choices: Any) -> Any:
    """Draw one of several things, whatever their types."""
    choices = list(choices)
    return choices[int(random.integers(len(choices)))]

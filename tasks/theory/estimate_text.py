"""Changes, shares and their intervals in words, for sentences, figures and tables of the theory."""

from tasks.records.summary_text import signed
from tasks.theory.estimate import Estimate


def helps(change: Estimate) -> bool:
    """Check whether the change of the error is negative: its whole interval, or its mean where there is none."""
    return (change.mean if change.hi is None else change.hi) < 0


def hurts(change: Estimate) -> bool:
    """Check whether the change of the error is positive: its whole interval, or its mean where there is none."""
    return (change.mean if change.lo is None else change.lo) > 0


def percent(change: float, digits: int = 0) -> str:
    """Format a relative change as '+230 %' or '−83 %'."""
    return f"{100 * change:+,.{digits}f} %".replace("-", "−")


def percent_span(lowest: float, highest: float) -> str:
    """Format a range of relative changes as '−21.9 to −1.0 %', one beyond 100 % without decimals."""
    digits = 1 if max(abs(lowest), abs(highest)) < 1 else 0
    return f"{percent(lowest, digits).removesuffix(' %')} to {percent(highest, digits)}"


def percent_of(share: float, digits: int = 1) -> str:
    """Format a share of a whole as '97.5 %'."""
    return f"{100 * share:.{digits}f} %"


def change_text(change: Estimate, digits: int = 0) -> str:
    """Format a relative change as '−83 % (−86 to −80)'."""
    if change.lo is None or change.hi is None:
        return percent(change.mean, digits)
    lo, hi = (percent(end, digits).removesuffix(" %") for end in (change.lo, change.hi))
    return f"{percent(change.mean, digits)} ({lo} to {hi})"


def points_text(change: Estimate) -> str:
    """Format a difference of shares in percentage points, as '−2.3 (−3.0 to −1.6)'."""
    ends = (change.mean, change.lo, change.hi)
    mean, *interval = (signed(100 * end, 1) for end in ends if end is not None)
    return f"{mean} ({' to '.join(interval)})" if interval else mean


def css_class(change: Estimate) -> str:
    """Return the class with which a page colours a change that helps or hurts."""
    return "good" if helps(change) else "bad" if hurts(change) else ""

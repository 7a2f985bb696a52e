"""Which nights stay: whatever the nights are, none goes that is new, young, in use or needed."""

import time

from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.operations.nights import Night, why_nights_stay
from tasks.operations.removable import DAY_SECONDS, CleanSettings

DATES = [f"2026-11-{day:02}" for day in range(1, 8)]
ARMS = [f"arm{number}" for number in range(8)]


@st.composite
def some_nights(draw: st.DrawFn) -> list[Night]:
    """Nights of two series; an arm is in the family of one at most, and any night may name it."""
    count = draw(st.integers(0, 8))
    families: list[set[str]] = [{f"night{number}"} for number in range(count)]
    for arm in ARMS if count else ():
        owner = draw(st.none() | st.integers(0, count - 1))
        if owner is not None:
            families[owner].add(arm)
    days_ago = st.sampled_from([None, 5, 10, 35, 36, 37, 38, 39, 40])  # most are old, so that what else holds decides
    return [
        Night(
            f"night{number}",
            draw(st.sampled_from(["lungs", "lungs", "hands"])),
            draw(st.sampled_from(DATES)),
            None if (days := draw(days_ago)) is None else time.time() - (days + 0.5) * DAY_SECONDS,
            frozenset(families[number]),
            draw(st.frozensets(st.sampled_from(ARMS), max_size=2)),
        )
        for number in range(count)
    ]


FEW_ARMS = st.frozensets(st.sampled_from(ARMS), max_size=2)
SETTINGS = st.builds(CleanSettings, keep=st.integers(1, 3), older_than=st.sampled_from([0.0, 7.0, 20.0]))


@settings(max_examples=300)
@given(some_nights(), SETTINGS, FEW_ARMS, FEW_ARMS)
def test_a_night_goes_if_and_only_if_it_is_neither_new_nor_young_nor_needed_by_what_stays(
    nights: list[Night], limits: CleanSettings, registered: frozenset[str], of_studies: frozenset[str]
) -> None:
    reasons = why_nights_stay(nights, limits, registered, of_studies)
    gone = [night for night in nights if reasons[night.run_id] is None]
    stays = [night for night in nights if reasons[night.run_id]]
    for night in gone:
        later = {other.date for other in nights if other.series == night.series and other.date > night.date}
        assert len(later) >= limits.keep
        assert night.ended is not None
        assert time.time() - night.ended > limits.older_than * DAY_SECONDS
        assert not night.family & (registered | of_studies)
        assert not any(night.family & other.refers_to for other in stays)

    def is_needed(night: Night, seen: frozenset[str] = frozenset()) -> bool:
        """The naive reference: by what it says itself, or by a night that names it and stays."""
        later = {other.date for other in nights if other.series == night.series and other.date > night.date}
        if len(later) < limits.keep or night.ended is None or night.family & (registered | of_studies):
            return True
        if time.time() - night.ended <= limits.older_than * DAY_SECONDS:
            return True
        naming = [o for o in nights if o is not night and o.run_id not in seen and night.family & o.refers_to]
        return any(is_needed(other, seen | {night.run_id}) for other in naming)

    assert {night.run_id for night in stays} == {night.run_id for night in nights if is_needed(night)}

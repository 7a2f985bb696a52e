"""The times between the events of a study, whichever threads its arms ran in."""

import pytest

from benchmarks.full_size import ARMS, summary


@pytest.mark.parametrize("threads", [1, 2])
def test_gaps_are_from_the_end_of_a_scoring_to_the_next_first_step_of_the_same_thread(threads: int) -> None:
    per_thread = ARMS // threads
    events = sorted(
        (100.0 + 10 * arm + after, kind, thread)
        for thread in range(threads)
        for arm in range(per_thread)
        for after, kind in ((0.0, "first step"), (7.0, "scored"), (9.0, "recorded"))
    )
    found = summary([*events, (999.0, "recorded", 7)], begun=60.0)
    assert found["to the first step"] == 40
    assert {found["between arms, median"], found["between arms, longest of the others"]} == {3}
    assert found["of this, until recorded, median"] == 2
    assert found["of this, until the next first step, median"] == 1


def test_a_study_in_which_an_arm_was_not_seen_is_no_measurement() -> None:
    with pytest.raises(SystemExit, match="has the code been rearranged"):
        summary([(1.0, "first step", 0)], begun=0.0)

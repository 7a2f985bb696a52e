"""Names of labels that are refused, and those that are not."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.errors import DataError
from data_prep.labels.label_names import check_label_names

NAMES = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=20)


@given(
    st.lists(NAMES, unique_by=lambda name: name.casefold(), max_size=5), NAMES, st.sampled_from("\x1b\n\0\u202e\ud800")
)
def test_a_name_with_a_character_that_cannot_be_printed_is_refused(names: list[str], name: str, control: str) -> None:
    with pytest.raises(DataError) as caught:
        check_label_names(Path("t.csv"), [*names, name + control + name])
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "names", [["Mass", "mass"], ["Gr\u00f6\u00dfe", "Gro\u0308sse"], ["a b", "a  b"], ["ﬁne", "fine"], ["Mass", "Mass"]]
)
def test_names_that_can_be_taken_for_one_another_are_refused(names: list[str]) -> None:
    with pytest.raises(DataError, match="rename one"):
        check_label_names(Path("t.csv"), names)


def test_a_long_name_is_refused_and_signs_are_allowed() -> None:
    check_label_names(Path("t.csv"), ["A,B", "A;B", "a//b", "../x", "(left)", "[left]", "step", "x" * 100, "胸水"])
    with pytest.raises(DataError, match="has 101 characters, a label 1 to 100"):
        check_label_names(Path("t.csv"), ["x" * 101])

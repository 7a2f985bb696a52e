"""Messages for the person."""

from data_prep.errors import did_you_mean


def test_the_nearest_known_name_is_offered_whatever_the_case() -> None:
    assert did_you_mean("efusion", ["Effusion", "Mass"]) == "; did you mean Effusion?"


def test_without_a_near_name_all_known_names_are_listed() -> None:
    assert did_you_mean("xyz", ["Effusion", "Mass"]) == "; known are Effusion, Mass"


def test_where_no_name_is_known_nothing_is_added() -> None:
    assert did_you_mean("xyz", []) == ""

"""When each image was first seen."""

from datetime import date, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_prep.errors import DataError
from tasks.nightly.arrivals import add_arrivals, arrivals_file, read_arrivals

FIRST = date(2026, 11, 1)
names = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"], exclude_characters="\r\n\0"), min_size=1)


@given(nights=st.lists(st.sets(names, max_size=6), max_size=5))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_each_image_keeps_the_night_on_which_it_was_first_seen(tmp_path: Path, nights: list[set[str]]) -> None:
    file = tmp_path / "arrivals.csv"
    file.unlink(missing_ok=True)
    expected: dict[str, date] = {}
    for number, images in enumerate(nights):
        night = FIRST + timedelta(number)
        for image in images:
            expected.setdefault(image, night)
        assert add_arrivals(file, images, night) == expected
        assert add_arrivals(file, images, night) == expected, "said again, it changes nothing"
        assert read_arrivals(file) == expected


def test_a_night_before_the_last_one_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "arrivals.csv"
    add_arrivals(file, ["a.png"], FIRST)
    with pytest.raises(DataError, match="night 2026-10-31 lies before 2026-11-01"):
        add_arrivals(file, ["a.png", "b.png"], FIRST - timedelta(1))
    assert read_arrivals(file) == {"a.png": FIRST}


@pytest.mark.parametrize(
    "content", [b"", b"image\n", b"image,first_seen\na.png\n", b"image,first_seen\na.png,soon\n", b"\xff\xfe"]
)
def test_a_damaged_table_is_named_with_the_remedy(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "arrivals.csv"
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"arrivals.csv is damaged: restore it, or delete it"):
        read_arrivals(file)


def test_series_have_tables_of_their_own_whatever_they_are_called() -> None:
    files = [arrivals_file(name) for name in ("a", "b", "a b", "é" * 200, "é" * 199)]
    assert len(set(files)) == len(files)
    assert len({file.parent.parent for file in files}) == 1

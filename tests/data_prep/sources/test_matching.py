"""Matching rows and files: what the fast way finds is what the rule says, and its work grows as they do."""

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.sources import matching
from data_prep.sources.image_names import parse_name
from data_prep.sources.matching import AmbiguousError, Match, NameIndex, match_names

FORMS = st.sampled_from(["NFC", "NFD"])
STEMS = st.sampled_from(["x", "Müller", "1.2.840.1"])
SUFFIXES = st.sampled_from(["", ".png", ".PNG", ".jpg", ".dcm", ".tif"])
FOLDERS = st.lists(st.sampled_from(["a", "Ä"]), max_size=3)
SEPARATORS = st.sampled_from(["/", "\\", "//", "/./"])


@st.composite
def files(draw: st.DrawFn) -> str:
    """The path of a file, as a disk gives it."""
    return unicodedata.normalize(draw(FORMS), "/".join([*draw(FOLDERS), draw(STEMS) + draw(SUFFIXES)]))


@st.composite
def rows_of(draw: st.DrawFn, files: list[str]) -> list[str]:
    """Rows that name files in other ways: fewer or more folders, another form, suffix or separator; some strangers."""
    rows = []
    for path in draw(st.lists(st.sampled_from(files) | files_of_others, max_size=6)):
        parts = path.split("/")[draw(st.integers(0, 3)) :] or [path.split("/")[-1]]
        stem, suffix = parse_name(parts[-1])
        kept = draw(st.integers(0, 2))
        name = stem + (draw(SUFFIXES) if not kept else suffix.upper() if kept == 1 else suffix)
        start = draw(st.sampled_from(["", "", "./", "/data/", "C:\\data\\"]))
        rows.append(unicodedata.normalize(draw(FORMS), start + draw(SEPARATORS).join([*parts[:-1], name])))
    return list(dict.fromkeys(rows))


files_of_others = files()


def naive(rows: list[str], files: list[str], aliases: dict[int, int]) -> list[Match] | None:
    """The rule, pair by pair; None if it is ambiguous."""
    matches: list[Match] = []
    for rank in range(3):
        taken, done = {match.file for match in matches}, {match.row for match in matches}
        found: dict[int, int] = {}
        for row, name in enumerate(rows):
            if row in done:
                continue
            scores: dict[int, tuple[int, ...]] = {}
            for file, other in enumerate(files):
                one, two = parse_name(name), parse_name(other)
                parts, others = one.path.split("/"), two.path.split("/")
                shared = min(len(parts), len(others))
                how = 0 if one.suffix == two.suffix else 2 if one.suffix and two.suffix else 1
                if parts[-shared:] == others[-shared:] and how == rank and aliases.get(file, file) not in taken:
                    scores[file] = (shared, len(parts) == len(others))
            best = [file for file, score in scores.items() if score == max(scores.values())]
            plain = name.replace("\\", "/")
            exact = [file for file in best if plain.endswith(files[file]) or files[file].endswith(plain)]
            best = exact if len(exact) == 1 else best
            real = sorted({aliases.get(file, file) for file in best})
            if len(real) > 1 or (real and real[0] in found):
                return None
            if real:
                found[real[0]] = row
        matches += [Match(row, file, rank) for file, row in found.items()]
    return sorted(matches)


@settings(max_examples=500)
@given(st.lists(files(), min_size=1, max_size=5, unique=True), st.data())
def test_the_fast_way_finds_what_the_rule_says(files: list[str], data: st.DataObject) -> None:
    rows = data.draw(rows_of(files))
    aliases = {}
    if len(files) > 1 and data.draw(st.booleans()):
        aliases = {0: data.draw(st.integers(1, len(files) - 1))}
    expected = naive(rows, files, aliases)
    if expected is None:
        with pytest.raises(AmbiguousError) as caught:
            match_names(rows, files, aliases)
        assert len(caught.value.rows) + len(caught.value.files) == 3
    else:
        assert match_names(rows, files, aliases) == expected


LAYOUTS = {
    "one level deeper than the table says": ("train/p{0}/view1.jpg", "p{0}/view1.jpg"),
    "in another folder of the table": ("p{0}/view1.jpg", "/data/set/p{0}/view1.jpg"),
    "all of one name and no row": ("p{0}/view1.jpg", "q{0}/view1.jpg"),
    "one folder": ("{0}.png", "{0}.png"),
    "without a suffix in the table": ("a/{0}.png", "{0}"),
    "with other suffixes": ("a/{0}.png", "{0}.dcm"),
    "many ways to write one name": ("p{0}/x.jpg", "./{0:./>500}x.png"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_names_compared_grow_as_their_number(layout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    file, row = LAYOUTS[layout]
    counts = []
    for n in (100, 200, 400):
        compared = [0]

        def counted(one: str, other: str, compared: list[int] = compared) -> int:
            compared[0] += 1
            return 0 if one == other else 2 if one and other else 1

        monkeypatch.setattr(matching, "suffix_rank", counted)
        names = [row.format(i) for i in range(n)] if "ways" not in layout else ["./" * i + "x.png" for i in range(n)]
        try:
            match_names(names, [file.format(i) for i in range(n)])
        except AmbiguousError:
            assert "ways" in layout
        counts.append(compared[0])
    assert counts[2] <= 4.2 * counts[0] + 10
    assert counts[2] <= 12 * 400


def test_rows_and_files_may_change_places() -> None:
    index = NameIndex(["b/x.png", "a/x.png", "y"])
    assert index.meant(index.fitting(parse_name("images/a/x.PNG"), matching.SAME_SUFFIX), "images/a/x.PNG") == [1]
    assert index.meant(index.fitting(parse_name("in/y.png"), matching.ONE_SUFFIX), "in/y.png") == [2]

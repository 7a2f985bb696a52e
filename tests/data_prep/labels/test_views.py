"""Views in the words of the public sets."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.errors import DataError
from data_prep.labels.table import read_labels
from data_prep.labels.views import view_of

WORDS = {
    "PA": ["PA", "pa", "P-A", "P A", "Postero-anterior", "POSTEROANTERIOR", "PA erect"],
    "AP": ["AP", "ap", "A.P.", "AP_horizontal", "AP Supine", "antero-posterior", "ANTEROPOSTERIOR", "AP/portable"],
    "LATERAL": [
        "L",
        "LL",
        "RL",
        "Lateral",
        "LATERAL",
        "LAT",
        "left lateral",
        "XTABLE LATERAL",
        "L-lat",
        "ll ",
        "chest lat",
        "LAT. ERECT",
    ],
    "": ["", "frontal", "Frontal", "unknown", "LAO", "bilateral", "nan", "supine", "COSTAL"],
}
COLUMNS = ["View", "View Position", "ViewPosition_DICOM", "Projection", "Frontal/Lateral", "frontal_lateral", "AP/PA"]


@pytest.mark.parametrize(("view", "words"), WORDS.items())
def test_a_view_is_known_by_its_words(view: str, words: list[str]) -> None:
    assert [view_of(word) for word in words] == [view] * len(words)


@given(
    st.sampled_from(COLUMNS),
    st.lists(st.sampled_from([*WORDS]).flatmap(lambda v: st.sampled_from(WORDS[v])), min_size=2),
)
def test_laterals_are_refused_with_their_number_whatever_the_column(
    tmp_path_factory: pytest.TempPathFactory, column: str, cells: list[str]
) -> None:
    path = tmp_path_factory.mktemp("views") / "t.csv"
    path.write_text("\n".join([f"image,patient,{column},Mass", *(f"{i},{i},{c},{i % 2}" for i, c in enumerate(cells))]))
    laterals = sum(cell in WORDS["LATERAL"] for cell in cells)
    if laterals:
        with pytest.raises(DataError, match=f"column '{column}' says that {laterals} of {len(cells)} rows are lateral"):
            read_labels(path)
    else:
        assert read_labels(path).views.tolist() == [view_of(cell) for cell in cells]


def test_two_columns_complete_one_another_and_unknown_is_what_they_contradict(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("image,patient,Frontal/Lateral,AP/PA,Projection,Mass\na,1,Frontal,AP,,1\nb,2,Frontal,PA,AP,0\n")
    assert read_labels(path).views.tolist() == ["AP", ""]

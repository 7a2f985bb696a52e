"""Labels of any name: every figure stays valid and shows them, and a page is neither broken nor taken over by them."""

from collections.abc import Callable, Sequence
from xml.etree import ElementTree

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tasks.images.report import draw_figures
from tasks.records.study import StudyResults
from tasks.reporting.figure_style import wrap_name
from tasks.runtime.escaping import escape_unprintable
from tests.tasks.fake_study import FINDINGS, NOISY, big_study, fake_study, renamed
from tests.tasks.images.test_report import report

MARKS = (
    "$x$", r"$\frac$", "_{", "^", "%", "%s", "{}", "{0}", "[red]", "[/]", "<b>", "</svg>", "</script>", "<!--", "-->",
    "&", "&amp;", '"', "'", 'id="a', 'href="#a', "url(#a", "#010203", "font-family:", r"\n", r"\x1b",
    "_hidden", ' xmlns="a"',
    "<metadata>", "é", "🩻", "﷽",
)  # fmt: skip
UNSEEN = ("\x1b[31m", "\u202e", "\u200b", "\x00", "\ud800", "\xa0", "e\u0301", " ")
NAME = st.one_of(
    st.text(st.characters(exclude_categories=()), min_size=1, max_size=20),
    st.lists(st.sampled_from([*MARKS, *UNSEEN]), min_size=1, max_size=5).map("".join),
    st.sampled_from("aMé").map(lambda letter: 100 * letter),
)
NAMES = st.lists(NAME.filter(str.strip), min_size=len(FINDINGS), max_size=len(FINDINGS), unique=True)
STUDIES = pytest.mark.parametrize("make_study", [fake_study, big_study])
FEW = settings(max_examples=3, phases=[Phase.generate])  # an example takes seconds, and to make it simpler minutes


def squeezed(text: str) -> str:
    return "".join(text.split())


def shown(names: Sequence[str]) -> list[str]:
    return [squeezed(escape_unprintable(name).replace("_", " ")) for name in names]


@pytest.mark.slow
@STUDIES
@FEW
@given(names=NAMES)
def test_a_figure_with_any_labels_is_valid_and_shows_them(
    make_study: Callable[[], StudyResults], names: list[str]
) -> None:
    study, name_of = make_study(), dict(zip(FINDINGS, names, strict=True))
    figures = draw_figures(renamed(study, name_of))
    trees = {name: ElementTree.fromstring(svg) for name, svg in figures.items() if svg}
    texts = {name: squeezed("".join(tree.itertext())) for name, tree in trees.items()}
    assert all(name in texts["labels"] for name in shown(names))
    noisy = [name_of[label] for label in NOISY]
    assert all(name in texts[figure] for name in shown(noisy) for figure in ("weights", "prevalence"))
    ordinary = draw_figures(study)
    for name, tree in trees.items():
        assert {element.tag for element in tree.iter()} == {
            e.tag for e in ElementTree.fromstring(ordinary[name]).iter()
        }
        assert all(id_.startswith(name.split("_")[-1]) for element in tree.iter() if (id_ := element.get("id")))


@pytest.mark.slow
@STUDIES
@FEW
@given(names=NAMES)
def test_a_page_with_any_labels_has_the_tags_of_the_page_with_ordinary_ones(
    tmp_path_factory: pytest.TempPathFactory, make_study: Callable[[], StudyResults], names: list[str]
) -> None:
    folder, study = tmp_path_factory.mktemp("page"), make_study()
    page = report(folder, renamed(study, dict(zip(FINDINGS, names, strict=True))))
    drawn = {"text", "g", "path", "use", "defs"}  # a long name takes several lines of a figure
    ordinary = report(folder, study).tags
    assert {tag: n for tag, n in page.tags.items() if tag not in drawn} == {
        tag: n for tag, n in ordinary.items() if tag not in drawn
    }
    assert all(name in squeezed(page.text) for name in shown(names))
    assert page.source.replace("\n", "").isprintable()


@given(st.text(min_size=1), st.integers(1, 40))
def test_a_name_on_several_lines_is_the_same_name(name: str, width: int) -> None:
    lines = wrap_name(name, width)
    assert lines.replace("\n", "") == name.replace("\n", "")
    assert max(map(len, lines.split("\n"))) <= width + 1

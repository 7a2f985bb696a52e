"""What an artifact shows: what the report says, where it is, and nothing that a name from outside makes of it."""

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from tasks.reporting import log_report
from tasks.reporting.log_report import escape_markdown, markdown_table, show_report

NAMES = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1, max_size=30)
SIGNS = st.text("<>[]()|*_`#-+!\\&.1 a:/~=", min_size=1, max_size=20)


def shown(markdown: str) -> str:
    """The text that is seen of Markdown, and `<...>` for whatever is more than text."""
    (block,) = MarkdownIt().parseInline(markdown)
    return "".join(
        part.content if part.type in ("text", "text_special") else f"<{part.type}>" for part in block.children or []
    )


@example(name="<b>x</b>")
@example(name="[a](https://b)")
@example(name="https://b a_b_ *c*")
@given(name=NAMES | SIGNS)
def test_a_name_from_outside_is_shown_as_it_is_and_makes_no_link_and_no_html(name: str) -> None:
    assert shown(escape_markdown(name)) == " ".join(name.split())


@given(rows=st.lists(st.lists(SIGNS, min_size=2, max_size=2), max_size=4))
def test_a_table_has_the_cells_that_were_given(rows: list[list[str]]) -> None:
    tokens = MarkdownIt().enable("table").parse(markdown_table(["a", "b"], rows))
    assert {token.type for token in tokens[:1]} == {"table_open"}
    cells = [token for token in tokens if token.type == "inline"]
    assert len(cells) == 2 * (1 + len(rows))


@pytest.mark.parametrize("page", ["http://here:5000/#/experiments/1/runs/2", None])
def test_a_report_is_linked_where_a_browser_can_open_it_and_named_where_it_cannot(
    page: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    monkeypatch.setattr(log_report.mlflow_runs, "run_url", lambda _: page)
    monkeypatch.setattr(log_report, "create_markdown_artifact", lambda markdown, **_: made.append(markdown))
    show_report(Path("/here/report.html"), "## It helps", "2")
    (markdown,) = made
    assert markdown.startswith("## It helps\n\n")
    assert "file:" not in markdown
    place = f"[The whole report]({page}/artifacts/report.html)" if page else "`/here/report.html`"
    assert place in markdown

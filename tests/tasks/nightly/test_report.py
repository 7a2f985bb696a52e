"""The pages of a night and a series, and what MLflow and Prefect are told of a night."""

from pathlib import Path

import pytest

from tasks.nightly import report
from tasks.nightly.records import NightResults
from tasks.nightly.report import report_night
from tests.tasks.nightly.made_up_nights import drifted, night

FIRST_NIGHTS = [night(1, "promoted", champion=None), night(2), night(3, drift=drifted(3)), night(4, "unchanged")]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[dict[str, float], str]]:
    """Metrics and summaries that MLflow and Prefect were given."""
    given: list[tuple[dict[str, float], str]] = []
    monkeypatch.setattr(report, "log_report", lambda _page, _figures, scores, _run, said: given.append((scores, said)))
    return given


def write(series: Path, results: NightResults) -> str:
    folder = series / results.night.isoformat()
    folder.mkdir(parents=True)
    return report_night.fn(results, folder, "run").read_text()


def test_the_pages_say_what_happened(tmp_path: Path, told: list[tuple[dict[str, float], str]]) -> None:
    pages = [write(tmp_path, results) for results in FIRST_NIGHTS]
    for page, headline in zip(
        pages, ["A new champion: version 1", "No new champion", "No new champion", "Nothing new"], strict=True
    ):
        assert headline in page
    assert "there is no earlier night to compare with" in pages[0]
    assert "labels that count" in pages[1]
    assert "<b>Drift.</b>" in pages[2]
    assert "All 2 tests" in pages[2]
    assert all("in the split hashed, 1 of them is in several parts" in page for page in pages)
    assert "nothing changed since the last night" in pages[3]
    assert "<svg" not in pages[0]
    assert all("<svg" in page for page in pages[1:])
    series = (tmp_path / "series.html").read_text()
    assert "4 nights, 1 promotion, 1 night with a drift alarm" in series
    assert series.index("2026-11-04/report.html") < series.index("2026-11-01/report.html"), "the newest first"
    assert "Drift: mean grey level." in series


def test_mlflow_and_prefect_are_told_the_figures_and_the_outcome(
    tmp_path: Path, told: list[tuple[dict[str, float], str]]
) -> None:
    for results in FIRST_NIGHTS:
        write(tmp_path, results)
    metrics = [scores for scores, _ in told]
    assert [each["new_images"] for each in metrics] == [41, 42, 43, 44]
    assert [each["promoted"] for each in metrics] == [1, 0, 0, 0]
    assert [each.get("champion_auc_first_night") for each in metrics] == [None, 0.7, 0.7, 0.7]
    assert [each.get("drift_alarms") for each in metrics] == [None, None, 1, None]
    assert "labels that count" in told[0][1]
    assert "**Drift.**" in told[2][1]


def test_names_from_outside_are_escaped(tmp_path: Path, told: list[tuple[dict[str, float], str]]) -> None:
    page = write(tmp_path, night(1, series="<b>x</b>", summary="<script>alert(1)</script>"))
    for text in (page, (tmp_path / "series.html").read_text()):
        assert "<script>alert" not in text
        assert "<b>x</b>" not in text
    assert "<script>" not in told[0][1]

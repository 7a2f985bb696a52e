"""The report stands alone, says no more than the numbers do, and shows what is missing with its reason."""

import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from models.evaluation.paired import Comparison
from tasks.images.report import draw_figures, write_report
from tasks.records.cost import method_costs
from tasks.records.study import (
    ArmRecord,
    ComparisonRecord,
    MeanRecord,
    NoiseRecord,
    RunsRecord,
    StudyResults,
    average,
)
from tasks.records.summary_text import Verdict, answer, described, listed, question, verdict
from tasks.reporting.figures import (
    differences,
    png_data_uri,
    prevalence_under_noise,
    spread_out,
    styles,
    weights_over_training,
)
from tests.tasks.fake_study import CLEAN, FINDINGS, disturbed, fake_study

NOISY = disturbed("random", 0.2, ("Effusion", "Pleural_Thickening"))
VOID = {"meta", "img", "br", "link", "input", "hr", "use", "path"}


class Page(HTMLParser):
    """What a page holds: its text, its tags, its ids, and whether every tag is closed in order."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.open: list[str] = []
        self.tags: Counter[str] = Counter()
        self.ids: Counter[str] = Counter()
        self.addresses: list[str] = []
        self.words: list[str] = []
        self.feed(self.source)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.ids.update(value for name, value in attrs if name == "id" and value)
        self.addresses += [value for name, value in attrs if name in ("href", "src", "data", "action") and value]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.words += data.split()

    @property
    def text(self) -> str:
        return " ".join(self.words)


def report(folder: Path, study: StudyResults, examples: int = 3) -> Page:
    pixels = np.arange(examples * 64, dtype=np.uint8).reshape(examples, 8, 8)
    return Page(write_report(study, draw_figures(study), pixels, ["no finding"] * examples, folder / "report.html"))


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    """The report of the usual study."""
    folder = tmp_path_factory.mktemp("report")
    page = report(folder, fake_study())
    assert [file.name for file in folder.iterdir()] == ["report.html"]
    return page


def test_the_page_is_one_file_without_script_or_outside_reference(page: Page) -> None:
    assert not {"script", "link", "iframe", "object", "embed", "base"} & set(page.tags)
    assert "http" not in page.source
    assert all(address.startswith(("data:image/png;base64,", "#")) for address in page.addresses)
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)", page.source))
    assert "@import" not in page.source


def test_the_parts_of_the_figures_keep_apart_on_one_page(page: Page) -> None:
    assert page.tags["svg"] == 5
    assert max(page.ids.values()) == 1
    used = {a[1:] for a in page.addresses if a.startswith("#")} | set(re.findall(r"url\(#([^)]*)", page.source))
    assert used <= set(page.ids)


def test_the_same_results_give_the_same_bytes(page: Page, tmp_path: Path) -> None:
    assert report(tmp_path, fake_study()).source == page.source


def test_every_part_of_the_study_is_on_the_page(page: Page) -> None:
    study = fake_study()
    for name in ("AUC against noise", "Paired differences", "Label by label", "Weights over training", "The noise"):
        assert name in page.text
    for name in ("What the images look like", "Data", "Images set aside", "Arms", "How to repeat it", "Holm"):
        assert name in page.text
    assert all(label.replace("_", " ") in page.text for label in FINDINGS)
    assert study.data.fingerprint in page.text
    assert study.data.split.fingerprint in page.text
    assert "medmtl study --config config.yaml" in page.text
    assert study.git is not None
    assert study.git in page.text
    assert page.tags["img"] == 3


def test_a_label_without_a_score_shows_its_reason(page: Page) -> None:
    assert "not scored: only 3 patient(s) with the finding" in page.text


def test_names_from_outside_are_shown_and_never_obeyed(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>$x_1$"
    study = fake_study()
    arms = [_renamed(arm, "Effusion", evil) for arm in study.arms]
    labels = tuple(evil if label == "Effusion" else label for label in FINDINGS)
    positives = {part: dict.fromkeys(labels, 7) for part in ("train", "val", "test")}
    data = study.data.model_copy(update={"labels": labels, "positives": positives, "name": evil})
    changed = study.model_copy(update={"arms": tuple(arms), "data": data, "notes": (evil,)})
    path = write_report(changed, draw_figures(changed), np.zeros((1, 4, 4), np.uint8), [evil], tmp_path / "report.html")
    page = Page(path)
    assert "script" not in page.tags
    assert page.text.count("alert(1)") >= 8
    assert "<b>00000017</b>_001.png" in page.text
    assert "$x 1$" in page.text  # a name with dollars is no formula


def _renamed(arm: ArmRecord, old: str, new: str) -> ArmRecord:
    def name(label: str) -> str:
        return new if label == old else label

    noise = arm.noise.model_copy(
        update={
            "labels": tuple(map(name, arm.noise.labels)),
            "summary": {name(label): done for label, done in arm.noise.summary.items()},
        }
    )
    return arm.model_copy(
        update={
            "labels": tuple(map(name, arm.labels)),
            "scores": {name(label): score for label, score in arm.scores.items()},
            "weights": tuple({name(key): value for key, value in row.items()} for row in arm.weights),
            "noise": noise,
        }
    )


def test_a_study_of_one_method_without_noise_has_a_page(tmp_path: Path) -> None:
    page = report(tmp_path, fake_study(rates=(), seeds=(0,), methods=("uniform",)), examples=0)
    assert "How well does uniform rank the test images?" in page.text
    assert "Nothing was compared" in page.text
    assert "Paired differences" not in page.text
    assert "Weights over training" not in page.text
    assert "What the images look like" not in page.text


def test_a_study_of_many_methods_and_rates_has_a_page(tmp_path: Path) -> None:
    methods = ("uniform", "svd", "uncertainty", *(f"method {i}" for i in range(9)))
    page = report(tmp_path, fake_study(rates=(0.1, 0.3), seeds=(0,), methods=methods))
    assert all(method in page.text for method in methods)
    assert len({(s.colour, s.marker) for s in styles(methods).values()}) == len(methods)


def test_a_failed_arm_is_named_with_its_reason(tmp_path: Path) -> None:
    study = fake_study()
    nothing = MeanRecord(value=None, lo=None, hi=None, reason="the loss is not finite", labels=())
    failed = ArmRecord(
        method="svd", noise=NoiseRecord(kind="none"), seed=1, labels=(), scores={}, mean=nothing, best_epoch=None,
        images_per_second=None, seconds=0, status="failed", reason="the loss is not finite",
    )  # fmt: skip
    rest = [arm for arm in study.arms if (arm.method, arm.seed, arm.noise.kind) != ("svd", 1, "none")]
    page = report(tmp_path, study.model_copy(update={"arms": (*rest, failed)}))
    assert "1 of 12 arms failed" in page.text
    assert "svd, no added noise, seed 1: the loss is not finite" in page.text


def test_a_study_of_which_every_arm_failed_still_has_a_page(tmp_path: Path) -> None:
    study = fake_study(seeds=(0,))
    nothing = MeanRecord(value=None, lo=None, hi=None, reason="disk", labels=())
    broken = [
        arm.model_copy(update={"status": "failed", "reason": "disk", "mean": nothing, "scores": {}, "labels": ()})
        for arm in study.arms
    ]
    page = report(tmp_path, study.model_copy(update={"arms": tuple(broken), "comparisons": ()}))
    assert "6 of 6 arms failed" in page.text


def test_an_example_without_a_caption_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="2 pictures, 1 captions"):
        write_report(fake_study(), {}, np.zeros((2, 4, 4), np.uint8), ["one"], tmp_path / "report.html")


def test_pictures_must_be_grey_and_eight_bit() -> None:
    assert png_data_uri(np.zeros((4, 4), np.uint8)).startswith("data:image/png;base64,iVBOR")
    with pytest.raises(ValueError, match="float64"):
        png_data_uri(np.zeros((4, 4)))


def test_figures_with_nothing_to_show_are_left_out() -> None:
    plain = fake_study(rates=(), methods=("uniform",))
    assert weights_over_training(plain) is None
    assert prevalence_under_noise(plain) is None
    assert differences(plain) is None


def test_many_methods_have_a_panel_and_a_row_each_instead_of_hiding_one_another(tmp_path: Path) -> None:
    methods = ("uniform", "svd", "uncertainty", *(f"method {i}" for i in range(9)))
    study = fake_study(rates=(0.1, 0.3), seeds=(0,), methods=methods)
    page = report(tmp_path, study)
    drawn = draw_figures(study)
    assert page.source.count("mean of the noisy labels") == 1
    assert all(drawn["against_noise"].count(f">{method}<") == 1 for method in methods[1:])
    assert all(drawn["labels"].count(f">{method}<") == 1 for method in methods[1:])
    best, worst = (
        round(1000 * (study.finished(m, study.conditions[-1])[0].mean.value
                      - study.finished("uniform", study.conditions[-1])[0].mean.value))
        for m in ("svd", "uncertainty")
    )  # fmt: skip
    assert f">{best:+d}<".replace("-", "−") in drawn["labels"]
    assert f">{worst:+d}<".replace("-", "−") in drawn["labels"]
    assert "Does any of 11 methods rank the test images better than uniform" in page.text


# --- Cost ---


def timed(study: StudyResults, seconds: dict[str, float]) -> StudyResults:
    arms = [arm.model_copy(update={"step_seconds": (1 + arm.seed) * seconds[arm.method]}) for arm in study.arms]
    return study.model_copy(update={"arms": tuple(arms)})


def test_the_cost_of_a_method_is_beside_the_baselines_of_the_same_seed(tmp_path: Path) -> None:
    study = timed(fake_study(), {"uniform": 0.1, "svd": 0.11, "uncertainty": 0.25})
    assert [cost.of_baseline for cost in method_costs(study)] == pytest.approx([1, 1.1, 2.5])
    assert method_costs(fake_study()) == []
    page = report(tmp_path, study)
    assert page.tags["svg"] == 6
    assert "svd × 1.10" in page.text
    assert "Cost against benefit" in page.text
    assert "Cost against benefit" not in report(tmp_path, fake_study()).text


def test_names_beside_the_cost_figure_keep_apart_and_move_no_more_than_they_must() -> None:
    moved = spread_out([0.5, 0.1, 0.5, 0.9], 0.1, (0, 1))
    assert moved == pytest.approx([0.45, 0.1, 0.55, 0.9])
    crowded = spread_out([0.99] * 5, 0.2, (0, 1))
    assert np.diff(crowded) == pytest.approx([0.2] * 4)
    assert crowded.max() <= 1


def test_every_arm_names_its_run_and_a_server_is_linked_to(tmp_path: Path) -> None:
    study = fake_study()
    ids = [arm.mlflow_run_id for arm in study.arms]
    text = report(tmp_path, study).text
    assert all(run and run in text for run in ids)
    there = study.model_copy(update={"runs": RunsRecord(address="https://mlflow.example/#/experiments/1/runs/")})
    assert f"https://mlflow.example/#/experiments/1/runs/{ids[0]}" in report(tmp_path, there).addresses
    here = study.model_copy(update={"runs": RunsRecord(command="mlflow ui --backend-store-uri x")})
    assert "mlflow ui --backend-store-uri x" in report(tmp_path, here).text
    with pytest.raises(ValidationError, match="pattern"):
        RunsRecord(address="javascript:alert(1)")


# --- The answer ---


def compared(delta: float | None, p: float | None, adjusted: float | None, **other: Any) -> ComparisonRecord:
    given = {"noise": NOISY, "method": "svd", "seeds": {0: delta, 1: delta}} | other
    lo, hi = (None, None) if delta is None else (delta - 0.006, delta + 0.006)
    points = {} if delta is None else {"one condition": given["seeds"]}
    found = Comparison(delta, lo, hi, p, points, reason=None if delta is not None else "no seed in common")
    record = ComparisonRecord.of(given["method"], "uniform", given["noise"], found)
    return record.model_copy(update={"p_adjusted": adjusted})


def said(*comparisons: ComparisonRecord) -> list[str]:
    return answer(fake_study().model_copy(update={"comparisons": comparisons}))


@pytest.mark.parametrize(
    ("delta", "p", "adjusted", "expected"),
    [
        (0.01, 0.001, 0.004, Verdict.BETTER),
        (-0.01, 0.001, 0.004, Verdict.WORSE),
        (0.01, 0.02, 0.08, Verdict.UNSURE),
        (0.01, 0.2, 0.8, Verdict.NO_DIFFERENCE),
        (0.0, 1.0, 1.0, Verdict.NO_DIFFERENCE),
        (None, None, None, Verdict.NOT_COMPARED),
    ],
)
def test_the_verdict_follows_the_adjusted_p_value(delta: Any, p: Any, adjusted: Any, expected: Verdict) -> None:
    assert verdict(compared(delta, p, adjusted)) is expected


def test_better_and_worse_are_said_with_their_interval() -> None:
    assert said(compared(0.01, 0.001, 0.004)) == [
        "With 20 % random labels for Effusion and Pleural Thickening, "
        "svd was better than uniform (+0.010, 95 % interval +0.004 to +0.016)."
    ]
    assert (
        "svd was worse than uniform (−0.010, 95 % interval −0.016 to −0.004)" in said(compared(-0.01, 0.001, 0.004))[0]
    )


def test_no_difference_seen_is_not_called_equality() -> None:
    sentence = said(compared(0.001, 0.7, 1.0))[0]
    assert "no difference from uniform was seen for svd (+0.001, 95 % interval −0.005 to +0.007)" in sentence
    assert "equal" not in sentence


def test_what_does_not_survive_the_adjustment_is_said_to_be_unclear() -> None:
    sentence = said(compared(0.007, 0.02, 0.08))[0]
    assert "svd looked better than uniform" in sentence
    assert "not clearly enough among so many comparisons" in sentence


def test_a_seed_that_points_the_other_way_is_named() -> None:
    assert "though in only 1 of 2 seeds" in said(compared(0.01, 0.001, 0.004, seeds={0: 0.03, 1: -0.01}))[0]


def test_what_could_not_be_compared_is_said_with_the_reason() -> None:
    assert "svd could not be compared (no seed in common)" in said(compared(None, None, None))[0]


def test_the_answer_is_one_sentence_for_the_noisiest_and_one_for_the_first_condition() -> None:
    more = disturbed("random", 0.4, NOISY.labels)
    sentences = said(*(compared(0.001, 0.7, 1.0, noise=noise) for noise in (CLEAN, NOISY, more)))
    assert len(sentences) == 2
    assert sentences[0].startswith("With 40 % random labels")
    assert sentences[1].startswith("Without added noise")
    assert all(sentence.endswith(".") for sentence in sentences)


def test_many_methods_without_a_difference_share_a_clause() -> None:
    sentence = said(*(compared(0.001 * i, 0.7, 1.0, method=f"m{i}") for i in range(5)))[0]
    assert "was seen for m0, m1, m2, m3 or m4 (+0.000 to +0.004)" in sentence


def test_many_that_are_unclear_share_a_clause() -> None:
    sentence = said(*(compared(0.001 * (-1) ** i, 0.02, 1.0, method=f"m{i}") for i in range(5)))[0]
    assert "m0, m2 and m4 looked better and m1 and m3 looked worse than uniform, but not clearly enough" in sentence


def test_the_question_names_the_methods() -> None:
    assert question(fake_study()) == (
        "Does svd or uncertainty rank the test images better than uniform when training labels are noisy?"
    )
    assert "noisy" not in question(fake_study(rates=()))


def test_conditions_are_described_in_words() -> None:
    assert described(CLEAN) == "without added noise"
    many = disturbed("flipped", 0.05, FINDINGS[:6])
    assert described(many) == "with 5 % flipped labels for 6 of the labels"
    assert listed(["a", "b_c", "d"]) == "a, b c and d"


def test_scores_are_averaged_over_seeds_and_missing_ones_stay_missing() -> None:
    first, second = (arm.scores for arm in fake_study().finished("svd", CLEAN))
    mean = average([first["Mass"], second["Mass"]])
    assert mean.value == pytest.approx((first["Mass"].value + second["Mass"].value) / 2)
    assert mean.hi == pytest.approx((first["Mass"].hi + second["Mass"].hi) / 2)
    assert "patient" in (average([first["Hernia"], second["Hernia"]]).reason or "")
    assert average([]).reason == "no arm finished"

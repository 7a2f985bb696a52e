"""The report stands alone, says no more than the numbers do, and shows what is missing with its reason."""

import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from data_prep.labels.splits import SplitSettings
from tasks.data.ingest import StoreRef
from tasks.engine.publish import write_report
from tasks.images.kind import ImageKind
from tasks.images.report import draw_figures
from tasks.records.arms import ArmRecord, ConditionRecord, WeightsRecord
from tasks.records.cost import method_costs
from tasks.records.scores import MeanRecord
from tasks.records.study import RunsRecord, StudyResults, read_results
from tests.tasks.fake_study import FINDINGS, big_study, fake_study, interaction_study, policy_study

VOID = {"meta", "img", "br", "link", "input", "hr", "use", "path", "wbr"}


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


KIND = ImageKind(StoreRef(name="phantom", path=Path(), fingerprint="sha256:0", reused=False), SplitSettings())


def report(folder: Path, study: StudyResults, examples: int = 3) -> Page:
    pixels = np.arange(examples * 64, dtype=np.uint8).reshape(examples, 8, 8)
    shown = pixels, ["no finding"] * examples
    return Page(write_report(KIND, study, draw_figures(study), shown, folder / "report.html"))


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
    for name in (
        "AUC against noise",
        "Differences from uniform",
        "Scores by label",
        "Weights over training",
        "Added label noise",
    ):
        assert name in page.text
    for name in ("Example images", "Data", "Excluded images", "Arms", "How to repeat it", "Spread over seeds"):
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
    shown = np.zeros((1, 4, 4), np.uint8), [evil]
    path = write_report(KIND, changed, draw_figures(changed), shown, tmp_path / "report.html")
    page = Page(path)
    assert "script" not in page.tags
    assert page.text.count("alert(1)") >= 8
    assert "<b>00000017</b>_001.png" in page.text
    assert "$x 1$" in page.text  # a name with dollars is no formula


def _renamed(arm: ArmRecord, old: str, new: str) -> ArmRecord:
    def name(label: str) -> str:
        return new if label == old else label

    noise = arm.condition.model_copy(
        update={
            "labels": tuple(map(name, arm.condition.labels)),
            "summary": {name(label): done for label, done in arm.condition.summary.items()},
        }
    )
    return arm.model_copy(
        update={
            "by_label": {name(label): record for label, record in arm.by_label.items()},
            "weights": tuple(
                WeightsRecord(step=row.step, labels={name(label): value for label, value in row.labels.items()})
                for row in arm.weights
            ),
            "condition": noise,
        }
    )


def test_a_page_of_two_seeds_calls_nothing_better_or_worse(tmp_path: Path) -> None:
    page = report(tmp_path, fake_study(floor=True, controls={"svd": "permuted_weights(svd)"}))
    assert not re.findall("better|worse", page.source, re.IGNORECASE)
    assert page.text.count("these networks only") == 6 + 2
    assert "Do these networks of svd or uncertainty rank the test images differently" in page.text


def test_a_page_of_three_seeds_shows_verdicts_floor_controls_and_spread(tmp_path: Path) -> None:
    study = fake_study(seeds=(0, 1, 2), floor=True, controls={"svd": "permuted_weights(svd)"})
    page = report(tmp_path, study)
    assert "these networks" not in page.text
    assert page.text.count("(noise floor)") == 2
    assert page.text.count("uniform, other seeds") >= 4  # two rows of the table, two of the figure
    for name in ("Controls", "Spread over seeds", "Holm", "Noise floor (A/A)", "Seeds needed"):
        assert name in page.text
    spread = study.spread[0]
    assert f"{spread.sd:.4f} {spread.lo:.4f}–{spread.hi:.4f}" in page.text
    first = study.comparisons[0]
    assert " ".join(f"{seed.delta:+.3f}".replace("-", "−") for seed in first.by_seed) in page.text


def test_a_significant_noise_floor_is_not_called_noise(tmp_path: Path) -> None:
    study = fake_study(rates=(), seeds=(0, 1, 2), floor=True)
    (floor,) = study.floor
    strange = floor.model_copy(update={"p_value": 1e-6, "p_adjusted": 1e-6})
    page = report(tmp_path, study.model_copy(update={"floor": (strange,)}))
    assert "significant, with nothing changed" in page.text
    assert "this came out significant with nothing changed" in page.text


def test_many_single_seeds_are_given_as_a_range(tmp_path: Path) -> None:
    study = fake_study(rates=(), seeds=tuple(range(7)), methods=("uniform", "svd"))
    deltas = [f"{seed.delta:+.3f}" for seed in study.comparisons[0].by_seed]
    assert f"7 pairs: {min(deltas)} to {max(deltas)}" in report(tmp_path, study).text.replace("−", "-")


def test_the_spread_has_the_longer_side_as_rows_so_that_it_fits(tmp_path: Path) -> None:
    for study, heading in ((fake_study((), (0, 1, 2)), "method"), (fake_study((0.1, 0.2, 0.3), (0,)), "condition")):
        text = report(tmp_path, study).text
        assert text.partition("Spread over seeds")[2].split()[0] == heading


def test_the_answer_and_the_figure_come_before_every_table(tmp_path: Path) -> None:
    source = report(tmp_path, big_study()).source
    assert source.index('class="answer"') < source.index("<svg") < source.index("<table")


def test_a_page_can_be_written_from_results_of_the_first_schema(tmp_path: Path) -> None:
    study = read_results(Path(__file__).parents[1] / "records" / "study_1.json")
    page = report(tmp_path, study)
    assert "these networks only" in page.text
    assert "+0.0" in page.text


def test_a_study_of_one_method_without_noise_has_a_page(tmp_path: Path) -> None:
    page = report(tmp_path, fake_study(rates=(), seeds=(0,), methods=("uniform",)), examples=0)
    assert "How well does uniform rank the test images?" in page.text
    assert "Nothing was compared" in page.text
    assert "Differences from" not in page.text
    assert "Weights over training" not in page.text
    assert "Example images" not in page.text


def test_a_study_of_many_methods_and_rates_has_a_page(tmp_path: Path) -> None:
    methods = ("uniform", "svd", "uncertainty", *(f"method {i}" for i in range(9)))
    page = report(tmp_path, fake_study(rates=(0.1, 0.3), seeds=(0,), methods=methods))
    assert all(method in page.text for method in methods)


def test_a_failed_arm_is_named_with_its_reason(tmp_path: Path) -> None:
    study = fake_study()
    nothing = MeanRecord(value=None, lo=None, hi=None, reason="the loss is not finite", labels=())
    failed = ArmRecord(
        factors={"method": "svd", "condition": "clean"},
        condition=ConditionRecord(),
        seed=1,
        by_label={},
        mean=nothing,
        best_epoch=None,
        items_per_second=None,
        seconds=0,
        status="failed",
        reason="the loss is not finite",
    )
    rest = [arm for arm in study.arms if (arm.method, arm.seed, arm.condition.kind) != ("svd", 1, "none")]
    page = report(tmp_path, study.model_copy(update={"arms": (*rest, failed)}))
    assert "1 of 12 arms failed" in page.text
    assert "svd, clean, seed 1: the loss is not finite" in page.text


def test_a_study_of_which_every_arm_failed_still_has_a_page(tmp_path: Path) -> None:
    study = fake_study(seeds=(0,))
    nothing = MeanRecord(value=None, lo=None, hi=None, reason="disk", labels=())
    broken = [
        arm.model_copy(update={"status": "failed", "reason": "disk", "mean": nothing, "by_label": {}})
        for arm in study.arms
    ]
    page = report(tmp_path, study.model_copy(update={"arms": tuple(broken), "comparisons": ()}))
    assert "6 of 6 arms failed" in page.text


def test_an_example_without_a_caption_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="2 images, 1 captions"):
        write_report(KIND, fake_study(), {}, (np.zeros((2, 4, 4), np.uint8), ["one"]), tmp_path / "report.html")


def test_many_methods_have_a_panel_and_a_row_each_instead_of_hiding_one_another(tmp_path: Path) -> None:
    methods = ("uniform", "svd", "uncertainty", *(f"method {i}" for i in range(9)))
    study = fake_study(rates=(0.1, 0.3), seeds=(0,), methods=methods)
    page = report(tmp_path, study)
    drawn = draw_figures(study)
    assert page.source.count("mean of the noisy labels") == 1
    assert all(drawn["against_noise"].count(f">{method}<") == 1 for method in methods[1:])
    assert all(drawn["labels"].count(f">{method}<") == 1 for method in methods[1:])
    best, worst = (
        round(
            1000
            * (
                study.finished_arms(m, study.conditions[-1])[0].mean.value
                - study.finished_arms("uniform", study.conditions[-1])[0].mean.value
            )
        )
        for m in ("svd", "uncertainty")
    )
    assert f">{best:+d}<".replace("-", "−") in drawn["labels"]
    assert f">{worst:+d}<".replace("-", "−") in drawn["labels"]
    assert "Do these networks of any of 11 methods rank the test images differently from those of uniform" in page.text


# --- Cost ---


def timed(study: StudyResults, seconds: dict[str, float]) -> StudyResults:
    arms = [arm.model_copy(update={"step_seconds": (1 + arm.seed) * seconds[arm.method]}) for arm in study.arms]
    return study.model_copy(update={"arms": tuple(arms)})


def test_a_method_that_needs_another_arms_network_is_charged_for_its_training() -> None:
    study = timed(fake_study(), {"uniform": 0.1, "svd": 0.11, "uncertainty": 0.25})
    hashes = [f"{arm.method}/{arm.condition.name}/{arm.seed}" for arm in study.arms]
    sources = [f"uniform/{arm.condition.name}/{arm.seed}" if arm.method == "svd" else None for arm in study.arms]
    arms = [
        arm.model_copy(update={"hash": of_arm, "source": source})
        for arm, of_arm, source in zip(study.arms, hashes, sources, strict=True)
    ]
    costs = method_costs(study.model_copy(update={"arms": tuple(arms)}))
    assert [cost.relative_time for cost in costs] == pytest.approx([1, 2.1, 2.5])


def test_the_work_of_a_weighting_before_and_between_the_steps_is_charged() -> None:
    study = timed(fake_study(), {"uniform": 0.1, "svd": 0.1, "uncertainty": 0.2})
    arms = [
        arm.model_copy(
            update={"weighting_seconds": (1 + arm.seed) * arm.weights[-1].step * {"svd": 0.1}.get(arm.method, 0.0)}
        )
        for arm in study.arms
    ]
    costs = method_costs(study.model_copy(update={"arms": tuple(arms)}))
    assert [cost.relative_time for cost in costs] == pytest.approx([1, 2, 2])


def test_the_cost_of_a_method_is_beside_the_baselines_of_the_same_seed(tmp_path: Path) -> None:
    study = timed(fake_study(), {"uniform": 0.1, "svd": 0.11, "uncertainty": 0.25})
    assert [cost.relative_time for cost in method_costs(study)] == pytest.approx([1, 1.1, 2.5])
    assert method_costs(fake_study()) == []
    page = report(tmp_path, study)
    assert page.tags["svg"] == 6
    assert "svd × 1.10" in page.text
    assert "Cost against benefit" in page.text
    assert "Cost against benefit" not in report(tmp_path, fake_study()).text


def test_every_arm_names_its_run_and_a_server_is_linked_to(tmp_path: Path) -> None:
    study = fake_study()
    ids = [arm.mlflow_run_id for arm in study.arms]
    text = report(tmp_path, study).text
    whole_page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert all(run and run[:8] in text and f'title="{run}"' in whole_page for run in ids)
    there = study.model_copy(update={"runs": RunsRecord(address="https://mlflow.example/#/experiments/1/runs/")})
    assert f"https://mlflow.example/#/experiments/1/runs/{ids[0]}" in report(tmp_path, there).addresses
    here = study.model_copy(update={"runs": RunsRecord(command="mlflow ui --backend-store-uri x")})
    assert "mlflow ui --backend-store-uri x" in report(tmp_path, here).text
    with pytest.raises(ValidationError, match="pattern"):
        RunsRecord(address="javascript:alert(1)")


# --- Augmentation policies ---


def test_a_study_of_policies_and_one_method_is_about_the_policies(tmp_path: Path) -> None:
    page = report(tmp_path, policy_study(methods=("uniform",)))
    asks = "Does augmentation by composed or uncertainty rank the test images better than none when"
    assert asks in page.text
    assert "Differences between policies" in page.text
    assert "Differences from" not in page.text
    assert "The same policy, none, with other seeds differed by" in page.text
    assert page.text.count("(noise floor)") == 2
    assert max(page.ids.values()) == 1
    assert page.source.index('class="answer"') < page.source.index("<svg") < page.source.index("<table")
    assert "over all policies and conditions" in page.text
    assert "minus that of none with the same seed, the same noise and the same test patients" in page.text


def test_a_study_of_methods_and_policies_says_what_each_comparison_holds_fixed(tmp_path: Path) -> None:
    page = report(tmp_path, policy_study())
    assert "Does svd rank the test images better than uniform, and does augmentation by composed or" in page.text
    for policy in ("none", "composed", "uncertainty"):
        assert f"Without added noise (policy {policy})" in page.text
    for method in ("uniform", "svd"):
        assert f"Policies with the method {method}, minus none" in page.text
        assert f"Without added noise (method {method})" in page.text
    assert "the same noise, the policy none and the same test patients" in page.text
    assert "over all comparisons of methods, and over all comparisons of policies" in page.text
    assert page.text.count("(noise floor)") == 4
    assert max(page.ids.values()) == 1
    assert all(f"{method} · {policy}" in page.text for method in ("uniform", "svd") for policy in ("none", "composed"))


def test_a_page_of_one_policy_is_that_of_a_study_of_methods_but_for_its_name(tmp_path: Path) -> None:
    page = report(tmp_path, policy_study(policies=("simple",)))
    assert "Differences from uniform" in page.text
    assert "Differences between policies" not in page.text
    assert "policy simple" in page.text  # in the facts
    assert "(policy simple)" not in page.text


def test_what_the_selection_prefers_is_shown_by_operation_and_policy(tmp_path: Path) -> None:
    text = report(tmp_path, policy_study(methods=("uniform",))).text
    assert "What the selection prefers operation uncertainty rotate 1.30 cutout 0.70 The share of" in text
    both = report(tmp_path, policy_study()).text
    assert "operation uniform · uncertainty svd · uncertainty rotate 1.30 1.30" in both
    assert "What the selection prefers" not in report(tmp_path, fake_study()).text


@pytest.mark.parametrize("methods", [("uniform",), ("uniform", "svd")])
def test_what_noise_changes_of_a_policy_is_answered_first_drawn_once_and_in_one_table(
    tmp_path: Path, methods: tuple[str, ...]
) -> None:
    study = interaction_study(methods)
    page = report(tmp_path, study)
    (first, *_) = re.findall('class="answer">([^<]*)<', page.source)
    assert first.startswith("With 20 % random labels")
    assert "two trainings of composed with other seeds differ in this by" in first
    assert page.text.count("Differences between policies") == 1
    assert page.text.count("Differences from uniform") == (len(methods) > 1)
    assert page.text.count("composed, other seeds (noise floor)") == 3  # clean, noisy, and the one minus the other
    compared = [c for c in (*study.comparisons, *study.interactions) if c.factor == "policy"]
    table = page.text.partition("Differences between policies")[2].partition("</table>")[0]
    for c in compared:
        assert f"{c.lo:+.3f} to {c.hi:+.3f}".replace("-", "−") in table
    held = [f" (method {method})" if len(methods) > 1 else "" for method in methods]
    noisy = "with 20 % random labels for Effusion, Mass and Pneumothorax"
    for of in held:
        for heading in (
            f"Equal steps, without added noise{of}: minus composed",
            f"Equal steps, {noisy}, minus without added noise{of}: minus composed",
            f"Equal compute, {noisy}{of}: minus compute_matched",
            f"Equal compute, {noisy}, minus without added noise{of}: minus compute_matched",
        ):
            assert page.text.count(heading) == 1, heading
    assert "Under noise, minus without it" in page.text
    assert "Equal compute A forward pass counts" in page.text
    assert max(page.ids.values()) == 1
    assert page.source.index("<svg") < page.source.index("<table")


def test_a_page_without_interactions_and_equal_compute_says_nothing_of_them(tmp_path: Path) -> None:
    for study in (fake_study(), policy_study()):
        text = report(tmp_path, study).text
        assert "minus without" not in text
        assert "Equal compute" not in text
        assert "Equal steps" not in text

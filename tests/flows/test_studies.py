"""The ready studies: each can be run as its first lines say."""

from pathlib import Path
from typing import get_args

import pytest

from flows.classify import ClassifySettings
from flows.sentiment import SentimentSettings
from flows.settings import compose
from flows.study import StudySettings
from models.weighting.registry import WeightingSettings

STUDIES = sorted(Path(__file__).parents[2].glob("flows/studies/*.yaml"))

SETTINGS = {"study": StudySettings, "classify": ClassifySettings, "sentiment": SentimentSettings}


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_a_ready_study_is_valid_and_begins_with_its_command_its_time_and_its_result(path: Path) -> None:
    head = [line.lstrip("# ") for line in path.read_text().splitlines() if line.startswith("#")]
    (command,) = [name for name in SETTINGS if f"medmtl {name} --config flows/studies/{path.name}" in head]
    compose(SETTINGS[command], path, {})
    assert any(line.startswith("Expected:") for line in head)
    assert any(line.startswith(("Measured 20", "Not measured")) for line in head)


def test_sampling_is_studied_beside_its_baseline_and_what_it_costs() -> None:
    (path,) = (path for path in STUDIES if path.stem == "policies")
    varied = compose(StudySettings, path, {}).varied
    names = [policy.name for policy in varied.policies]
    assert {"none", "composed", "uncertainty", "uncertainty(selection=lowest)", "compute_matched"} <= set(names)
    assert (varied.baseline, varied.baseline_policy) == ("uniform", "composed")


@pytest.mark.parametrize("name", ["smoke", "all_methods"])
def test_every_method_is_in_the_studies_of_all_methods(name: str) -> None:
    union, _ = get_args(WeightingSettings)
    kinds = {kind for rule in get_args(union) for kind in get_args(rule.model_fields["kind"].annotation)}
    (path,) = (path for path in STUDIES if path.stem == name)
    assert {method.kind for method in compose(StudySettings, path, {}).methods} == kinds

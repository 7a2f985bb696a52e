"""A study of augmentation policies, small: what it trains, compares, logs and reports."""

import re
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from flows.cli import OK, exit_code
from tasks.arms import mlflow_runs
from tasks.records.study import read_results
from tasks.runtime.escaping import escape_key
from tests.flows.test_study import numbers_of, results_of, runs

pytestmark = pytest.mark.slow

NAMES = ["none", "composed", "uncertainty(candidates=3)", "compute_matched(candidates=3)"]
POLICIES = """
policies: [{kind: none}, {kind: composed}, {kind: uncertainty, candidates: 3}, {kind: compute_matched, candidates: 3}]
"""


@pytest.fixture
def policies(small: list[str]) -> list[str]:
    """Flags of a study of two methods under four policies, without noise."""
    config = Path(small[1])
    text = config.read_text().replace("{kind: none}, {kind: random, rate: 0.2, labels: [Effusion]}", "{kind: none}")
    config.write_text(f"{text}{POLICIES}runner: {{threads: 1}}\n")
    return small


def test_a_study_of_policies_compares_them_and_keeps_what_was_chosen(medmtl_home: Path, policies: list[str]) -> None:
    assert exit_code(["study", *policies, "--out", "out"]) == OK
    results = read_results(Path("out/results.json"))
    assert [(arm.method, arm.policy) for arm in results.arms] == [(m, p) for p in NAMES for m in ("uniform", "svd")]
    by_hash = {arm.hash: arm for arm in results.arms}
    for arm in results.arms:
        if arm.method == "svd":
            assert (by_hash[arm.source].method, by_hash[arm.source].policy) == ("uniform", arm.policy)
        assert bool(arm.chosen) is arm.policy.startswith("uncertainty")
        assert all(0 <= ratio <= 3 for ratio in arm.chosen.values())  # in every selected one of three candidates: 3
        # three candidates cost one more step, so twice the three epochs
        assert arm.weights[-1].step == arm.weights[0].step * (6 if arm.policy == NAMES[-1] else 3)
    assert [(c.factor, c.method, c.baseline, *c.held.values()) for c in results.comparisons] == [
        *(("method", "svd", "uniform", policy) for policy in NAMES),
        *(("policy", policy, "none", method) for method in ("uniform", "svd") for policy in NAMES[1:3]),
        *(("policy", NAMES[2], NAMES[3], method) for method in ("uniform", "svd")),  # at equal compute
    ]
    assert all(c.delta is not None for c in results.comparisons)
    page = Path("out/report.html").read_text()
    for heading in ("Differences from uniform", "Differences between policies", "What the selection prefers"):
        assert heading in page

    (study,) = runs("study")
    assert set(study.data.metrics) == {
        escape_key(f"test_auc_mean/{method}/clean/{policy}/seed 0") for method in ("uniform", "svd") for policy in NAMES
    }
    arms = {arm.data.tags[mlflow_runs.ARM_TAG]: arm for arm in runs("arm")}
    for arm in results.arms:
        run = arms[arm.hash]
        assert run.data.params["policy.kind"] == arm.policy.partition("(")[0]
        title = " · ".join([arm.method, "clean", *([arm.policy] if arm.policy != "none" else []), "seed 0"])
        assert re.fullmatch(rf"phantom \d+ px · {re.escape(title)} · \d{{4}}-\d\d-\d\d \d\d:\d\d", run.info.run_name)
        history = MlflowClient().get_metric_history(run.info.run_id, "val_auc_mean")
        assert [point.step for point in history] == list(range(1, 1 + len(arm.weights)))
    first = numbers_of(results_of(Path("out")))
    assert exit_code(["study", *policies, "--out", "out"]) == OK
    assert numbers_of(results_of(Path("out"))) == first
    assert all(arm.reused for arm in read_results(Path("out/results.json")).arms)


def test_a_training_under_a_policy_is_the_arm_of_a_study(medmtl_home: Path, policies: list[str]) -> None:
    assert exit_code(["study", *policies, "--method", "uniform", "--policy", "composed", "--out", "study"]) == OK
    train = Path("train.yaml")
    lines = Path(policies[1]).read_text().splitlines()
    train.write_text("\n".join(line for line in lines if line.startswith(("data", "split", "training", "runner"))))
    assert exit_code(["train", "--config", "train.yaml", "--policy", "composed", "--out", "train"]) == OK
    (arm,) = read_results(Path("train/results.json")).arms
    assert (arm.policy, arm.reused) == ("composed", True)
    assert "Differences" not in Path("train/report.html").read_text()
    (run,) = (run for run in runs("study") if run.info.run_name.startswith("train"))
    assert " · uniform · composed · clean · " in run.info.run_name

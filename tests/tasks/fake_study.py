"""Made-up results of a study with plausible numbers: by default 3 methods, clean and noisy, 2 seeds, 14 findings.

`big_study` has what a study can have: 4 noise rates, 5 seeds, controls, and the baseline under other seeds.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from data_prep.labels.table import FINDINGS
from models.evaluation.auc import Evaluation, Score
from models.evaluation.paired import Comparison
from tasks.records.arms import (
    ArmRecord,
    Condition,
    ConditionRecord,
    LabelRecord,
    NoiseOnLabel,
    WeightsRecord,
)
from tasks.records.comparisons import EQUAL_COMPUTE, ComparisonRecord, adjust_p_values, spread_records
from tasks.records.data import DataRecord, QuarantinedImage, SplitRecord
from tasks.records.scores import score_records
from tasks.records.study import StudyResults

NOISY = ("Effusion", "Mass", "Pneumothorax")
METHODS = ("uniform", "svd", "uncertainty")
CLEAN = Condition()
OTHER_SEEDS = "uniform, other seeds"
TWO_STAGES = "svd(features=finished)"
TRUST = "trust(features=finished)"
CONTROLS = {method: f"permuted_weights({method})" for method in (TWO_STAGES, TRUST)}
GAIN = {
    "uniform": 0.0, OTHER_SEEDS: 0.0, "svd": 0.011, "uncertainty": -0.004, "oracle": 0.02, TWO_STAGES: 0.012,
    TRUST: 0.021, CONTROLS[TWO_STAGES]: 0.008, CONTROLS[TRUST]: 0.001,
}  # fmt: skip


def noise_condition(kind: str, rate: float, labels: tuple[str, ...]) -> Condition:
    title = f"{100 * rate:g} % {kind} labels"
    return Condition(kind=kind, rate=rate, labels=labels, title=title, name=f"{title} on {', '.join(labels)}")


def fake_study(
    rates: tuple[float, ...] = (0.2,),
    seeds: tuple[int, ...] = (0, 1),
    methods: tuple[str, ...] = METHODS,
    *,
    controls: Mapping[str, str] | None = None,
    floor: bool = False,
) -> StudyResults:
    controls = controls or {}
    methods = (*methods, *controls.values())
    conditions = [CLEAN, *(noise_condition("random", rate, NOISY) for rate in rates)]
    arms = tuple(_arm(m, c, s) for c in conditions for m in methods for s in seeds)
    others = [method for method in methods if method != "uniform"]
    comparisons = [_comparison(m, "uniform", c, seeds) for c in conditions for m in others]
    against_controls = [_comparison(m, control, c, seeds) for c in conditions for m, control in controls.items()]
    same: list[ComparisonRecord] = []
    if floor:
        arms += tuple(_arm(OTHER_SEEDS, c, s + len(seeds)) for c in conditions for s in seeds)
        same = [_comparison(OTHER_SEEDS, "uniform", c, seeds) for c in conditions]
    return StudyResults(
        config={"seed": 0, "data": {"kind": "phantom", "patients": 1200, "size": 64}, "methods": list(methods)},
        version="0.1.0",
        git="3f9c2ab41d07",
        environment={"python": "3.11.7", "torch": "2.15.0", "device": "cpu (2 threads)"},
        data=_data(),
        arms=arms,
        comparisons=adjust_p_values(comparisons),
        floor=adjust_p_values(same),
        controls=adjust_p_values(against_controls),
        spread=spread_records(arms),
        seconds=241.7,
        notes=("the store was reused: nothing was rendered or decoded",),
    )


def _data() -> DataRecord:
    counts = np.round(900 * np.geomspace(0.19, 0.04, len(FINDINGS))).astype(int).tolist()
    positives = dict(zip(FINDINGS, counts, strict=True))
    positives["Hernia"] = 3
    return DataRecord(
        name="phantom",
        population="phantom",
        fingerprint="sha256:" + "9a3f" * 16,
        split=SplitRecord(name="random", fingerprint="sha256:" + "51cc" * 16),
        n={"train": 2611, "val": 412, "test": 903},
        patients={"train": 840, "val": 120, "test": 240},
        labels=FINDINGS,
        positives={
            "test": positives,
            "val": {name: count // 2 for name, count in positives.items()},
            "train": {name: 3 * count for name, count in positives.items()},
        },
        size=64,
        quarantined=(
            QuarantinedImage(image="00000013_004.png", reason="the file ends before its pixels do"),
            QuarantinedImage(image="<b>00000017</b>_001.png", reason="not a PNG or JPEG: starts with b'<!DOCT'"),
        ),
        rows_without_image=4,
        images_without_row=1,
    )


def _arm(method: str, condition: Condition, seed: int) -> ArmRecord:
    generator = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=tuple(method.encode())))
    lost = condition.rate * (0.25 - 6 * GAIN.get(method, 0.002))
    base = 0.93 - 0.2 * np.modf(np.arange(len(FINDINGS)) * 0.381966)[0]
    values = base + 0.3 * GAIN.get(method, 0.002) + generator.normal(0, 0.006, len(FINDINGS))
    per_label = {}
    for name, value in zip(FINDINGS, values, strict=True):
        auc = min(value - (lost if name in condition.labels else lost / 6), 0.99)
        half = 0.02 + 0.03 * (1 - auc)
        per_label[name] = Score(auc, auc - 1.2 * half, min(auc + half, 1.0))
    per_label["Hernia"] = Score(None, None, None, "only 3 patient(s) with the finding; at least 5 are needed")
    scored = tuple(name for name, score in per_label.items() if score.value is not None)
    mean = float(np.mean([per_label[name].value for name in scored]))
    scores, mean_record = score_records(Evaluation(per_label, Score(mean, mean - 0.014, mean + 0.013), scored))
    return ArmRecord(
        factors={"method": method, "condition": condition.name},
        condition=_noise(condition, seed),
        seed=seed,
        by_label={label: LabelRecord(score=score) for label, score in scores.items()},
        mean=mean_record,
        weights=_weights(method, condition, generator),
        best_epoch=7 + seed,
        items_per_second=3870.0 + 40 * seed,
        seconds=19.3,
        mlflow_run_id=(method.encode().hex() + f"{seed:032x}")[:32],
        reused=method == "uniform" and seed == 0,
        hash="sha256:" + f"{seed}" * 64,
    )


def _noise(condition: Condition, seed: int) -> ConditionRecord:
    summary = {
        name: NoiseOnLabel(
            known=2611,
            selected=round(2611 * condition.rate),
            changed=round(2611 * condition.rate / 2) + 3 * i - 4 * seed,
            prevalence_before=0.12 - 0.02 * i,
            prevalence_after=(0.12 - 0.02 * i) * (1 - condition.rate) + condition.rate / 2,
        )
        for i, name in enumerate(condition.labels)
    }
    mask = None if condition.kind == "none" else f"sha256:{seed}{'ab3' * 21}"
    return ConditionRecord(**condition.model_dump(), mask=mask, summary=summary)


def _weights(method: str, condition: Condition, generator: np.random.Generator) -> tuple[WeightsRecord, ...]:
    end = np.ones(len(FINDINGS))
    if method != "uniform":
        end += generator.uniform(-0.35, 0.35, len(FINDINGS))
        end -= [0.45 * (name in condition.labels) for name in FINDINGS]
    rows = []
    for step in range(0, 481, 40):
        share = 1 - math.exp(-step / 150) if method == "uncertainty" else float(step >= 80)
        weights = 1 + (end - 1) * share
        scaled = (weights * 14 / weights.sum()).tolist()
        rows.append(WeightsRecord(step=step, labels=dict(zip(FINDINGS, scaled, strict=True))))
    return tuple(rows)


def _comparison(method: str, baseline: str, condition: Condition, seeds: tuple[int, ...]) -> ComparisonRecord:
    def mean(name: str, seed: int) -> float:
        return _arm(name, condition, seed + (len(seeds) if name == OTHER_SEEDS else 0)).mean.value or 0.0

    by_seed = {seed: mean(method, seed) - mean(baseline, seed) for seed in seeds}
    delta = float(np.mean(list(by_seed.values())))
    error, over, limit, needed = (
        0.0031,
        "patients",
        f"{len(seeds)} seed(s) are too few for an interval over seeds",
        None,
    )
    if len(seeds) > 2:
        error, over, limit = math.hypot(0.001, float(np.std(list(by_seed.values()))) / 2), "seeds and patients", None
        needed = math.ceil(len(seeds) * (2.8 * error / delta) ** 2)
    p_value = math.erfc(abs(delta) / error / math.sqrt(2))
    ends = delta - 1.96 * error, delta + 1.96 * error
    more = {"over": over, "limit": limit, "detectable": 2.8 * error, "seeds_needed": needed}
    found = Comparison(delta, *ends, p_value, {condition.name: by_seed}, **more, seeds_reason=limit)
    return ComparisonRecord.of(method, baseline, condition, found)


def big_study() -> StudyResults:
    methods = ("uniform", "svd", TWO_STAGES, TRUST, "oracle")
    return fake_study((0.2, 0.4, 0.6), (0, 1, 2, 3, 4), methods, controls=CONTROLS, floor=True)


def policy_study(
    methods: tuple[str, ...] = ("uniform", "svd"),
    policies: tuple[str, ...] = ("none", "composed", "uncertainty"),
    seeds: tuple[int, ...] = (0, 1, 2),
) -> StudyResults:
    """A study of every method under every policy; the first of each is the baseline, and has a noise floor."""
    (baseline, *others), (plain, *more) = methods, policies
    conditions = [CLEAN, noise_condition("random", 0.2, NOISY)]
    several = {"method": len(methods) > 1, "policy": len(policies) > 1}

    def arms(method: str, policy: str) -> list[ArmRecord]:
        found = [_arm(_joint(method, policy), c, s) for c in conditions for s in seeds]
        return [
            arm.model_copy(update={
                "factors": {"method": method, "condition": arm.condition.name, "policy": policy},
                "step_seconds": 0.01 * (2.5 if policy == "uncertainty" else 1),
                "chosen": {"rotate": 1.2 + 0.1 * arm.seed, "cutout": 0.7} if policy == "uncertainty" else {},
            })
            for arm in found
        ]  # fmt: skip

    def comparison(factor: str, one: tuple[str, str], other: tuple[str, str], condition: Condition) -> ComparisonRecord:
        found = _comparison(_joint(*one), _joint(*other), condition, seeds)
        both = dict(zip(("method", "policy"), zip(one, other, strict=True), strict=True))
        held = {name: level for name, (level, _) in both.items() if name != factor and several[name]}
        names = {"method": both[factor][0], "baseline": both[factor][1]}
        return found.model_copy(update={**names, "factor": factor, "held": held})

    of_methods = [comparison("method", (m, p), (baseline, p), c) for c in conditions for p in policies for m in others]
    of_policies = [comparison("policy", (m, p), (m, plain), c) for c in conditions for m in methods for p in more]
    floor = [comparison("method", (OTHER_SEEDS, plain), (baseline, plain), c) for c in conditions]
    all_arms = [
        arm for m in (*methods, OTHER_SEEDS) for p in (policies if m != OTHER_SEEDS else [plain]) for arm in arms(m, p)
    ]
    return fake_study(()).model_copy(
        update={
            "arms": tuple(all_arms),
            "comparisons": (*adjust_p_values(of_methods), *adjust_p_values(of_policies)),
            "floor": adjust_p_values(floor),
            "spread": spread_records(all_arms),
        }
    )


def interaction_study(methods: tuple[str, ...] = ("uniform", "svd")) -> StudyResults:
    """A study of policies with one of equal compute, and with what noise changes of every difference."""
    seeds, matched = (0, 1, 2), "compute_matched"
    study = policy_study(methods, ("composed", "none", "uncertainty", matched), seeds)
    same_steps = [c for c in study.comparisons if matched not in (c.method, c.baseline)]
    of_matched = [
        _comparison(_joint(method, "uncertainty"), _joint(method, matched), condition, seeds).model_copy(
            update={
                "method": "uncertainty",
                "baseline": matched,
                "factor": "policy",
                "experiment": EQUAL_COMPUTE,
                "held": {"method": method} if len(methods) > 1 else {},
            }
        )
        for condition in study.conditions
        for method in methods
    ]
    compared = (*same_steps, *adjust_p_values(of_matched))
    asked = [c for c in compared if c.factor == "policy"]
    changed = {"comparisons": compared, "interactions": (*_interactions(asked), *_interactions(study.floor))}
    return study.model_copy(update=changed)


def _interactions(compared: Sequence[ComparisonRecord]) -> tuple[ComparisonRecord, ...]:
    def key(c: ComparisonRecord) -> tuple[str, ...]:
        return c.method, c.baseline, str(c.held), str(c.experiment)

    clean, found = {key(c): c for c in compared if c.condition == CLEAN}, []
    for c in compared:
        if c.condition != CLEAN:
            without = {seed.seed: seed.delta for seed in clean[key(c)].by_seed}
            by_seed = [seed.model_copy(update={"delta": seed.delta - without[seed.seed]}) for seed in c.by_seed]
            delta, error = float(np.mean([seed.delta for seed in by_seed])), 0.002
            ends = {"delta": delta, "lo": delta - 2 * error, "hi": delta + 2 * error, "by_seed": tuple(by_seed)}
            p_value = math.erfc(abs(delta) / error / math.sqrt(2))
            found.append(c.model_copy(update=ends | {"p_value": p_value, "minus": CLEAN}))
    return adjust_p_values(found)


def _joint(method: str, policy: str) -> str:
    return method if policy == "none" else f"{method} with {policy}"


def renamed(study: StudyResults, names: Mapping[str, str]) -> StudyResults:
    """The study with other names for its labels, wherever they stand by themselves."""

    def walk(node: Any) -> Any:
        if isinstance(node, dict):
            return {names.get(key, key): walk(value) for key, value in node.items()}
        if isinstance(node, list):
            return [walk(value) for value in node]
        return names.get(node, node) if isinstance(node, str) else node

    return StudyResults.model_validate(walk(study.model_dump(mode="json")))

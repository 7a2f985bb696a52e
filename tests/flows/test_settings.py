"""Flags over the file over the defaults, and one line for whatever is wrong."""

import errno
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel, ValidationError

from data_prep.errors import DataError
from data_prep.noise.protocols import AllProtocol, CurveProtocol, PairsProtocol
from data_prep.noise.registry import NoiseSettings
from flows.glue import GlueSettings
from flows.sentiment import SentimentSettings
from flows.settings import NOISES, _models_in, compose, describe, error_line
from flows.study import StudySettings
from flows.train import TrainSettings
from models.augmentation.policies import NO_POLICY, SimplePolicy
from models.errors import SettingError
from models.networks.multitask import NetworkSettings
from models.networks.word_encoders import LstmSettings
from models.training.image_training import TrainingSettings
from models.training.recipes import recipe, recipe_policy
from models.training.text_training import TextTrainingSettings
from tasks.runtime.run_folder import as_yaml


def line_of(model: type[BaseModel], values: dict[str, Any]) -> str:
    with pytest.raises(ValidationError) as caught:
        model.model_validate(values)
    line = error_line(caught.value)
    assert line is not None
    assert "\n" not in line
    return line


def test_flags_win_over_the_file_and_the_file_over_the_defaults(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("seed: 5\ntraining: {epochs: 3, batch_size: 32}\nmethods: [{kind: svd, rank: 4}]\n")
    settings = compose(
        StudySettings, file, {"--epochs": 7, "--seed": None, "--method": ("uniform", "svd"), "--noise-label": ()}
    )
    assert (settings.seed, settings.training.epochs, settings.training.batch_size) == (5, 7, 32)
    assert [method.name for method in settings.methods] == ["uniform", "svd(rank=4)"]


def test_a_study_sets_noise_beside_clean_labels_and_a_training_does_not() -> None:
    flags = {"--noise-rate": 0.3, "--noise-label": ("Mass",)}
    noise = compose(StudySettings, None, flags).protocol.noise
    assert [each.name for each in noise] == ["clean", "random 30 % on Mass"]
    assert compose(TrainSettings, None, flags).noise.name == "random 30 % on Mass"
    assert [noise.kind for noise in compose(StudySettings, None, {"--noise": "none"}).protocol.noise] == ["none"]


def test_the_config_that_a_run_leaves_gives_the_same_settings_again(tmp_path: Path) -> None:
    settings = compose(StudySettings, None, {"--data": "somewhere", "--noise": "flipped", "--noise-rate": 0.1})
    file = tmp_path / "config.yaml"
    file.write_text(as_yaml(settings), encoding="utf-8")
    assert compose(StudySettings, file, {}) == settings
    assert Path(settings.data.source).is_absolute()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"methods": [{"kind": "svdd"}]}, "unknown kind 'svdd'; did you mean svd?"),
        ({"protocol": {"kind": "all", "noise": [{"kind": "random", "rate": 20}]}}, "[0, 1]; got 20. Did you mean 0.2?"),
        ({"training": {"epochs": 0}}, "training.epochs: input should be greater than or equal to 1; got 0"),
        ({"training": {"epoch": 3}}, "training.epoch: there is no such setting"),
        ({"training": {"augmentation": {"flip": 1}}}, "a policy now: write it under policies, with kind: jitter"),
        ({"methods": [{"kind": "svd"}, {"kind": "svd"}]}, "svd is named twice"),
        ({"baseline_policy": "composed"}, "unknown baseline_policy 'composed'; did you mean 'none'?"),
        ({"device": "tpu"}, "'auto', 'cpu' or 'cuda'"),
        ({"network": {"backbonee": "conv4"}}, "network.backbonee: there is no such setting"),
        ({"network": {"width": 0}}, "network.width: input should be greater than or equal to 1; got 0"),
        ({"network": "conv4"}, "network: input should be a valid dictionary"),
    ],
)
def test_a_wrong_setting_is_named_with_its_value_and_the_remedy(values: dict[str, Any], said: str) -> None:
    assert said in line_of(StudySettings, values)


def test_a_list_whose_only_entry_is_wrong_is_not_also_called_too_short() -> None:
    assert line_of(StudySettings, {"policies": [{"kind": "simpel"}]}) == (
        "policies.0: unknown kind 'simpel'; did you mean simple?"
    )
    assert "at least 1 item" in line_of(StudySettings, {"policies": []})
    assert "(and 1 more)" in line_of(StudySettings, {"methods": [{"kind": "svdd"}, {"kind": "dwaa"}]})


def test_a_backbone_that_there_is_not_is_named_without_a_place() -> None:
    assert line_of(StudySettings, {"network": {"backbone": "resnet_18"}}).startswith("unknown backbone 'resnet_18'")


def test_what_is_not_said_of_the_training_follows_the_backbone(tmp_path: Path) -> None:
    of_resnet = recipe("resnet18", True)
    assert of_resnet["learning_rate"] not in (1e-5, StudySettings().training.learning_rate)
    network = {"backbone": "resnet18", "pretrained": True}
    study = StudySettings.model_validate({"network": network, "training": {"epochs": 3}})
    assert study.training == TrainingSettings(**of_resnet | {"epochs": 3})
    said = StudySettings.model_validate({"network": network, "training": {"learning_rate": 1e-5}})
    assert said.training == TrainingSettings(**of_resnet | {"learning_rate": 1e-5})
    file = tmp_path / "config.yaml"
    file.write_text(as_yaml(said))
    assert compose(StudySettings, file, {}) == said
    assert StudySettings.model_validate({"network": {"width": 2}}).training == TrainingSettings()


@pytest.mark.parametrize("network", [{}, {"backbone": "tf_efficientnet_lite0", "pretrained": True}])
def test_a_policy_that_is_not_said_is_that_of_the_backbones_recipe(tmp_path: Path, network: dict[str, Any]) -> None:
    known = NetworkSettings.model_validate(network)
    policy = recipe_policy(known.backbone, known.pretrained)
    assert (policy == NO_POLICY) is not bool(network)
    given = {"network": network, "training": {"epochs": 3}}
    assert StudySettings.model_validate(given).policies == (policy,)
    assert TrainSettings.model_validate(given).policy == policy
    assert TrainSettings.model_validate(given | {"policy": {"kind": "simple"}}).policy == SimplePolicy()
    assert StudySettings.model_validate(given | {"policies": [{"kind": "none"}]}).policies == (NO_POLICY,)
    file = tmp_path / "config.yaml"
    file.write_text(as_yaml(StudySettings.model_validate(given)))
    assert compose(StudySettings, file, {}).policies == (policy,)


def test_an_encoder_named_by_a_flag_keeps_what_the_file_says_of_it(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("encoder: {kind: cnn, width: 30}\n")
    assert compose(SentimentSettings, file, {"--encoder": "cnn"}).encoder.width == 30
    assert compose(SentimentSettings, file, {"--encoder": "lstm"}).encoder == LstmSettings()
    assert compose(SentimentSettings, None, {"--cap": 2000, "--task": ("mr", "cr")}).data.limit == 2000
    assert compose(GlueSettings, None, {"--encoder": "some/bert"}).encoder == "some/bert"
    given = as_yaml(SentimentSettings())
    file.write_text(given)
    assert as_yaml(compose(SentimentSettings, file, {})) == given


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"encoder": "lstmm"}, "unknown kind 'lstmm'; did you mean lstm?"),
        ({"data": {"tasks": ["mr", "sstt"]}}, "there is no task 'sstt' here; did you mean sst?"),
        ({"data": {"tasks": ["mr", "mr"]}}, "mr is named twice"),
        ({"data": {"limit": 0}}, "data.limit: input should be greater than or equal to 1; got 0"),
    ],
)
def test_what_is_wrong_with_a_study_on_texts(values: dict[str, Any], said: str) -> None:
    assert said in line_of(SentimentSettings, values)


def test_a_part_of_the_training_that_is_not_said_stays_as_it_is_for_this_study() -> None:
    usual = GlueSettings().training
    assert usual.batch_size != TextTrainingSettings().batch_size
    for settings in (
        compose(GlueSettings, None, {"--epochs": 4}),
        GlueSettings.model_validate({"training": {"epochs": 4}}),
    ):
        assert settings.training == usual.model_copy(update={"epochs": 4})


def test_a_protocol_of_another_kind_takes_nothing_from_the_default_protocol() -> None:
    usual = StudySettings().protocol
    assert usual.noisy_labels != AllProtocol().noisy_labels
    assert compose(StudySettings, None, {"--protocol": "pairs"}).protocol == PairsProtocol()
    assert compose(StudySettings, None, {"--protocol": "curve"}).protocol == CurveProtocol()
    given = {"kind": "all", "noisy_labels": usual.noisy_labels + 1}
    assert StudySettings.model_validate({"protocol": given}).protocol == usual.model_copy(update=given)
    assert StudySettings.model_validate({"protocol": {"noise": usual.noise}}).protocol == usual


def test_a_study_compares_methods_of_two_stages_with_uniform_weights_and_their_noise_floor() -> None:
    usual = StudySettings()
    assert [method.name for method in usual.methods] == ["uniform", "svd", "trust"]
    assert (usual.seeds, usual.floor, usual.varied.baseline) == (3, True, "uniform")
    assert compose(StudySettings, None, {"--method": ("svd",)}).varied.baseline == "uniform"  # trained first anyway
    assert compose(StudySettings, None, {"--method": ("famo", "oracle")}).varied.baseline == "famo"


@pytest.mark.parametrize(
    ("policies", "baseline"),
    [
        (("simple", "composed", "none"), "none"),
        (("simple", "uncertainty", "composed"), "composed"),
        (("uncertainty", "simple"), "uncertainty"),
    ],
)
def test_policies_are_compared_with_none_or_else_with_compositions_at_random(policies: Any, baseline: str) -> None:
    settings = compose(StudySettings, None, {"--policy": policies})
    assert tuple(policy.name for policy in settings.policies) == policies
    assert settings.varied.baseline_policy == baseline


def test_policies_are_compared_with_the_one_that_is_named() -> None:
    settings = compose(StudySettings, None, {"--policy": ("none", "simple"), "--baseline-policy": "simple"})
    assert settings.varied.baseline_policy == "simple"


def test_a_policy_named_by_a_flag_keeps_what_the_file_says_of_it(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("policies: [{kind: none}, {kind: composed, length: 3}]\npolicy: {kind: composed, length: 3}\n")
    lines = file.read_text().splitlines()
    file.write_text(lines[0])
    names = [policy.name for policy in compose(StudySettings, file, {"--policy": ("composed", "simple")}).policies]
    assert names == ["composed(length=3)", "simple"]
    file.write_text(lines[1])
    assert compose(TrainSettings, file, {"--policy": ("composed",)}).policy.name == "composed(length=3)"
    assert compose(TrainSettings, file, {"--policy": ("simple",)}).policy.name == "simple"


def test_our_own_faults_are_not_blamed_on_the_person() -> None:
    assert error_line(DataError("a")) == "a"
    assert error_line(SettingError("b")) == "b"
    assert "disk is full" in str(error_line(OSError(errno.ENOSPC, "No space left", "/x")))
    assert error_line(ValueError("an internal error")) is None
    assert error_line(FileNotFoundError("a bug")) is None


@pytest.mark.parametrize(("flag", "names"), [("--method", ("uniform", "svd")), ("--policy", ("none", "simple"))])
def test_two_methods_or_policies_cannot_be_trained_as_one(flag: str, names: tuple[str, ...]) -> None:
    with pytest.raises(DataError, match=f"one {flag}; got {', '.join(names)}: compare them with a study"):
        compose(TrainSettings, None, {flag: names})


@pytest.mark.parametrize("content", ["[1, 2]", "a: [", "just words", "\udcff".encode("utf-8", "surrogateescape")])
def test_a_file_that_holds_no_settings_is_refused(tmp_path: Path, content: str | bytes) -> None:
    file = tmp_path / "config.yaml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=r"config\.yaml"):
        compose(StudySettings, file, {})


def test_the_help_lists_every_setting_of_the_config_with_a_description() -> None:
    rows = dict(describe(StudySettings))
    config = yaml.safe_load(as_yaml(StudySettings()))
    for group in ("data", "split", "network", "training"):
        for name, value in config[group].items():
            if not isinstance(value, dict):
                assert rows[f"{group}.{name}"].split(" [")[0]
    assert "methods(svd).rank" in rows


@pytest.mark.parametrize("kind", [kind for kind in NOISES if kind != "none"])
def test_noise_needs_no_rate_on_the_command_line(kind: str) -> None:
    flags = {"--noise": kind, "--noise-label": ("Mass", "Nodule")}
    for protocol in ("all", "curve"):
        compose(StudySettings, None, flags | {"--protocol": protocol})
    assert compose(StudySettings, None, {"--noise-label": ("Mass",)}).protocol.noise[1].name == "random 20 % on Mass"
    assert compose(TrainSettings, None, flags).noise.rate == 0.2


def test_the_help_names_every_kind_of_noise() -> None:
    kinds = {choice.model_fields["kind"].default for choice in _models_in(NoiseSettings)}
    assert set(NOISES) == kinds


@pytest.mark.parametrize("flags", [{"--noise-rate": 0.3}, {"--method": ("svd",)}, {"--epochs": 3}, {"--data": "x"}])
@pytest.mark.parametrize(
    "content", ["protocol: pairs", "methods: null", "training: 5", "data: [1]", "noise: random", "network: null"]
)
def test_what_is_no_group_in_the_file_is_refused_and_not_replaced_by_a_flag(
    tmp_path: Path, content: str, flags: dict[str, Any]
) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(content)
    if content == "methods: null" and "--method" in flags:
        assert [method.name for method in compose(StudySettings, file, flags).methods] == ["svd"]
        return
    with pytest.raises(ValidationError) as caught:
        compose(StudySettings, file, flags)
    assert content.partition(":")[0] in str(error_line(caught.value))


def test_a_flag_changes_the_noise_of_the_file_and_not_its_kind(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("noise: {kind: flipped, rate: 0.1, labels: [Mass]}")
    assert compose(TrainSettings, file, {"--noise-rate": 0.3}).noise.name == "flipped 30 % on Mass"
    assert compose(TrainSettings, file, {"--noise": "missing"}).noise.name == "missing 20 % on all labels"
    file.write_text("protocol: {kind: all, noise: [{kind: none}, {kind: flipped, rate: 0.1}]}")
    noise = compose(StudySettings, file, {"--noise-rate": 0.3}).protocol.noise
    assert [each.name for each in noise] == ["clean", "flipped 30 % on all labels"]
    file.write_text("protocol: {kind: all, noise: [{kind: missing, rate: 0.1}, {kind: flipped, rate: 0.1}]}")
    with pytest.raises(DataError, match="2 noises"):
        compose(StudySettings, file, {"--noise-rate": 0.3})
    noise = compose(StudySettings, file, {"--noise": "missing", "--noise-rate": 0.3}).protocol.noise
    assert [each.name for each in noise] == ["clean", "missing 30 % on all labels"]


@pytest.mark.parametrize("model", [StudySettings, TrainSettings])
def test_no_noise_takes_no_labels_in_silence(model: type[BaseModel]) -> None:
    with pytest.raises(DataError, match="takes no rate and no label"):
        compose(model, None, {"--noise": "none", "--noise-label": ("Mass",)})


def test_a_method_of_a_flag_keeps_all_that_the_file_says_of_it(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("methods: [{kind: svd, rank: 1}, {kind: svd, rank: 2}, {kind: uniform}]")
    methods = compose(StudySettings, file, {"--method": ("svd",)}).methods
    assert [method.name for method in methods] == ["svd(rank=1)", "svd(rank=2)"]
    with pytest.raises(ValidationError, match="named twice"):
        compose(StudySettings, None, {"--method": ("svd", "svd")})
    file.write_text("method: {kind: svd, rank: 2}")
    assert compose(TrainSettings, file, {"--method": ("svd",)}).method.name == "svd(rank=2)"
    assert compose(TrainSettings, file, {"--method": ("trust",)}).method.name == "trust"


def test_a_protocol_of_a_flag_takes_nothing_from_the_files_other_protocol(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("protocol: {kind: all, noise: [{kind: none}], noisy_labels: 2}")
    assert compose(StudySettings, file, {"--protocol": "curve"}).protocol == CurveProtocol()
    assert compose(StudySettings, file, {"--protocol": "all"}).protocol.noisy_labels == 2


@pytest.mark.parametrize(
    ("model", "values", "said"),
    [
        (StudySettings, {"methods": [{"kind": "dwa"}], "training": {"devices": 2}}, "cannot be split"),
        (StudySettings, {"methods": [{"kind": "svd_dynamic"}], "training": {"epochs": 1}}, "no epoch would use them"),
        (TrainSettings, {"method": {"kind": "pcgrad"}, "training": {"micro_batch": 2}}, "cannot be split"),
        (TrainSettings, {"profile": True, "training": {"devices": 2}}, "profiled on one device"),
        (StudySettings, {"protocol": {"kind": "pairs"}, "seeds": 501}, "a pair has at most 1000 seeds"),
        (StudySettings, {"protocol": {"kind": "pairs"}, "adjudicated": "a.csv"}, "leave them out"),
        (StudySettings, {"network": {"weights_file": "a.pt"}}, "set pretrained: true"),
        (TrainSettings, {"model_name": "a/b"}, "no model name with a slash"),
        (TrainSettings, {"model_name": ".."}, "no model name with a slash"),
        (SentimentSettings, {"experiment": "transfer", "data": {"tasks": ["mr", "cr"]}}, "source task, sst, is not"),
        (GlueSettings, {"data": {"tasks": ["cola"]}}, "pairs needs at least two tasks"),
        (SentimentSettings, {"encoder": {"kind": "cnn", "width": 2}}, "encoder.cnn.width"),
    ],
)
def test_settings_that_do_not_go_together_are_refused_at_once(
    model: type[BaseModel], values: dict[str, Any], said: str
) -> None:
    assert said in line_of(model, values)

"""A flow's settings from command-line flags and a YAML file."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args

import click
from pydantic import BaseModel, model_validator

from data_prep.errors import DataError
from flows.config_file import read_config
from flows.error_lines import error_line as error_line
from tasks.runtime.settings import Settings

Model = TypeVar("Model", bound=BaseModel)


class FlowSettings(Settings, ABC):
    """The base class of a flow's settings."""

    @property
    @abstractmethod
    def title(self) -> str:
        """The flow, the data and the method in one line: the name of its runs, before their date."""

    @model_validator(mode="before")
    @classmethod
    def _merge_group_defaults(cls, given: Any) -> Any:
        """Fill a partly given group of settings with the flow's own defaults of that group, not with the group's.

        A group of another kind than the default has its own defaults.
        """
        if not isinstance(given, Mapping):
            return given
        defaults = {name: field.default for name, field in cls.model_fields.items()}
        return {
            name: {**default.model_dump(), **value}
            if isinstance(value, Mapping)
            and isinstance(default := defaults.get(name), BaseModel)
            and value.get("kind") in (None, getattr(default, "kind", None))
            else value
            for name, value in given.items()
        }


@dataclass(frozen=True)
class Flag:
    """A command-line flag.

    Attributes:
        path: the dotted name of the setting that the flag sets.
        help: one line for `--help`.
        type: of the value, for click.
        multiple: the flag may be repeated.
    """

    path: str
    help: str
    type: Any = str
    multiple: bool = False


DEFAULT_NOISE_RATE = 0.2  # for flags that set noise without a rate; the paper's
NOISES = ("none", "random", "shuffled", "flipped", "missing", "class_conditional", "confusion", "row_and_label")

PATH = click.Path(path_type=Path)

FLAGS = {
    "--data": Flag("data.source", "'phantom', 'chestxray14', 'chestmnist', or a folder of images with a label table."),
    "--labels": Flag("data.labels.table", "The label table, if it is not in the folder.", PATH),
    "--label-column": Flag("data.labels.columns", "A column of the table that is a label (repeatable).", multiple=True),
    "--allow-missing": Flag(
        "data.allow_missing", "Go on if more than 1 % of the images have no row, or of the rows no image.", bool
    ),
    "--chest-radiographs": Flag(
        "data.chest_radiographs", "Vouch that a DICOM file shows a chest radiograph where it does not say so.", bool
    ),
    "--size": Flag("data.size", "Side of the decoded images, pixels.", int),
    "--from": Flag("data.archives.folder", "Folder of the image archives, instead of a download.", PATH),
    "--manifest": Flag("data.archives.manifest", "CSV that lists other archives to use: name, url, bytes, md5.", PATH),
    "--parts": Flag("data.archives.parts", "Numbers of the archives to use: 1,2 [all]."),
    "--discard-archives": Flag("data.archives.discard", "Delete each archive once its images are in the store.", bool),
    "--adjudicated": Flag(
        "adjudicated", "Table of radiologist-adjudicated labels: score test images with these labels too.", PATH
    ),
    "--split": Flag(
        "split.name",
        "How to split the patients into train, validation and test: NIH's official split, CheXNet's, at random, or "
        "by a hash of each patient, which new patients do not change.",
        click.Choice(["official", "chexnet", "random", "hashed"]),
    ),
    "--backbone": Flag("network.backbone", "The network: conv4, wide_resnet_16_4, or the name of a timm model."),
    "--epochs": Flag("training.epochs", "Passes over the training data.", int),
    "--device": Flag("device", "Train on this device.", click.Choice(["auto", "cpu", "cuda"])),
    "--dry-run": Flag("dry_run", "List the arms, which are reused, and the time needed; train nothing.", bool),
    "--profile": Flag("profile", "Measure the parts of a training step; train nothing.", bool),
    "--seed": Flag("seed", "The first random seed.", int),
    "--model": Flag("model_name", "Name of the model in MLflow's registry."),
    "--promote": Flag(
        "promotion.rule",
        "Make the challenger the champion if it is better, or not worse than the margin, or never.",
        click.Choice(["better", "not_worse", "never"]),
    ),
    "--approve": Flag(
        "promotion.approve",
        "What passes the rule becomes the champion, or waits for medmtl promote.",
        click.Choice(["automatic", "manual"]),
    ),
    "--start": Flag(
        "start",
        "Train the challenger from new weights, or from those of the champion.",
        click.Choice(["anew", "champion"]),
    ),
    "--night": Flag("night", "Date of the night, as 2026-11-30 [today]."),
    "--seeds": Flag("seeds", "Number of seeds, counted up from --seed; everything is repeated with each seed.", int),
    "--method": Flag("method.kind", "A task weighting: uniform, svd, ... (repeatable in a study).", multiple=True),
    "--policy": Flag(
        "policy.kind",
        "An augmentation policy: none, simple, composed, uncertainty, ... (repeatable in a study).",
        multiple=True,
    ),
    "--baseline-policy": Flag("baseline_policy", "Name of the policy that the others are compared with."),
    "--protocol": Flag(
        "protocol.kind",
        "Train on all labels at once, on random pairs of labels, or on all labels over a curve of noise rates.",
        click.Choice(["all", "pairs", "curve"]),
    ),
    "--noise": Flag("noise.kind", f"Noise to add to the training labels: {', '.join(NOISES)}."),
    "--noise-rate": Flag("noise.rate", f"Rate of the noise, 0 to 1 [{DEFAULT_NOISE_RATE}].", float),
    "--noise-label": Flag("noise.labels", "A label to add the noise to (repeatable).", multiple=True),
    "--folder": Flag("data.folder", "Folder of the public text files, instead of a download.", PATH),
    "--task": Flag("data.tasks", "A task to train on (repeatable) [all].", multiple=True),
    "--cap": Flag("data.limit", "Maximum number of training sentences per task.", int),
    "--experiment": Flag(
        "experiment", "The comparison to run: singles, pairs, together, ... (see `experiment` below)."
    ),
    "--encoder": Flag(
        "encoder", "The shared encoder. sentiment: lstm, cnn or mlp; glue: a Hugging Face model's name, or a folder."
    ),
    "--align": Flag(
        "align",
        "Kind of the tasks' alignment matrices before the shared encoder: free (any matrix) or rotation.",
        click.Choice(["free", "rotation"]),
    ),
    "--schedule": Flag(
        "training.schedule",
        "Train the alignment matrices jointly with the rest of the network, or in alternating phases.",
        click.Choice(["joint", "alternating"]),
    ),
    "--wrong-labels": Flag(
        "wrong_labels", "Share of the training images that get a wrong class (repeatable).", float, multiple=True
    ),
    "--train-images": Flag("split.train_images", "Most training images, drawn within each class [all].", int),
    "--digits": Flag("digits", "Folder of MNIST's two IDX files, for the ridge on digits.", PATH),
    "--vectors": Flag("vectors", "File of pretrained word vectors, or glove.6B to download GloVe.", PATH),
}


OWN_FLAGS: dict[str, dict[str, Flag]] = {
    "classify": {
        "--data": Flag(
            "data.source", "'cifar10', 'cifar100' or 'mnist'; or a folder or tar file with a folder for each class."
        ),
        "--from": Flag("data.folder", "Folder or tar file of a named set, in a form in which it is published.", PATH),
    },
    "predict": {
        "--files": Flag("files", "Images, and folders that are searched for images.", multiple=True),
        "--model": Flag("model", "The registered model, as NAME@ALIAS or NAME/VERSION [medmtl@champion]."),
        "--page": Flag("page", "Write report.html too, with pictures.", bool),
        "--chest-radiographs": Flag("chest_radiographs", FLAGS["--chest-radiographs"].help, bool),
    },
}
"""Flags that set something else in one command than in the others."""


def find_flag(command: str, option: str) -> Flag:
    """Return what an option of a command sets."""
    return OWN_FLAGS.get(command, {}).get(option) or FLAGS[option]


def compose(model: type[Model], config: Path | None, flags: Mapping[str, Any]) -> Model:
    """Make a flow's settings: flags win over the YAML file, and the file over the defaults.

    A study has several methods, policies and noise conditions, a single training one of each. In a study, --method and
    --policy therefore set lists. --noise sets the protocol's noise; where the protocol has a list of them, clean labels
    come first.

    Args:
        model: the class of the settings.
        config: the YAML file, if any.
        flags: flag -> value; None and () mean that the flag was not given.

    Raises:
        DataError: the file cannot be read, or is no mapping.
        pydantic.ValidationError: a value is not allowed.
    """
    values = read_config(config) if config else {}
    given: dict[str, Any] = {}
    command = model.__name__.removesuffix("Settings").lower()
    for flag, value in flags.items():
        if value is not None and value != ():
            _put(given, find_flag(command, flag).path, value)
    for one, several in (("method", "methods"), ("policy", "policies")):
        kinds = given.pop(one, {}).get("kind", ())
        if kinds and several in model.model_fields:
            values[several] = [entry for kind in kinds for entry in _of_kind(values.get(several), kind)]
        elif kinds:
            if len(kinds) > 1:
                raise DataError(f"a training takes one --{one}; got {', '.join(kinds)}: compare them with a study")
            given[one] = {"kind": kinds[0]}
    noise = given.pop("noise", None)
    _merge(values, given)
    if noise is not None:
        _put_noise(values, noise, "protocol" in model.model_fields)
    return model.model_validate(values)


def _put_noise(values: dict[str, Any], noise: dict[str, Any], is_study: bool) -> None:
    """Put the noise of the flags where a training, a study of all labels, or another study has it."""
    place = values
    if is_study:
        place = values.setdefault("protocol", {"kind": "all"})
        if not isinstance(place, dict):
            return  # the validation says what is wrong with it
    given = _noise(place.get("noise"), noise)
    listed = is_study and place.get("kind", "all") == "all"
    place["noise"] = [{"kind": "none"}, *([] if given.get("kind") == "none" else [given])] if listed else given


def _noise(of_file: Any, of_flags: Mapping[str, Any]) -> dict[str, Any]:
    """Return the noise of the flags, which change the file's noise of that kind if it has one."""
    kind = of_flags.get("kind")
    if kind == "none" and len(of_flags) > 1:
        raise DataError("--noise none takes no rate and no label: leave these flags out, or name another --noise")
    listed = [each for each in (of_file if isinstance(of_file, list) else [of_file]) if isinstance(each, Mapping)]
    known = [each for each in listed if each.get("kind") == kind or (kind is None and each.get("kind") != "none")]
    if len(known) > 1:
        raise DataError(
            f"the file lists {len(known)} noises that the noise flags could change: change them in the file"
        )
    if known:
        return dict(known[0]) | dict(of_flags)
    return {"kind": "random"} | ({} if kind == "none" else {"rate": DEFAULT_NOISE_RATE}) | dict(of_flags)


def _of_kind(entries: Any, kind: str) -> list[Any]:
    """Return the entries of a kind in a list of the file, or an entry with the kind's defaults."""
    known = [each for each in entries if isinstance(each, Mapping) and each.get("kind") == kind] if entries else []
    return known or [{"kind": kind}]


def _put(values: dict[str, Any], path: str, value: Any) -> None:
    *parents, last = path.split(".")
    for parent in parents:
        values = values.setdefault(parent, {})
    values[last] = value


def _merge(values: dict[str, Any], over: Mapping[str, Any]) -> None:
    """Put values over those of a file; a group of another kind than the file's takes nothing from the file's."""
    for key, value in over.items():
        known = values.get(key)
        if not isinstance(known, dict):
            if key not in values or not isinstance(value, Mapping):
                values[key] = value  # what is no group in the file stays there, for the validation to refuse
        elif isinstance(value, Mapping):
            if known.get("kind") != value.get("kind", known.get("kind")):
                known.clear()
            _merge(known, value)
        elif known.get("kind") != value:  # the same kind keeps its settings
            values[key] = value


def describe(model: type[BaseModel], prefix: str = "") -> list[tuple[str, str]]:
    """List all settings of `model` as (dotted name, description with the default), for `--help`."""
    rows: list[tuple[str, str]] = []
    for name, field in model.model_fields.items():
        inner = list(_models_in(field.annotation))
        default = field.get_default(call_default_factory=True)
        if len(inner) == 1 and isinstance(field.annotation, type):
            rows += describe(inner[0], f"{prefix}{name}.")
            continue
        shown = "" if isinstance(default, (BaseModel, tuple)) else f" [{default}]"
        rows.append((prefix + name, f"{field.description or ''}{shown}"))
        for choice in inner:
            if "kind" not in choice.model_fields:
                continue  # a part of a list, which the list's own description explains
            kind = choice.model_fields["kind"].default
            rows += [row for row in describe(choice, f"{prefix}{name}({kind}).") if not row[0].endswith(".kind")]
    return rows


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)

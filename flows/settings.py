"""A flow's settings from command-line flags and a YAML file, and one-line messages for invalid input."""

import errno
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args

import click
import yaml
from pydantic import BaseModel, ValidationError, model_validator

from data_prep.errors import DataError, did_you_mean
from models.errors import SettingError
from tasks.runtime.settings import Settings

Model = TypeVar("Model", bound=BaseModel)


class FlowSettings(Settings):
    """The base class of a flow's settings."""

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
        "How to split the patients into train, validation and test: NIH's official split, CheXNet's, or at random.",
        click.Choice(["official", "chexnet", "random"]),
    ),
    "--backbone": Flag("network.backbone", "The shared network: conv4, or the name of a timm model."),
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
    "--seeds": Flag("seeds", "Number of seeds, counted up from --seed; everything is repeated with each seed.", int),
    "--method": Flag("method.kind", "A task weighting: uniform, svd, ... (repeatable in a study).", multiple=True),
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
    "--vectors": Flag("vectors", "File of pretrained word vectors, or glove.6B to download GloVe.", PATH),
}


def compose(model: type[Model], config: Path | None, flags: Mapping[str, Any]) -> Model:
    """Make a flow's settings: flags win over the YAML file, and the file over the defaults.

    A study has several methods and noise conditions, a single training one of each. In a study, --method therefore
    sets the list of methods. --noise sets the protocol's noise; where the protocol has a list of them, clean labels
    come first.

    Args:
        model: the class of the settings.
        config: the YAML file, if any.
        flags: flag -> value; None and () mean that the flag was not given.

    Raises:
        DataError: the file cannot be read, or is no mapping.
        pydantic.ValidationError: a value is not allowed.
    """
    values = read_yaml(config) if config else {}
    given: dict[str, Any] = {}
    for flag, value in flags.items():
        if value is not None and value != ():
            _put(given, FLAGS[flag].path, value)
    kinds = given.pop("method", {}).get("kind", ())
    noise = given.pop("noise", None)
    _merge(values, given)
    if kinds and "methods" in model.model_fields:
        of_file = {entry["kind"]: entry for entry in values.get("methods", ())}
        values["methods"] = [of_file.get(kind, {"kind": kind}) for kind in kinds]
    elif kinds:
        if len(kinds) > 1:
            raise DataError(f"a training takes one --method; got {', '.join(kinds)}: compare them with a study")
        values["method"] = {"kind": kinds[0]}
    if noise is not None:
        defaults = {"kind": "random"} | ({} if noise.get("kind") == "none" else {"rate": DEFAULT_NOISE_RATE})
        _put_noise(values, defaults | noise, "protocol" in model.model_fields)
    return model.model_validate(values)


def _put_noise(values: dict[str, Any], noise: dict[str, Any], is_study: bool) -> None:
    """Put the noise of the flags where a training, a study of all labels, or another study has it."""
    if not is_study:
        values["noise"] = noise
        return
    protocol = values.setdefault("protocol", {"kind": "all"})
    with_clean = [{"kind": "none"}, *([] if noise["kind"] == "none" else [noise])]
    protocol["noise"] = with_clean if protocol.get("kind", "all") == "all" else noise


def _put(values: dict[str, Any], path: str, value: Any) -> None:
    *parents, last = path.split(".")
    for parent in parents:
        values = values.setdefault(parent, {})
    values[last] = value


def _merge(values: dict[str, Any], over: Mapping[str, Any]) -> None:
    for key, value in over.items():
        known = values.get(key)
        if isinstance(value, Mapping) and isinstance(known, dict):
            _merge(known, value)
        elif not (isinstance(known, dict) and known.get("kind") == value):  # the same kind keeps its settings
            values[key] = value


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds a mapping.

    Raises:
        DataError: there is no such file, or it holds something else.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise DataError(f"{path} is no mapping of settings: expected lines such as 'seed: 0'")
    return values


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
            kind = choice.model_fields["kind"].default
            rows += [row for row in describe(choice, f"{prefix}{name}({kind}).") if not row[0].endswith(".kind")]
    return rows


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)


def error_line(error: Exception) -> str | None:
    """Return a one-line message for an error that the user can correct; None for a bug, which needs a traceback."""
    if isinstance(error, (DataError, SettingError)):
        return str(error)
    if isinstance(error, ValidationError):
        return _validation_line(error)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full at {error.filename or 'the output folder'}: free some space and run the command again"
    if isinstance(error, OSError) and error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return f"cannot write {error.filename}: {error.strerror}; choose another folder with --out or MEDMTL_HOME"
    return None


def _validation_line(error: ValidationError) -> str:
    first, *others = error.errors()
    where = ".".join(str(part) for part in first["loc"])
    context = first.get("ctx", {})
    if first["type"] == "union_tag_invalid":
        known = [tag.strip(" '") for tag in str(context["expected_tags"]).split(",")]
        what = f"unknown kind {context['tag']!r}{did_you_mean(str(context['tag']), known)}"
    elif first["type"] == "extra_forbidden":
        what = "there is no such setting; the command's --help lists them all"
    elif first["type"] == "value_error":
        what = str(context["error"])
    else:
        what = f"{first['msg'][0].lower()}{first['msg'][1:]}; got {first['input']!r}"
    return (f"{where}: " if where else "") + what + (f" (and {len(others)} more)" if others else "")

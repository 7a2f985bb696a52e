"""From flags and a YAML file to a flow's settings, and from what is wrong with them to one line."""

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
    """The settings of a flow."""

    @model_validator(mode="before")
    @classmethod
    def _keep_what_is_not_said(cls, given: Any) -> Any:
        """A flow may have defaults of its own for a group of settings; those of the group that are given leave the
        others at these.
        """
        if not isinstance(given, Mapping):
            return given
        defaults = {name: field.default for name, field in cls.model_fields.items()}
        return {
            name: {**default.model_dump(exclude_unset=True), **value}
            if isinstance(value, Mapping) and isinstance(default := defaults.get(name), BaseModel)
            else value
            for name, value in given.items()
        }


@dataclass(frozen=True)
class Flag:
    """A flag: the setting it stands for (a dotted path), how it is typed, and a line of help."""

    path: str
    help: str
    type: Any = str
    multiple: bool = False


USUAL_RATE = 0.2  # of noise that the flags ask for without a rate; the paper's, and the default study's
NOISES = ("none", "random", "shuffled", "flipped", "missing", "class_conditional", "confusion", "row_and_label")

FLAGS = {
    "--data": Flag("data.source", "'phantom', 'chestxray14', 'chestmnist', or a folder of images with a label table."),
    "--labels": Flag("data.labels", "The label table, when it lies elsewhere.", click.Path(path_type=Path)),
    "--size": Flag("data.size", "Side of the decoded images, pixels.", int),
    "--from": Flag("data.archives.folder", "Take the archives from this folder.", click.Path(path_type=Path)),
    "--manifest": Flag("data.archives.manifest", "CSV of another archive of that shape.", click.Path(path_type=Path)),
    "--parts": Flag("data.archives.parts", "Numbers of the archives to take: 1,2."),
    "--discard-archives": Flag("data.archives.discard", "Remove each archive once it is decoded.", bool),
    "--adjudicated": Flag("adjudicated", "Radiologists' labels to score against as well.", click.Path(path_type=Path)),
    "--split": Flag("split.name", "How patients are shared out.", click.Choice(["official", "chexnet", "random"])),
    "--backbone": Flag("network.backbone", "conv4, or the name of a timm model."),
    "--epochs": Flag("training.epochs", "Passes over the training part.", int),
    "--device": Flag("device", "Where to train.", click.Choice(["auto", "cpu", "cuda"])),
    "--dry-run": Flag("dry_run", "List the arms, what is reused and the time it will take; train nothing.", bool),
    "--profile": Flag("profile", "Say where the time of a step goes, and train nothing.", bool),
    "--seed": Flag("seed", "The number that all randomness follows from.", int),
    "--model": Flag("model_name", "Name of the model in MLflow's registry."),
    "--promote": Flag(
        "promotion.rule", "When the challenger becomes champion.", click.Choice(["better", "not_worse", "never"])
    ),
    "--seeds": Flag("seeds", "Arms of each kind, with seeds that count up.", int),
    "--method": Flag("method.kind", "A task weighting (a study takes several): uniform, svd, ...", multiple=True),
    "--protocol": Flag(
        "protocol.kind",
        "all labels together, pairs of labels, or a curve over noise rates.",
        click.Choice(["all", "pairs", "curve"]),
    ),
    "--noise": Flag("noise.kind", f"What happens to training labels: {', '.join(NOISES)}."),
    "--noise-rate": Flag("noise.rate", f"The share it happens to, 0 to 1 [{USUAL_RATE}].", float),
    "--noise-label": Flag("noise.labels", "A label it happens to (repeatable).", multiple=True),
    "--folder": Flag("data.folder", "Where the public files lie, if not to be fetched.", click.Path(path_type=Path)),
    "--task": Flag("data.tasks", "A task that takes part (repeatable).", multiple=True),
    "--cap": Flag("data.limit", "Training sentences of a task, at most.", int),
    "--experiment": Flag("experiment", "Which experiment: singles, pairs, together, ..."),
    "--encoder": Flag("encoder", "The shared encoder: lstm, cnn or mlp; for GLUE a hub's name or a folder."),
    "--align": Flag("align", "The matrices of the arms that align.", click.Choice(["free", "rotation"])),
    "--schedule": Flag("training.schedule", "How they are trained.", click.Choice(["joint", "alternating"])),
    "--vectors": Flag("vectors", "File of word vectors (GloVe).", click.Path(path_type=Path)),
}


def compose(model: type[Model], config: Path | None, flags: Mapping[str, Any]) -> Model:
    """A flow's settings: its defaults, the YAML file over them, and the flags over both.

    A study holds tuples where a single training holds one value: there --method names the methods, and --noise
    the protocol's noise, beside clean labels where the protocol has several.

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
            raise DataError(f"one --method can be trained at a time; got {', '.join(kinds)}: compare them with a study")
        values["method"] = {"kind": kinds[0]}
    if noise is not None:
        usual = {"kind": "random"} | ({} if noise.get("kind") == "none" else {"rate": USUAL_RATE})
        _put_noise(values, usual | noise, "protocol" in model.model_fields)
    return model.model_validate(values)


def _put_noise(values: dict[str, Any], noise: dict[str, Any], is_study: bool) -> None:
    """Noise from the flags: a training's own, beside clean labels in a study of all labels, else the protocol's."""
    if not is_study:
        values["noise"] = noise
        return
    protocol = values.setdefault("protocol", {"kind": "all"})
    beside_clean = [{"kind": "none"}, *([] if noise["kind"] == "none" else [noise])]
    protocol["noise"] = beside_clean if protocol.get("kind", "all") == "all" else noise


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
        elif not (isinstance(known, dict) and known.get("kind") == value):  # a kind's name leaves its settings alone
            values[key] = value


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

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
        raise DataError(f"{path} holds no settings: expected lines such as 'seed: 0'")
    return values


def describe(model: type[BaseModel], prefix: str = "") -> list[tuple[str, str]]:
    """Every setting below `model` as (dotted name, description with its default)."""
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


def one_line(error: Exception) -> str | None:
    """What a person did wrong, in a line; None when it is our fault and deserves a traceback."""
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
    return f"{where}: {what}" + (f" (and {len(others)} more)" if others else "")

"""Text benchmarks of a study (GLUE or the sentiment sets): where their files are, and their tasks as arms read them."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated, Literal, TypeVar

from prefect import task
from prefect.cache_policies import NO_CACHE
from pydantic import Field, field_validator

from data_prep.errors import DataError, did_you_mean
from data_prep.settings import Seed
from data_prep.text.benchmarks import GLUE, SENTIMENT
from data_prep.text.download import fetch_glue, fetch_sentiment
from data_prep.text.glue import read_glue
from data_prep.text.sentiment import read_sentiment
from data_prep.text.task import TextTask
from tasks.runtime.home import home
from tasks.runtime.progress import progress
from tasks.runtime.settings import AbsolutePath, Settings


class _TextData(Settings):
    folder: AbsolutePath | None = Field(
        None, description="folder of the public files; none: they are downloaded once, to MEDMTL_HOME"
    )
    seed: Seed = Field(
        0,
        description="seed by which train, validation and test parts, and the sentences within `limit`, are drawn",
    )
    limit: int | None = Field(
        None, ge=1, le=1_000_000_000, description="maximum number of training sentences per task; none: all"
    )

    @field_validator("tasks", check_fields=False)  # a field of the subclasses
    @classmethod
    def _check_tasks(cls, tasks: tuple[str, ...]) -> tuple[str, ...]:
        known = cls.model_fields["tasks"].default
        for name in tasks:
            if name not in known:
                raise ValueError(f"there is no task {name!r} here{did_you_mean(name, known)}")
            if tasks.count(name) > 1:
                raise ValueError(f"{name} is named twice in {', '.join(tasks)}; name each task once")
        return tasks


class SentimentData(_TextData):
    """The six sentiment sets: sentences, each set a task."""

    corpus: Literal["sentiment"] = Field("sentiment", description="the six sentiment sets")
    tasks: tuple[str, ...] = Field(
        tuple(SENTIMENT), min_length=1, max_length=len(SENTIMENT), description="the sets (tasks) to use"
    )
    folds: int | None = Field(
        None,
        ge=2,
        le=1000,
        description="number of cross-validation folds for sets without an official test part; the arm with seed s is "
        "tested on fold s modulo this number; none: one random test part",
    )


class GlueData(_TextData):
    """Five tasks of the GLUE benchmark."""

    corpus: Literal["glue"] = Field("glue", description="five tasks of GLUE")
    tasks: tuple[str, ...] = Field(tuple(GLUE), min_length=1, max_length=len(GLUE), description="the tasks to use")


TextDataT = TypeVar("TextDataT", SentimentData, GlueData)
TextData = Annotated[SentimentData | GlueData, Field(discriminator="corpus")]


def display_name(name: str) -> str:
    """Return a task's name as it is usually written: 'SST', 'CoLA'."""
    return GLUE[name].folder if name in GLUE else name.upper()


@task(name="take texts", cache_policy=NO_CACHE)
def prepare_texts(data: TextDataT) -> TextDataT:
    """Return the settings with the folder of the benchmark's files, downloaded once to MEDMTL_HOME if none is named.

    Raises:
        DataError: there is no such folder, or the download fails; the message names the command to download by hand.
    """
    if data.folder is not None:
        if not data.folder.is_dir():
            raise DataError(f"no such folder: {data.folder}; name the folder of the files, or none to download them")
        return data
    folder = home().texts / data.corpus
    with progress(data.corpus, of_bytes=True) as update:
        if isinstance(data, GlueData):
            fetch_glue(folder, data.tasks)
        else:
            fetch_sentiment(folder, data.tasks, progress=update)
    return data.model_copy(update={"folder": folder})


@lru_cache(maxsize=64)
def read_texts(
    data: SentimentData | GlueData, overlap_group: Sequence[str], seed: int = 0, keep_overlap: bool = False
) -> dict[str, TextTask]:
    """Read tasks by name, without training on sentences with which another of the tasks is validated or tested.

    The result is cached: do not change it.

    Args:
        data: the benchmark, with its folder.
        overlap_group: names of the tasks to read.
        seed: of the arm; selects the fold if there are folds.
        keep_overlap: keep such sentences in the training parts.

    Raises:
        DataError: a file is missing, damaged or in another encoding.
    """
    if data.folder is None:
        raise ValueError("the folder is not known yet: call prepare_texts first")
    if isinstance(data, GlueData):
        return read_glue(data.folder, overlap_group, seed=data.seed, limit=data.limit)
    fold = None if data.folds is None else (seed % data.folds, data.folds)
    return read_sentiment(
        data.folder, overlap_group, seed=data.seed, limit=data.limit, fold=fold, keep_overlap=keep_overlap
    )

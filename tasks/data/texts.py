"""The texts of a study: which benchmark, from where, and its tasks as every arm reads them again."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from prefect import task
from prefect.cache_policies import NO_CACHE
from pydantic import Field, field_validator

from data_prep.errors import DataError, did_you_mean
from data_prep.text.benchmarks import GLUE, SENTIMENT
from data_prep.text.download import fetch_glue, fetch_sentiment
from data_prep.text.glue import read_glue
from data_prep.text.sentiment import read_sentiment
from data_prep.text.task import TextTask
from tasks.runtime.home import home
from tasks.runtime.progress import progress
from tasks.runtime.settings import Settings


class _TextData(Settings):
    folder: Path | None = Field(
        None, description="where the public files lie; none: they are fetched once, to MEDMTL_HOME"
    )
    seed: int = Field(0, ge=0, description="of the parts that are drawn and of the sentences under a limit")
    limit: int | None = Field(None, ge=1, description="training sentences of a task, at most; none: all")

    @field_validator("folder")
    @classmethod
    def _absolute(cls, folder: Path | None) -> Path | None:
        return folder and folder.expanduser().resolve()


class SentimentData(_TextData):
    """The six sets of sentences."""

    corpus: Literal["sentiment"] = Field("sentiment", description="the six sets of sentences")
    tasks: tuple[str, ...] = Field(tuple(SENTIMENT), min_length=1, description="sets that take part")
    folds: int | None = Field(
        None, ge=2, description="test the arm of seed i on fold i of so many, where there is no official test part"
    )

    @field_validator("tasks")
    @classmethod
    def _known(cls, tasks: tuple[str, ...]) -> tuple[str, ...]:
        return _known_once(tasks, tuple(SENTIMENT))


class GlueData(_TextData):
    """Five tasks of GLUE."""

    corpus: Literal["glue"] = Field("glue", description="five tasks of GLUE")
    tasks: tuple[str, ...] = Field(tuple(GLUE), min_length=1, description="tasks that take part")

    @field_validator("tasks")
    @classmethod
    def _known(cls, tasks: tuple[str, ...]) -> tuple[str, ...]:
        return _known_once(tasks, tuple(GLUE))


Data = TypeVar("Data", SentimentData, GlueData)
TextData = Annotated[SentimentData | GlueData, Field(discriminator="corpus")]


def _known_once(tasks: tuple[str, ...], known: tuple[str, ...]) -> tuple[str, ...]:
    for name in tasks:
        if name not in known:
            raise ValueError(f"there is no task {name!r} here{did_you_mean(name, known)}")
        if tasks.count(name) > 1:
            raise ValueError(f"{name} stands twice among {', '.join(tasks)}; name each once")
    return tasks


def display_name(name: str) -> str:
    """A task's name as it is written in print: 'SST', 'CoLA'."""
    return GLUE[name].folder if name in GLUE else name.upper()


@task(name="take texts", cache_policy=NO_CACHE)
def prepare_texts(data: Data) -> Data:
    """The same data with the folder that holds them, fetched where none was named.

    Raises:
        DataError: the folder is none, or the files cannot be fetched; it names the command to get them by hand.
    """
    if data.folder is not None:
        if not data.folder.is_dir():
            raise DataError(f"no such folder: {data.folder}; name the one that holds the files, or none to fetch them")
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
    """The tasks `overlap_group`, of which none is trained on what another is tested on, unless `keep_overlap`.

    data: with its folder. seed: of the arm, which decides the fold where there are folds. Do not change what it gives.

    Raises:
        DataError: a file is missing, broken or in another encoding.
    """
    if data.folder is None:
        raise ValueError("the folder is not known yet: take_texts")
    if isinstance(data, GlueData):
        return read_glue(data.folder, overlap_group, seed=data.seed, limit=data.limit)
    fold = None if data.folds is None else (seed % data.folds, data.folds)
    return read_sentiment(
        data.folder, overlap_group, seed=data.seed, limit=data.limit, fold=fold, keep_overlap=keep_overlap
    )

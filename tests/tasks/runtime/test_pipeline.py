"""What Prefect shows of a run: its name, its lines, and of an error that a person can correct no more than its line."""

import logging
import sys

import pytest

from data_prep.errors import DataError
from models.errors import SettingError
from tasks.runtime.pipeline import PREFECT_RUN_LOGGERS


@pytest.mark.parametrize("name", PREFECT_RUN_LOGGERS)
@pytest.mark.parametrize("kind", [DataError, SettingError, RuntimeError])
def test_the_cause_of_what_a_person_can_correct_is_not_kept(name: str, kind: type[Exception]) -> None:
    logger = logging.getLogger(name)
    try:
        raise kind("row 3 has no image") from OSError(2, "no such file", "Doe^Jane.dcm")
    except Exception as error:
        record = logger.makeRecord(name, logging.ERROR, "", 0, "the run failed: %s", (error,), sys.exc_info())
    assert logger.filter(record)
    text = logging.Formatter().format(record)
    assert "the run failed: row 3 has no image" in text
    assert ("Doe^Jane" in text) == (kind is RuntimeError)

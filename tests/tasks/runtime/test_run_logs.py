"""Prefect's logs keep the line of an error that a person can correct; of a bug they keep the traceback."""

import logging

import pytest

from data_prep.errors import DataError
from models.errors import SettingError
from tasks.runtime.run_logs import LOGGERS, keep_causes_out


@pytest.mark.parametrize("name", LOGGERS)
@pytest.mark.parametrize("kind", [DataError, SettingError, RuntimeError])
def test_the_cause_of_what_a_person_can_correct_is_not_kept(
    name: str, kind: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    keep_causes_out()
    logger = logging.getLogger(name)
    logger.addHandler(caplog.handler)
    try:
        raise kind("row 3 has no image") from OSError(2, "no such file", "Doe^Jane.dcm")
    except Exception as error:
        logger.error("the run failed: %s", error, exc_info=True)
    logger.removeHandler(caplog.handler)
    assert "row 3 has no image" in caplog.text
    assert ("Doe^Jane" in caplog.text) == (kind is RuntimeError)

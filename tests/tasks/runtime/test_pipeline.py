"""What Prefect shows of a run: its name, its lines, and of an error that a person can correct no more than its line."""

import logging
import sys
import threading
from typing import Any
from uuid import uuid4

import cloudpickle
import pytest
from prefect.logging.handlers import APILogHandler, set_api_log_sink

from data_prep.errors import DataError
from flows.study import study
from models.errors import SettingError
from tasks.runtime.pipeline import PREFECT_RUN_LOGGERS, _log_into
from tasks.runtime.progress import LOGGER


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


def test_every_line_goes_to_the_log_of_the_run_also_from_a_thread_that_knows_of_no_run() -> None:
    sent: list[dict[str, Any]] = []
    run = uuid4()
    set_api_log_sink(sent.append)
    of_prefect = APILogHandler()  # as PREFECT_LOGGING_EXTRA_LOGGERS adds it
    LOGGER.addHandler(of_prefect)
    try:
        with _log_into(run):
            LOGGER.info("%d images", 3)
            thread = threading.Thread(target=LOGGER.info, args=("a name with \x1b[2J",))
            thread.start()
            thread.join()
        LOGGER.info("after the run")
    finally:
        LOGGER.removeHandler(of_prefect)
        set_api_log_sink(None)
    assert [(line["flow_run_id"], line["message"]) for line in sent] == [
        (str(run), "3 images"),
        (str(run), r"a name with \x1b[2J"),
    ]


def test_a_flow_is_pickled_by_its_name_as_the_context_of_a_task_is_for_other_processes() -> None:
    pickled = cloudpickle.dumps(study)
    assert len(pickled) < 1000
    assert cloudpickle.loads(pickled) is study

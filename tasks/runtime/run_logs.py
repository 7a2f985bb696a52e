"""What Prefect keeps of an error that a person can correct: its line, and not its causes.

The line says all that is needed and names no patient. A traceback would show the causes too, and the cause of an
unreadable file quotes its name.
"""

import logging

from data_prep.errors import DataError
from models.errors import SettingError

LOGGERS = ("prefect.flow_runs", "prefect.task_runs")


def keep_causes_out() -> None:
    """Leave the traceback of such an error out of the logs of Prefect's runs; may be called again."""
    for name in LOGGERS:
        logging.getLogger(name).addFilter(_without_causes)


def _without_causes(record: logging.LogRecord) -> bool:
    if record.exc_info and isinstance(record.exc_info[1], DataError | SettingError):
        record.exc_info = record.exc_text = None
    return True

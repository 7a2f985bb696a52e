"""What is said of a run that failed: one line, and nothing that may name a patient."""

from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prefect.client.schemas.objects import FlowRun, State, StateType

from tasks.operations.doctor_runs import LONGEST_REASON, why

PATIENT = "Doe^Jane_1950"


def failed(message: str | None, name: str = "Failed") -> FlowRun:
    return FlowRun(flow_id=uuid4(), state=State(type=StateType.FAILED, name=name, message=message))


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("Flow run encountered an exception: DataError: no table in the folder", "Failed: no table in the folder"),
        ("Flow run encountered an exception: data_prep.errors.DataError: a: b", "Failed: a: b"),
        (f"Flow run encountered an exception: FileNotFoundError: '{PATIENT}.png'", "Failed: FileNotFoundError"),
        ("Task run encountered an exception: KeyError", "Failed: KeyError"),
        ("no sign of life for 75 s", "Failed: no sign of life for 75 s"),
        (f"Validation of parameters failed: {PATIENT}", "Failed: Validation of parameters failed"),
        (None, "Failed"),
    ],
)  # fmt: skip
def test_the_reason_is_ours_or_the_kind_of_the_error(message: str | None, said: str) -> None:
    assert why(failed(message)) == said


@given(
    kind=st.sampled_from(["KeyError", "ValueError", "OSError", "pydantic.ValidationError", "prefect.exceptions.X"]),
    before=st.text(max_size=30),
    after=st.text(max_size=30),
)
def test_a_message_that_is_not_ours_is_left_out(kind: str, before: str, after: str) -> None:
    said = why(failed(f"Flow run encountered an exception: {kind}: {before}{PATIENT}{after}"))
    assert said == f"Failed: {kind.rpartition('.')[2]}"


@given(told=st.text(max_size=1000))
def test_any_reason_is_one_printable_line(told: str) -> None:
    said = why(failed(f"Flow run encountered an exception: DataError: {told}"))
    assert len(said.splitlines()) == 1
    assert said.isprintable()
    assert len(said) <= 10 * (LONGEST_REASON + 20)  # an unprintable character is shown as ten

"""How a registered model is named: NAME@ALIAS or NAME/VERSION, and nothing else."""

import pytest
from pydantic import TypeAdapter, ValidationError

from tasks.prediction.registered import ModelReference

REFERENCE = TypeAdapter(ModelReference)


@pytest.mark.parametrize("text", ["medmtl@champion", "medmtl/3", "chest X-ray 2@ward-7", "a@b@c", "Lésion (left)/12"])
def test_a_name_with_an_alias_or_a_version_is_taken(text: str) -> None:
    assert REFERENCE.validate_python(text) == text


@pytest.mark.parametrize(
    "text", ["medmtl", "", "@champion", "/3", "medmtl/", "medmtl@", "a/b@c", "a:b/1", "m/1.5", "m@a b"]
)
def test_anything_else_is_refused_in_words_that_show_how(text: str) -> None:
    with pytest.raises(ValidationError, match=r"NAME@ALIAS or NAME/VERSION|MLflow takes no model name|at least 1"):
        REFERENCE.validate_python(text)

"""Imports only go down: flows > tasks > {models | data_prep}."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FORBIDDEN = {
    "data_prep": {"flows", "tasks", "models", "prefect", "mlflow", "torch", "torchvision", "timm"},
    "models": {"flows", "tasks", "data_prep", "prefect", "mlflow"},
    "tasks": {"flows"},
    "benchmarks": {"flows", "tasks", "prefect", "mlflow"},
}


def imported(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name.split(".")[0] for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").split(".")[0]


@pytest.mark.parametrize("room", FORBIDDEN)
def test_no_import_climbs_a_floor(room: str) -> None:
    climbing = {
        f"{file.relative_to(ROOT)} imports {name}"
        for file in (ROOT / room).rglob("*.py")
        for name in imported(file)
        if name in FORBIDDEN[room]
    }
    assert not climbing


def test_nothing_heavy_is_imported_before_a_command_is_known() -> None:
    heavy = {"torch", "prefect", "mlflow", "timm", "pandas", "numpy", "cv2"}
    light = [
        "flows/__init__.py",
        "flows/settings.py",
        "tasks/runtime/env_defaults.py",
        "data_prep/errors.py",
        "models/errors.py",
    ]
    found = {name for file in light for name in imported(ROOT / file)}
    assert not found & heavy

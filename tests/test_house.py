"""The house: its floors and rooms, the order of their imports, and the size of what stands in them."""

import ast
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = ("data_prep", "models", "tasks", "flows")

FORBIDDEN = {
    "data_prep": {"flows", "tasks", "models", "prefect", "mlflow", "torch", "torchvision", "timm"},
    "models": {"flows", "tasks", "data_prep", "prefect", "mlflow"},
    "tasks": {"flows"},
    "benchmarks": {"flows", "tasks", "prefect", "mlflow"},
}
"""What no file of a floor imports, at any depth."""

ON_RECORDS = {"benchmarks/false_verdicts.py", "benchmarks/within_source.py"}
"""Benchmarks of what a study says or leaves; they need its records, and so all that is installed with `tasks`."""

ORDER: dict[str, tuple[frozenset[str], ...]] = {
    "data_prep": (
        frozenset({"errors", "regular_file", "settings"}),
        frozenset({"json_file"}),
        frozenset({"fetch", "decoding", "labels"}),
        frozenset({"sources", "noise", "phantom", "text"}),
        frozenset({"store"}),
    ),
    "models": (
        frozenset({"errors", "randomness", "settings"}),
        frozenset({"augmentation", "data", "evaluation", "theory"}),
        frozenset({"networks"}),
        frozenset({"weighting"}),
        frozenset({"training"}),
    ),
    "tasks": (
        frozenset({"runtime"}),
        frozenset({"records"}),
        frozenset({"arms"}),
        frozenset({"reporting"}),
        frozenset({"data", "engine"}),
        frozenset({"images", "text", "theory"}),
        frozenset({"classes", "nightly", "operations", "prediction"}),
    ),
}
"""The rooms of each floor, the lowest first. A room imports from lower ones only; rooms in one set are side by side."""

SHARED_NAMES = """
archives base download drift errors figures glue ingest inputs kind outcomes plan profiling registry report
sentiment settings spec study summary_text
"""
"""File names that stand in several rooms; each means the same wherever it stands."""

MOST_LINES, MOST_FILES, MOST_PARAMETERS = 450, 20, 8


def modules() -> dict[str, Path]:
    """Every module of the product by its dotted name; a package under the name of its folder."""
    files = (file for floor in FLOORS for file in sorted((ROOT / floor).rglob("*.py")))
    return {".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file for file in files}


def imports(file: Path) -> Iterator[str]:
    """Every dotted name that a file imports anywhere, for type checking and inside functions too."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} imports relatively"
            for alias in node.names:
                yield f"{node.module}.{alias.name}"


def imported_modules(file: Path, known: dict[str, Path]) -> set[str]:
    """The modules of the product that a file imports."""
    found = set()
    for name in imports(file):
        while name and name not in known:  # `from module import function` names the function too
            name = name.rpartition(".")[0]
        if name:
            found.add(name)
    return found


def level(module: str) -> int | None:
    """The place of a module's room in the order of its floor; None for a floor itself."""
    floor, *rest = module.split(".")
    return next(i for i, rooms in enumerate(ORDER[floor]) if rest[0] in rooms) if rest else None


@pytest.mark.parametrize("floor", FORBIDDEN)
def test_no_import_climbs_a_floor(floor: str) -> None:
    climbing = {
        f"{file.relative_to(ROOT)} imports {name}"
        for file in (ROOT / floor).rglob("*.py")
        for name in imports(file)
        if name.split(".")[0] in FORBIDDEN[floor] and str(file.relative_to(ROOT)) not in ON_RECORDS
    }
    assert not climbing


def test_every_room_has_its_place_in_the_order() -> None:
    for floor, levels in ORDER.items():
        found = {
            path.stem for path in (ROOT / floor).iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
        }
        assert found - {"__init__"} == frozenset().union(*levels), floor


@pytest.mark.parametrize("floor", ORDER)
def test_no_import_climbs_a_room(floor: str) -> None:
    known = modules()
    climbing = []
    for module, file in known.items():
        if not module.startswith(f"{floor}."):
            continue
        for other in imported_modules(file, known):
            if not other.startswith(f"{floor}.") or other.split(".")[1] == module.split(".")[1]:
                continue
            here, there = level(module), level(other)
            if here is not None and there is not None and there >= here:
                climbing.append(f"{module} imports {other}")
    assert not climbing


def test_no_imports_go_in_a_circle() -> None:
    known = modules()
    graph = {module: imported_modules(file, known) - {module} for module, file in known.items()}
    while leaves := [module for module, others in graph.items() if not others & set(graph)]:
        for module in leaves:
            del graph[module]
    assert not graph, "these import one another, at times by way of others"


def test_a_file_name_stands_in_several_rooms_only_where_it_means_the_same() -> None:
    places = defaultdict(list)
    for module in modules():
        places[module.rpartition(".")[2]].append(module)
    folders = {module.split(".")[1] for module in modules() if module.count(".") > 1}
    several = {name for name, found in places.items() if len(found) > 1 and name not in folders}
    assert several == set(SHARED_NAMES.split())


def test_files_folders_and_functions_stay_small() -> None:
    folders: Counter[Path] = Counter()
    for file in modules().values():
        text = file.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= MOST_LINES, file
        folders[file.parent] += file.name != "__init__.py"
        lines = text.splitlines()
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                of = node.args
                names = [each.arg for each in (*of.posonlyargs, *of.args, *of.kwonlyargs)]
                taken = len(names) - (names[:1] in (["self"], ["cls"]))
                excused = "noqa: PLR0913" in lines[node.lineno - 1]
                assert taken <= MOST_PARAMETERS or excused, f"{file}:{node.lineno} {node.name} takes {taken}"
    assert max(folders.values()) <= MOST_FILES, folders.most_common(1)


NO_VERBS = """
a all an and any anything as at both by each either every everything for from how if in it its neither no none nothing
of on one or out part several some that the their these this those to what when where whether which who whose why with
without
"""
VERBS_IN_S = frozenset({"address", "assess", "compress", "discuss", "express", "guess", "pass", "press", "process"})


def begins_with_a_verb(docstring: str) -> bool:
    """Whether it may be one that begins with a verb in the imperative: no article, no third person, and the like."""
    first = docstring.split()[0].strip("`'\".,:;").lower()
    return first not in NO_VERBS.split() and first.isalpha() and (not first.endswith("s") or first in VERBS_IN_S)


def test_the_docstring_of_a_function_begins_with_a_verb() -> None:
    """Properties are named after what they are, as in Google's convention; so are the forms of a type."""
    wrong = []
    for module, file in modules().items():
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            decorators = {ast.unparse(each).split("(")[0].rpartition(".")[2] for each in node.decorator_list}
            docstring = ast.get_docstring(node)
            if docstring and not decorators & {"property", "cached_property"} and not begins_with_a_verb(docstring):
                wrong.append(f"{module}.{node.name}: {docstring.splitlines()[0]}")
    assert not wrong


def test_nothing_heavy_is_imported_before_a_command_is_known() -> None:
    heavy = {"torch", "prefect", "mlflow", "timm", "pandas", "numpy", "cv2"}
    light = [
        "flows/__init__.py",
        "flows/settings.py",
        "tasks/runtime/env_defaults.py",
        "data_prep/errors.py",
        "models/errors.py",
    ]
    found = {name.split(".")[0] for file in light for name in imports(ROOT / file)}
    assert not found & heavy

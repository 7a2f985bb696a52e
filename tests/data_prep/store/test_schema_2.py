"""Stores of schema 2, of colour and of classes: they name what they hold, and hold only what there is."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_prep.errors import DataError
from data_prep.labels.table import LabelTable
from data_prep.store import store as store_module
from data_prep.store.checks import check_store
from data_prep.store.store import Store, file_digest, json_digest
from tests.data_prep.store.written import write_store

SIZE, N = 8, 10
RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (N, 3, SIZE, SIZE), dtype=np.uint8)
NAMES = np.array([f"{row}, or so.png" for row in range(N)])
CLASSES = LabelTable(
    images=NAMES,
    patients=NAMES,
    labels=("class",),
    targets=np.arange(N, dtype=np.int16)[:, np.newaxis] % 3,
    views=np.full(N, ""),
    layout="classes",
    sha256="0" * 64,
    classes=("cat", "dog, or wolf", "ship"),
    parts=np.array(["train"] * 7 + ["test"] * 3),
)
BINARY = replace(
    CLASSES,
    labels=("Mass", "part"),
    targets=RNG.integers(-1, 2, (N, 2)).astype(np.int8),
    patients=np.array([f"key{row // 2}" for row in range(N)]),
    views=np.array(["PA", ""] * 5),
    layout="columns",
    classes=(),
    parts=None,
)


def write(path: Path, table: LabelTable = CLASSES, pixels: np.ndarray = COLOUR, shard: int = 4) -> Store:
    facts = {"population": "here", "items": N, "patients_in_files": {"images": 0, "joined": 0}}
    return write_store(path, table, pixels, facts, shard)


def rewrite(path: Path, change: Callable[[dict[str, Any]], None], table: str | None = None) -> None:
    """Change the manifest, and the table, as another version of the writer would have written them."""
    manifest = json.loads((path / "manifest.json").read_text())
    del manifest["sha256"]
    if table is not None:
        (path / "table.csv").write_text(table)
        manifest["files"]["table.csv"] = file_digest(path / "table.csv")
    change(manifest)
    manifest["sha256"] = json_digest(manifest)
    (path / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("pixels", [COLOUR, COLOUR[:, 0]], ids=["colour", "grey"])
@pytest.mark.parametrize("parts", [CLASSES.parts, None], ids=["given", "none"])
def test_a_store_of_classes_is_read_back_as_it_was_written(
    tmp_path: Path, pixels: np.ndarray, parts: np.ndarray | None
) -> None:
    write(tmp_path / "store", replace(CLASSES, parts=parts), pixels)
    store = Store.open(tmp_path / "store")
    assert (store.pixels[:] == pixels).all()
    assert (store.pixels[np.array([9, 0, 5])] == pixels[[9, 0, 5]]).all()
    assert (store.pixels.shape, store.size, store.channels) == (pixels.shape, SIZE, 3 if pixels.ndim == 4 else 1)
    assert (store.labels, store.classes) == (("class",), CLASSES.classes)
    assert store.targets.dtype == np.int16
    assert np.array_equal(store.targets, CLASSES.targets)
    assert (None if store.parts is None else store.parts.tolist()) == (None if parts is None else parts.tolist())
    assert store.manifest["schema"] == "medmtl/store/2"
    assert store.manifest["holds"] == ["pixels", "classes", *(["parts"] if parts is not None else [])]
    assert (store.images.tolist(), store.patients.tolist()) == (NAMES.tolist(), NAMES.tolist())
    assert set(store.views.tolist()) == {""}
    assert all(each.holds for each in check_store(store))


def test_a_colour_store_of_binary_labels_holds_patients_views_and_labels_too(tmp_path: Path) -> None:
    store = write(tmp_path / "store", BINARY)
    assert store.manifest["holds"] == ["pixels", "patients", "views", "labels"]
    for name in ("images", "patients", "targets", "views"):
        assert np.array_equal(getattr(store, name), getattr(BINARY, name)), name
    assert (store.labels, store.classes, store.parts, store.targets.dtype) == (BINARY.labels, (), None, np.int8)


def test_a_shard_in_colour_is_an_ordinary_npy_file(tmp_path: Path) -> None:
    write(tmp_path / "store")
    assert (np.load(tmp_path / "store" / "pixels-00002.npy") == COLOUR[8:]).all()


def test_what_a_manifest_does_not_name_is_absent(tmp_path: Path) -> None:
    path = write(tmp_path / "store").path
    rewrite(path, lambda manifest: manifest.update(holds=[]))
    store = Store.open(path)
    assert store.images.tolist() == store.patients.tolist() == NAMES.tolist()
    assert (store.labels, store.classes, store.parts, len(store.pixels)) == ((), (), None, 0)
    assert store.targets.shape == (N, 0)
    assert store.views.tolist() == [""] * N


@pytest.mark.parametrize("table", [CLASSES, BINARY], ids=["classes", "binary"])
def test_parts_that_a_later_version_adds_are_ignored(tmp_path: Path, table: LabelTable) -> None:
    first = write(tmp_path / "store", table)
    header, *lines = (first.path / "table.csv").read_text().splitlines()
    rows = [line.replace('.png",', '.png",50,') for line in lines]
    added = "\n".join([header.replace("image", "image,age", 1), *rows, ""])

    def grow(manifest: dict[str, Any]) -> None:
        np.save(first.path / "boxes.npy", np.zeros(3))
        manifest["files"]["boxes.npy"] = file_digest(first.path / "boxes.npy")
        manifest["holds"] += ["ages", "boxes"]

    rewrite(first.path, grow, added)
    store = Store.open(first.path)
    assert store.manifest["holds"][-1] == "boxes"
    for name in ("images", "patients", "targets", "views"):
        assert np.array_equal(getattr(store, name), getattr(table, name)), name
    assert (store.pixels[:] == COLOUR).all()


def test_the_fingerprint_is_of_the_content_not_of_shards_keys_views_or_schema(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = write(tmp_path / "first").fingerprint
    assert write(tmp_path / "shards", shard=3).fingerprint == first
    assert write(tmp_path / "views", replace(CLASSES, views=np.array(["PA", ""] * 5))).fingerprint == first
    with monkeypatch.context() as patch:
        patch.setattr(store_module, "SCHEMA_2", "medmtl/store/3")
        patch.setattr(store_module, "SCHEMAS", ("medmtl/store/3",))
        assert write(tmp_path / "schema").fingerprint == first
    binary = write(tmp_path / "binary", BINARY).fingerprint
    keys = replace(BINARY, patients=np.array([f"other{row // 2}" for row in range(N)]))
    assert write(tmp_path / "keys", keys).fingerprint == binary


@pytest.mark.parametrize(
    "changed", ["pixels", "channels", "targets", "classes", "parts", "no parts", "images", "patients"]
)
def test_the_fingerprint_follows_all_that_a_study_depends_on(tmp_path: Path, changed: str) -> None:
    table, pixels = CLASSES, COLOUR
    if changed == "pixels":
        pixels = 255 - COLOUR
    elif changed == "channels":
        pixels = COLOUR[:, 0]
    else:
        table = {
            "targets": replace(table, targets=table.targets[::-1].copy()),
            "classes": replace(table, classes=("cat", "dog", "ship")),
            "parts": replace(table, parts=np.array(["train"] * 6 + ["test"] * 4)),
            "no parts": replace(table, parts=None),
            "images": replace(table, images=NAMES[::-1].copy(), patients=NAMES[::-1].copy()),
            "patients": replace(table, patients=np.array(["a", "a", *NAMES[2:]])),
        }[changed]
    assert write(tmp_path / "second", table, pixels).fingerprint != write(tmp_path / "first").fingerprint


@pytest.mark.parametrize("name", ["manifest.json", "table.csv", "pixels-00001.npy"])
def test_a_changed_file_is_named_with_the_remedy(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / "store").path
    content = bytearray((path / name).read_bytes())
    content[len(content) // 2] ^= 1
    (path / name).write_bytes(content)
    with pytest.raises(DataError, match=rf"{name} is (damaged|not what was written).*delete the folder and run again"):
        Store.open(path)


def test_the_rules_of_classes_are_broken_by_what_they_are_there_for(tmp_path: Path) -> None:
    store = write(tmp_path / "store")

    def broken(**changes: Any) -> list[str]:
        return [each.rule for each in check_store(replace(store, **changes)) if not each.holds]

    assert broken() == []
    assert broken(targets=store.targets - np.int16(1)) == [
        "every image is of one of 3 classes", "every class has an image",
    ]  # fmt: skip
    assert broken(targets=np.minimum(store.targets, 1).astype(np.int16)) == ["every class has an image"]
    assert broken(channels=1) == [f"images of {SIZE} x {SIZE} pixels"]
    assert broken(size=9) == ["images of 3 x 9 x 9 pixels"]

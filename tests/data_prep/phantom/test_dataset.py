"""The phantom: deterministic, in NIH's layout, complete or absent, and every finding in its place."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from data_prep.errors import DataError
from data_prep.labels.table import FINDINGS, read_labels
from data_prep.phantom.anatomy import draw_body, draw_chest
from data_prep.phantom.dataset import RECORD, TABLE, PhantomSettings, render, write_phantom
from data_prep.phantom.film import draw_pose
from data_prep.phantom.population import Patient, draw_patient

SMALL = PhantomSettings(patients=6, size=64, seed=3)


def quiet(done: int, total: int) -> None:
    pass


def digests(folder: Path) -> dict[str, str]:
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantom") / "small"
    assert write_phantom(SMALL, folder, workers=1, progress=quiet)
    return folder


def test_the_number_of_workers_changes_no_byte(small, tmp_path):
    write_phantom(SMALL, tmp_path / "other", workers=2, progress=quiet)
    assert digests(tmp_path / "other") == digests(small)


def test_more_patients_leave_the_first_ones_as_they_are(small, tmp_path):
    write_phantom(SMALL.model_copy(update={"patients": 8}), tmp_path / "more", workers=1, progress=quiet)
    first, more = digests(small), digests(tmp_path / "more")
    images = {name: digest for name, digest in first.items() if name.endswith(".png")}
    assert images
    assert images.items() <= more.items()


def test_another_seed_gives_other_images(small, tmp_path):
    write_phantom(SMALL.model_copy(update={"seed": 4}), tmp_path / "other", workers=1, progress=quiet)
    first, other = digests(small), digests(tmp_path / "other")
    assert first["images/00000001_000.png"] != other["images/00000001_000.png"]


def test_the_folder_has_the_layout_of_chestxray14(small):
    table = read_labels(small / TABLE)
    assert (table.layout, table.labels) == ("nih", FINDINGS)
    assert set(table.views) <= {"PA", "AP"}
    assert set(table.images) == {file.name for file in (small / "images").iterdir()}
    image = cv2.imread(str(small / "images" / table.images[0]), cv2.IMREAD_UNCHANGED)
    assert (image.shape, image.dtype) == ((64, 64), np.uint8)
    patients = [draw_patient(SMALL.seed, number) for number in range(1, SMALL.patients + 1)]
    present = [[name in visit.severity for name in FINDINGS] for patient in patients for visit in patient.visits]
    np.testing.assert_array_equal(table.targets, present)


def test_a_complete_phantom_is_not_rendered_again(small):
    before = digests(small)
    assert not write_phantom(SMALL, small, workers=1, progress=lambda *_: pytest.fail("rendered again"))
    assert digests(small) == before


def test_a_phantom_with_a_missing_image_is_rendered_again(tmp_path):
    folder = tmp_path / "phantom"
    write_phantom(SMALL, folder, workers=1, progress=quiet)
    before = digests(folder)
    (folder / "images" / "00000002_000.png").unlink()
    assert write_phantom(SMALL, folder, workers=1, progress=quiet)
    assert digests(folder) == before


def test_a_stopped_run_leaves_nothing_under_the_name(tmp_path):
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_phantom(SMALL, tmp_path / "phantom", workers=1, progress=stop)
    assert [file for file in tmp_path.iterdir() if file.is_dir()] == []
    assert write_phantom(SMALL, tmp_path / "phantom", workers=1, progress=quiet)


def test_progress_ends_with_all_images(tmp_path):
    seen: list[tuple[int, int]] = []
    write_phantom(SMALL, tmp_path / "phantom", workers=1, progress=lambda *at: seen.append(at))
    record = json.loads((tmp_path / "phantom" / RECORD).read_text())
    assert seen[-1] == (record["images"], record["images"])


@pytest.mark.parametrize("content", ["letter", "other phantom"])
def test_what_was_there_is_never_overwritten(tmp_path, content):
    folder = tmp_path / "mine"
    if content == "letter":
        folder.mkdir()
        (folder / "letter.txt").write_text("dear")
    else:
        write_phantom(SMALL, folder, workers=1, progress=quiet)
    before = digests(folder)
    with pytest.raises(DataError, match=r"mine.*another folder"):
        write_phantom(SMALL.model_copy(update={"seed": 9}), folder, workers=1, progress=quiet)
    assert digests(folder) == before


def test_a_place_that_cannot_be_written_is_a_data_error(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(DataError, match="cannot be written"):
        write_phantom(SMALL, tmp_path / "file" / "phantom", workers=1, progress=quiet)


def with_finding(patient: Patient, finding: str, severity: float, size: int = 128) -> np.ndarray:
    """The patient's first visit with that finding alone."""
    visit = replace(patient.visits[0], view="PA", severity={finding: severity} if severity else {})
    return render(patient, visit, draw_body(patient), size).astype(float)


@pytest.mark.parametrize("finding", FINDINGS)
@settings(max_examples=6, deadline=None)
@given(number=st.integers(1, 10_000))
def test_each_finding_changes_the_picture_the_more_the_severer(finding, number):
    patient = draw_patient(0, number)
    healthy, faint, plain = (with_finding(patient, finding, severity) for severity in (0.0, 0.02, 0.98))
    assume(finding != "Nodule" or np.abs(plain - healthy).max() > 12)  # see the next test
    assert np.abs(plain - healthy).max() > 12
    assert np.abs(plain - healthy).sum() > np.abs(faint - healthy).sum() > 0


def test_hardly_a_nodule_lies_behind_the_diaphragm_where_nothing_shows():
    patients = [draw_patient(0, number) for number in range(1, 101)]
    changes = [
        np.abs(with_finding(each, "Nodule", 0.98) - with_finding(each, "Nodule", 0.0)).max() for each in patients
    ]
    assert sum(change <= 12 for change in changes) <= 2


def mean_change(finding: str, patients: int = 12, size: int = 96) -> np.ndarray:
    """Mean over patients of how much brighter a severe finding makes each place: columns span the lungs' width
    from -1 to 1 (24 of them), rows their height from 0 to 1 (12)."""
    total = np.zeros((12, 24))
    for number in range(1, patients + 1):
        patient = draw_patient(0, number)
        visit = replace(patient.visits[0], view="PA", severity={})
        chest = draw_chest(patient, visit, draw_body(patient))
        canvas = draw_pose(patient.generator("pose", visit.number), size, portable=False)
        change = with_finding(patient, finding, 0.95, size) - with_finding(patient, finding, 0.0, size)
        across = canvas.x / chest.half_width
        down = (canvas.y - chest.apex) / (chest.base - chest.apex)
        inside = (np.abs(across) < 1) & (down > 0) & (down < 1)
        cell = (down[inside] * 12).astype(int), ((across[inside] + 1) * 12).astype(int)
        count = np.zeros((12, 24))
        added = np.zeros((12, 24))
        np.add.at(count, cell, 1)
        np.add.at(added, cell, change[inside])
        total += added / np.maximum(count, 1) / patients
    return total


def test_fluid_lies_at_the_base_and_brightens_it():
    change = mean_change("Effusion")
    assert change[8:].mean() > 10 * abs(change[:3].mean())
    assert change[8:].mean() > 5


def test_a_pneumothorax_darkens_the_apex():
    change = mean_change("Pneumothorax")
    assert change[1:4, [1, 2, 3, 4, 5, 18, 19, 20, 21, 22]].mean() < -3
    assert abs(change[1:4].mean()) > 3 * abs(change[10:].mean())


def test_edema_surrounds_both_hila():
    change = mean_change("Edema")
    middle = change[4:8]
    assert middle[:, 5:10].mean() > 5
    assert middle[:, 14:19].mean() > 5
    assert abs(change[0]).mean() < middle.mean() / 3


def test_a_large_heart_widens_the_middle_of_the_lower_half():
    change = mean_change("Cardiomegaly")
    assert change[6:10, 13:19].mean() > 5
    assert abs(change[:3]).mean() < 1


def test_emphysema_darkens_what_was_diaphragm():
    assert mean_change("Emphysema")[9:].mean() < -5


def test_fibrosis_is_at_the_bases_rather_than_the_apices():
    change = mean_change("Fibrosis")
    assert change[6:11].mean() > 2 * abs(change[:3].mean())


def test_a_hernia_lies_behind_the_heart():
    change = np.abs(mean_change("Hernia"))
    assert change[6:12, 8:17].mean() > 5 * change[:, [0, 1, 2, 3, 20, 21, 22, 23]].mean()


def test_pleural_thickening_lies_along_the_wall_or_over_the_apex():
    change = mean_change("Pleural_Thickening")
    rim = np.concatenate([change[0], change[4:10, [2, 3, 20, 21]].ravel()])
    assert rim.mean() > 3 * abs(change[4:10, 6:18].mean())


def test_nodules_even_several_are_smaller_than_a_mass():
    def area(finding: str, number: int) -> int:
        patient = draw_patient(0, number)
        change = with_finding(patient, finding, 0.95) - with_finding(patient, finding, 0.0)
        return int((change > 15).sum())

    sizes = [(area("Nodule", number), area("Mass", number)) for number in range(1, 11)]
    assert np.mean([mass for _, mass in sizes]) > 2 * np.mean([nodule for nodule, _ in sizes])


def test_a_large_film_shows_the_same_chest():
    patient = draw_patient(0, 5)
    body = draw_body(patient)
    large, little = (render(patient, patient.visits[0], body, size).astype(np.float32) for size in (512, 128))
    reduced = cv2.resize(large, (128, 128), interpolation=cv2.INTER_AREA)
    assert np.corrcoef(reduced.ravel(), little.ravel())[0, 1] > 0.97

"""Words: what descriptions as hospitals write them say, and ones put together from lists."""

import unicodedata
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset

from data_prep.decoding.body_part import VOUCH, check_chest
from data_prep.decoding.dicom import decode_dicom
from data_prep.errors import DataError

CHEST = """
CHEST
Chest PA and lateral
CXR
XR CHEST 1 VIEW PORTABLE
Chest X-ray, AP supine
CHESTPA
CHEST_2VW
Portable chest
CXR back to front
AP erect portable chest, arms up
CXR, arms raised
Chest PA, hands on hips
chest, arms at sides
Chest drain at back
CXR left arm cannula
CXR, PICC right arm
Chest AP (cannula in left arm)
CXR IV left hand
Chest, nasal prongs
CXR, neck line
Chest AP head up 30 degrees
chest feet first
CXR foot of bed
CXR lying on back
Chest on spinal board
Chest, come back after exercise
CXR back from theatre
Lungs
Right lung
Whole chest
Costophrenic sinus, chest
Pulmonary oedema
Thoracic X-ray
XR thoracic cavity
RX TORAX
Tórax PA
TÓRAX
Rx Tórax póstero-anterior
Rx de tórax de pie
Radiografía de tórax, decúbito dorsal
Tórax AP brazos arriba
Caja torácica
Pulmón derecho
Pecho
Tórax (2 incidências)
RX de tórax em pé
Pulmões
Tórax PA, braços elevados
Thorax de face
THORAX FACE
Thorax face + profil
Thorax de face et profil
Radiographie pulmonaire
Poumons face debout
Thorax au pied du lit
Thorax de face, bras levés
Cage thoracique
RX torace
Torace in piedi
Polmoni
Torace AP, braccia alzate
Thorax p.a. im Stehen
Röntgenthorax
Thoraxaufnahme
Lunge
Lungenübersicht, Lunge
Brustkorb
Thorax ap, Zugang linker Arm
Thorax liegend, Hand Unterlage
Thorax, Arme hoch
"""
OTHER = """
KNEE
Left hand
Chest and abdomen
Thoracic spine
T-Spine / Chest
Ribs, left
Chest and ribs
Rib cage
Shoulder with chest
Back
Left arm
Arm, chest
Face
Facial bones and chest
CXR and left hand
Head and neck
Whole body
Babygram chest
Sternum
Columna torácica
Col. torácica
Parrilla costal
Tórax y abdómen
Húmero
Fémur
Pélvis
Rx de pie izquierdo
Tórax y pie derecho
Rodilla
Cráneo
Mano derecha
Coluna torácica
Joelho
Mão esquerda
Rachis dorsal
Colonne thoracique
Os de la face
Genou droit
Main gauche
Radiographie de la main
Épaule
Gril costal
Torace e colonna
Ginocchio
Colonna dorsale
Addome
Brustwirbelsäule
BWS
Wirbelsäule, Thorax
Knöcherner Thorax
Knie rechts
Hand li.
Schädel
Fuß
Hüfte
Rippen
Rücken
Becken
"""
UNKNOWN = """

UNKNOWN
DIGITAL RADIOGRAPH
Follow-up, Mrs Chester
AP
Portable
Thoracic
Face et profil
Arms up
Left arm cannula
Back to front
Hand Unterlage
Feet first
2 VIEWS
Röntgen
胸部
Грудная клетка
"""
MEANINGS = [
    (text, meaning)
    for meaning, texts in (("chest", CHEST), ("other", OTHER), ("unknown", UNKNOWN))
    for text in texts.strip("\n").split("\n")
]


def meaning_of(text: str, keyword: str = "StudyDescription", vouched: bool = False) -> str:
    """What a file with this text says: "chest", "other" or "unknown"."""
    dataset = Dataset()
    setattr(dataset, keyword, text)
    try:
        check_chest(dataset, vouched)
    except DataError as error:
        return "other" if str(error).startswith("not of the chest: ") else "unknown"
    return "chest"


@pytest.mark.parametrize(("text", "meaning"), MEANINGS)
def test_a_description_from_practice_means_what_a_person_takes_it_for(text: str, meaning: str) -> None:
    assert meaning_of(text) == meaning


# --- Drawn from lists ---

CHEST_NAMES = """
chest thorax cxr lungs tórax tòrax torace pulmón pulmão poumons polmoni lunge pecho peito poitrine pulmonary
"""
OTHER_NAMES = """
knee pelvis abdomen humerus skull fémur rodilla tobillo cráneo joelho pescoço épaule genou hanche ginocchio addome
schädel knöchel-sprunggelenk hüfte ellenbogen
"""
HARMLESS = """
arms up | hands on hips | arms at sides | left arm cannula | right arm PICC | cannula left arm | drip in right hand |
back to front | at the back | lying on his back | head up | feet first | foot of the bed | neck line | nasal prongs |
head elevated | arm sling | left leg dressing | on spinal board | decúbito dorsal | bras levés | brazos arriba |
in piedi | em pé | au pied du lit | Arme hoch | handheld | back from theatre | sitting back
"""
TEMPLATES = """
{chest} | {chest} PA | RX {chest} AP | {chest}, {harmless} | {harmless}; {chest} | {harmless} - {chest} - {harmless2} |
{chest} ({harmless}) 2 views | 1. {chest} / {harmless}
"""
FORMS = ("NFC", "NFD", "NFKC", "NFKD")
CASES = (str.lower, str.upper, str.title, str.swapcase, lambda text: text)


def random_text(rng: np.random.Generator, with_other: bool) -> str:
    def pick(texts: str, separator: str | None = None) -> str:
        choices = texts.split(separator)
        return " ".join(choices[rng.integers(len(choices))].split())

    text = pick(TEMPLATES, "|").format(
        chest=pick(CHEST_NAMES), harmless=pick(HARMLESS, "|"), harmless2=pick(HARMLESS, "|")
    )
    if with_other:
        text = pick("{text} + {other} | {other}, {text} | {text} {other}", "|").format(
            text=text, other=pick(OTHER_NAMES)
        )
    text = CASES[rng.integers(len(CASES))](text)
    if rng.integers(3) == 0:
        text = "".join(each for each in unicodedata.normalize("NFD", text) if not unicodedata.combining(each))
    return unicodedata.normalize(FORMS[rng.integers(4)], text)


@pytest.mark.parametrize("draws", [2000, pytest.param(100_000, marks=pytest.mark.long)])
def test_any_chest_beside_any_posture_or_device_is_a_chest_in_any_case_and_form(draws: int) -> None:
    for number in range(draws):
        text = random_text(np.random.default_rng((1, number)), with_other=False)
        assert meaning_of(text) == "chest", text


@pytest.mark.parametrize("draws", [2000, pytest.param(100_000, marks=pytest.mark.long)])
def test_any_other_part_beside_a_chest_excludes_in_any_case_and_form(draws: int) -> None:
    for number in range(draws):
        text = random_text(np.random.default_rng((2, number)), with_other=True)
        assert meaning_of(text) == "other", text


# --- Which attribute decides ---


def described(**attributes: object) -> Dataset:
    dataset = Dataset()
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


def region(meaning: str) -> list[Dataset]:
    return [described(CodeMeaning=meaning)]


@pytest.mark.parametrize(
    "attributes",
    [
        {"BodyPartExamined": "CHEST", "StudyDescription": "left hand and abdomen"},
        {"AnatomicRegionSequence": region("Thorax"), "SeriesDescription": "KNEE"},
        {"BodyPartExamined": "TORAX", "AnatomicRegionSequence": region("")},
    ],
)
def test_a_coded_chest_decides_whatever_the_descriptions_say(attributes: dict[str, object]) -> None:
    check_chest(described(**attributes), vouched=False)


@pytest.mark.parametrize("vouched", [False, True])
@pytest.mark.parametrize(
    "attributes",
    [
        {"BodyPartExamined": "HAND", "StudyDescription": "CHEST"},
        {"BodyPartExamined": "HAND", "AnatomicRegionSequence": region("Chest")},
        {"BodyPartExamined": "CHEST", "AnatomicRegionSequence": region("Knee")},
    ],
)
def test_another_part_in_a_coded_attribute_excludes_even_where_the_user_vouches(
    attributes: dict[str, object], vouched: bool
) -> None:
    with pytest.raises(DataError, match=r"^not of the chest: (hand|knee)$"):
        check_chest(described(**attributes), vouched)


@pytest.mark.parametrize("text", [text for text, _ in MEANINGS])
def test_descriptions_are_not_asked_where_the_user_vouches(text: str) -> None:
    assert meaning_of(text, vouched=True) == "chest"


def test_a_file_that_says_nothing_names_the_remedy() -> None:
    with pytest.raises(DataError, match=f"^not known to show the chest: .*; {VOUCH}$"):
        check_chest(described(BodyPartExamined="Mrs Doe"), vouched=False)


# --- Published cases ---


def test_the_published_words_in_four_languages_are_understood(shared_data: Path) -> None:
    others = "abdomen_es columna_es costillas_es femur humero_es pelvis_es toracica_col torax_arm"
    files = sorted((shared_data / "cases" / "21-accents" / "in").glob("*.dcm"))
    assert len(files) == 19
    for file in files:
        if file.stem in others.split():
            with pytest.raises(DataError, match="not of the chest: "):
                decode_dicom(file.read_bytes(), 64)
        else:
            assert decode_dicom(file.read_bytes(), 64).pixels.any(), file.name

"""What the name of a column says about its content: the image, the patient, the view, or nothing about findings."""

import re
from functools import cache

# Names as `plain_name` returns them.
_IMAGE = "image imageindex imageid imagename imagepath filename file filepath path dicomid"
_PATIENT = "patient patientid patientkey patientnumber subject subjectid"
_VIEW = (
    "view viewposition viewname viewcode viewcodesequencecodemeaning projection frontallateral lateralfrontal appa paap"
)
# Columns that describe the image, the patient, the file or the study: never labels unless they are asked for.
_TECHNICAL = """
age ageyears patientage agegroup pediatric sex gender male female ismale isfemale patientsex patientgender race
ethnicity insurance weight height bmi birth patientbirth birthyear
date time year month day studydate studytime followup
split fold cvfold kfold subset partition train val valid validation test istrain isval isvalid isvalidation istest
dataset set source site hospital institution
index row rownumber level0 unnamed number count version
rows columns width height channels bits area size modality laterality manufacturer orientation exposure kvp
originalimagewidth height] originalimagepixelspacingx y]
x y w h x0 y0 x1 y1 x2 y2 xmin xmax ymin ymax xcenter ycenter cx cy bbox box boxes
imagedir folder dir url report text comment note notes reader radiologist annotator rater method methodlabel
methodprojection
"""
_LABEL_WORDS = """
label labels finding findings diagnosis diagnoses pathology pathologies disease diseases class classes target targets
category categories abnormality abnormalities
"""
IMAGE_COLUMNS, PATIENT_COLUMNS, VIEW_COLUMNS = (frozenset(names.split()) for names in (_IMAGE, _PATIENT, _VIEW))
FINDINGS_COLUMN = "findinglabels"

_TECHNICAL_NAMES = frozenset(_TECHNICAL.split())
_NUMBERED_NAMES = re.compile(r"(?:fold|cvfold|split|unnamed|bbox|box|column|index)\d+")
_LAST_WORDS = frozenset({"id", "ids", "uid", "uids", "uuid", "dir", "path", "folder", "file", "date", "time", "fold"})


def plain_name(name: str) -> str:
    """Reduce a name to lower-case letters, digits and ``]``, without PadChest's ending ``_DICOM``.

    The bracket keeps NIH's ``y]`` from a label ``y``.
    """
    return re.sub(r"[^a-z0-9\]]", "", name.lower().removesuffix("_dicom"))


def is_technical(name: str) -> bool:
    """Tell whether a column's name says that it describes the image, the patient, the file or the study: no finding."""
    if name.lower().endswith("_dicom"):
        return True
    plain = plain_name(re.sub(r"\(.*?\)", "", name))  # "Sex (1=male)"
    last = words(name)[-1:]
    return (
        plain in _TECHNICAL_NAMES
        or _NUMBERED_NAMES.fullmatch(plain) is not None
        or (last[0] if last else "") in _LAST_WORDS
        or plain in _dicom_keywords()
    )


def speaks_of_labels(name: str) -> bool:
    """Tell whether a column's name says that its cells name findings."""
    return not set(_LABEL_WORDS.split()).isdisjoint(words(name))


def words(name: str) -> list[str]:
    """Return the words of a name in small letters: ``ReportID`` and ``report_id`` have two, ``Sarcoid`` has one."""
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)]


@cache
def _dicom_keywords() -> frozenset[str]:
    """Return the keywords of DICOM PS3.6 that have several words: "Mass" and "Density" are findings too."""
    from pydicom.datadict import DicomDictionary  # takes half a second, and NIH's tables do without

    keywords = (keyword for *_, keyword in DicomDictionary.values())
    return frozenset(keyword.lower() for keyword in keywords if len(words(keyword)) > 1)

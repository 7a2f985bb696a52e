"""Which part of the body a DICOM file says it shows: phrases before words, in several languages.

Text is compared without accents and case. Phrases are recognised in their order: what says how a person stood or what
he wears ("arms up", "left arm cannula", "de face") is dropped, and what means another thing than its words ("rib
cage", "col. toracica") gets its meaning. Then each word counts. A word for another part wins over a word for the chest
beside it: "thoracic spine" and "chest and abdomen" are other examinations.

The words are ours; nothing that a person typed is ever in a reason.
"""

import contextlib
import re
import unicodedata

from pydicom.dataset import Dataset

from data_prep.decoding.dicom_values import items_of, value_of
from data_prep.errors import DataError

VOUCH = "if these are chest radiographs, add --chest-radiographs"
CODED_ATTRIBUTES = ("AnatomicRegionSequence", "BodyPartExamined")
DESCRIPTIONS = (  # free text, from the image up to the study
    "SeriesDescription",
    "ProtocolName",
    "PerformedProcedureStepDescription",
    "RequestedProcedureDescription",
    "StudyDescription",
)

_CHEST_WORDS = """
    chest chests thorax hemithorax lung lungs pulmo pulmonary cxr
    torax hemitorax pulmon pulmones pulmonar pulmonares pecho peito pulmao pulmoes
    poumon poumons pulmonaire pulmonaires poitrine torace emitorace polmone polmoni polmonare polmonari petto
    lunge lungen brustkorb"""
# Body parts of PS3.16, annex L, their common names, and the same in the other languages. Words that mean something
# harmless elsewhere are left out: Italian "anche" (also), French "cote" (side), Portuguese "pe" (pulmonary embolism).
_OTHER_WORDS = """
    abdomen abdominal ankle ankles arm arms back breast breasts calcaneus cervical clavicle clavicles coccyx cspine
    elbow elbows extremity extremities face facial femur femora fibula finger fingers foot feet forearm forearms hand
    hands head heel heels hip hips humerus jaw knee knees kub leg legs lspine lsspine lumbar mandible maxilla nasal
    neck orbit orbits patella pelvis pelvic radius rib ribs sacrum scapula scoliosis shoulder shoulders sinus sinuses
    skull spine spines spinal sternum teeth thigh thighs thumb thumbs tibia toe toes tspine ulna vertebra vertebrae
    vertebral wholebody wrist wrists zygoma

    columna cervicales lumbares dorsal dorsales craneo cuello hombro hombros brazo brazos antebrazo codo codos muneca
    munecas mano manos dedo dedos cadera caderas muslo rodilla rodillas pierna piernas perone tobillo tobillos pie
    pies cara costilla costillas costal costales clavicula claviculas escapula esternon mama mamas humero abdome
    coluna cranio pescoco ombro ombros braco bracos antebraco cotovelo punho punhos mao maos quadril bacia coxa joelho
    joelhos perna pernas tornozelo costela costelas esterno

    crane cou epaule epaules bras coude coudes poignet poignets doigt doigts hanche hanches bassin cuisse genou genoux
    jambe jambes cheville chevilles pied pieds visage machoire cotes clavicule omoplate sein seins mammaire rachis
    colonne vertebre vertebres cervicale cervicales lombaire lombaires dorsale gril mandibule

    addome colonna collo spalla spalle braccio braccia avambraccio gomito gomiti polso polsi mani dito dita anca
    bacino coscia ginocchio ginocchia gamba gambe caviglia caviglie piede piedi volto mandibola costa coste costole
    clavicola scapola sterno mammella mammografia rachide omero calcagno lombare

    bauch becken wirbelsaule wirbelsaeule bws hws lws schadel schaedel kopf hals schulter schultern oberarm unterarm
    ellenbogen ellbogen handgelenk daumen hufte huefte huften hueften oberschenkel knie unterschenkel sprunggelenk fuss
    fusse fuesse zehe zehen gesicht kiefer rippe rippen rippenthorax schlusselbein schluesselbein schulterblatt
    brustbein steissbein ferse bein beine rucken ruecken mamma"""

_SIDE = "(?:(?:left|right|both|l|r|lt|rt) )?"
_LIMB = "(?:arms?|hands?|forearms?|neck|nasal|legs?|foot|feet|head|back)"
_WORN = "(?:cannulae?|cannulas|lines?|picc|ivs?|i v|drips?|catheter|cvc|venflon|sling|collar|prongs|dressing)"
_INSERTED = "(?:cannulae?|cannulas|picc|ivs?|i v|venflon|drips?|drains?)"
_RAISED = "(?:up|raised|elevated|down|overhead|abducted|folded|crossed|out|forwards?|extended)"
_STANDING = "(?:ap|pa|debout|assis|assise|couche|couchee)"
_WHOSE = "(?:(?:the|his|her|their) )?"
_GLUED_BEFORE = "(?:xr?|rx|dx|cr|pa|ap|rontgen|roentgen)"
_GLUED_BEHIND = "(?:pa|ap|lat|ll|port|aufnahme|ubersicht|uebersicht)"
_LINKS = "(?:(?:de|e|et|y|und|and) )?"

# In this order; the meaning stands for the phrase, and "" for one that says nothing about a part.
_PHRASES = (
    # --- How the person stood, and how the film lay ---
    (f"(?:hands?|arms?) (?:on|over|above|behind|at|by|beside) {_WHOSE}(?:hips?|head|back|sides?)", ""),
    (f"(?:hands?|arms?) {_RAISED}", ""),
    ("(?:head|feet) (?:up|down|first|end|elevated|tilt)|(?:head|foot) of (?:the )?bed|(?:au )?pieds? du lit", ""),
    ("back to (?:front|back)|front to back|face to face", ""),
    (f"(?:at|on|in|from|behind|onto|lying on) {_WHOSE}back", ""),
    ("(?:come|came|comes|called?|went|sent|sit|sitting|sat|step|lean|leaning|lying) back|back (?:from|up|rest)", ""),
    ("pies? (?:izq|der)\\w*", "foot"),
    ("hand ?held|hand unterlage|by hand|(?:de|en|em|in|a) (?:pies?|pe|piedi)", ""),
    ("(?:brazos?|bracos?|braccia|bras|arme?|mains|manos) (?:arriba|elevad[oa]s|leves|levees|alzate|hoch|oben)", ""),
    ("(?:bras|mains) en l air|decubit(?:us|o) dorsale?|dorsal (?:decubitus|recumbent)", ""),
    (f"(?:de|en) face|face {_LINKS}(?:profil|{_STANDING})|profil {_LINKS}face", ""),
    ("(?:thorax|poumons?|pulmonaires?|poitrine) face", "chest"),
    # --- What the person wears ---
    (f"{_SIDE}{_LIMB} {_WORN}", ""),
    (f"{_INSERTED} (?:(?:in|on|at|to|via|into) )?{_WHOSE}{_SIDE}{_LIMB}", ""),
    ("(?:spine|spinal|back ?) ?boards?|spinal (?:precautions|immobili[sz]ation)", ""),
    ("zugang (?:am |im |an der )?(?:(?:linken|rechten|linker|rechter|li|re) )?(?:arm|hand|hals)", ""),
    # --- What means another thing than its words ---
    ("(?:bony|knoe?cherner?) (?:hemi)?thorax|rib cage", "ribs"),
    (f"{_GLUED_BEFORE}?(?:chest|thorax|torax|cxr){_GLUED_BEHIND}?", "chest"),
    ("(?:sinus|recessus) (?:costo|phrenico)\\w*|sinus rhythm|costo ?(?:phrenic|diaphragmatic) sinus(?:es)?", ""),
    ("(?:whole|full|total) body|babygram", "wholebody"),
    ("col(?:umna|una|onna|onne)? (?:toracica|thoracique|dorsale?)|(?:rachis|rachide) \\w+", "spine"),
    ("[a-z]*wirbels(?:au|aeu)len?[a-z]*", "spine"),
    ("(?:x rays?|xrays?|rx|radiogra\\w+|rontgen|roentgen) (?:of the )?(?:thoracic|thoracique|toracica)", "chest"),
    ("(?:thoracic|thorax) (?:x rays?|xrays?|radiogra\\w+|cavity|cage)|cage thoracique", "chest"),
    ("(?:caja|cavidad|cavidade|caixa|gabbia|cavita) toracica", "chest"),
    ("(?:la|les|une|des) mains?|mains? (?:droites?|gauches?)", "hand"),
)
_PATTERNS = [(re.compile(rf"\b(?:{phrase})\b"), f" {meaning} ") for phrase, meaning in _PHRASES]


def check_chest(dataset: Dataset, vouched: bool) -> None:
    """Check that a file shows the chest: its coded attributes decide, or else the first description that names a part.

    `vouched`: the user says that it does; it counts where the coded attributes name no part, and descriptions do not.

    Raises:
        DataError: it shows another part, or does not say what it shows.
    """
    coded = [_shows_chest(_coded_text(dataset, keyword)) for keyword in CODED_ATTRIBUTES]  # all, as each may exclude
    if vouched or any(coded):
        return
    if not any(_shows_chest(str(value_of(dataset, keyword) or "")) for keyword in DESCRIPTIONS):
        raise DataError(f"not known to show the chest: neither Body Part Examined nor a description says so; {VOUCH}")


def _coded_text(dataset: Dataset, keyword: str) -> str:
    if keyword.endswith("Sequence"):
        return " ".join(str(value_of(item, "CodeMeaning") or "") for item in items_of(dataset, keyword))
    return str(value_of(dataset, keyword) or "")


def _shows_chest(text: str) -> bool:
    """Check that a text names the chest; False if it names no part.

    Raises:
        DataError: it names another part.
    """
    plain = _plain(text)
    for pattern, meaning in _PATTERNS:
        plain = pattern.sub(meaning, plain)
    words = set(plain.split())
    if other_parts := words.intersection(_OTHER_WORDS.split()):
        raise DataError(f"not of the chest: {', '.join(sorted(other_parts))}")
    return not words.isdisjoint(_CHEST_WORDS.split())


def _plain(text: str) -> str:
    """Return the words of a text in the letters a to z, a space between them: without accents, case, digits, signs."""
    with contextlib.suppress(UnicodeError):
        text = text.encode("latin-1").decode()  # UTF-8 in a file that does not say so
    letters = unicodedata.normalize("NFKD", text.casefold())
    return " ".join(re.findall("[a-z]+", "".join(each for each in letters if not unicodedata.combining(each))))

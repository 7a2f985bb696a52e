"""Escaping of names: as keys in other systems, and as text that is shown.

A name of a label, a method or a condition comes from outside and may hold any character. Keys are escaped as SQL/XML
does (ISO/IEC 9075-14): a character that a system may refuse or fold becomes `_x` and its number in hexadecimal and `_`.
No two names share a key, and a name of letters, digits, `_`, `-`, `.`, `/` and single spaces is its own key.
"""

import hashlib
import json
import re
from unicodedata import is_normalized

LONGEST_KEY = 250
"""Characters of a key: MLflow's limit for metrics, parameters and tags."""

_DIGEST = 32  # hexadecimal digits that stand for the rest of a key that is too long

_NOT_KEPT = re.compile(
    r"""[^\w\-./\ ]               # what is no letter, digit, or sign of an ordinary name
    | _(?=x[0-9A-F]+[^0-9A-Za-z])  # what looks like an escape but is none
    | (?:\A|(?<=/))/ | /\Z         # a part of a path that is empty,
    | (?:\A|(?<=/))\.(?=[./]|\Z)   # or names a folder
    | (?:\A|(?<=[/ ]))\  | \ (?=/|\Z)  # a space that is not seen""",
    re.VERBOSE,
)
_NOT_ASCII = re.compile(r"[^ -~]")
_UNPRINTABLE = re.compile(r"[^\n -~]")


def escape_key(*parts: str, joint: str = "") -> str:
    r"""Return the key of a name, which is not empty: `(left)` becomes `_x28_left_x29_`, `Nodule/Mass` stays.

    Two names have different keys, also after a normalisation to NFC or NFKC. MLflow accepts the keys as names of
    metrics, parameters and tags and, with "/" for `joint`, of models. A key of more than `LONGEST_KEY` characters is
    cut and ends with a hash of the name.

    Args:
        parts: of the name, any texts.
        joint: stands between the parts, and is escaped inside them; a punctuation mark, or nothing if there is one part
            that may hold them all.
    """
    key = joint.join(_escape(part, joint) for part in parts)
    if len(key) <= LONGEST_KEY:
        return key
    digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:_DIGEST].upper()
    return f"{key[: LONGEST_KEY - _DIGEST - 3]}_x{digest}_"


def _escape(part: str, joint: str) -> str:
    key = _NOT_KEPT.sub(_numbers, part)
    if not is_normalized("NFKC", part):
        key = _NOT_ASCII.sub(_numbers, key)
    return key.replace(joint, _number(joint)) if joint else key


def escape_unprintable(text: str) -> str:
    r"""Return text in which a character that has no picture is shown as its escape, such as `\x1b` or `\u202e`.

    A terminal would obey it, a browser hide it or turn the text round, and an SVG file would be invalid. Line ends
    stay.
    """
    return _UNPRINTABLE.sub(lambda found: found[0] if found[0].isprintable() else _python_escape(found[0]), text)


def _numbers(found: re.Match[str]) -> str:
    return "".join(map(_number, found[0]))


def _number(character: str) -> str:
    return f"_x{ord(character):X}_"


def _python_escape(character: str) -> str:
    return character.encode("unicode_escape").decode()

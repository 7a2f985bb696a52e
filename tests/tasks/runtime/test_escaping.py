"""No two names share a key, every system takes the keys, and nothing that is shown is invisible or obeyed."""

import re
from unicodedata import normalize
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.utils.validation import (
    _validate_metric_name,
    _validate_model_name,
    _validate_param_name,
    _validate_tag_name,
)

from tasks.runtime.escaping import LONGEST_KEY, escape_key, escape_unprintable

SIGNS = (
    r"""/ // . .. ... ../ _ _x _x2 28_ _x28_ _x5F_ ( ) , ; : [ ] $ % { } ' " ` \ # & < > * ? | ~ A a mean step x AB01"""
)
LETTERS = ("é", "e\u0301", "ﬁ", "²", "ß", "Å", "\u212b", "\u1100", "\u1161", "가", "🩻", "\u0301")
UNSEEN = (" ", "\n", "\xa0", "\u200d", "\u202e", "\x1b", "\x00", "\ud800")
NAMES = st.one_of(
    st.text(st.characters(exclude_categories=()), min_size=1, max_size=30),
    st.lists(st.sampled_from([*SIGNS.split(), *LETTERS, *UNSEEN]), min_size=1, max_size=8).map("".join),
)
ORDINARY = st.from_regex(r"[A-Za-z0-9](?:[ _.\-/]?[A-Za-zéüß0-9]){0,60}", fullmatch=True)


def read(key: str) -> str:
    """The name of a key that was not cut; what the module promises, and nothing in the product needs."""
    return re.sub(r"_x([0-9A-F]+)_", lambda found: chr(int(found[1], 16)), key)


@given(NAMES)
def test_a_name_is_read_back_from_its_key_so_no_two_share_one(name: str) -> None:
    if len(key := escape_key(name)) < LONGEST_KEY:
        assert read(key) == name
    if len(key := escape_key(name, joint="/")) < LONGEST_KEY:
        assert read(key) == name


@given(st.lists(st.lists(NAMES, min_size=1, max_size=3).map(tuple), min_size=2, max_size=2, unique=True))
def test_different_parts_make_different_keys(paths: list[tuple[str, ...]]) -> None:
    one, other = (escape_key(*parts, joint=".") for parts in paths)
    assert one != other
    if max(len(one), len(other)) < LONGEST_KEY:
        assert tuple(map(read, one.split("."))) == paths[0]


@given(st.lists(NAMES, min_size=2, max_size=2, unique=True), st.sampled_from(["NFC", "NFD", "NFKC", "NFKD"]))
def test_keys_stay_different_where_a_system_normalises_them(names: list[str], form: str) -> None:
    one, other = map(escape_key, names)
    assert normalize(form, one) != normalize(form, other)


@given(NAMES, st.integers(1, 40))
def test_mlflow_takes_every_key(name: str, times: int) -> None:
    key = escape_key(f"val_auc/{name * times}")
    assert len(key) <= LONGEST_KEY
    for accept in (_validate_metric_name, _validate_param_name, _validate_tag_name):
        accept(key)
    _validate_model_name(escape_key(name * times, joint="/"))


@given(NAMES, st.integers(20, 40))
def test_names_too_long_for_a_key_still_have_keys_of_their_own(name: str, times: int) -> None:
    ends = [f"{'long ' * times}{name}{end}" for end in ("", "x", "_", "y" * 200)]
    assert len({escape_key(name) for name in ends}) == len(ends)


@given(ORDINARY)
def test_an_ordinary_name_is_its_own_key(name: str) -> None:
    if "//" not in name:
        assert escape_key(name) == name


@pytest.mark.parametrize(
    "name", ["val_auc/Mass", "val_auc/Pleural_Thickening", "weight/Nodule/Mass", "cost/step_seconds"]
)
def test_the_keys_of_finished_runs_are_as_they_were(name: str) -> None:
    assert escape_key(name) == name


@given(NAMES)
def test_shown_text_has_no_character_that_a_terminal_obeys_or_a_page_hides(text: str) -> None:
    shown = escape_unprintable(text)
    assert all(character.isprintable() or character == "\n" for character in shown)
    assert escape_unprintable(shown) == shown
    escaped = shown.replace("&", "&amp;").replace("<", "&lt;")
    assert ElementTree.fromstring(f"<text>{escaped}</text>").text == shown
    if text.isprintable():
        assert shown == text

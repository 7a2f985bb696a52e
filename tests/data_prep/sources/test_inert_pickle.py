"""Pickles are read, never run: what a stranger's pickle asks for is refused in a few words."""

import os
import pickle
import random
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.sources import inert_pickle
from data_prep.sources.inert_pickle import array_of, read_pickle
from tests.data_prep.class_files import python2_batch, random_batch

PROTOCOLS = [2, 3, 4]
BATCH = random_batch(5)
KEYS = st.text(max_size=20)
PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.binary(min_size=1, max_size=300)
    | st.text(max_size=300),
    lambda inner: st.lists(inner, max_size=5) | st.tuples(inner, inner) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=20,
)


def read_batch(data: bytes) -> None:
    """Read a batch to its array, as its user does."""
    found = read_pickle(data)
    array_of(found.get("data") if isinstance(found, dict) else None)


def as_read(value: Any) -> Any:
    """A value with the bytes that protocol 2 writes as a text to be encoded."""
    if isinstance(value, dict):
        return {key: as_read(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(as_read, value))
    return inert_pickle._encoded(value)


@given(st.dictionaries(KEYS, PLAIN, max_size=4), st.sampled_from(PROTOCOLS))
def test_plain_values_are_read_as_python_reads_them(value: dict[str, Any], protocol: int) -> None:
    found = read_pickle(pickle.dumps(value, protocol=protocol))
    assert as_read(found) == value


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_of_bytes_are_those_of_numpy(protocol: int, order: Any) -> None:
    array = np.asarray(np.random.default_rng(0).integers(0, 256, (7, 11), dtype=np.uint8), order=order)
    assert np.array_equal(array_of(read_pickle(pickle.dumps(array, protocol=protocol))), array)


def test_what_python_2_pickled_is_read() -> None:
    data = python2_batch(BATCH)
    assert np.array_equal(pickle.loads(data, encoding="bytes")[b"data"], BATCH[b"data"])
    found = read_pickle(data)
    assert np.array_equal(array_of(found["data"]), BATCH[b"data"])
    assert (found["labels"], found["filenames"]) == (BATCH[b"labels"], BATCH[b"filenames"])


class Calls:
    """An object whose pickle calls a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def hostile(folder: Path) -> dict[str, bytes]:
    """Pickles that do harm where they are run, or take memory or time without end where they are read carelessly."""
    touch = f"touch {folder}/harm"
    depth = 200_000
    return {
        **{f"os.system, protocol {p}": pickle.dumps(Calls(os.system, touch), protocol=p) for p in range(6)},
        "eval": pickle.dumps([Calls(eval, f"open({str(folder / 'harm')!r}, 'w')")], protocol=4),
        "a global of protocol 0": b"cposix\nsystem\n(S'" + touch.encode() + b"'\ntR.",
        "an instance of protocol 0": b"(S'" + touch.encode() + b"'\niposix\nsystem\n.",
        "an object of protocol 1": b"(cposix\nsystem\nU\x04true o.",
        "a new object": b"\x80\x02cposix\nsystem\nU\x04true\x85\x81.",
        "a class of our own": pickle.dumps(Calls(Path, str(folder)), protocol=4),
        "a persistent id": b"\x80\x02U\x01aQ.",
        "an extension": b"\x80\x02\x82\x01.",
        "an array's class called with a size": b"\x80\x02cnumpy\nndarray\nJ\xff\xff\xff\x7f\x85R.",
        "a name of another thing of numpy": b"\x80\x02cnumpy\nload\nU\x09/dev/zero\x85R.",
        "a name that is not one": b"\x80\x04]\x8c\x01a\x93.",
        "bytes longer than the file": b"\x80\x04\x8e" + (2**62).to_bytes(8, "little") + b"abc.",
        "a text longer than the file": b"\x80\x04\x8d" + (2**40).to_bytes(8, "little") + b"abc.",
        "a byte array longer than the file": b"\x80\x05\x96" + (2**40).to_bytes(8, "little") + b"abc.",
        "a buffer out of band": b"\x80\x05\x97.",
        "a number longer than the file": b"\x80\x02\x8b\xff\xff\xff\x7f1.",
        "a frame longer than the file": b"\x80\x04\x95" + (2**60).to_bytes(8, "little") + b"N.",
        "a memo of 64 GB": b"\x80\x02Nr\xff\xff\xff\xff" + b"0" * 10 + b".",
        "a key nested without end": b"\x80\x02})" + b"\x85" * depth + b"Ns.",
        "a key of doubled halves": b"\x80\x02})" + b"q\x00h\x00\x86" * 90 + b"Ns.",
        "a tuple that nobody can compare": b"\x80\x02)" + b"\x85" * depth + b"Rb.",
        "a list that holds itself, called": b"\x80\x02]q\x00h\x00a)R.",
        "nothing": b"",
        "no end": b"\x80\x02N",
        "an empty stack": b"\x80\x02.",
        "a mark too few": b"\x80\x02]e.",
        "a value too few": b"\x80\x02\x87.",
        "a memo that was never set": b"\x80\x02h\x07.",
        "a state without an object": b"\x80\x02NNb.",
        "an odd number of keys and values": b"\x80\x02}(U\x01au.",
        "items of what is no list": b"\x80\x02}Na.",
        "keys of what is no dict": b"\x80\x02]NNs.",
        "text that is no text": b"\x80\x02X\x02\x00\x00\x00\xff\xff.",
        "noise": random.Random(0).randbytes(500),
    }


@pytest.mark.parametrize("kind", hostile(Path("/nowhere")))
def test_a_hostile_pickle_is_refused_in_a_few_words_and_nothing_happens(kind: str, tmp_path: Path) -> None:
    data = hostile(tmp_path)[kind]
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"\w") as caught:
            read_batch(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400
    assert list(tmp_path.iterdir()) == []
    assert peak < 2**20 + 300 * len(data)


@pytest.mark.parametrize("depth", [10, 100_000])
def test_what_is_nested_deeply_is_no_array_and_is_let_go_again(depth: int) -> None:
    for nest in (b")" + b"\x85" * depth, b"]" + b"]" * depth + b"a" * depth):
        with pytest.raises(ValueError, match="no array"):
            array_of(read_pickle(b"\x80\x02" + nest + b"."))


def test_an_array_that_is_encoded_over_and_over_takes_no_memory() -> None:
    text = b"X" + (10**6).to_bytes(4, "little") + b"a" * 10**6
    text = b"\x80\x02c_codecs\nencode\nq\x00" + text + b"X\x06\0\0\0latin1\x86q\x01"
    data = text + b"](" + b"h\x00h\x01R" * 2000 + b"e."
    tracemalloc.start()
    try:
        assert len(read_pickle(data)) == 2000
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10 * len(data)


def test_a_pickle_of_too_many_operations_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inert_pickle, "MAX_OPERATIONS", 50)
    assert len(read_pickle(pickle.dumps([1] * 40, protocol=2))) == 40
    with pytest.raises(ValueError, match="more than 50 operations, the limit"):
        read_pickle(pickle.dumps([1] * 60, protocol=2))


WHOLE = [python2_batch(BATCH), *(pickle.dumps(BATCH, protocol=protocol) for protocol in PROTOCOLS)]


@pytest.mark.parametrize("number", range(len(WHOLE)))
def test_a_batch_cut_anywhere_is_refused(number: int) -> None:
    data = WHOLE[number]
    read_batch(data)
    for end in (*range(0, 400), *range(400, len(data), 97), len(data) - 1):
        with pytest.raises(ValueError, match=r"\w"):
            read_batch(data[:end])


@pytest.mark.parametrize("number", range(len(WHOLE)))
def test_of_a_batch_with_wrong_bytes_there_is_an_array_or_a_reason(number: int) -> None:
    data, rng = WHOLE[number], random.Random(number)
    pixels = data.find(bytes(BATCH[b"data"][0, :20])) if number else data.find(BATCH[b"data"].tobytes()[:20])
    outside = [at for at in range(len(data)) if not pixels <= at < pixels + BATCH[b"data"].size]
    reasons = []
    for _ in range(1500):
        wrong = bytearray(data)
        for at in rng.sample(outside, rng.choice((1, 2, 8))):
            wrong[at] = rng.randrange(256)
        try:
            read_batch(bytes(wrong))
        except ValueError as error:
            reasons.append(str(error))
    assert len(reasons) > 300
    assert not any("\n" in reason for reason in reasons)


def state(shape: Any = (2, 3), kind: Any = "u1", content: Any = b"abcdef", fortran: Any = False) -> Any:
    dtype = inert_pickle.Made("dtype", (kind, 0, 1))
    return inert_pickle.Made("_reconstruct", (), (1, shape, dtype, fortran, content))


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "no array where there must be one"),
        ([1, 2], "no array where there must be one"),
        (inert_pickle.Made("_reconstruct", ()), "no array where there must be one"),
        (inert_pickle.Made("encode", (), (1, 2, 3, 4, 5)), "no array where there must be one"),
        (state(kind="f8"), "another type than unsigned bytes"),
        (state(kind=b"O8"), "another type than unsigned bytes"),
        (state(kind=None), "another type than unsigned bytes"),
        (inert_pickle.Made("_reconstruct", (), (1, (2, 3), "u1", False, b"abcdef")), "another type"),
        (state(shape=(6,)), "another shape than images by bytes"),
        (state(shape=[2, 3]), "another shape than images by bytes"),
        (state(shape=(2, 3.0)), "another shape than images by bytes"),
        (state(shape=(True, 6)), "another shape than images by bytes"),
        (state(shape=(-2, -3)), "another shape than images by bytes"),
        (state(shape=(2**62, 4)), "another shape than images by bytes"),
        (state(shape=(2, 4)), "an array of 6 bytes, which declares 2 x 4"),
        (state(shape=(0, 0), content=b""), "another shape than images by bytes"),
        (state(content="abcdef"), "an array without its bytes"),
        (state(content=["a"]), "an array without its bytes"),
        (state(content=inert_pickle.Made("encode", ("abcdef", "utf-16"))), "an array without its bytes"),
        (state(content=inert_pickle.Made("encode", ("abcde\u1234", "latin1"))), "codec can't encode"),
    ],
)
def test_an_array_is_what_it_declares_or_refused(value: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        array_of(value)
    assert array_of(state()).tolist() == [[97, 98, 99], [100, 101, 102]]


def test_a_function_is_named_in_the_refusal_and_a_key_that_is_no_text_is_refused() -> None:
    for protocol in (2, 4):
        with pytest.raises(ValueError, match=r"it names '(posix|nt)\.system', which an array does not need"):
            read_pickle(pickle.dumps(Calls(os.system, "true"), protocol=protocol))
        for key in ((), (1, 2), 3, None, "x" * 201):
            with pytest.raises(ValueError, match="its operations do not fit together"):
                read_pickle(pickle.dumps({key: 1}, protocol=protocol))

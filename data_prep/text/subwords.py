"""Subword tokenization with a pretrained encoder's own tokenizer, the ``tokenizer.json`` beside its weights.

n sentences (or pairs), t subwords in total, v subwords in the tokenizer's vocabulary.
"""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from data_prep.errors import DataError
from data_prep.fetch.text_file import read_bytes
from data_prep.text.task import Texts
from data_prep.text.tokens import Tokens

MAX_TOKENIZER_BYTES = 64 * 2**20  # those of large multilingual encoders have 17 MB
MAX_LENGTH = 4096
_PADDING_NAMES = ("[PAD]", "<pad>")
_CHUNK = 4096  # sentences encoded at a time; limits the memory needed beside the result


@dataclass(frozen=True, eq=False)
class Subwords:
    """A subword tokenizer; it adds the encoder's special tokens.

    Attributes:
        tokenizer: from the tokenizers library.
        max_length: maximum number of subwords of a sentence or pair, special tokens included; in a pair the longer
            sentence is truncated first.
        identity: ``sha256:...`` of the tokenizer's file and `max_length`.
    """

    tokenizer: Tokenizer
    max_length: int
    identity: str

    @classmethod
    def open(cls, folder: Path, max_length: int) -> "Subwords":
        """Read the tokenizer of the encoder in `folder`.

        Raises:
            DataError: there is none or it is damaged, or `max_length` leaves no room for a sentence.
        """
        path = folder / "tokenizer.json"
        raw = read_bytes(path, "name the folder of an encoder that holds tokenizer.json", MAX_TOKENIZER_BYTES)
        try:
            tokenizer = Tokenizer.from_buffer(raw)
        except Exception as error:  # the library raises nothing narrower
            reason = str(error).partition("\n")[0]
            raise DataError(f"{path}: no tokenizer of the tokenizers library ({reason}); fetch it again") from error
        least = tokenizer.num_special_tokens_to_add(is_pair=True) + 2
        if not least <= max_length <= MAX_LENGTH:
            raise DataError(f"a length of {max_length} subwords; choose {least} to {MAX_LENGTH}")
        tokenizer.no_padding()
        tokenizer.enable_truncation(max_length)
        digest = hashlib.sha256(json.dumps([hashlib.sha256(raw).hexdigest(), max_length]).encode()).hexdigest()
        return cls(tokenizer, max_length, "sha256:" + digest)

    @property
    def size(self) -> int:
        """Number v of subwords in the vocabulary."""
        return self.tokenizer.get_vocab_size()

    @cached_property
    def padding(self) -> int:
        """Number of the padding token; 0 if the tokenizer has none, as attention ignores padding."""
        known = (self.tokenizer.token_to_id(name) for name in _PADDING_NAMES)
        return next((number for number in known if number is not None), 0)

    def encode(self, texts: Texts) -> Tokens:
        """Return the numbers of the subwords, (t,) int32; for pairs also their types."""
        pairs = texts.second is not None
        lengths, ids, types = [np.zeros(1, np.int64)], [np.empty(0, np.int32)], [np.empty(0, np.int8)]
        whole = texts.first if texts.second is None else list(zip(texts.first, texts.second, strict=True))
        for start in range(0, len(texts), _CHUNK):
            encoded = self.tokenizer.encode_batch_fast(list(whole[start : start + _CHUNK]))
            lengths.append(np.array([len(one) for one in encoded], dtype=np.int64))
            ids.append(np.concatenate([np.array(one.ids, dtype=np.int32) for one in encoded]))
            if pairs:
                types.append(np.concatenate([np.array(one.type_ids, dtype=np.int8) for one in encoded]))
        offsets = np.cumsum(np.concatenate(lengths))
        return Tokens(np.concatenate(ids), offsets, np.concatenate(types) if pairs else None)

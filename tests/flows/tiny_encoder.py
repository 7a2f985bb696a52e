"""A folder like a Hugging Face encoder's, with a random BERT of two small layers."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel

from tests.sentences import FILLING, WORDS

MARKS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")


def write_tiny_encoder(folder: Path) -> Path:
    folder.mkdir(parents=True)
    words = {word: i for i, word in enumerate((*MARKS, *WORDS[0], *WORDS[1], *FILLING))}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    config = BertConfig(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=32,
    )  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config.to_dict()))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_file(BertModel(config).state_dict(), folder / "model.safetensors")
    return folder


def write_glue(folder: Path) -> Path:
    """CoLA and RTE in GLUE's own format, few and easy."""
    rows = [(i % 2, f"{WORDS[i % 2][i % 4]} {FILLING[i % 10]} {FILLING[(3 * i) % 10]} {i}") for i in range(120)]
    for part, chosen in (("train", rows[:80]), ("dev", rows[80:])):
        (folder / "CoLA").mkdir(parents=True, exist_ok=True)
        (folder / "RTE").mkdir(parents=True, exist_ok=True)
        cola = "".join(f"x\t{label}\t\t{text}\n" for label, text in chosen)
        (folder / "CoLA" / f"{part}.tsv").write_text(cola)
        named = ("entailment", "not_entailment")
        rte = "".join(f"{i}\t{text}\t{FILLING[i % 10]}\t{named[label]}\n" for i, (label, text) in enumerate(chosen))
        (folder / "RTE" / f"{part}.tsv").write_text("index\tsentence1\tsentence2\tlabel\n" + rte)
    return folder

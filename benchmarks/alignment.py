"""What alignment costs in a training step, on a BERT and on the sentiment LSTM; and the padding that bucketing saves.

    python -m benchmarks.alignment [--layers 12] [--features 768] [--texts 16] [--tokens 128] [--rounds 9]
                                   [--device auto] [--precision auto] [--json FILE]

Steps of the same network with no matrices, with free ones and with rotations take turns; ratios compare steps of one
round. The BERT's weights are random, its size is BERT-base's unless told otherwise. The LSTM's is that of sentiment:
32 texts of 22 words, width 100, a vocabulary of 17,000.

Padding is for 10,000 texts whose lengths are spread as those of film reviews are (1 to 59 words, 20 on average), in
batches of 32, in random order and in ours.

Expected: at most 5 % on the BERT.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from benchmarks.report import Spread, in_turns, parser, print_table, publish, ratios, seconds
from models.data.text_batches import TextBatch, bucket_by_length, padding_share
from models.networks.alignment import AlignmentKind
from models.networks.pretrained_encoder import PretrainedSettings
from models.networks.text import EncoderSettings, TextNetworkSettings, initial_text_network
from models.networks.word_encoders import LstmSettings
from models.training.text_step import TextStep, TextStepSettings

KINDS: tuple[AlignmentKind, ...] = ("none", "free", "rotation")
TASKS = {"source": 2, "target": 2}
LSTM_WORDS, LSTM_TEXTS, LSTM_TOKENS = 17_000, 32, 22
BERT_WORDS = 30_522
TEXTS, BATCH = 10_000, 32  # of the padding


def steps(
    encoder: EncoderSettings, batch: TextBatch, settings: TextStepSettings, device: Any, repeats: int, **network: Any
) -> dict[str, Callable[[], float]]:
    """Seconds per step by kind of alignment; the tasks take turns."""
    ways: dict[str, Callable[[], float]] = {}
    for kind in KINDS:
        made = initial_text_network(TextNetworkSettings(encoder=encoder, alignment=kind), TASKS, seed=0, **network)
        step = TextStep(made.train(), settings, device)

        def run(step: TextStep = step) -> None:
            for number in range(repeats):
                for task in TASKS:
                    loss = step(task, batch, settings.learning_rate, seed=0, number=number)
            loss.cpu()  # waits for the device

        ways[kind] = lambda run=run: seconds(run) / (repeats * len(TASKS))  # type: ignore[misc]
    return ways


def random_batch(texts: int, tokens: int, words: int) -> TextBatch:
    """Texts of one length, as bucketed ones nearly are."""
    rng = np.random.default_rng(0)
    ids = torch.as_tensor(rng.integers(1, words, (texts, tokens)))
    return TextBatch(ids, torch.full((texts,), tokens), None, torch.as_tensor(rng.integers(0, 2, texts)))


def bert(layers: int, features: int) -> dict[str, Any]:
    """Return a configuration with BERT's proportions."""
    return {
        "model_type": "bert", "vocab_size": BERT_WORDS, "hidden_size": features, "num_hidden_layers": layers,
        "num_attention_heads": features // 64, "intermediate_size": 4 * features,
    }  # fmt: skip


def padding() -> dict[str, float]:
    """Share of the places in an epoch's batches that hold padding."""
    rng = np.random.default_rng(0)
    lengths = torch.as_tensor(rng.negative_binomial(4, 4 / 24, TEXTS).clip(0, 58) + 1)
    order = torch.as_tensor(rng.permutation(TEXTS))
    return {
        "random order": padding_share(lengths, list(order.split(BATCH))),
        "bucketed": padding_share(lengths, bucket_by_length(lengths, BATCH, seed=0, task="reviews", epoch=0)),
    }


def main() -> None:
    """Run the benchmark; see the top of the file."""
    command = parser(__doc__)
    command.add_argument("--layers", type=int, default=12)
    command.add_argument("--features", type=int, default=768)
    command.add_argument("--texts", type=int, default=16, help="in a step of the BERT")
    command.add_argument("--tokens", type=int, default=128, help="in a text of the BERT")
    command.add_argument("--rounds", type=int, default=9)
    command.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    command.add_argument("--precision", choices=["auto", "32", "bf16"], default="auto", help="of the BERT's steps")
    told = command.parse_args()
    cases = {
        "BERT": steps(
            PretrainedSettings(), random_batch(told.texts, told.tokens, BERT_WORDS),
            TextStepSettings(learning_rate=2e-5, clip=1.0, precision=told.precision), told.device, 1,
            config=bert(told.layers, told.features),
        ),
        "LSTM": steps(
            LstmSettings(), random_batch(LSTM_TEXTS, LSTM_TOKENS, LSTM_WORDS), TextStepSettings(), told.device, 10,
            words=LSTM_WORDS,
        ),
    }  # fmt: skip
    result: dict[str, Any] = {"setting": {k: v for k, v in vars(told).items() if k != "json"}, "padding": padding()}
    rows = []
    for name, ways in cases.items():
        found = in_turns(ways, told.rounds)
        result[name] = {
            kind: {"ms": Spread.of([1e3 * t for t in found[kind]]), "ratio": ratios(found[kind], found["none"])}
            for kind in KINDS
        }
        rows += [[f"{name}, {kind}", *(f"{v:.3f}" for v in result[name][kind].values())] for kind in KINDS]
    print_table(["step with alignment", "ms", "times the step without"], rows)
    print_table(["batches", "padding"], [[name, f"{share:.1%}"] for name, share in result["padding"].items()])
    publish(result, told.json)


if __name__ == "__main__":
    main()

"""Small made-up files in the format of the six sentence sets: every class has words of its own."""

from pathlib import Path

import numpy as np

FILES = {
    "cr": {"custrev.all": 160},
    "subj": {"subj.all": 160},
    "mr": {"rt-polarity.all": 160},
    "sst": {"stsa.binary.train": 120, "stsa.binary.dev": 30, "stsa.binary.test": 40},
}
LEAKED = 20  # of SST's test sentences that stand in MR, too
WORDS = (("dull", "weak", "broken", "sad"), ("bright", "strong", "lovely", "warm"))
FILLING = ("film", "story", "camera", "plot", "phone", "music", "scene", "actor", "screen", "idea")


def write_sentences(folder: Path) -> Path:
    """Files of four sets; MR has some of SST's test sentences, CR a line without text."""
    folder.mkdir(parents=True)
    for name, files in FILES.items():
        for file, count in files.items():
            lines = [_line(np.random.default_rng([len(file), row]), file, row) for row in range(count)]
            (folder / file).write_text("\n".join(lines) + "\n", encoding="utf-8")
        if name == "cr":
            (folder / "custrev.all").open("a", encoding="utf-8").write("1 \n")
    test = (folder / "stsa.binary.test").read_text(encoding="utf-8").splitlines()
    (folder / "rt-polarity.all").open("a", encoding="utf-8").write("\n".join(test[:LEAKED]) + "\n")
    return folder


def _line(rng: np.random.Generator, file: str, row: int) -> str:
    label = row % 2
    words = [*rng.choice(WORDS[label], 2), *rng.choice(FILLING, 5), f"{file.partition('.')[0]}{row}"]
    return f"{label} {' '.join(rng.permutation(words))}"

"""Small files in the formats of the text benchmarks, made afresh for each test."""

from pathlib import Path

from data_prep.text.benchmarks import SENTIMENT


def write_sentiment(folder: Path, name: str, sentences: int = 40) -> None:
    """Write the files of a sentence set, `sentences` in its training part and ten in each official other part."""
    facts = SENTIMENT[name]
    folder.mkdir(exist_ok=True)
    for file in facts.files:
        count = sentences if file is facts.train else 10
        lines = [f"{i % len(facts.classes)} {file.name} has this as sentence {i} .\n" for i in range(count)]
        (folder / file.name).write_text("".join(lines))

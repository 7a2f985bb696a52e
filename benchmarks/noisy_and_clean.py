"""Where a method's difference comes from in a study of pairs: the label that was made noisy, or the one beside it.

    python -m benchmarks.noisy_and_clean RESULTS.json [--json FILE]

For each method: the weight of the noisy label at the end (of 2; uniform: 1), and how far the test AUC of the noisy
label and of the clean one lie from the baseline's. A pair's seeds are averaged; intervals are Student's over pairs,
for the test patients at hand.
"""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import parser, print_table, publish, t_interval

BASELINE = "uniform"


def by_pair(arms: list[dict[str, Any]]) -> dict[str, dict[str, list[float]]]:
    """Return what is measured -> pair -> its value for every seed, of one method's arms against the baseline's."""
    base = {_cell(arm): arm for arm in arms if arm["factors"]["method"] == BASELINE}
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for arm in arms:
        method, pair = arm["factors"]["method"], arm["condition"]["name"]
        if method != BASELINE and (against := base.get(_cell(arm))):
            for label in arm["labels"]:
                ours, theirs = (of["labels"][label]["score"]["value"] for of in (arm, against))
                which = "noisy" if label in arm["condition"]["labels"] else "clean"
                if ours is not None and theirs is not None:
                    found[f"{method}/{which}"][pair].append(ours - theirs)
                if which == "noisy":
                    found[f"{method}/weight"][pair].append(arm["weights"][-1]["labels"][label])
    return found


def _cell(arm: dict[str, Any]) -> tuple[str, int]:
    """Return what an arm has in common with the baseline's arm that it is compared with."""
    return arm["condition"]["name"], arm["seed"]


def main() -> None:
    """Print a table, and JSON as the last line."""
    command = parser(__doc__)
    command.add_argument("results", type=Path)
    options = command.parse_args()
    arms = [a for a in json.loads(options.results.read_text(encoding="utf-8"))["arms"] if a["status"] == "finished"]
    measured = {
        name: t_interval([float(np.mean(seeds)) for seeds in pairs.values()]) for name, pairs in by_pair(arms).items()
    }
    methods = [method for method in dict.fromkeys(arm["method"] for arm in arms) if method != BASELINE]
    rows = [
        (method, *("{:+.3f} [{:+.3f}, {:+.3f}]".format(*measured[f"{method}/{what}"]) for what in ("noisy", "clean")),
         "{:.2f} [{:.2f}, {:.2f}]".format(*measured[f"{method}/weight"]))
        for method in methods
    ]  # fmt: skip
    print_table(("minus uniform, test AUC of", "the noisy label", "the clean label", "weight of the noisy one"), rows)
    publish({"mean_lo_hi": measured}, options.json)


if __name__ == "__main__":
    main()

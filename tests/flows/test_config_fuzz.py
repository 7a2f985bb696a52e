"""Files of settings drawn from a grammar of YAML are read as they are meant, or refused in one line."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from benchmarks.fuzzing import yaml
from benchmarks.fuzzing.case import BROKEN, LEGAL_REFUSED, Case, Format
from benchmarks.fuzzing.runner import judge_under_limits
from flows.config_file import read_config


@pytest.mark.parametrize(("count", "seed"), [(300, 1), pytest.param(5000, 0, marks=pytest.mark.long)])
def test_a_drawn_file_of_settings_is_read_as_it_is_meant_or_refused(count: int, seed: int, tmp_path: Path) -> None:
    def read(case: Case) -> object:
        path = tmp_path / "settings.yaml"
        path.write_bytes(case.data)
        return read_config(path)

    kind = Format(yaml.draw, read, yaml.difference)
    outcomes: Counter[str] = Counter()
    for number in range(count):
        case = kind.draw(np.random.default_rng([seed, 0, number]))
        judged = judge_under_limits(kind, case)
        outcomes[judged.verdict.outcome] += 1
        assert judged.verdict.outcome not in (*BROKEN, LEGAL_REFUSED), (number, judged)
    assert min(outcomes["read right"], outcomes["not legal, refused with a reason"]) > count / 5

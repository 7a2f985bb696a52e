import pytest

from tasks.theory.estimate import Estimate
from tasks.theory.records import CellRecord, TransferRecord
from tasks.theory.summary_text import Pattern, answer, classify_pattern


def record(source: int, samples: int, mean: float, half: float = 0.1, solver: str = "optimum") -> TransferRecord:
    change = Estimate(mean=mean, lo=mean - half, hi=mean + half, above=0, seeds=5)
    return TransferRecord(solver=solver, source=source, samples=samples, change=change)


def cell(two: tuple[float, float], three: tuple[float, float], four: tuple[float, float]) -> list[TransferRecord]:
    pairs = zip((2, 3, 4), (two, three, four), strict=True)
    return [record(source, m, mean) for source, means in pairs for m, mean in zip((100, 1000), means, strict=True)]


@pytest.mark.parametrize(
    ("changes", "pattern"),
    [
        (cell((-0.5, -0.5), (1, -0.5), (2, 0.5)), Pattern.PAPER),
        (cell((-0.5, -0.5), (-0.5, -0.9), (-0.5, -0.9)), Pattern.ALL_HELP),
        (cell((-0.1, 5), (-0.5, -0.9), (-0.1, -0.9)), Pattern.TASK_2_HURTS),
        (cell((-0.5, -0.5), (1, 2), (2, 3)), Pattern.MIXED),
        (cell((-0.5, -0.5), (-0.05, -0.5), (2, 0.5)), Pattern.MIXED),
        (cell((5, 5), (5, 5), (5, 5)), Pattern.MIXED),
    ],
)
def test_the_pattern_of_a_cell_follows_from_its_means(changes: list[TransferRecord], pattern: Pattern) -> None:
    assert classify_pattern(changes) is pattern


def test_the_answer_states_the_numbers() -> None:
    changes = cell((-0.5, -0.6), (1, -0.5), (2, 0.5))
    cells = [
        CellRecord(
            varied="grid",
            solver=solver,
            cosine=0.9,
            norm=1,
            condition=100,
            target_samples=120,
            scaling="samples",
            changes=tuple(changes),
        )
        for solver in ("optimum", "alternating, 100")
    ]
    first, second = answer(changes, cells)
    assert "100 to 1,000 samples" in first
    assert "task 2 by −60 % to −50 %, task 3 by −50 % to +100 % and task 4 by +50 % to +200 %" in first
    assert second.startswith("Of 1 settings, the paper's pattern")
    assert "by the means over seeds, in 1 at the global optimum and in 1 with alternating least squares" in second

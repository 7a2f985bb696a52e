import pytest

from tasks.theory.records import CellRecord, Estimate, TransferRecord
from tasks.theory.summary_text import Picture, answer, percent, picture


def record(source: int, samples: int, mean: float, half: float = 0.1, solver: str = "optimum") -> TransferRecord:
    change = Estimate(mean=mean, lo=mean - half, hi=mean + half, above=0, seeds=5)
    return TransferRecord(solver=solver, source=source, samples=samples, change=change)


def cell(two: tuple[float, float], three: tuple[float, float], four: tuple[float, float]) -> list[TransferRecord]:
    pairs = zip((2, 3, 4), (two, three, four), strict=True)
    return [record(source, m, mean) for source, means in pairs for m, mean in zip((100, 1000), means, strict=True)]


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        (cell((-0.5, -0.5), (1, -0.5), (2, 0.5)), Picture.PAPER),
        (cell((-0.5, -0.5), (-0.5, -0.9), (-0.5, -0.9)), Picture.ALL_HELP),
        (cell((-0.1, 5), (-0.5, -0.9), (-0.1, -0.9)), Picture.TASK_2_HURTS),
        (cell((-0.5, -0.5), (1, 2), (2, 3)), Picture.MIXED),
        (cell((-0.5, -0.5), (-0.05, -0.5), (2, 0.5)), Picture.MIXED),
        (cell((5, 5), (5, 5), (5, 5)), Picture.MIXED),
    ],
)
def test_a_cell_shows_the_picture_that_its_means_make(changes: list[TransferRecord], kind: Picture) -> None:
    assert picture(changes) is kind


def test_an_interval_over_seeds_is_students() -> None:
    found = Estimate.over([1.0, 2.0, 3.0, -1.0])
    assert (found.mean, found.above, found.seeds) == (1.25, 3, 4)
    assert found.hi - found.mean == pytest.approx(3.182446 * 1.707825 / 2, rel=1e-5)
    alone = Estimate.over([0.5])
    assert (alone.mean, alone.lo, alone.hi) == (0.5, None, None)


def test_the_answer_is_made_of_the_figures() -> None:
    changes = cell((-0.5, -0.6), (1, -0.5), (2, 0.5))
    cells = [
        CellRecord(
            varied="grid", solver=solver, cosine=0.9, norm=1, condition=100, target_samples=120, scaling="samples",
            changes=tuple(changes),
        )
        for solver in ("optimum", "alternating, 100")
    ]  # fmt: skip
    first, second = answer(changes, cells)
    assert "100 to 1,000 samples" in first
    assert "task 2 by −60 % to −50 %, task 3 by −50 % to +100 % and task 4 by +50 % to +200 %" in first
    assert "of 1 settings in 1 at the global optimum and in 1 with alternating least squares" in second


def test_changes_are_signed_per_cent() -> None:
    assert (percent(12.345), percent(-0.831)) == ("+1,234 %", "−83 %")

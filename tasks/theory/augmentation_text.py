"""The question of the second paper's theory, and its answer in sentences."""

from collections.abc import Iterator

from models.theory.digit_ridge import EQUIVALENT
from tasks.records.summary_text import join_names
from tasks.theory.augmentation_records import AugmentationRecord, HelpCellRecord
from tasks.theory.estimate_text import helps, percent_of, percent_span

AUGMENTATION_QUESTION = "When do transformed samples lower the error of ridge regression, and when do they raise it?"


def answer_augmentation(record: AugmentationRecord) -> tuple[str, ...]:
    """Return one sentence or two on each: label-invariant transforms, mixup, their order, and digits if given."""
    return (_on_the_map(record), _on_mixup(record), _on_the_order(record), *_on_digits(record))


def _on_the_map(record: AugmentationRecord) -> str:
    kept, rescaled = (
        [cell for cell in record.map if cell.convention == convention] for convention in ("kept", "rescaled")
    )
    agree, total = sum(cell.agree for cell in kept), sum(cell.change.seeds for cell in kept)
    return (
        "With the ridge kept, one transformed sample that keeps its label lowers the bias and raises the variance: the "
        f"error falls in {percent_of(_share_of_help(kept), 0)} of the map's cells, and a condition on ridge, noise and "
        f"projection says where ({agree:,} of {total:,} right). With the ridge rescaled it falls in "
        f"{percent_of(_share_of_help(rescaled), 0)}."
    )


def _share_of_help(cells: list[HelpCellRecord]) -> float:
    return sum(cell.helps for cell in cells) / sum(cell.change.seeds for cell in cells)


def _on_mixup(record: AugmentationRecord) -> str:
    """Give the range of the change over the regressions, for each ridge."""
    rows = record.main_mixup("rescaled")
    spans = []
    for ridge in sorted({row.relative_ridge for row in rows}):
        changes = [row.change.mean for row in rows if row.relative_ridge == ridge]
        spans.append(f"{percent_span(min(changes), max(changes))} at {ridge:g} λ*")
    return (
        f"Mixup acts as a stronger ridge (rescaled): {rows[0].multiple} mixed rows a sample change the error by "
        f"{join_names(spans)}, where λ* is the best ridge."
    )


def _on_the_order(record: AugmentationRecord) -> str:
    rows = [row for row in record.order if row.convention == "rescaled"]
    shares = [row.variance_mixup_below_rotation / row.designs for row in rows]
    in_order = sum(row.biases for row in rows) / sum(row.designs for row in rows)
    return (
        f"With the ridge rescaled, rotating every sample lowers the bias and mixup raises it in "
        f"{percent_of(in_order, 0)} of the designs; mixup has less variance than rotations in "
        f"{percent_of(min(shares), 0)} to {percent_of(max(shares), 0)}, by regression."
    )


def _on_digits(record: AugmentationRecord) -> Iterator[str]:
    """Give the errors with the fewest and with the most wrong labels, ridge rescaled, and which differ from plain."""
    if record.digits is None:
        return
    best = [row for row in record.digits.best if row.convention == "rescaled" and row.arm != EQUIVALENT]
    noises = sorted({row.label_noise for row in best})
    parts, clear = [], []
    for noise in dict.fromkeys((noises[0], noises[-1])):
        rows = [row for row in best if row.label_noise == noise]
        errors = join_names([f"{percent_of(row.error.mean)} {row.arm}" for row in rows])
        parts.append(f"with {noise_text(noise)} {errors}")
        clear += [f"{row.arm} with {noise_text(noise)}" for row in rows if helps(row.minus_plain)]
    yield (
        f"Errors on digits, each at the best of ridges at most a factor of {record.digits.ridge_step:.2g} apart: "
        f"{'; '.join(parts)}. Better than plain, by their intervals: "
        f"{join_names(clear) if clear else 'none'}."
    )


def noise_text(label_noise: float) -> str:
    """Describe a share of wrong labels, as '40 % wrong labels'."""
    return f"{100 * label_noise:g} % wrong labels" if label_noise else "correct labels"

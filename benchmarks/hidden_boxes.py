"""How often an augmentation hides a finding: the boxes of ChestX-ray14, under each operation of two lists by itself.

    python -m benchmarks.hidden_boxes TABLE [--draws 1000] [--json FILE]

TABLE is the published BBox_List_2017.csv (or .csv.gz): boxes around eight findings, drawn by a radiologist, in pixels
of images of 1,024 px. A box counts as hidden if more than half of its area leaves the image, or lies under the square
of cutout. Every box has its own draws, by the code that draws for a training (`models.augmentation.draws`). The square
of cutout is computed exactly; what leaves the image on a grid of 33 x 33 positions in the box, through the maps that
move the pixels (`models.augmentation.geometry`).

Printed for each list: the share of hidden boxes by finding and operation, in percent, and the largest with its 95 %
interval over patients (their boxes are taken together; on the logit scale, with Student's t). That interval says what
other patients' boxes might give; it does not allow for the largest having been picked out. A share of 0 has none.

Expected: under 2 % for every finding and operation of the list radiograph; the paper's list is there to compare. Last
stands whether that is so.

Operations that change grey values only leave every box where it is, and mixup lays another image over it; nothing is
computed for them here. That they keep what a box shows is not said by that: invert and solarize turn the grey scale.

Shapes: n boxes, d draws of each.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.report import parser, print_table, publish
from data_prep.errors import DataError
from data_prep.labels.csv_table import read_csv
from models.augmentation import geometry
from models.augmentation.draws import draw
from models.augmentation.operations import LISTS, Operation
from models.augmentation.policies import Slot
from models.evaluation.intervals import logit_interval

COLUMNS = ("Image Index", "Finding Label", "Bbox [x", "y", "w", "h]")  # the commas of "Bbox [x,y,w,h]" are not quoted
SIDE = 1024  # px, of the images in which the boxes were drawn
PATIENT = 8  # characters of an image's name that are its patient's number
LIMIT = 0.02
GRID = 33  # positions along each side of a box; with an even number half a box would count as hidden too late
AT_ONCE = 2048  # boxes whose positions are in memory together


class Boxes(NamedTuple):
    """Boxes around findings.

    Attributes:
        edges: (n, 4) float64: left, upper, right and lower edge, as shares of the image's side.
        findings: (n,) str.
        patients: (n,) str.
    """

    edges: Tensor
    findings: NDArray[np.str_]
    patients: NDArray[np.str_]


@dataclass(frozen=True)
class Cell:
    """A finding under an operation. hidden: share of draws; low, high: 95 % interval, null if there is none."""

    finding: str
    operation: str
    hidden: float
    low: float | None
    high: float | None


def read_boxes(path: Path) -> Boxes:
    """Read the published table of boxes.

    Raises:
        DataError: the file cannot be read, lacks a column, or has a box that is not in an image.
    """
    table = read_csv(path)
    if missing := [name for name in COLUMNS if name not in table.header]:
        raise DataError(f"{path}: no column {missing[0]!r}; give ChestX-ray14's BBox_List_2017.csv")
    images, findings, *numbers = (
        np.array([row[table.header.index(name)] for row in table.rows], dtype=np.str_) for name in COLUMNS
    )
    try:
        left, upper, width, height = np.array(numbers).astype(np.float64) / SIDE
    except ValueError as error:
        raise DataError(f"{path}: a box is not four numbers ({error})") from error
    edges = np.stack([left, upper, left + width, upper + height], axis=1)
    wrong = ~((edges >= 0) & (edges <= 1)).all(axis=1) | (width <= 0) | (height <= 0)
    if wrong.any():
        raise DataError(f"{path}: the box of row {wrong.argmax() + 1} is not within an image of {SIDE} px")
    return Boxes(torch.from_numpy(edges), findings, images.astype(f"<U{PATIENT}"))


def hides(operation: Operation) -> bool:
    """Tell whether an operation can move a box out of the image, or cover it."""
    return operation.name in geometry.MAPS or operation.name == "cutout"


def hidden_shares(operation: Operation, edges: Tensor, draws: int, *, seed: int = 0) -> Tensor:
    """Compute which part of each box is hidden in each draw of an operation: (n, d) float64 in [0, 1].

    Args:
        operation: one that `hides`.
        edges: (n, 4) float64, as in `Boxes`.
        draws: d, of each box.
        seed: of the draws.
    """
    n = len(edges)
    drawn = draw((Slot((operation,)),), seed=seed, epoch=0, samples=torch.arange(n * draws), candidate=0, n=n)
    magnitudes, edges = drawn.magnitudes[:, 0], edges.repeat_interleave(draws, 0)
    if operation.name == "cutout":
        hidden = _covered(edges, drawn.places[:, 0], magnitudes)
    else:
        hidden = _moved_out(edges, geometry.MAPS[operation.name](magnitudes))
    return hidden.view(n, draws)


def _covered(edges: Tensor, centres: Tensor, sizes: Tensor) -> Tensor:
    """Compute which part of each box a square covers."""
    first, last = edges[:, :2], edges[:, 2:]
    common = torch.minimum(last, centres + sizes[:, None] / 2) - torch.maximum(first, centres - sizes[:, None] / 2)
    return (common.clamp(min=0) / (last - first)).prod(1)


def _moved_out(edges: Tensor, maps: Tensor) -> Tensor:
    """Compute which part of each box leaves the image under its own map, (m, 2, 3) from output to input positions."""
    # what is seen of the old image has straight edges: a box of which all corners stay stays as a whole
    leaves = _outside(edges, maps, torch.tensor([0.0, 1.0], dtype=torch.float64)).any(1).nonzero()[:, 0]
    hidden = torch.zeros(len(edges), dtype=torch.float64)
    places = (torch.arange(GRID, dtype=torch.float64) + 0.5) / GRID
    for rows in leaves.split(AT_ONCE):
        hidden[rows] = _outside(edges[rows], maps[rows], places).double().mean(1)
    return hidden


def _outside(edges: Tensor, maps: Tensor, places: Tensor) -> Tensor:
    """Tell which positions of each box come to lie outside the image.

    Args:
        edges: (m, 4).
        maps: (m, 2, 3).
        places: (g,) where the positions lie along each side of the box, in [0, 1].

    Returns:
        (m, g * g) bool.
    """
    first, last = edges[:, :2, None], edges[:, 2:, None]
    along = (first + (last - first) * places) * 2 - 1
    x, y = along[:, 0, None, :], along[:, 1, :, None]
    positions = torch.stack(torch.broadcast_tensors(x, y), 1).flatten(2)
    moved = torch.linalg.inv(maps[:, :, :2]) @ (positions - maps[:, :, 2:])
    return moved.abs().amax(1) > 1


def measure(boxes: Boxes, operations: Sequence[Operation], draws: int) -> list[Cell]:
    """Measure how often each operation hides more than half of a box of each finding, by itself."""
    cells = []
    for operation in filter(hides, operations):
        hits = (hidden_shares(operation, boxes.edges, draws) > 0.5).sum(1).numpy()
        for finding in np.unique(boxes.findings):
            of_finding = boxes.findings == finding
            share, interval = _over_patients(hits[of_finding], boxes.patients[of_finding], draws)
            cells.append(Cell(str(finding), operation.name, share, *(interval or (None, None))))
    return cells


def _over_patients(hits: NDArray, patients: NDArray, draws: int) -> tuple[float, tuple[float, float] | None]:
    """Return the share of all draws that are hits, and its 95 % interval; the boxes of a patient vary together."""
    mean = float(hits.sum() / (len(hits) * draws))  # not a mean of means, which rounds a share at the limit below it
    numbers = np.unique(patients, return_inverse=True)[1]
    influence = np.bincount(numbers, hits / draws - mean) / len(hits)
    p = len(influence)
    return mean, logit_interval(mean, float(influence @ influence) * p / max(p - 1, 1), max(p - 1, 1))


def verdict(name: str, cells: Sequence[Cell]) -> str:
    """Say whether every share of a list's cells is under the limit, and which are not."""
    beyond = [f"{cell.operation} hides {cell.finding} in {_percent(cell)}" for cell in cells if cell.hidden >= LIMIT]
    if beyond:
        return f"{name}: NOT under {100 * LIMIT:g} % for every finding and operation: {'; '.join(beyond)}"
    return f"{name}: under {100 * LIMIT:g} % for every finding and operation"


def _percent(cell: Cell) -> str:
    if cell.low is None or cell.high is None:
        return f"{100 * cell.hidden:.2f} %"
    return f"{100 * cell.hidden:.2f} % [{100 * cell.low:.2f}, {100 * cell.high:.2f}]"


def show(name: str, operations: Sequence[Operation], cells: Sequence[Cell]) -> None:
    """Print the table of a list."""
    print(f"\n{name}: more than half of a box hidden, percent of the draws")
    by_place = {(cell.finding, cell.operation): cell for cell in cells}
    names = list(dict.fromkeys(cell.operation for cell in cells))
    rows = [
        [finding, *(f"{100 * by_place[finding, operation].hidden:.2f}" for operation in names)]
        for finding in dict.fromkeys(cell.finding for cell in cells)
    ]
    print_table(["finding", *names], rows)
    largest = max(cells, key=lambda cell: cell.hidden)
    print(f"largest: {largest.operation}, {largest.finding}, {_percent(largest)} over patients")
    others = [operation.name for operation in operations if not hides(operation)]
    print(f"not computed, they move and cover nothing: {', '.join(others)}")


def main() -> None:
    """Run the command line."""
    command = parser(__doc__)
    command.add_argument("table", type=Path)
    command.add_argument("--draws", type=int, default=1000, help="of each box and operation (default: 1000)")
    options = command.parse_args()
    boxes = read_boxes(options.table)
    found = {name: measure(boxes, LISTS[name], options.draws) for name in ("radiograph", "paper")}
    for name, cells in found.items():
        show(name, LISTS[name], cells)
    print("", *(verdict(name, cells) for name, cells in found.items()), sep="\n")
    lists = {name: [asdict(cell) for cell in cells] for name, cells in found.items()}
    publish({"boxes": len(boxes.edges), "draws": options.draws, **lists}, options.json)


if __name__ == "__main__":
    main()

"""How much of a box an augmentation hides, against changed images; and the boxes of ChestX-ray14, where they are."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.hidden_boxes import LIMIT, Boxes, Cell, hidden_shares, hides, measure, read_boxes, verdict
from data_prep.errors import DataError
from models.augmentation.augment import augment
from models.augmentation.draws import draw
from models.augmentation.operations import LISTS, Operation
from models.augmentation.policies import Slot

HEADER = "Image Index,Finding Label,Bbox [x,y,w,h],,,\n"
HIDING = [each for each in LISTS["radiograph"] if hides(each)]
THIRD = [Operation(name=name, low=1 / 3, high=1 / 3, signed=True) for name in ("translate_x", "translate_y")]


@pytest.fixture(scope="module")
def boxes(shared_data: Path) -> Boxes:
    return read_boxes(shared_data / "nih" / "BBox_List_2017.csv.gz")


def drawn_edges(n: int) -> torch.Tensor:
    """Boxes of 1/8 to 3/8 of the side, anywhere in the image, half of them at its left or right edge."""
    random = torch.rand(n, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    sizes = 1 / 8 + 1 / 4 * random[:, 0]
    first = (random[:, 1] * 2 - 0.5).clamp(0, 1) * (1 - sizes)
    return torch.cat([first, first + sizes], 1)


def shares_by_pixels(operation: Operation, edges: torch.Tensor, draws: int, side: int) -> torch.Tensor:
    """The hidden part of each box, counted in images that are white in the box and black elsewhere: (n, d)."""
    rows = (edges * side).round().long().repeat_interleave(draws, 0)
    images = torch.zeros(len(rows), 1, side, side, dtype=torch.uint8)
    for image, (left, upper, right, lower) in zip(images, rows, strict=True):
        image[:, upper:lower, left:right] = 255
    drawn = draw((Slot((operation,)),), seed=0, epoch=0, samples=torch.arange(len(rows)), candidate=0, n=len(edges))
    changed = augment(images, drawn, images[:0], ("nearest", "black"))
    left_over = (changed == 255).sum((1, 2, 3)).double()
    if operation.name == "scale":
        left_over /= (1 + drawn.magnitudes[:, 0]) ** 2
    return 1 - (left_over / (images == 255).sum((1, 2, 3))).view(len(edges), draws)


WIDE = {
    "rotate": (0, 180, True),
    **dict.fromkeys(("shear_x", "shear_y", "translate_x", "translate_y"), (0, 1, True)),
    "scale": (-0.3, 0.9, False),
    "cutout": (0, 1, False),
}


@pytest.mark.parametrize("name", WIDE)
def test_the_hidden_part_is_that_which_is_missing_in_a_changed_image(name: str) -> None:
    low, high, signed = WIDE[name]
    operation = Operation(name=name, low=low, high=high, signed=signed)
    edges, side = (drawn_edges(12) * 256).round() / 256, 256
    found, counted = hidden_shares(operation, edges, 8), shares_by_pixels(operation, edges, 8, side)
    assert 0.05 < counted.mean() < 0.8
    # a pixel along one edge of a box of 32, and what the sizes of cutout and nearest pixels are rounded by
    torch.testing.assert_close(found, counted, rtol=0, atol=0.06)
    assert (found - counted).abs().mean() < 0.015


@pytest.mark.parametrize("operation", HIDING, ids=lambda each: each.name)
def test_real_boxes_are_hidden_as_changed_images_show(operation: Operation, boxes: Boxes) -> None:
    some, side = boxes.edges[::123], 256
    found, counted = hidden_shares(operation, some, 6), shares_by_pixels(operation, some, 6, side)
    torch.testing.assert_close(found, counted, rtol=0, atol=0.12)  # the smallest of these boxes has few pixels here
    assert (found - counted).abs().mean() < 0.02


def test_operations_that_can_hide_a_box_are_those_that_move_or_cover() -> None:
    names = {each.name for name in ("radiograph", "paper") for each in LISTS[name] if hides(each)}
    assert names == set(WIDE)


def test_a_finding_is_counted_over_its_boxes_and_draws() -> None:
    edges = torch.tensor([[0.0, 0.4, 0.1, 0.5], [0.45, 0.4, 0.55, 0.5], [0.0, 0.4, 0.1, 0.5]], dtype=torch.float64)
    made = Boxes(edges, np.array(["Mass", "Mass", "Nodule"]), np.array(["1", "2", "3"]))
    mass, nodule = measure(made, [Operation(name="translate_x", high=1 / 3, low=1 / 3)], 50)
    # all go to the left: those at the left edge leave, the one in the middle stays
    assert (mass.finding, mass.hidden) == ("Mass", 0.5)
    assert (nodule.finding, nodule.hidden, nodule.low) == ("Nodule", 1.0, None)


@pytest.mark.parametrize(("shift", "hidden"), [(0.02, 0.0), (0.049, 0.0), (0.051, 1.0), (0.08, 1.0)])
def test_a_box_is_hidden_when_more_than_half_of_it_is(shift: float, hidden: float) -> None:
    box = torch.tensor([[0.0, 0.4, 0.1, 0.5]], dtype=torch.float64)
    (cell,) = measure(
        Boxes(box, np.array(["Mass"]), np.array(["1"])), [Operation(name="translate_x", low=shift, high=shift)], 5
    )
    assert cell.hidden == hidden


def test_the_interval_takes_the_boxes_of_a_patient_together() -> None:
    edges, operation = drawn_edges(40), THIRD[0]
    edges = torch.cat([edges, edges])
    findings, patients = np.array(["Mass"] * 80), np.arange(80).astype(str)
    (apart,) = measure(Boxes(edges, findings, patients), [operation], 100)
    (together,) = measure(Boxes(edges, findings, patients[np.arange(80) % 40]), [operation], 100)
    assert apart.hidden == together.hidden
    ratio = (together.high - together.low) / (apart.high - apart.low)
    assert ratio == pytest.approx(2**0.5, rel=0.1)
    assert apart.low < apart.hidden < apart.high


def test_a_shift_by_a_third_is_called_too_much() -> None:
    made = Boxes(drawn_edges(60), np.array(["Mass", "Nodule"] * 30), np.arange(60).astype(str))
    cells = measure(made, THIRD, 50)
    assert all(cell.hidden > LIMIT for cell in cells)
    assert verdict("a third", cells).startswith("a third: NOT under 2 %")
    assert "translate_y hides Nodule in" in verdict("a third", cells)


def test_a_share_at_the_limit_is_not_under_it() -> None:
    under, at = (Cell("Mass", "cutout", share, None, None) for share in (0.0199, 0.02))
    assert verdict("list", [under]) == "list: under 2 % for every finding and operation"
    assert verdict("list", [under, at]) == (
        "list: NOT under 2 % for every finding and operation: cutout hides Mass in 2.00 %"
    )


def test_a_share_is_a_ratio_of_counts_which_no_rounding_moves_below_the_limit() -> None:
    boxes, operation = drawn_edges(79), Operation(name="translate_x", high=0.3, signed=True)
    (cell,) = measure(Boxes(boxes, np.array(["Mass"] * 79), np.arange(79).astype(str)), [operation], 7)
    assert cell.hidden == int((hidden_shares(operation, boxes, 7) > 0.5).sum()) / (79 * 7)


def test_each_default_operation_hides_a_finding_in_under_two_percent_of_draws(boxes: Boxes) -> None:
    assert (len(boxes.edges), len(set(boxes.findings))) == (984, 8)
    cells = measure(boxes, HIDING, 200)
    assert len(cells) == 8 * len(HIDING) == 56
    assert [cell for cell in cells if cell.hidden >= 0.02] == []
    assert verdict("radiograph", cells) == "radiograph: under 2 % for every finding and operation"


def test_a_shift_by_a_third_hides_findings_of_chestxray14_too_often(boxes: Boxes) -> None:
    cells = measure(boxes, THIRD, 40)
    beyond = {cell.finding for cell in cells if cell.hidden >= LIMIT}
    assert beyond >= {"Effusion", "Nodule", "Pneumothorax"}
    assert verdict("a third", cells).startswith("a third: NOT under 2 %")


def test_the_command_prints_both_lists_and_writes_them(tmp_path: Path) -> None:
    table, out = tmp_path / "boxes.csv", tmp_path / "found.json"
    rows = [f"0000000{i % 3}_00{i}.png,{('Mass', 'Nodule')[i % 2]},{100 * i},{90 * i},80,60.5,,," for i in range(9)]
    table.write_text(HEADER + "\n".join(rows) + "\n")
    command = [sys.executable, "-m", "benchmarks.hidden_boxes", str(table), "--draws=20", f"--json={out}"]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], check=True, capture_output=True, text=True)
    assert "radiograph: under 2 %" in done.stdout or "radiograph: NOT under 2 %" in done.stdout
    found = json.loads(out.read_text())
    assert (found["boxes"], found["draws"]) == (9, 20)
    assert {cell["operation"] for cell in found["radiograph"]} == set(WIDE)
    assert {cell["finding"] for cell in found["paper"]} == {"Mass", "Nodule"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Image Index,Finding Label\na.png,Mass\n", "no column 'Bbox"),
        (HEADER + "a.png,Mass,1,2,three,4\n", "not four numbers"),
        (HEADER + "a.png,Mass,1,2,3,4\nb.png,Mass,1000,2,30,4\n", "box of row 2 is not within an image of 1024 px"),
        (HEADER + "a.png,Mass,1,2,0,4\n", "box of row 1 is not within"),
        (HEADER + "a.png,Mass,nan,2,3,4\n", "box of row 1 is not within"),
    ],
)
def test_a_table_of_other_contents_is_refused_in_a_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "boxes.csv").write_text(text)
    with pytest.raises(DataError, match=message) as refused:
        read_boxes(tmp_path / "boxes.csv")
    assert "\n" not in str(refused.value)

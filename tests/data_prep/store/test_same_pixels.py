"""Pictures that stand under several patients are found when a store is written."""

import itertools
from collections import defaultdict

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from data_prep.store.writer import ShardRecord, find_same_pixels


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 12)), max_size=30), st.lists(st.integers(0, 30), max_size=3)
)
def test_pictures_of_several_patients_are_grouped_and_those_of_one_are_not(
    drawn: list[tuple[int, int]], cuts: list[int]
) -> None:
    """Each image is of a patient and has a picture; the images are cut into shards anywhere."""
    images = [f"{row}.png" for row in range(len(drawn))]
    digests = [f"picture {picture}" for _, picture in drawn]
    bounds = sorted({0, len(drawn), *(cut for cut in cuts if cut < len(drawn))})
    records = [
        ShardRecord(images=images[start:end], pixels=digests[start:end]) for start, end in itertools.pairwise(bounds)
    ]
    patients = np.array([f"p{patient}" for patient, _ in drawn], dtype=np.str_)
    found = find_same_pixels(records, patients)
    expected = defaultdict(list)
    for image, digest in zip(images, digests, strict=True):
        expected[digest].append(image)
    owners = dict(zip(images, patients.tolist(), strict=True))
    several = [sorted(group) for group in expected.values() if len({owners[image] for image in group}) > 1]
    assert sorted(found) == sorted(several)

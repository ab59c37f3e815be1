"""Statistics are exact in any order of operations, and refuse what does not fit."""

from __future__ import annotations

import json
import random
import struct
import time
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgetl.errors import IntegrityError, LearningError
from edgetl.learners import Statistics
from edgetl.learners.statistics import LARGEST

D = 5


def embeddings(n: int, seed: int = 0, d: int = D, dtype=np.int16) -> np.ndarray:
    limits = np.iinfo(dtype)
    low, high = max(limits.min, -(1 << 20)), min(limits.max, 1 << 20)
    return np.random.default_rng(seed).integers(low, high, (n, d), endpoint=True).astype(dtype)


def taught(rows, labels) -> Statistics:
    statistics = Statistics()
    if len(rows):
        statistics.add(rows, labels)
    return statistics


pictures = st.lists(
    st.tuples(st.lists(st.integers(-LARGEST, LARGEST), min_size=D, max_size=D), st.sampled_from("abcd")),
    max_size=20,
)


def as_rows(pairs) -> tuple[np.ndarray, list[str]]:
    return np.array([row for row, _ in pairs], dtype=np.int32).reshape(-1, D), [label for _, label in pairs]


class TestExactness:
    @given(pictures, st.randoms())
    def test_the_order_of_teaching_does_not_matter(self, pairs, random_):
        shuffled = random_.sample(pairs, len(pairs))
        one_by_one = Statistics()
        for row, label in shuffled:
            one_by_one.add(np.array(row, dtype=np.int32), label)
        assert one_by_one == taught(*as_rows(pairs))

    @given(pictures, pictures)
    def test_undoing_restores_the_previous_bits(self, kept, undone):
        statistics = taught(*as_rows(kept))
        if undone:
            rows, labels = as_rows(undone)
            statistics.add(rows, labels)
            statistics.remove(rows[::-1], labels[::-1])
        assert statistics == taught(*as_rows(kept))
        assert statistics.to_bytes() == taught(*as_rows(kept)).to_bytes() or not kept

    @given(pictures, pictures)
    def test_merged_devices_equal_one_that_was_taught_everything(self, here, there):
        merged = taught(*as_rows(here))
        merged.merge(taught(*as_rows(there)))
        assert merged == taught(*as_rows(here + there))
        merged.subtract(taught(*as_rows(here)))
        assert merged == taught(*as_rows(there))

    @given(pictures)
    def test_the_sums_are_those_of_python_integers(self, pairs):
        statistics = taught(*as_rows(pairs))
        for label, count, total in zip(statistics.labels, statistics.counts, statistics.sums):
            rows = [row for row, other in pairs if other == label]
            assert count == len(rows)
            assert total.tolist() == [sum(column) for column in zip(*rows)]
        for i in range(D if pairs else 0):
            for j in range(D):
                assert statistics.gram[i, j] == sum(row[i] * row[j] for row, _ in pairs)

    @settings(max_examples=5, deadline=None)
    @given(st.integers(0, 1 << 32))
    def test_ten_thousand_operations_on_three_devices_equal_teaching_what_remains(self, seed):
        chance, rows = random.Random(seed), embeddings(10_000, seed, dtype=np.int8)
        devices, held = [Statistics() for _ in range(3)], [[] for _ in range(3)]
        for row in rows:
            here, there, move = chance.randrange(3), chance.randrange(3), chance.random()
            if held[here] and move < 0.45:
                devices[here].remove(*held[here].pop(chance.randrange(len(held[here]))))
            elif here != there and move > 0.995:
                devices[here].merge(devices[there])
                held[here] += held[there]
                devices[there].subtract(devices[there].copy())
                held[there] = []
            else:
                label = chance.choice("abcdef")
                devices[here].add(row, label)
                held[here].append((row, label))
        merged = Statistics()
        for device in chance.sample(devices, 3):
            merged.merge(device)
        remaining = [pair for pairs in held for pair in pairs]
        chance.shuffle(remaining)
        once = taught(np.array([row for row, _ in remaining]), [label for _, label in remaining])
        assert merged == once
        assert sorted(merged.labels) == sorted(once.labels)

    @pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.int32, np.int64])
    def test_every_integer_type_is_accepted_at_its_extremes(self, dtype):
        limits = np.iinfo(dtype)
        low, high = max(limits.min, -LARGEST), min(limits.max, LARGEST)
        statistics = taught(np.array([[low, high], [high, high]], dtype=dtype), ["a", "a"])
        assert statistics.gram.tolist() == [
            [low**2 + high**2, low * high + high**2],
            [low * high + high**2, 2 * high**2],
        ]

    def test_thousands_of_the_largest_numbers_are_summed_to_the_last_bit(self):
        rows = np.full((1501, 2), LARGEST - 1, dtype=np.int32)
        assert taught(rows, "a").gram[0, 1] == 1501 * (LARGEST - 1) ** 2


class TestTheEdge:
    def test_the_largest_sum_is_accepted_and_the_next_refused(self):
        statistics = taught(np.array([[LARGEST]], dtype=np.int32), "a")
        for _ in range(10):
            statistics.merge(statistics)
        before = statistics.copy()
        with pytest.raises(LearningError, match="64-bit"):
            statistics.merge(before)
        with pytest.raises(LearningError, match="64-bit"):
            statistics.add(np.full((1 << 10, 1), LARGEST, dtype=np.int32), "a")
        assert statistics == before
        statistics.add(np.full((1 << 10) - 1, LARGEST, dtype=np.int32)[:, None], "a")
        assert int(statistics.gram[0, 0]) == (1 << 63) - LARGEST**2

    def test_stored_integers_widen_as_the_sums_grow(self):
        small = taught(np.array([[1, 2]], dtype=np.int8), "a")
        sizes = [len(small.to_bytes())]
        for factor in (100, 20_000, LARGEST):
            small.add(np.array([[factor, 0]], dtype=np.int32), "a")
            sizes.append(len(small.to_bytes()))
            assert Statistics.from_bytes(small.to_bytes()) == small
        assert sizes == sorted(set(sizes))


class TestRefusals:
    @pytest.mark.parametrize(
        ("embedding", "label"),
        [
            (np.zeros(D, np.float32), "a"),
            (np.zeros(D + 1, np.int8), "a"),
            (np.zeros((2, D), np.int8), ["a"]),
            (np.zeros((1, 1, D), np.int8), "a"),
            (np.zeros(0, np.int8), "a"),
            (np.zeros(D, np.int8), ""),
            (np.zeros(D, np.int8), [3]),
            (np.zeros(D, np.int8), None),
            ([[1], [1, 2]], "a"),
            (np.full(D, LARGEST + 1, np.int32), "a"),
        ],
    )
    @pytest.mark.parametrize("operation", ["add", "remove"])
    def test_invalid_arguments_are_refused_and_change_nothing(self, operation, embedding, label):
        statistics = taught(embeddings(3), "a")
        before = statistics.to_bytes()
        with pytest.raises(LearningError):
            getattr(statistics, operation)(embedding, label)
        assert statistics.to_bytes() == before

    @pytest.mark.parametrize(
        ("embedding", "label"),
        [
            (embeddings(1), "never taught"),
            (embeddings(3), "b"),
            (embeddings(1, seed=9), "b"),
            (embeddings(4, seed=9), ["a", "a", "a", "b"]),
            (embeddings(1, seed=9), "a"),
            (embeddings(2, seed=9), "a"),
        ],
    )
    def test_embeddings_that_were_never_added_cannot_be_removed(self, embedding, label):
        statistics = taught(embeddings(4), ["a", "a", "a", "b"])
        before = statistics.to_bytes()
        with pytest.raises(LearningError, match="cannot remove"):
            statistics.remove(embedding, label)
        with pytest.raises(LearningError):
            statistics.subtract(taught(embedding, label))
        assert statistics.to_bytes() == before

    def test_other_embeddings_with_the_same_sum_cannot_be_removed_last(self):
        statistics = taught(np.array([[1, 3], [3, 1]], np.int8), "a")
        with pytest.raises(LearningError, match="cannot remove"):
            statistics.remove(np.array([[2, 2], [2, 2]], np.int8), "a")

    def test_a_dimension_given_first_is_enforced(self):
        with pytest.raises(LearningError, match="hold 4"):
            Statistics(4).add(embeddings(1), "a")
        with pytest.raises(LearningError, match="dimension is 0"):
            Statistics(0)
        assert Statistics(np.int64(4)).to_bytes() == Statistics(4).to_bytes()


class TestClasses:
    def test_classes_keep_their_order_and_vanish_when_empty(self):
        statistics = taught(embeddings(3), ["pear", "apple", "pear"])
        assert statistics.labels == ("pear", "apple")
        statistics.remove(embeddings(3)[1], "apple")
        assert statistics.labels == ("pear",)
        assert statistics.counts.tolist() == [2]

    def test_renaming_keeps_the_order(self):
        statistics = taught(embeddings(3), ["a", "b", "c"])
        statistics.rename("b", "z")
        assert statistics.labels == ("a", "z", "c")
        assert statistics == taught(embeddings(3), ["a", "z", "c"])

    @pytest.mark.parametrize(("old", "new"), [("x", "y"), ("a", "b"), ("a", "")])
    def test_a_name_that_is_missing_taken_or_empty_is_refused(self, old, new):
        statistics = taught(embeddings(2), ["a", "b"])
        with pytest.raises(LearningError):
            statistics.rename(old, new)
        assert statistics.labels == ("a", "b")

    def test_a_copy_is_independent(self):
        statistics = taught(embeddings(2), ["a", "b"])
        twin = statistics.copy()
        twin.add(embeddings(1), "c")
        assert statistics == taught(embeddings(2), ["a", "b"])
        assert twin != statistics

    def test_the_gram_matrix_is_read_only(self):
        with pytest.raises(ValueError, match="read-only"):
            taught(embeddings(1), "a").gram[0, 0] = 1

    def test_the_arguments_are_neither_changed_nor_kept(self):
        rows = embeddings(2)
        statistics = taught(rows, "a")
        rows[:] = 0
        assert statistics == taught(embeddings(2), "a")


class TestBytes:
    @given(pictures)
    def test_a_round_trip_keeps_everything(self, pairs):
        statistics = taught(*as_rows(pairs))
        back = Statistics.from_bytes(statistics.to_bytes())
        assert back == statistics
        assert back.labels == statistics.labels
        assert back.to_bytes() == statistics.to_bytes()

    def test_they_are_small_at_the_size_of_a_backbone(self):
        rows = np.random.default_rng(0).integers(-500, 500, (40, 1280)).astype(np.int16)
        assert len(taught(rows, [f"class {i % 20}" for i in range(40)]).to_bytes()) < 4_000_000

    @given(st.binary(max_size=200))
    def test_random_bytes_are_refused(self, noise):
        with pytest.raises(IntegrityError):
            Statistics.from_bytes(noise)

    @settings(max_examples=300)
    @given(st.data())
    def test_a_damaged_file_is_refused_or_still_valid(self, data):
        whole = bytearray(taught(embeddings(4), ["a", "b", "é", "a"]).to_bytes())
        at = data.draw(st.integers(0, len(whole) - 1))
        whole[at] = data.draw(st.integers(0, 255))
        with suppress(IntegrityError):
            assert Statistics.from_bytes(bytes(whole)).total > 0

    @pytest.mark.parametrize("cut", [0, 10, 30, 200, -1])
    def test_a_file_cut_short_or_too_long_is_refused(self, cut):
        whole = taught(embeddings(4), "a").to_bytes()
        with pytest.raises(IntegrityError):
            Statistics.from_bytes(whole[:cut])
        with pytest.raises(IntegrityError):
            Statistics.from_bytes(whole + b"\0")

    @pytest.mark.parametrize(
        "lie",
        [
            {"dimension": 1 << 40},
            {"dimension": -1},
            {"dimension": True},
            {"dimension": None},
            {"labels": ["a", "a"]},
            {"labels": ["a"]},
            {"labels": [1, 2]},
            {"labels": "ab"},
            {"counts": [1]},
            {"counts": [0, 1]},
            {"counts": [1.5, 1]},
            {"counts": [1 << 70, 1]},
            {"sums": "O"},
            {"gram": "<f8"},
            {"gram": ["<i8"]},
        ],
    )
    def test_a_forged_header_is_refused(self, lie):
        whole = taught(embeddings(2), ["a", "b"]).to_bytes()
        start = whole.index(b"{")
        size = struct.unpack("<I", whole[start - 4 : start])[0]
        header = json.loads(whole[start : start + size])
        text = json.dumps({**header, **lie}).encode()
        forged = whole[: start - 4] + struct.pack("<I", len(text)) + text + whole[start + size :]
        with pytest.raises(IntegrityError):
            Statistics.from_bytes(forged)


@pytest.mark.slow
def test_one_picture_costs_less_than_a_millisecond():
    rows = embeddings(512, d=1280)
    statistics = taught(rows[:20], [f"class {i}" for i in range(20)])
    start = time.process_time()
    for i, row in enumerate(rows):
        statistics.add(row, f"class {i % 20}")
    assert (time.process_time() - start) / len(rows) < 0.001

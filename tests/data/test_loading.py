"""Loading a folder: embeddings, frames, and a cache that survives interruptions and damage."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgetl.data import Dataset, Finding, embed_all, load_folder, suspect_labels
from edgetl.data.reading import workers
from edgetl.errors import DataError, ImageError, OptionError, StorageError
from edgetl.runtime import Embedder, Preprocess
from tests.data.conftest import fill, save, scene

Load = Callable[..., Dataset]


def embeddings_by_content(dataset: Dataset) -> dict[str, bytes]:
    assert dataset.embeddings is not None
    return {sample.digest: row.tobytes() for sample, row in zip(dataset.samples, dataset.embeddings)}


def test_the_embeddings_are_those_of_the_embedder(photos: Path, load: Load, embedder: Embedder, tmp_path: Path) -> None:
    dataset = load(photos, embedder=embedder)
    expected = [embedder.embed(embedder.preprocess.frame(sample.path)) for sample in dataset.samples]
    assert dataset.embeddings is not None
    assert dataset.embeddings.dtype == embedder.dtype
    np.testing.assert_array_equal(dataset.embeddings, expected)
    some = embed_all(dataset, embedder, indices=np.array([4, 1]), cache=tmp_path / "other cache")
    np.testing.assert_array_equal(some, [expected[4], expected[1]])
    np.testing.assert_array_equal(embed_all(dataset, embedder, cache=tmp_path / "other cache"), expected)


def test_a_second_load_opens_no_photo(photos: Path, load: Load, embedder: Embedder) -> None:
    first = load(photos, embedder=embedder)
    steps: list[tuple[str, int, int]] = []
    second = load(photos, embedder=embedder, progress=lambda *step: steps.append(step))
    assert steps == [("read photos", 20, 20)], "all photos were in the cache"
    assert (first.report.embedded, second.report.embedded) == (20, 0)
    assert first.samples == second.samples
    assert first.report == second.report
    assert embeddings_by_content(first) == embeddings_by_content(second)


def test_photos_that_moved_are_read_but_not_embedded_again(
    photos: Path, load: Load, embedder: Embedder, tmp_path: Path
) -> None:
    load(photos, embedder=embedder)
    photos.rename(tmp_path / "moved")
    assert load(tmp_path / "moved", embedder=embedder).report.embedded == 0


def test_a_changed_photo_is_read_again(photos: Path, load: Load, embedder: Embedder) -> None:
    load(photos, embedder=embedder)
    save(scene(77), photos / "cat" / "3.jpg")
    assert load(photos, embedder=embedder).report.embedded == 1


def test_a_photo_changed_with_its_size_and_time_kept_is_read_again(
    photos: Path, load: Load, embedder: Embedder
) -> None:
    load(photos, embedder=embedder)
    first, second = photos / "cat" / "3.jpg", photos / "cat" / "4.jpg"
    before = first.stat()
    other = save(scene(77), second, quality=50).read_bytes()
    first.write_bytes(other[: before.st_size].ljust(before.st_size, b"\0"))
    os.utime(first, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert load(photos, embedder=embedder).report.embedded == 2


def test_embeddings_of_both_passes_come_from_the_cache(
    photos: Path, load: Load, embedder: Embedder, other_embedder: Embedder, tmp_path: Path
) -> None:
    dataset, cache = load(photos, embedder=embedder), tmp_path / "cache"
    first = embed_all(dataset, other_embedder, cache=cache)
    shutil.rmtree(photos)
    np.testing.assert_array_equal(embed_all(dataset, other_embedder, cache=cache), first)
    np.testing.assert_array_equal(embed_all(dataset, embedder, cache=cache), dataset.embeddings)


def test_a_second_embedder_continues_where_it_was_interrupted(
    photos: Path,
    load: Load,
    embedder: Embedder,
    other_embedder: Embedder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dataset = load(photos, embedder=embedder)
    monkeypatch.setattr(workers, "_HANDOVER_SECONDS", 0)
    shown = []

    def interrupt(task: str, done: int, total: int) -> None:
        shown.append(done)
        raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            embed_all(dataset, other_embedder, 1, interrupt, cache=tmp_path / "cache")
    assert 0 < shown[0] < shown[1] < 20


def test_workers_that_return_results_one_batch_at_a_time_do_all_jobs(
    photos: Path, load: Load, embedder: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "_HANDOVER_SECONDS", 0)
    assert load(photos, embedder=embedder).report.embedded == 20


def test_a_photo_that_changed_since_it_was_loaded_is_an_image_error(
    photos: Path, load: Load, embedder: Embedder, other_embedder: Embedder, tmp_path: Path
) -> None:
    for options in ({}, {"keep_frames": True}):
        dataset = load(photos, embedder=embedder)
        dataset = load(photos, embedder=embedder, **options)
        save(scene(99 + len(options)), dataset.samples[5].path)
        with pytest.raises(ImageError, match="has changed since it was checked"):
            dataset.frame(5)
        with pytest.raises(ImageError, match="has changed since it was checked"):
            embed_all(dataset, other_embedder, cache=tmp_path / "cache")


def test_frames_are_kept_for_every_sample(photos: Path, load: Load, embedder: Embedder, tmp_path: Path) -> None:
    for warm in (False, True):
        dataset = load(photos, embedder=embedder, keep_frames=True)
        assert dataset.frames is not None
        assert len(dataset.frames) == len(dataset)
        expected = [embedder.preprocess.frame(sample.path) for sample in dataset.samples]
        np.testing.assert_array_equal(dataset.frames.batch([7, 0, 7]), [expected[at] for at in (7, 0, 7)])
        np.testing.assert_array_equal(dataset.frames[3], expected[3])
        embedded = embed_all(dataset, embedder, cache=tmp_path / f"other cache {warm}")
        np.testing.assert_array_equal(embedded, dataset.embeddings)
        assert dataset.report.embedded == (0 if warm else 20)
        dataset.close()


def test_frames_leave_no_file_behind(photos: Path, load: Load, tmp_path: Path) -> None:
    load(photos, keep_frames=True)
    assert {path.suffix for path in (tmp_path / "cache").iterdir()} == {".sqlite"}


def test_a_frame_of_a_missing_photo_is_an_image_error(photos: Path, load: Load) -> None:
    load(photos)
    dataset = load(photos, keep_frames=True)
    dataset.samples[2].path.unlink()
    assert dataset.frames is not None
    with pytest.raises(ImageError, match="no such file"):
        dataset.frames[2]


def test_a_full_disk_is_a_storage_error(photos: Path, load: Load, tmp_path: Path) -> None:
    load(photos)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        dataset = load(photos, keep_frames=True)
        assert dataset.frames is not None
        with pytest.raises(StorageError, match=r"cannot store frames in .* set EDGETL_CACHE"):
            dataset.frames.batch(range(20))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_cache_folder_that_cannot_be_created_is_a_storage_error(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot create the cache folder"):
        load_folder(photos, cache=tmp_path / "file" / "cache")


@pytest.mark.parametrize("damage", ["not a database", "scrambled", "truncated"])
def test_a_damaged_cache_is_rebuilt(photos: Path, load: Load, embedder: Embedder, tmp_path: Path, damage: str) -> None:
    whole = load(photos, embedder=embedder)
    [file] = (tmp_path / "cache").glob("*.sqlite")
    content = bytearray(file.read_bytes())
    if damage == "not a database":
        content = bytearray(b"nonsense" * 1000)
    elif damage == "scrambled":
        content[4096:] = np.random.default_rng(0).bytes(len(content) - 4096)
    else:
        content = content[: len(content) // 2]
    file.write_bytes(content)
    again = load(photos, embedder=embedder)
    assert embeddings_by_content(again) == embeddings_by_content(whole)
    assert [finding.paths for finding in again.report.of_kind("cache rebuilt")] == [(file,)]
    assert load(photos, embedder=embedder).report.embedded == 0


def test_a_flipped_bit_in_a_cached_embedding_is_noticed(
    photos: Path, load: Load, embedder: Embedder, tmp_path: Path
) -> None:
    whole = load(photos, embedder=embedder)
    [file] = (tmp_path / "cache").glob("*.sqlite")
    with sqlite3.connect(file) as connection:
        digest, sealed = connection.execute("SELECT digest, embedding FROM embeddings").fetchone()
        flipped = bytes([sealed[0] ^ 1]) + sealed[1:]
        connection.execute("UPDATE embeddings SET embedding = ? WHERE digest = ?", (flipped, digest))
    connection.close()
    again = load(photos, embedder=embedder)
    assert again.report.embedded == 1
    assert embeddings_by_content(again) == embeddings_by_content(whole)


def test_two_loads_at_once_share_a_cache(photos: Path, load: Load, embedder: Embedder) -> None:
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: load(photos, embedder=embedder), range(2))
    assert embeddings_by_content(first) == embeddings_by_content(second)


def test_an_interrupted_load_continues_where_it_stopped(tmp_path: Path, load: Load, embedder: Embedder) -> None:
    root = fill(tmp_path / "p", {"a": 150, "b": 150})
    seen = []

    def interrupt(task: str, done: int, total: int) -> None:
        seen.append((task, done, total))
        if done >= 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load(root, embedder=embedder, progress=interrupt)
    assert seen[0] == ("read photos", 0, 300)
    kept = seen[-1][1]
    assert load(root, embedder=embedder).report.embedded == 300 - kept


@pytest.mark.slow
def test_ctrl_c_ends_the_process_at_once(tmp_path: Path, embedder: Embedder, tiny_model: bytes) -> None:
    root = fill(tmp_path / "p", {"a": 400, "b": 400})
    (tmp_path / "model.tflite").write_bytes(tiny_model)
    program = (
        "import sys, pathlib; from edgetl.data import load_folder; from edgetl.runtime import Embedder, Preprocess\n"
        "root, model, cache = map(pathlib.Path, sys.argv[1:])\n"
        "embedder = Embedder(model.read_bytes(), Preprocess(32, 32))\n"
        "load_folder(root, embedder=embedder, cache=cache, progress=lambda *step: print(*step, flush=True))\n"
    )
    arguments = [str(root), str(tmp_path / "model.tflite"), str(tmp_path / "cache")]
    process = subprocess.Popen(
        [sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert "KeyboardInterrupt" in errors
    assert load_folder(root, embedder=embedder, cache=tmp_path / "cache").report.embedded < 800


def test_phone_photos_of_12_megapixels_are_turned_upright_and_scaled_down(
    tmp_path: Path, load: Load, embedder: Embedder
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    root = tmp_path / "p"
    for seed, label in enumerate("aabb"):
        save(scene(seed, 4032, 3024), root / label / f"{seed}.jpg", exif=exif)
    dataset = load(root, embedder=embedder, keep_frames=True)
    assert dataset.report.properties["rotated"] == 4
    assert dataset.frames is not None
    upright = scene(0, 4032, 3024).rotate(-90, expand=True).resize((32, 32))
    [at] = [at for at, sample in enumerate(dataset.samples) if sample.path.name == "0.jpg"]
    assert np.abs(dataset.frames[at].astype(int) - np.asarray(upright)).mean() < 4


def test_the_preprocess_of_the_embedder_is_used(photos: Path, load: Load, embedder: Embedder) -> None:
    assert load(photos, embedder=embedder).preprocess == embedder.preprocess
    with pytest.raises(OptionError, match="differs from the embedder's"):
        load(photos, preprocess=Preprocess(64, 64), embedder=embedder)


def test_photos_labelled_as_another_class_are_suspected(photos: Path, load: Load) -> None:
    dataset = load(photos)
    given = np.array([sample.label == "dog" for sample in dataset.samples], int)
    probabilities = np.where(np.arange(2) == given[:, None], 0.9, 0.1)
    probabilities[3] = (0.05, 0.95)
    probabilities[7] = (0.4, 0.6)
    findings = suspect_labels(dataset, np.arange(20), probabilities, ("cat", "dog"))
    assert findings == [
        Finding("suspected label", (dataset.samples[3].path,), "labelled 'cat' (5%), looks like 'dog' (95%)")
    ]
    with pytest.raises(DataError, match="expected probabilities"):
        suspect_labels(dataset, np.arange(20), probabilities[:5], ("cat", "dog"))


def test_samples_can_be_selected_by_split(photos: Path, load: Load) -> None:
    dataset = load(photos)
    train, val, test = (dataset.indices(split) for split in ("train", "val", "test"))
    assert sorted([*train, *val, *test]) == list(range(20))
    assert set(dataset.labels_of(test)) == {"cat", "dog"}
    assert set(dataset.folds(train, 3)) == {0, 1, 2}
    with pytest.raises(OptionError, match="unknown split 'dev'"):
        dataset.indices("dev")

"""A bundle opens with exactly the content that was packed, or not at all."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import os
import random
import stat
import struct
import zipfile
from pathlib import Path

import pytest

from edgetl.bundle import Manifest, open_bundle, pack, write_bundle
from edgetl.bundle import format as bundle
from edgetl.errors import BundleError, IntegrityError, StorageError

ENTRIES = {
    "model.tflite": bytes(range(256)) * 8,
    "last_layer/weights.npy": b"weights" * 20,
    "guard/labels.json": b'["a", "b"]',
    "empty.bin": b"",
}


def manifest(**changes: object) -> Manifest:
    values = {
        "name": "waste",
        "edgetl_version": "0.1.0",
        "backbone": {"name": "efficientnet-lite0"},
        "preprocess": {"height": 224, "width": 224, "fit": "squash", "interpolation": "bilinear"},
        "target": "rpi4",
        "quantize": "int8",
        "labels": ["glass", "paper"],
        "embedding": {"size": 16, "dtype": "int8", "scale": 0.02, "zero_point": -128},
        "last_layer": {"solver": "ridge"},
        "accuracy": {"int8": 0.9},
        "licences": ["Apache-2.0"],
    }
    return Manifest(**{**values, **changes})  # type: ignore[arg-type]


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    return pack(tmp_path / "waste.edgetl", manifest(), ENTRIES)


def zip_with(path: Path, text: str | bytes, entries: list[tuple[zipfile.ZipInfo | str, bytes]]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("manifest.json", text)
        for info, data in entries:
            archive.writestr(info, data)
    return path


def manifest_of(path: Path) -> str:
    with zipfile.ZipFile(path) as archive:
        return archive.read("manifest.json").decode()


class TestPacking:
    def test_what_was_packed_comes_out_of_the_opened_bundle(self, packed: Path) -> None:
        opened = open_bundle(packed)
        assert opened.names == tuple(sorted(ENTRIES))
        assert {name: opened.read(name) for name in opened.names} == ENTRIES
        assert opened.manifest.labels == ["glass", "paper"]
        assert "model.tflite" in opened
        assert "model_edgetpu.tflite" not in opened

    def test_the_same_content_gives_the_same_bytes_whatever_the_order(self, packed: Path, tmp_path: Path) -> None:
        again = pack(tmp_path / "again.edgetl", manifest(), dict(reversed(ENTRIES.items())))
        assert again.read_bytes() == packed.read_bytes()
        assert open_bundle(again).digest == open_bundle(packed).digest

    def test_other_content_gives_another_digest(self, packed: Path, tmp_path: Path) -> None:
        other = pack(tmp_path / "other.edgetl", manifest(), {**ENTRIES, "empty.bin": b"x"})
        assert open_bundle(other).digest != open_bundle(packed).digest

    def test_the_manifest_comes_first_and_everyone_may_read_the_file(self, packed: Path) -> None:
        with zipfile.ZipFile(packed) as archive:
            assert archive.namelist()[0] == "manifest.json"
        assert stat.S_IMODE(packed.stat().st_mode) == 0o644

    def test_a_bundle_with_nothing_but_a_manifest_is_one(self, tmp_path: Path) -> None:
        assert open_bundle(pack(tmp_path / "bare.edgetl", manifest(), {})).names == ()

    def test_an_opened_bundle_outlives_its_file(self, packed: Path) -> None:
        opened = open_bundle(packed)
        packed.unlink()
        assert opened.read("guard/labels.json") == ENTRIES["guard/labels.json"]

    def test_an_absent_entry_is_named(self, packed: Path) -> None:
        with pytest.raises(BundleError, match=r"no entry 'canaries.json'"):
            open_bundle(packed).read("canaries.json")

    @pytest.mark.parametrize(
        "name", ["../up", "/etc/passwd", "a\\b", "a//b", ".hidden", "a/../b", "manifest.json", "ü"]
    )
    def test_names_that_would_not_open_are_not_packed(self, name: str, tmp_path: Path) -> None:
        with pytest.raises(BundleError, match="entry name"):
            pack(tmp_path / "x.edgetl", manifest(), {name: b"x"})
        assert list(tmp_path.iterdir()) == []


class TestStorage:
    @pytest.mark.parametrize(
        ("number", "line"),
        [(errno.ENOSPC, "disk is full"), (errno.EROFS, "read-only"), (errno.EACCES, "may not write")],
    )
    def test_a_failed_write_keeps_the_old_bundle_and_leaves_nothing_beside_it(
        self, number: int, line: str, packed: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before = packed.read_bytes()

        def refuse(_handle: int) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "fsync", refuse)
        with pytest.raises(StorageError, match=line) as caught:
            pack(packed, manifest(name="new"), ENTRIES)
        assert "\n" not in str(caught.value)
        assert packed.read_bytes() == before
        assert list(packed.parent.iterdir()) == [packed]

    def test_an_interrupt_leaves_nothing_half_written(self, packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        before = packed.read_bytes()

        def interrupt(*_: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(os, "replace", interrupt)
        with pytest.raises(KeyboardInterrupt):
            pack(packed, manifest(name="new"), ENTRIES)
        assert packed.read_bytes() == before
        assert list(packed.parent.iterdir()) == [packed]

    def test_a_missing_folder_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(StorageError, match="no such folder"):
            pack(tmp_path / "none" / "x.edgetl", manifest(), ENTRIES)

    def test_a_folder_at_the_path_of_the_bundle_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "x.edgetl").mkdir()
        with pytest.raises(StorageError, match="is a folder"):
            pack(tmp_path / "x.edgetl", manifest(), ENTRIES)
        assert [path.name for path in tmp_path.iterdir()] == ["x.edgetl"]


class TestHostileFiles:
    def test_a_missing_file_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(BundleError, match="no bundle at"):
            open_bundle(tmp_path / "none.edgetl")

    @pytest.mark.parametrize("data", [b"", b"PK", b"not a zip" * 100, b"PK\5\6" + bytes(18)])
    def test_what_is_not_a_bundle_is_refused(self, data: bytes, tmp_path: Path) -> None:
        path = tmp_path / "x.edgetl"
        path.write_bytes(data)
        with pytest.raises(BundleError):
            open_bundle(path)

    def test_a_changed_entry_fails_its_digest(self, packed: Path, tmp_path: Path) -> None:
        swapped = {**ENTRIES, "model.tflite": b"X" * len(ENTRIES["model.tflite"])}
        path = zip_with(tmp_path / "x.edgetl", manifest_of(packed), list(swapped.items()))
        with pytest.raises(IntegrityError, match=r"model\.tflite.*changed after packing"):
            open_bundle(path)

    def test_an_entry_of_another_size_is_refused(self, packed: Path, tmp_path: Path) -> None:
        path = zip_with(tmp_path / "x.edgetl", manifest_of(packed), list({**ENTRIES, "empty.bin": b"more"}.items()))
        with pytest.raises(IntegrityError, match=r"empty\.bin.*4 bytes"):
            open_bundle(path)

    def test_missing_and_unlisted_entries_are_named(self, packed: Path, tmp_path: Path) -> None:
        entries = {**ENTRIES, "extra.bin": b"x"}
        del entries["empty.bin"]
        path = zip_with(tmp_path / "x.edgetl", manifest_of(packed), list(entries.items()))
        with pytest.raises(IntegrityError, match=r"'empty\.bin' is missing, 'extra\.bin' is not listed"):
            open_bundle(path)

    @pytest.mark.filterwarnings("ignore:Duplicate name")
    def test_two_entries_of_one_name_are_refused(self, packed: Path, tmp_path: Path) -> None:
        path = zip_with(tmp_path / "x.edgetl", manifest_of(packed), [*ENTRIES.items(), ("model.tflite", b"other")])
        with pytest.raises(BundleError, match="two entries of one name"):
            open_bundle(path)

    @pytest.mark.parametrize("name", ["../up", "/abs", "a\\b", "a/./b", "nul\0byte", "a/b/c/d/e"])
    def test_path_tricks_are_refused(self, name: str, packed: Path, tmp_path: Path) -> None:
        path = zip_with(tmp_path / "x.edgetl", manifest_of(packed), [*ENTRIES.items(), ("placeholder", b"")])
        raw = path.read_bytes()
        padded = name.encode().ljust(len("placeholder"), b"_")
        path.write_bytes(raw.replace(b"placeholder", padded))
        with pytest.raises(BundleError):
            open_bundle(path)

    def test_a_symbolic_link_is_refused(self, packed: Path, tmp_path: Path) -> None:
        link = zipfile.ZipInfo("link")
        link.create_system = 3
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        path = zip_with(tmp_path / "x.edgetl", manifest_of(packed), [*ENTRIES.items(), (link, b"/etc/passwd")])
        with pytest.raises(BundleError, match="not a regular file"):
            open_bundle(path)

    def test_an_encrypted_entry_is_refused(self, packed: Path) -> None:
        raw = bytearray(packed.read_bytes())
        raw[raw.index(b"PK\1\2") + 8] |= 1
        packed.write_bytes(raw)
        with pytest.raises(BundleError, match="encrypted"):
            open_bundle(packed)

    def test_an_unusual_compression_is_refused(self, packed: Path, tmp_path: Path) -> None:
        info = zipfile.ZipInfo("x.bin")
        info.compress_type = zipfile.ZIP_LZMA
        path = zip_with(tmp_path / "x.edgetl", manifest_of(packed), [*ENTRIES.items(), (info, b"x")])
        with pytest.raises(BundleError, match="compression method"):
            open_bundle(path)

    def test_a_declared_size_over_the_limit_is_refused_before_reading(
        self, packed: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(bundle, "ENTRY_LIMIT_BYTES", 1000)
        with pytest.raises(BundleError, match="at most 1000 are accepted"):
            open_bundle(packed)

    def test_the_sum_of_sizes_has_a_limit(self, packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(bundle, "TOTAL_LIMIT_BYTES", 1000)
        with pytest.raises(BundleError, match="unpacks to"):
            open_bundle(packed)

    def test_a_size_no_compression_reaches_is_refused(self, packed: Path) -> None:
        raw = bytearray(packed.read_bytes())
        at = raw.rindex(b"PK\1\2")
        struct.pack_into("<L", raw, at + 24, 300_000_000)
        packed.write_bytes(raw)
        with pytest.raises(BundleError, match="sizes are impossible"):
            open_bundle(packed)

    def test_a_bomb_that_hides_its_size_is_cut_off_at_what_it_declares(self, packed: Path, tmp_path: Path) -> None:
        path = zip_with(tmp_path / "x.edgetl", manifest_of(packed), [*{**ENTRIES, "empty.bin": bytes(10**7)}.items()])
        raw = bytearray(path.read_bytes())
        struct.pack_into("<L", raw, raw.rindex(b"PK\1\2") + 24, 0)
        path.write_bytes(raw)
        with pytest.raises(BundleError):
            open_bundle(path)

    @pytest.mark.parametrize("before_and_after", [(b"#!/bin/sh\n", b""), (b"", b"tail")])
    def test_bytes_before_or_after_the_bundle_are_refused(
        self, before_and_after: tuple[bytes, bytes], packed: Path
    ) -> None:
        before, after = before_and_after
        packed.write_bytes(before + packed.read_bytes() + after)
        with pytest.raises(BundleError):
            open_bundle(packed)

    def test_a_huge_manifest_is_refused(self, tmp_path: Path) -> None:
        path = zip_with(tmp_path / "x.edgetl", b" " * (bundle.MANIFEST_LIMIT_BYTES + 1), [])
        with pytest.raises(BundleError, match="are accepted"):
            open_bundle(path)

    def test_thousands_of_random_changes_give_a_bundle_error_or_the_very_content(self, packed: Path) -> None:
        rng = random.Random(0)
        whole = packed.read_bytes()
        expected = open_bundle(packed)
        refused = 0
        for _ in range(3000):
            changed = bytearray(whole)
            for _ in range(rng.choice([1, 1, 2, 8])):
                changed[rng.randrange(len(changed))] = rng.randrange(256)
            packed.write_bytes(changed[: rng.randrange(len(changed))] if rng.random() < 0.2 else changed)
            try:
                opened = open_bundle(packed)
            except BundleError:
                refused += 1
                continue
            assert opened.digest == expected.digest
            assert {name: opened.read(name) for name in opened.names} == ENTRIES
        assert refused > 2000


class TestWritingAgain:
    def test_an_opened_bundle_is_written_as_it_was(self, packed: Path, tmp_path: Path) -> None:
        again = write_bundle(tmp_path / "again.edgetl", open_bundle(packed))
        assert again.read_bytes() == packed.read_bytes()

    def test_a_signature_travels_with_the_bundle_and_changes_no_digest(self, packed: Path, tmp_path: Path) -> None:
        opened = open_bundle(packed)
        signed = write_bundle(tmp_path / "signed.edgetl", dataclasses.replace(opened, signature=b"signature"))
        assert open_bundle(signed).signature == b"signature"
        assert open_bundle(signed).digest == opened.digest
        assert open_bundle(signed).names == opened.names
        assert opened.signature == b""

    def test_a_signature_has_a_limit(self, packed: Path, tmp_path: Path) -> None:
        bundle = dataclasses.replace(open_bundle(packed), signature=b"s" * 5000)
        signed = write_bundle(tmp_path / "signed.edgetl", bundle)
        with pytest.raises(BundleError, match="at most 4096"):
            open_bundle(signed)

    def test_entries_that_the_reader_has_may_be_left_out(self, packed: Path, tmp_path: Path) -> None:
        opened = open_bundle(packed)
        model = opened.read("model.tflite")
        digest = hashlib.sha256(model).hexdigest()
        small = write_bundle(tmp_path / "small.edgetl", opened, at_hand={digest})
        whole = open_bundle(small, at_hand={digest: model})
        assert {name: whole.read(name) for name in whole.names} == ENTRIES
        assert whole.digest == opened.digest
        with pytest.raises(IntegrityError, match=r"'model.tflite' is missing"):
            open_bundle(small)
        with pytest.raises(IntegrityError, match=r"'model.tflite' was changed"):
            open_bundle(small, at_hand={digest: bytes(len(model))})
        with pytest.raises(IntegrityError, match=r"'model.tflite' has 3 bytes"):
            open_bundle(small, at_hand={digest: b"abc"})


class TestManifest:
    def test_a_manifest_survives_json(self) -> None:
        assert Manifest.from_json(manifest().to_json()) == manifest()

    def test_the_same_manifest_gives_the_same_text(self) -> None:
        assert manifest(accuracy={"b": 1, "a": 2}).to_json() == manifest(accuracy={"a": 2, "b": 1}).to_json()

    @pytest.mark.parametrize(
        "changes",
        [
            {"name": ""},
            {"name": "a\nb"},
            {"target": 4},
            {"quantize": "int4"},
            {"edgetpu": "maybe"},
            {"labels": []},
            {"labels": "glass"},
            {"labels": ["a", "a"]},
            {"labels": ["a", "\x1b[31m"]},
            {"labels": ["\ud800"]},
            {"backbone": []},
            {"licences": {}},
            {"accuracy": None},
            {"embedding": {"size": 16, "dtype": "int8", "scale": 1.0}},
            {"embedding": {"size": 0, "dtype": "int8", "scale": 1.0, "zero_point": 0}},
            {"embedding": {"size": True, "dtype": "int8", "scale": 1.0, "zero_point": 0}},
            {"embedding": {"size": 16, "dtype": "int64", "scale": 1.0, "zero_point": 0}},
            {"embedding": {"size": 16, "dtype": "int8", "scale": float("nan"), "zero_point": 0}},
            {"embedding": {"size": 16, "dtype": "int8", "scale": 10**400, "zero_point": 0}},
            {"embedding": {"size": 16, "dtype": "int8", "scale": 1.0, "zero_point": 1000}},
            {"entries": {"../x": {"sha256": "0" * 64, "size": 1}}},
            {"entries": {"x": {"sha256": "0" * 63, "size": 1}}},
            {"entries": {"x": {"sha256": "0" * 64, "size": -1}}},
            {"entries": {"x": {"sha256": "0" * 64, "size": 1, "more": 1}}},
            {"format": True},
        ],
        ids=repr,
    )
    def test_an_invalid_value_is_refused(self, changes: dict[str, object]) -> None:
        with pytest.raises(BundleError):
            manifest(**changes)

    def test_an_unknown_format_says_how_to_read_it(self) -> None:
        values = {**dataclasses.asdict(manifest()), "format": 2, "news": 1}
        with pytest.raises(BundleError, match=r"unknown bundle format 2.*pip install -U edgetl"):
            Manifest.from_json(json.dumps(values))

    def test_an_unknown_key_is_named(self) -> None:
        values = {**dataclasses.asdict(manifest()), "news": 1}
        with pytest.raises(BundleError, match="news"):
            Manifest.from_json(json.dumps(values))

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "[]",
            "null",
            '{"format": 1}',
            '{"format": 1, "format": 1}',
            "[" * 100_000,
            '{"a": NaN}',
            b"\xff",
        ],
    )
    def test_what_is_not_a_manifest_is_refused(self, text: str) -> None:
        with pytest.raises(BundleError):
            Manifest.from_json(text)

    def test_a_value_that_is_not_json_is_refused_on_packing(self) -> None:
        with pytest.raises(BundleError, match="JSON"):
            manifest(accuracy={"int8": float("inf")}).to_json()

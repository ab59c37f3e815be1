"""Names of files and classes from outside: shown, stored and passed on whole, whatever they contain."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import shutil
import sqlite3
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgetl import backbones, text
from edgetl.bundle import look_alike
from edgetl.data import write_digits
from edgetl.errors import LearningError, OptionError
from edgetl.runtime import Learner

BUNDLE = Path(__file__).parent.parent / "data_of_earlier_versions" / "colours.edgetl"
BYTES = b"caf\xe9.png"
"""A name in ISO-8859-1, as an archive from another system leaves it."""
ESCAPES = b"a\x1b[31m\xc2\x9b2J\n\xe2\x80\xaeb.png"
LABEL = "日本[/b][red]−:boom:"

LOCALES = {
    "utf-8": {"PYTHONIOENCODING": "utf-8"},
    "ascii": {"PYTHONIOENCODING": "ascii"},
    "latin-1": {"PYTHONIOENCODING": "iso-8859-1"},
    "gbk": {"PYTHONIOENCODING": "gbk"},
    "strict utf-8": {"PYTHONIOENCODING": "utf-8:strict"},
    "C": {"LC_ALL": "C", "PYTHONIOENCODING": "", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
}
HIDDEN = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]")

Run = Any


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A bundle, and a folder of two photos with awkward names."""
    shutil.copy(BUNDLE, tmp_path / "colours.edgetl")
    os.mkdir(tmp_path / "photos")
    for name in (BYTES, ESCAPES):
        with open(os.fsencode(tmp_path) + b"/photos/" + name, "wb") as file:
            Image.new("RGB", (64, 64), (200, 10, 10)).save(file, "PNG")
    return tmp_path


def edgetl(
    folder: Path, *arguments: str | bytes, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    command: list[str | bytes] = [sys.executable, "-m", "edgetl", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), **(env or {})}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=False)
    assert b"Traceback" not in done.stderr, done.stderr.decode(errors="replace")
    return done


def names_of(folder: Path) -> set[bytes]:
    return {b"photos/" + name for name in os.listdir(os.fsencode(folder / "photos"))}


@pytest.mark.parametrize("locale", LOCALES)
def test_every_verb_shows_awkward_names_and_labels_in_every_locale(folder: Path, locale: str) -> None:
    env = LOCALES[locale]
    encoding = {"latin-1": "iso-8859-1", "gbk": "gbk"}.get(locale, "utf-8")
    taught = edgetl(folder, "teach", "colours.edgetl", LABEL, "photos", env=env)
    assert taught.returncode == 0, taught.stderr
    for arguments in (
        ("run", "colours.edgetl", "--source", "photos"),
        ("status", "colours.edgetl"),
        ("history", "colours.edgetl"),
        ("show", "colours.edgetl"),
        ("forget", "colours.edgetl", "--class", LABEL),
    ):
        done = edgetl(folder, *arguments, env=env)
        assert done.returncode == 0, (arguments, done.stderr)
        shown = done.stdout.decode(encoding)
        assert not HIDDEN.search(shown), (arguments, shown)
        assert arguments[0] in ("run", "show") or "[/b][red]" in shown
    lines = edgetl(folder, "run", "colours.edgetl", "--source", "photos", env=env).stdout.splitlines()
    assert len(lines) == 2  # a line break in a name begins no line


@pytest.mark.parametrize("locale", LOCALES)
def test_json_is_valid_and_leads_back_to_the_file(folder: Path, locale: str) -> None:
    done = edgetl(folder, "run", "colours.edgetl", "--source", "photos", "--json", env=LOCALES[locale])
    answers = [json.loads(line.decode("utf-8", "strict")) for line in done.stdout.splitlines()]
    assert {os.fsencode(answer["source"]) for answer in answers} == names_of(folder)
    edgetl(folder, "teach", "colours.edgetl", LABEL, "photos", env=LOCALES[locale])
    (history,) = edgetl(folder, "history", "colours.edgetl", "--json", env=LOCALES[locale]).stdout.splitlines()
    entries = json.loads(history)
    assert {os.fsencode(entry["source"]) for entry in entries} == names_of(folder)
    assert {entry["label"] for entry in entries} == {LABEL}


def test_an_unreadable_photo_with_an_awkward_name_is_reported_and_skipped(folder: Path) -> None:
    with open(os.fsencode(folder) + b"/photos/\xff\x1b]0;x\x07.jpg", "wb") as file:
        file.write(b"no picture")
    for env in LOCALES.values():
        done = edgetl(folder, "run", "colours.edgetl", "--source", "photos", env=env)
        assert done.returncode == 0
        assert b"\\xff\\x1b]0;x\\x07.jpg" in done.stderr
        assert len(done.stdout.splitlines()) == 2


def test_watching_a_folder_goes_on_after_an_awkward_name(folder: Path) -> None:
    command = [sys.executable, "-m", "edgetl", "run", "colours.edgetl", "--source", "photos", "--watch"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONIOENCODING": "gbk"}
    with subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            shown = sorted(process.stdout.readline() for _ in range(2))
            assert b"\\x1b[31m" in shown[0]
            assert b"caf\\xe9" in shown[1]
            assert process.poll() is None
        finally:
            process.terminate()
    assert process.returncode == 0


@pytest.mark.parametrize("locale", LOCALES)
def test_a_command_gets_the_bytes_of_the_name_and_the_label_as_utf_8(folder: Path, locale: str) -> None:
    edgetl(folder, "teach", "colours.edgetl", LABEL, "photos", env=LOCALES[locale])
    script = folder / "hook"
    script.write_text('#!/bin/sh\nprintf "%s\\0%s\\0%s\\0" "$1" "$EDGETL_SOURCE" "$EDGETL_LABEL" >> called\n')
    script.chmod(0o755)
    hook = ("--on-novel", "--on-label", LABEL, "./hook {source}")
    done = edgetl(folder, "run", "colours.edgetl", "--source", "photos", *hook, env=LOCALES[locale])
    assert done.returncode == 0, done.stderr
    parts = (folder / "called").read_bytes().split(b"\0")[:-1]
    assert set(parts[::3]) == set(parts[1::3]) == names_of(folder)
    assert set(parts[2::3]) == {LABEL.encode()}


def test_a_failing_command_is_reported_without_its_escapes(folder: Path) -> None:
    done = edgetl(
        folder, "run", "colours.edgetl", "--source", "photos", "--on-novel", "--on-label", "red", "false {source}"
    )
    assert done.returncode == 0
    assert b"\x1b" not in done.stderr
    assert b"caf\\xe9" in done.stderr


@pytest.mark.parametrize("encoding", ["utf-8", "iso-8859-1", "gbk", "ascii"])
def test_a_terminal_shows_markup_as_it_is(folder: Path, encoding: str) -> None:
    edgetl(folder, "teach", "colours.edgetl", LABEL, "photos")
    shown = in_terminal(folder, encoding, "run", "colours.edgetl", "--source", "photos")
    assert "[/b][red]" in shown.decode(encoding)
    assert b"Traceback" not in shown
    assert b"\x1b[31m\xc2" not in shown
    assert b"\xc2\x9b2J" not in shown


def in_terminal(folder: Path, encoding: str, *arguments: str) -> bytes:
    """What a verb writes to a terminal."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONIOENCODING": encoding}
    command = [sys.executable, "-m", "edgetl", *arguments]
    process = subprocess.Popen(command, cwd=folder, env=environment, stdout=theirs, stderr=theirs)
    os.close(theirs)
    output = io.BytesIO()
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            output.write(os.read(ours, 65536))
        except OSError:  # the other side is closed
            break
    os.close(ours)
    assert process.wait(60) == 0
    return output.getvalue()


def test_errors_show_no_escapes_either(folder: Path) -> None:
    for arguments in (
        ("run", b"\x1b]0;title\x07\xff.edgetl", "--source", "photos"),
        ("run", "colours.edgetl", "--source", b"\x1b[2J\xff"),
        ("teach", "colours.edgetl", "a\x1b[2J", "photos"),
        ("\x1b[2J",),
    ):
        done = edgetl(folder, *arguments)
        assert done.returncode == 2
        assert b"\x1b" not in done.stderr
        assert b"\xff" not in done.stderr


def test_the_device_s_protocol_answers_in_valid_json_and_clean_lines(tmp_path: Path) -> None:
    folder = os.path.join(tmp_path, os.fsdecode(b"d\xe9\x1b[2J"))
    for env in LOCALES.values():
        command = [sys.executable, "-m", "edgetl.runtime", "status", "--root", folder]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), **env}
        as_json = subprocess.run([*command, "--json"], env=environment, capture_output=True, check=True)
        assert json.loads(as_json.stdout.decode("utf-8", "strict"))["root"] == folder
        lines = subprocess.run(command, env=environment, capture_output=True, check=True)
        assert b"d\\xe9\\x1b[2J" in lines.stdout


def test_a_label_that_is_typed_in_a_locale_without_utf_8_is_the_same_label(folder: Path) -> None:
    edgetl(folder, "teach", "colours.edgetl", "érable", "photos")
    done = edgetl(folder, "teach", "colours.edgetl", "érable", "photos", "--json", env=LOCALES["C"])
    assert json.loads(done.stdout)["labels"] == ["blue", "green", "red", "érable"]


# ---- the functions, one for each destination


STRANGE = [
    "plain",
    "日本",
    "caf\udce9",
    "\ud800",
    "a\0b",
    "\x1b[31m",
    "[/x]",
    "\u202e",
    "−",
    "a\nb",
    "\\",
    "%n",
    "$HOME",
    "'",
]


@pytest.mark.parametrize("strange", STRANGE)
def test_each_destination_takes_any_text(strange: str) -> None:
    for encoding in ("utf-8", "ascii", "iso-8859-1", "gbk", "cp1251", "shift_jis"):
        shown = text.for_terminal(strange, encoding)
        assert not HIDDEN.search(shown)
        assert "\n" not in shown
        shown.encode(encoding)
        assert json.loads(text.for_json({strange: [strange]}, encoding).encode(encoding)) == {strange: [strange]}
    database = sqlite3.connect(":memory:")
    (stored,) = database.execute("SELECT ?", (text.for_sqlite(strange),)).fetchone()
    assert text.from_sqlite(stored) == strange
    assert not HIDDEN.search(text.for_html(strange).encode("utf-8").decode())
    text.for_process(strange)


def test_ordinary_text_is_left_alone() -> None:
    for plain in ("Straße 12", "日本　語", "می\u200cخواهم", "👩\u200d🌾", "naïve [x] {y} %", "a\\b"):
        assert text.for_terminal(plain, "utf-8") == plain
        assert text.for_json(plain) == f'"{plain}"'.replace("\\", "\\\\")
    assert text.for_html("<b>&\"'") == "&lt;b&gt;&amp;&quot;&#x27;"


def test_numbers_that_json_lacks_become_null() -> None:
    assert text.for_json({"a": float("nan"), "b": [float("inf"), 1.5]}) == '{"a": null, "b": [null, 1.5]}'


def test_signs_that_an_encoding_lacks_are_replaced_by_ascii_ones() -> None:
    assert text.for_terminal("−2.5 ≈ 日", "ascii") == "-2.5 ~ \\u65e5"


def test_a_systemd_unit_gets_words_that_expand_to_themselves() -> None:
    assert text.for_systemd('50% "x"\\') == '"50%% \\"x\\"\\\\"'
    for refused in ("a\nb", "caf\udce9", "\x1b"):
        with pytest.raises(OptionError, match="remove line breaks and control characters"):
            text.for_systemd(refused)


# ---- labels that look the same

TWINS = {
    "case": "RED",
    "full width": "ｒｅｄ",
    "zero width": "re\u200bd",
    "joiner": "re\u200dd",
    "byte order mark": "\ufeffred",
    "soft hyphen": "re\u00add",
    "right to left mark": "red\u200f",
    "variation selector": "red\ufe0f",
    "Cyrillic e": "rеd",
}


@pytest.mark.parametrize("twin", TWINS.values(), ids=TWINS)
def test_teach_refuses_a_label_that_looks_like_another_unless_a_new_class_is_meant(folder: Path, twin: str) -> None:
    refused = edgetl(folder, "teach", "colours.edgetl", twin, "photos")
    assert refused.returncode == 2
    assert b"looks like the class 'red', which exists; use that name" in refused.stderr
    assert b"--new-class" in refused.stderr
    assert not (folder / "colours.state").exists()
    done = edgetl(folder, "teach", "colours.edgetl", twin, "photos", "--new-class", "--json")
    assert json.loads(done.stdout)["labels"] == ["blue", "green", "red", twin]
    again = edgetl(folder, "teach", "colours.edgetl", twin, "photos", "--json")
    assert again.returncode == 0  # it exists now


def test_correct_and_rename_refuse_it_too(folder: Path) -> None:
    edgetl(folder, "teach", "colours.edgetl", "crème", "photos")
    assert edgetl(folder, "correct", "colours.edgetl", "1", "Red").returncode == 2
    assert edgetl(folder, "rename", "colours.edgetl", "crème", "Red").returncode == 2
    assert edgetl(folder, "rename", "colours.edgetl", "crème", "Crème").returncode == 0  # its own name
    assert edgetl(folder, "correct", "colours.edgetl", "1", "Red", "--new-class").returncode == 0
    assert edgetl(folder, "rename", "colours.edgetl", "Crème", "GREEN", "--new-class").returncode == 0


def test_accents_in_another_form_are_the_same_class(folder: Path) -> None:
    edgetl(folder, "teach", "colours.edgetl", "cr\u00e8me", "photos")
    done = edgetl(folder, "teach", "colours.edgetl", "cre\u0300me", "photos", "--json")
    assert json.loads(done.stdout)["labels"] == ["blue", "green", "red", "cr\u00e8me"]


def test_a_merge_keeps_the_labels_and_reports_those_that_look_the_same(folder: Path) -> None:
    edgetl(folder, "teach", "colours.edgetl", "Red", "photos", "--new-class", "--state", "other")
    done = edgetl(folder, "merge", "colours.edgetl", "other")
    assert done.returncode == 0
    assert b"'Red' and 'red' count as different classes but look the same" in done.stderr


def test_the_library_refuses_it_and_can_be_told_otherwise(folder: Path) -> None:
    photo = Image.new("RGB", (64, 64))
    with Learner(folder / "colours.edgetl") as learner:
        with pytest.raises(LearningError, match="looks like the class 'red'"):
            learner.teach(photo, "Red")
        learner.teach(photo, "Red", new_class=True)
        assert "Red" in learner.labels


def test_labels_that_only_resemble_each_other_are_different() -> None:
    for first, second in [("red", "reed"), ("1", "-1"), ("a b", "ab"), ("e", "é"), ("10", "1 0"), ("кот", "cat")]:
        assert look_alike(first, [second]) is None


def test_every_verb_prints_through_the_functions_that_escape() -> None:
    package = Path(text.__file__).parent
    for path in (package / "cli").glob("*.py"):
        if path.name != "console.py":
            source = path.read_text(encoding="utf-8")
            assert not re.search(r"click\.(echo|secho|style)\(|(?<![\w.])print\(|std(out|err)\.write\(", source), path
    for path in package.rglob("*.py"):
        assert not re.search(
            r"add_(row|column)\(f?\"[^\"]*\{|console\.print\(f?\"", path.read_text(encoding="utf-8")
        ), path


@pytest.mark.slow
@pytest.mark.parametrize("locale", ["gbk", "C"])
def test_a_build_from_awkward_names_ends_with_its_report(tmp_path: Path, locale: str) -> None:
    labels = {"0": "日本 −é", "1": "100% [b]{y}<i>", "7": "Ünï:smile:" + "x" * 60}
    digits = write_digits(tmp_path / "digits")
    for digit, label in labels.items():
        for split in ("train", "test"):
            folder = tmp_path / "photos" / split / label
            folder.mkdir(parents=True)
            for number, photo in enumerate(sorted((digits / split / digit).iterdir())[:12]):
                name = os.fsdecode(b"\xe9\xfe%d<\x1b[31m\n.png" % number)
                (folder / name).write_bytes(photo.read_bytes())
        for wrong in (b"bad\xff\x9b.png", b"bad\xfe\x9b.png"):
            (tmp_path / "photos" / "train" / label / os.fsdecode(wrong)).write_bytes(b"no picture")
    options = ("--target", "rpi4", "--fine-tune", "off", "--input-size", "64", "--no-float-reference")
    done = edgetl(tmp_path, "build", "--data", "photos", "-o", "made", *options, env=LOCALES[locale])
    assert done.returncode == 0, done.stderr
    assert not HIDDEN.search(done.stdout.decode("gbk" if locale == "gbk" else "utf-8"))
    assert b"6 photos" in done.stdout  # names that differ in such a byte alone are different photos
    report = json.loads((tmp_path / "made" / "photos-report.json").read_text(encoding="utf-8"))
    for image in report["evaluation"]["images"]:
        assert (tmp_path / "photos" / image["source"]).is_file()
    page = (tmp_path / "made" / "photos-report.html").read_text(encoding="utf-8")
    assert not HIDDEN.search(page.replace("\t", " "))
    assert "<i>," not in page
    assert "data:image/jpeg;base64" in page


NAMES = ["höhe 1", "100%\n", "a:b..c", "日本", "x" * 300, "_private", "-dash", "x" * 300 + "y"]


@pytest.mark.slow
def test_a_network_whose_layers_have_any_names_is_a_backbone(tmp_path: Path) -> None:
    keras = pytest.importorskip("keras")

    def network(names: list[str]) -> Any:
        image = x = keras.layers.Input((32, 32, 3))
        for name in names:
            x = keras.layers.Conv2D(4, 3, name=name, activation="relu")(x)
        return keras.Model(image, keras.layers.GlobalAveragePooling2D()(x))

    model, plain = network(NAMES), network([f"layer{number}" for number in range(len(NAMES))])
    plain.set_weights(model.get_weights())  # Keras saves the names, but TensorFlow cannot run them
    path = tmp_path / "mein Netz %é [x].keras"
    model.save(path)
    with zipfile.ZipFile(path) as archive:
        assert "höhe 1" in json.dumps(json.loads(archive.read("config.json")), ensure_ascii=False)
    backbone = backbones.build(backbones.get_backbone(str(path), (0.0, 255.0)))
    pixels = np.random.default_rng(0).random((2, 32, 32, 3)).astype(np.float32)
    np.testing.assert_allclose(backbone.predict(pixels, verbose=0), plain.predict(pixels, verbose=0), atol=1e-5)


def test_a_name_for_a_library_is_short_and_plain() -> None:
    for name in [*NAMES, *STRANGE, "", "../x", "a/b"]:
        assert re.fullmatch("[A-Za-z][A-Za-z0-9_]{0,99}", text.for_identifier(name))
    assert text.for_identifier("block_1") == "block_1"

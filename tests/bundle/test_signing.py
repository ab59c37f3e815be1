"""A signature covers one content and one sequence number, and only signatures of trusted keys count."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from edgetl.bundle import Bundle, open_bundle, write_bundle
from edgetl.bundle.signing import (
    distrust_key,
    make_key,
    read_private_key,
    read_public_key,
    sign,
    trust_key,
    trusted_ids,
    trusted_keys,
    verify,
)
from edgetl.errors import KeyFileError, MissingExtraError, SignatureError
from tests.runtime.learning.states import pack_teachable


@pytest.fixture(scope="module")
def bundle(tiny_model: bytes, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return open_bundle(pack_teachable(tmp_path_factory.mktemp("bundle") / "colours.edgetl", tiny_model))


@pytest.fixture
def key(tmp_path: Path) -> Path:
    make_key(tmp_path / "release.key")
    return tmp_path / "release.key"


@pytest.fixture
def trusted(key: Path, tmp_path: Path) -> Path:
    trust_key(key.with_suffix(".pub"), tmp_path / "keys")
    return tmp_path / "keys"


def test_a_trusted_signature_gives_the_sequence_number(
    bundle: Bundle, key: Path, trusted: Path, tmp_path: Path
) -> None:
    signed = write_bundle(tmp_path / "signed.edgetl", sign(bundle, read_private_key(key), 7))
    assert verify(open_bundle(signed), trusted_keys(trusted)) == 7
    assert open_bundle(signed).digest == bundle.digest


def test_the_same_key_and_number_give_the_same_bytes(bundle: Bundle, key: Path) -> None:
    private = read_private_key(key)
    assert sign(bundle, private, 7).signature == sign(bundle, private, 7).signature
    assert sign(bundle, private, 7).signature != sign(bundle, private, 8).signature


def test_an_unsigned_bundle_is_refused(bundle: Bundle, trusted: Path) -> None:
    with pytest.raises(SignatureError, match="is not signed"):
        verify(bundle, trusted_keys(trusted))


def test_another_key_is_named_and_refused(bundle: Bundle, trusted: Path, tmp_path: Path) -> None:
    identity = make_key(tmp_path / "other.key")
    signed = sign(bundle, read_private_key(tmp_path / "other.key"), 1)
    with pytest.raises(SignatureError, match=f"the key {identity}, which is not trusted here"):
        verify(signed, trusted_keys(trusted))


def test_a_key_that_claims_to_be_a_trusted_one_is_refused(bundle: Bundle, key: Path, tmp_path: Path) -> None:
    make_key(tmp_path / "other.key")
    forged = json.loads(sign(bundle, read_private_key(tmp_path / "other.key"), 1).signature)
    trusted = {forged["key"]: read_public_key(key.with_suffix(".pub"))}
    with pytest.raises(SignatureError, match="not for this content"):
        verify(replace(bundle, signature=json.dumps(forged).encode()), trusted)


@pytest.mark.parametrize("change", ["content", "number"])
def test_what_was_altered_after_signing_is_refused(bundle: Bundle, key: Path, trusted: Path, change: str) -> None:
    signed = sign(bundle, read_private_key(key), 1)
    if change == "content":
        altered = replace(signed, digest="0" * 64)
    else:
        document = {**json.loads(signed.signature), "sequence": 2}
        altered = replace(signed, signature=json.dumps(document).encode())
    with pytest.raises(SignatureError, match="not for this content"):
        verify(altered, trusted_keys(trusted))


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"key": "../../etc/passwd"},
        {"key": 4},
        {"sequence": -1},
        {"sequence": True},
        {"sequence": 1.5},
        {"sequence": 1 << 70},
        {"signature": "?"},
        {"signature": None},
        {"more": 1},
    ],
    ids=repr,
)
def test_a_malformed_signature_is_refused(bundle: Bundle, key: Path, trusted: Path, change: dict[str, object]) -> None:
    document = {**json.loads(sign(bundle, read_private_key(key), 1).signature), **change}
    with pytest.raises(SignatureError, match="has a malformed signature; sign it again"):
        verify(replace(bundle, signature=json.dumps(document).encode()), trusted_keys(trusted))


@pytest.mark.parametrize("content", [b"none", b"\xff", b"[]", b"[" * 4000])
def test_a_signature_that_is_not_json_is_refused(bundle: Bundle, trusted: Path, content: bytes) -> None:
    with pytest.raises(SignatureError):
        verify(replace(bundle, signature=content), trusted_keys(trusted))


def test_a_number_below_zero_cannot_be_signed(bundle: Bundle, key: Path) -> None:
    with pytest.raises(SignatureError, match="invalid sequence number -1"):
        sign(bundle, read_private_key(key), -1)


def test_only_its_owner_may_read_a_private_key(key: Path) -> None:
    assert key.stat().st_mode & 0o777 == 0o600
    assert b"PRIVATE" not in key.with_suffix(".pub").read_bytes()
    key.chmod(0o640)
    with pytest.raises(KeyFileError, match="chmod 600"):
        read_private_key(key)


def test_a_key_is_never_overwritten(key: Path) -> None:
    content = key.read_bytes()
    with pytest.raises(KeyFileError, match="there is already a key at"):
        make_key(key)
    assert key.read_bytes() == content


def test_a_key_can_be_distrusted(trusted: Path) -> None:
    (identity,) = trusted_ids(trusted)
    with pytest.raises(KeyFileError, match=f"trusted are: {identity}"):
        distrust_key("../keys", trusted)
    distrust_key(identity, trusted)
    assert trusted_keys(trusted) == {}


def test_a_file_that_is_not_a_key_is_named(key: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="is not an ed25519 public key"):
        trust_key(key, tmp_path / "keys")
    with pytest.raises(KeyFileError, match=r"cannot read the key .*gone.pub: no such file"):
        trust_key(tmp_path / "gone.pub", tmp_path / "keys")
    key.write_text("none")
    with pytest.raises(KeyFileError, match="is not an ed25519 private key"):
        read_private_key(key)


def test_a_missing_package_is_named_with_the_command_that_installs_it(
    key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives", None)
    with pytest.raises(MissingExtraError, match=r"needs cryptography. Install it: pip install 'edgetl\[sign\]'"):
        read_private_key(key)


def test_a_device_without_trusted_keys_needs_no_cryptography(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['cryptography'] = None\n"
        "from pathlib import Path; from edgetl.bundle.signing import trusted_keys\n"
        f"assert trusted_keys(Path({str(tmp_path)!r})) == {{}}"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

"""Devices answer through login shells, configurations and accounts that their owners changed."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgetl.deployment import Deployed, connect, deploy_each, devices, inventory
from edgetl.deployment.answers import DeviceInventory, parse
from edgetl.deployment.transport import base, read_json_object
from edgetl.errors import DeviceError, OptionError
from tests.deployment.server import Server, serving
from tests.emulation.tools import or_skip
from tests.runtime.device.installing import Releases


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A device of these tests alone, whose login shell they change."""
    with or_skip(), serving(tmp_path_factory.mktemp("board")) as started:
        yield started


@pytest.fixture(autouse=True)
def _separate_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGETL_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def shell(board: Server) -> Iterator[Path]:
    """The login shell of the device: a script that a test writes."""
    passwd = board.folder / "passwd"
    former, script = passwd.read_text(), board.folder / "shell"
    passwd.write_text(former.replace("/bin/sh\n", f"{script}\n"))
    yield script
    passwd.write_text(former)


def write_shell(path: Path, lines: str) -> None:
    path.write_text(f"#!/bin/sh\n{lines}\n")
    path.chmod(0o755)


@pytest.mark.parametrize(
    "greeting",
    [
        "echo 'Welcome to fish'; echo '{\"not\": \"ours\"}'",
        "printf 'no line end'",
        "echo oops >&2; head -c 100000 /dev/zero",
        "printf '\\377\\376 bytes\\n'",
        'echo "$@"',
        "(sleep 0.2; echo late; sleep 0.4; echo later) &",
    ],
    ids=["lines", "no-line-end", "flood", "not-utf-8", "echo-of-the-command", "late"],
)
def test_what_the_login_shell_prints_is_not_taken_for_an_answer(
    board: Server, shell: Path, tmp_path: Path, greeting: str
) -> None:
    write_shell(shell, f'{greeting}\nexec /bin/sh "$@"')
    (tmp_path / "file").write_bytes(bytes(range(256)) * 2000)
    with connect("board", root=str(tmp_path / "it's a device!"), ssh_config=board.config) as transport:
        assert inventory(transport).running is None
        sent = transport.send(tmp_path / "file", str(tmp_path / "device"))
        assert Path(sent).read_bytes() == (tmp_path / "file").read_bytes()
        with pytest.raises(DeviceError, match=r"^board: there is no previous bundle in .*it's a device!"):
            transport.call("rollback")


def test_a_shell_that_runs_no_command_is_named(board: Server, shell: Path) -> None:
    write_shell(shell, "echo 'This account is not available'; exit 1")
    with pytest.raises(DeviceError, match=r"login shell of board did not run .* 'This account is not available'"):
        connect("board", ssh_config=board.config)


def test_one_device_that_fails_in_an_unforeseen_way_hides_no_other(board: Server, shell: Path, tmp_path: Path) -> None:
    write_shell(shell, "echo noise; exit 3")
    listed = devices(["board", f"{tmp_path}/here"], ssh_config=board.config)
    assert "did not run" in listed[0].fault
    assert listed[1].inventory is not None

    def fail(where: str) -> Deployed:
        raise KeyError(where)

    assert [outcome.fault for outcome in deploy_each(["a", "b"], fail)] == [
        "a: unexpected KeyError: 'a'",
        "b: unexpected KeyError: 'b'",
    ]


def config_with(board: Server, path: Path, *lines: str, without: str = "") -> Path:
    kept = [line for line in board.config.read_text().splitlines() if not without or without not in line]
    path.write_text("\n".join([*kept, *(f"    {line}" for line in lines)]) + "\n")
    return path


def test_what_openssh_accepts_in_its_configuration_is_accepted(board: Server, tmp_path: Path) -> None:
    (tmp_path / "more").write_text("Host board\n    ServerAliveCountMax 5\n")
    config = config_with(
        board, tmp_path / "config", "ServerAliveInterval 5m", "ConnectTimeout none", "ControlPersist 10m"
    )
    config.write_text(f'Include {tmp_path}/more\nMatch exec "true"\n    Compression yes\n{config.read_text()}')
    connect("board", ssh_config=config).close()


def test_a_configuration_that_openssh_refuses_is_one_line(board: Server, tmp_path: Path) -> None:
    config = config_with(board, tmp_path / "config", "NoSuchOption yes")
    with pytest.raises(OptionError, match=r"ssh does not accept the configuration for board: .*nosuchoption"):
        connect("board", ssh_config=config)
    with pytest.raises(OptionError, match="does not accept"):
        connect("board", ssh_config=tmp_path / "missing")


def test_a_new_key_is_added_to_the_file_that_the_configuration_names(board: Server, tmp_path: Path) -> None:
    known = tmp_path / "keys here"
    known.write_text("# mine, without a line end")
    config = config_with(
        board,
        tmp_path / "config",
        f'UserKnownHostsFile "{known}"',
        "StrictHostKeyChecking accept-new",
        "HashKnownHosts yes",
        without="KnownHosts",
    )
    connect("board", ssh_config=config).close()
    first, second = known.read_text().splitlines()
    assert first == "# mine, without a line end"
    assert second.startswith("|1|")
    connect("board", ssh_config=config_with(board, config, "StrictHostKeyChecking yes", without="Strict")).close()


def test_a_changed_key_is_accepted_only_where_checking_is_off(board: Server, tmp_path: Path) -> None:
    known = tmp_path / "known"
    known.write_text(f"[127.0.0.1]:{board.port} {(board.folder / 'key.pub').read_text()}")
    lines = (f"UserKnownHostsFile {known}",)
    config = config_with(board, tmp_path / "config", *lines, without="KnownHosts")
    with pytest.raises(DeviceError, match=r"is not the known one: .*ssh-keygen -R"):
        connect("board", ssh_config=config)
    relaxed = config_with(board, tmp_path / "relaxed", *lines, "StrictHostKeyChecking no", without="KnownHosts")
    connect("board", ssh_config=relaxed).close()


def test_an_unknown_jump_host_is_named(board: Server, tmp_path: Path) -> None:
    config = config_with(board, tmp_path / "config", "ProxyJump pi@hop")
    text = f"\nHost hop\n    HostName 127.0.0.1\n    Port {board.port}\n    HostKeyAlias elsewhere\n"
    config.write_text(config.read_text() + text + f"    UserKnownHostsFile {tmp_path}/none\n")
    with pytest.raises(DeviceError, match="the host key of the jump host pi@hop is unknown"):
        connect("board", ssh_config=config)


def test_a_device_is_reached_through_a_jump_host(board: Server, tmp_path: Path) -> None:
    config = config_with(board, tmp_path / "config", "ProxyJump pi@hop")
    config.write_text(config.read_text() + board.config.read_text().replace("Host board", "\nHost hop"))
    connect("board", ssh_config=config).close()


def test_an_encrypted_key_without_an_agent_is_named(
    board: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    key = tmp_path / "locked"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", key], check=True)
    config = config_with(board, tmp_path / "config", f"IdentityFile {key}", without="IdentityFile")
    with pytest.raises(DeviceError, match=f"{key} is encrypted .*: ssh-add {key}"):
        connect("board", ssh_config=config)


@pytest.mark.parametrize("host", ["127.0.0.1:1", "no-such-host.invalid"])
def test_a_host_that_is_off_or_misspelt_is_one_line(host: str) -> None:
    with pytest.raises(DeviceError, match=f"cannot reach pi@{host}: .*(refuses connections|is unknown)"):
        connect(f"pi@{host}")


def test_a_silent_device_is_given_up(board: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "QUICK_SECONDS", 1.0)
    python = tmp_path / "python"
    write_shell(python, "sleep 60")
    with (
        connect("board", python=str(python), ssh_config=board.config) as transport,
        pytest.raises(DeviceError, match="board gave no answer within 1 s"),
    ):
        transport.call("status")


def test_a_flood_is_given_up(board: Server, tmp_path: Path) -> None:
    python = tmp_path / "python"
    write_shell(python, "exec cat /dev/zero")
    with (
        connect("board", python=str(python), ssh_config=board.config) as transport,
        pytest.raises(DeviceError, match="board printed more than 32 MiB"),
    ):
        transport.call("status")


@pytest.mark.parametrize(
    "printed",
    [
        'hello\n{"a": 2, "protocol": 1}\n',
        '{"a": 2, "protocol": 1}late\n',
        '{"a": 2, "protocol": 1}\n{"note": "from a process in the background"}\n',
        'odd {\n{"a": 2}late\n',
    ],
)
def test_the_answer_is_found_among_what_other_processes_print(printed: str) -> None:
    assert read_json_object("board", printed) == {"a": 2}


@pytest.mark.parametrize(
    ("lines", "cause"),
    [
        ("HostName nohost.invalid", "the name nohost.invalid is unknown.*; check"),
        ("HostName 127.0.0.1\n    Port {closed}", "127.0.0.1 refuses connections on port {closed}; check that it"),
        ("HostName 127.0.0.1\n    Port {silent}\n    ConnectTimeout 1", "no answer within 1 s; check that it is on"),
    ],
    ids=["unknown name", "refused", "silent"],
)
def test_each_fault_of_the_network_has_its_own_next_step(tmp_path: Path, lines: str, cause: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        closed = free.getsockname()[1]
    with socket.create_server(("127.0.0.1", 0)) as server:
        ports = {"closed": closed, "silent": server.getsockname()[1]}
        (tmp_path / "config").write_text(f"Host board\n    {lines.format(**ports)}\n")
        with pytest.raises(DeviceError, match=f"^cannot reach board: {cause.format(**ports)}") as refused:
            connect("board", ssh_config=tmp_path / "config")
    assert "Errno" not in str(refused.value)
    assert "has arrived" not in str(refused.value)


def test_a_deployment_says_before_the_service_starts_that_there_is_no_camera_library(
    board: Server, releases: Releases, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "edgetl", "deploy", releases.first, "board", "--service", "--root", tmp_path]
    done = subprocess.run([*command, "--ssh-config", board.config], capture_output=True, text=True)
    assert done.stderr.startswith("board: for --source camera: sudo apt install python3-picamera2"), done.stderr


@pytest.mark.parametrize("text", ["NaN", '{"a": NaN}', "[" * 100_000, "[]", '{"protocol": 1.5}', '{"protocol": true}'])
def test_odd_json_is_one_line(text: str) -> None:
    with pytest.raises(DeviceError, match=r"^board"):
        read_json_object("board", text)


def test_a_number_out_of_range_is_one_line(tmp_path: Path) -> None:
    with connect(f"{tmp_path}/device") as transport:
        answer: dict[str, Any] = transport.call("status")
    answer["probation_seconds_left"] = json.loads("1e999")
    with pytest.raises(DeviceError, match="probation_seconds_left is out of range"):
        parse(DeviceInventory, answer, "board")


def test_a_device_cannot_make_its_host_open_another_file(tmp_path: Path) -> None:
    with (
        connect(f"{tmp_path}/device") as transport,
        pytest.raises(DeviceError, match="/dev/zero is not a regular file"),
    ):
        transport.fetch("/dev/zero", "0" * 64)


def test_a_file_that_a_power_cut_filled_with_zeros_is_sent_again(board: Server, tmp_path: Path) -> None:
    (tmp_path / "wheel").write_bytes(b"content" * 1000)
    for where in ("board", f"{tmp_path}/device"):
        options = {"ssh_config": board.config}
        with connect(where, **options) as transport:
            sent = Path(transport.send(tmp_path / "wheel", str(tmp_path / "root")))
            sent.write_bytes(bytes(7000))
            transport.send(tmp_path / "wheel", str(tmp_path / "root"))
            assert sent.read_bytes() == b"content" * 1000

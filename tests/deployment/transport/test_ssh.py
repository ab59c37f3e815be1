"""A device is reached as OpenSSH's client reaches it, and a broken transfer is resumed."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from edgetl.deployment import Transport, connect, deploy, pull
from edgetl.deployment.transport import SshTransport
from edgetl.errors import DeviceError, OptionError
from edgetl.runtime import Learner
from tests.deployment.server import Server, write_python
from tests.runtime.device.installing import Releases, digest_of, teach_running
from tests.runtime.learning.states import frame


def reach(server: Server, where: str = "board", **options: Any) -> SshTransport:
    transport = connect(where, ssh_config=server.config, **options)
    assert isinstance(transport, SshTransport)
    return transport


def with_config(server: Server, path: Path, **changes: str) -> Path:
    """The client's configuration with other values; an empty one leaves the line out."""
    lines = [line.split(None, 1) for line in server.config.read_text().splitlines()]
    kept = [f"{key} {changes.get(key, value)}" for key, value in lines if changes.get(key, value)]
    path.write_text("\n".join(kept) + "\n")
    return path


def test_a_bundle_is_deployed_updated_and_rolled_back(server: Server, releases: Releases, tmp_path: Path) -> None:
    with reach(server, root=str(tmp_path / "device")) as transport:
        first = deploy(releases.first, transport)
        assert first.sent_bytes == first.bundle_bytes
        second = deploy(releases.second, transport)
        assert second.sent_bytes < 0.5 * second.bundle_bytes
        assert second.installed.previous == digest_of(releases.first)
        assert transport.call("rollback")["digest"] == digest_of(releases.first)
        again = deploy(releases.first, transport)
        assert not again.installed.changed
        assert again.sent_bytes < 3000
        assert list((tmp_path / "device" / "incoming").iterdir()) == []


def test_the_device_has_a_default_root(server: Server, releases: Releases) -> None:
    with reach(server) as transport:
        deployed = deploy(releases.first, transport)
    assert deployed.installed.bundle == str(server.home / ".local/share/edgetl/current/bundle.edgetl")


def test_an_error_of_the_device_is_shown_in_its_own_words(server: Server, releases: Releases, tmp_path: Path) -> None:
    root = str(tmp_path / "device")
    with reach(server, root=root) as transport:
        deploy(releases.first, transport)
        transport.call("configure", "--health-check", "sh -c 'echo not well; exit 1'")
        with pytest.raises(DeviceError, match=r"^board: the health check ended with code 1: not well$"):
            deploy(releases.second, transport)
        assert transport.call("status")["running"]["digest"] == digest_of(releases.first)
        assert list(Path(root, "incoming").iterdir()) == []


def test_what_was_taught_is_pulled_while_the_device_goes_on(server: Server, releases: Releases, tmp_path: Path) -> None:
    root = tmp_path / "device"
    with reach(server, root=str(root)) as transport:
        deploy(releases.first, transport)
        with teach_running(root, thumbnails=True) as learner:
            learner.teach_many([frame("yellow", seed) for seed in range(3)], "yellow")
            done = pull(transport, tmp_path / "pulled")
            statistics = learner.statistics()
        assert (done.pictures, done.thumbnails) == (3, 3)
        assert list((root / "outgoing").iterdir()) == []
        with pytest.raises(OptionError, match="already exists"):
            pull(transport, tmp_path / "pulled")
    with Learner(releases.first, state=tmp_path / "here", threads=1) as learner:
        learner.merge(tmp_path / "pulled")
        assert learner.statistics() == statistics
    with Learner(releases.other_backbone, state=tmp_path / "other", threads=1) as learner:
        assert learner.merge(tmp_path / "pulled").not_carried == 0


def test_there_is_nothing_to_pull_where_nothing_was_taught(server: Server, releases: Releases, tmp_path: Path) -> None:
    with reach(server, root=str(tmp_path / "device")) as transport:
        deploy(releases.first, transport)
        with pytest.raises(DeviceError, match="there is nothing to pull"):
            pull(transport, tmp_path / "pulled")
    assert not (tmp_path / "pulled").exists()


def test_an_unknown_host_is_refused(server: Server, tmp_path: Path) -> None:
    config = with_config(server, tmp_path / "config", UserKnownHostsFile=os.devnull)
    with pytest.raises(DeviceError, match="the host key of board is unknown; compare it"):
        connect("board", ssh_config=config)


def test_an_unknown_host_is_accepted_if_requested(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    config = with_config(server, tmp_path / "config", UserKnownHostsFile="")
    connect("board", ssh_config=config, accept_new_host_key=True).close()
    assert (tmp_path / ".ssh/known_hosts").read_text().split()[:2] == server.known_hosts.read_text().split()[:2]
    connect("board", ssh_config=config).close()


def test_a_host_with_another_key_is_refused_even_then(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    other = f"[127.0.0.1]:{server.port} {(server.folder / 'key.pub').read_text()}"
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh/known_hosts").write_text(other)
    config = with_config(server, tmp_path / "config", UserKnownHostsFile="")
    with pytest.raises(DeviceError, match=r"the host key of board is not the known one: .*ssh-keygen -R"):
        connect("board", ssh_config=config, accept_new_host_key=True)
    assert (tmp_path / ".ssh/known_hosts").read_text() == other


def test_a_refused_key_is_one_line(server: Server, tmp_path: Path) -> None:
    config = with_config(server, tmp_path / "config", IdentityFile=str(server.folder / "host_key"))
    with pytest.raises(DeviceError, match="board accepts none of your keys; install one: ssh-copy-id board"):
        connect("board", ssh_config=config)


def test_a_password_is_requested_and_never_shown(server: Server, tmp_path: Path) -> None:
    config = with_config(server, tmp_path / "config", IdentityFile=str(server.folder / "host_key"))
    prompts: list[str] = []

    def answer(prompt: str) -> str:
        prompts.append(prompt)
        return "open sesame"

    with pytest.raises(DeviceError) as refused:
        connect("board", ssh_config=config, ask_password=answer)
    assert prompts == ["password for board: "]
    assert "sesame" not in str(refused.value)


def test_a_host_that_does_not_answer_is_one_line(server: Server) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(DeviceError, match=f"cannot reach pi@127.0.0.1:{port}: .*check that it is on"):
        reach(server, f"pi@127.0.0.1:{port}")


@pytest.mark.parametrize("where", ["", "pi@", "-oProxyCommand=reboot", "pi@-x", "two words", "host:port"])
def test_an_invalid_device_is_one_line(server: Server, where: str) -> None:
    with pytest.raises(OptionError, match="invalid device"):
        reach(server, where)


@pytest.mark.parametrize(
    ("python", "complaint"),
    [("no-such-python", "edgetl cannot run there .*install it"), ("false", "board: the command ended with code 1")],
)
def test_a_device_without_edgetl_is_one_line(server: Server, python: str, complaint: str) -> None:
    with reach(server, python=python) as transport, pytest.raises(DeviceError, match=complaint):
        transport.call("status")


def test_an_older_edgetl_is_one_line(server: Server) -> None:
    with reach(server) as transport, pytest.raises(DeviceError, match=r"older there than here; update it: edgetl prep"):
        transport.call("a-verb-to-come")


def test_a_transfer_resumes_where_the_connection_broke(server: Server, tmp_path: Path) -> None:
    content = os.urandom(4_000_000)
    (tmp_path / "file").write_bytes(content)
    root = str(tmp_path / "device")
    with breaking_after(server.port, 2_000_000) as port:
        config = with_config(server, tmp_path / "config", Port=str(port))
        known = server.known_hosts.read_text()
        (tmp_path / "known_hosts").write_text(known.replace(f":{server.port} ", f":{port} "))
        config.write_text(config.read_text().replace(str(server.known_hosts), str(tmp_path / "known_hosts")))
        with connect("board", ssh_config=config) as transport, pytest.raises(DeviceError, match="what has arrived is"):
            transport.send(tmp_path / "file", root)
    (arrived,) = Path(root, "incoming").iterdir()
    held = arrived.stat().st_size
    assert 0 < held < len(content)
    progress: list[int] = []
    with reach(server) as transport:
        sent = transport.send(tmp_path / "file", root, lambda step, done, total: progress.append(done))
    assert held <= progress[0] < len(content)  # the device may have written what it had received for a moment longer
    assert Path(sent).read_bytes() == content


@pytest.mark.parametrize("far", [True, False], ids=["ssh", "local"])
def test_a_log_is_followed_until_the_reader_stops(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, far: bool
) -> None:
    started = with_journal(tmp_path / "journalctl", "echo first; echo second; exec sleep 600")
    with following(server, tmp_path, monkeypatch, far) as transport:
        log = transport.follow("logs", "--follow", "--lines=2")
        assert [next(log), next(log)] == ["first", "second"]
        journal = Path("/proc", started.read_text().strip())
        assert journal.exists()
        log.close()
        until(lambda: not journal.exists())


@pytest.mark.parametrize("far", [True, False], ids=["ssh", "local"])
def test_a_log_that_cannot_be_followed_is_one_line(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, far: bool
) -> None:
    with_journal(tmp_path / "journalctl", "exit 1")
    transport = following(server, tmp_path, monkeypatch, far)
    with transport, pytest.raises(DeviceError, match="journalctl exited with code 1"):
        list(transport.follow("logs", "--follow"))


def with_journal(path: Path, script: str) -> Path:
    """Write a fake journalctl; return the file that will contain its process id."""
    path.write_text(f"#!/bin/sh\necho $$ > {path}.pid\n{script}\n")
    path.chmod(0o755)
    return path.with_name(f"{path.name}.pid")


def following(server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch, far: bool) -> Transport:
    """A device, over SSH or in a folder, that looks for its commands in a folder first."""
    if not far:
        monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
        return connect(f"{folder}/device")
    python = folder / "python"
    write_python(python, f"PATH={folder}:$PATH")
    return reach(server, python=str(python))


def until(happened: Callable[[], bool]) -> None:
    """Wait for something that another process does."""
    deadline = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@contextmanager
def breaking_after(port: int, limit: int) -> Iterator[int]:
    """A proxy for a port of this machine that breaks the connection after `limit` bytes."""
    entrance = socket.create_server(("127.0.0.1", 0))

    def pass_on() -> None:
        client, _ = entrance.accept()
        with client, socket.create_connection(("127.0.0.1", port)) as target:
            threading.Thread(target=copy, args=(target, client, 1 << 40), daemon=True).start()
            copy(client, target, limit)
            for end in (client, target):
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def copy(source: socket.socket, sink: socket.socket, most: int) -> None:
        with suppress(OSError):
            while most > 0 and (data := source.recv(1 << 16)):
                sink.sendall(data)
                most -= len(data)

    thread = threading.Thread(target=pass_on, daemon=True)
    thread.start()
    yield int(entrance.getsockname()[1])
    entrance.close()
    thread.join(10)

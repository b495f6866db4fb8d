"""What makes a private cluster private, and what notices that a cluster has ended; without Ray."""

from __future__ import annotations

import os
import socket
import stat
import time
from pathlib import Path

import pytest

from nas.errors import MachineFailed
from nas.executors import private_cluster
from nas.executors.private_cluster import Head, ended_with, keep_private, private_options


def listening() -> tuple[socket.socket, str]:
    server = socket.create_server(("127.0.0.1", 0))
    return server, f"127.0.0.1:{server.getsockname()[1]}"


def test_its_files_are_the_user_s_and_are_removed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    with private_options() as options:
        assert options["include_dashboard"] is False and options["_node_ip_address"] == "127.0.0.1"
        inside = Path(options["_temp_dir"])
        inside.mkdir()
        found = inside.parent.stat()
        assert stat.S_IMODE(found.st_mode) == 0o700 and found.st_uid == os.getuid()
        assert inside.parent.parent == tmp_path
    assert list(tmp_path.iterdir()) == []


def test_a_token_is_drawn_unless_the_user_has_decided(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"):
        monkeypatch.setenv(name, "")  # so that it is put back
        monkeypatch.delenv(name)
    keep_private()
    token = os.environ["RAY_AUTH_TOKEN"]
    assert os.environ["RAY_AUTH_MODE"] == "token" and len(token) == 64
    keep_private()
    assert os.environ["RAY_AUTH_TOKEN"] == token  # Ray reads it once
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "mine")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    keep_private()
    assert os.environ["RAY_AUTH_MODE"] == "disabled" and "RAY_AUTH_TOKEN" not in os.environ


def test_a_head_that_is_away_for_a_while_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    gcs, address = listening()
    head = Head(address, address)
    assert head.answers()
    gcs.close()
    assert not head.answers() and not head.lost
    monkeypatch.setattr(private_cluster, "HEAD_SECONDS", 0.0)
    time.sleep(0.01)
    with pytest.raises(MachineFailed, match=f"the Ray cluster has ended: its head does not answer at {address}"):
        head.answers()
    assert head.lost


def test_a_raylet_that_is_gone_does_not_come_back() -> None:
    raylet, address = listening()
    head = Head(address, address)
    head.check_raylet()
    raylet.close()
    with pytest.raises(MachineFailed, match=f"no raylet answers at {address}"):
        head.check_raylet()
    assert head.lost


@pytest.mark.usefixtures("interruptible")
def test_a_call_into_ray_ends_with_the_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(private_cluster, "LOOK_SECONDS", 0.05)
    server, address = listening()
    with pytest.raises(MachineFailed, match="no raylet answers"), ended_with(Head(address, address), "again"):
        server.close()
        time.sleep(30)
    with ended_with(Head(address, address), "again"):
        pass  # it ends before anybody looks
    server, address = listening()
    with pytest.raises(KeyboardInterrupt), ended_with(Head(address, address), "again"):
        raise KeyboardInterrupt
    server.close()

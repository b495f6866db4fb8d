"""A Ray cluster of this machine that no one else can use, and whether the head of a cluster is still there.

Its processes listen on the loopback interface only, ask for a token, and keep their files in a folder that only the
user can enter and that is removed at the end.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from nas.cli.interrupts import send
from nas.cli.printing import complain
from nas.errors import MachineFailed

#: seconds for which the head may be unreachable; after 60, Ray itself would end this process
HEAD_SECONDS = 10.0
#: time between two attempts
LOOK_SECONDS = 1.0
#: seconds that one attempt to reach it may take
TRY_SECONDS = 5.0


def chosen_cluster(address: str | None) -> str:
    """The address of the cluster to join, or ``local`` for a private one, for which the environment is then prepared.

    To be called before ray is imported, which reads the environment once.

    :param address: as given; None: that in ``RAY_ADDRESS``, else a private cluster.
    """
    chosen = address or os.environ.get("RAY_ADDRESS") or "local"
    if chosen == "local":
        keep_private()
    return chosen


def keep_private() -> None:
    """Set what Ray's processes take from the environment. A mode or token that is set already is kept.

    Without the first setting, Ray replaces a loopback address by that of a network interface; elsewhere than on Linux,
    the setting is Ray's default.
    """
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    if "RAY_AUTH_TOKEN_PATH" not in os.environ:
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


@contextmanager
def private_options() -> Iterator[dict[str, Any]]:
    """The options of ``ray.init`` for a private cluster, whose files are removed on exit.

    They lie directly in ``/tmp``, or ``RAY_TMPDIR``: the names of Ray's sockets must not exceed 107 characters.
    """
    folder = tempfile.mkdtemp(prefix="ray-", dir=os.environ.get("RAY_TMPDIR", "/tmp"))  # of mode 0700
    try:
        yield {
            "include_dashboard": False,
            # a folder in it, since Ray lets everybody into its own folders
            "_temp_dir": os.path.join(folder, "r"),
            "_node_ip_address": "127.0.0.1",
            "runtime_env": {"env_vars": {"PYTHONPATH": os.pathsep.join(each or os.getcwd() for each in sys.path)}},
        }
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Head:
    """What a driver cannot do without: the cluster's GCS, on its head, and the raylet of the driver's own machine.

    If the GCS stays away for a minute, or the raylet for some seconds, Ray ends the driver's process.

    :param gcs, raylet: their addresses, ``host:port``.
    """

    def __init__(self, gcs: str, raylet: str):
        self.gcs = gcs
        self.raylet = raylet
        self.lost = False
        self._missing_since: float | None = None

    def check_raylet(self) -> None:
        """:raises MachineFailed: it has ended."""
        if not _reachable(self.raylet):
            self.lost = True
            raise MachineFailed(f"the Ray cluster has ended: no raylet answers at {self.raylet}")

    def answers(self) -> bool:
        """Whether the GCS can be reached just now.

        :raises MachineFailed: it has been unreachable for ``HEAD_SECONDS``.
        """
        if _reachable(self.gcs):
            self._missing_since = None
            return True
        now = time.monotonic()
        self._missing_since = self._missing_since or now
        if now - self._missing_since > HEAD_SECONDS:
            self.lost = True
            raise MachineFailed(f"the Ray cluster has ended: its head does not answer at {self.gcs}")
        return False


def _reachable(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=TRY_SECONDS).close()
    except OSError:
        return False
    return True


@contextmanager
def ended_with(head: Head, how_to_go_on: str) -> Iterator[None]:
    """A context for a call into Ray that would not notice that the head has ended, until Ray ends this process.

    :param how_to_go_on: the command that goes on, which is printed if the call does not return even then.
    :raises MachineFailed: the head has ended.
    """
    done, deciding = threading.Event(), threading.Lock()  # held while it is decided which comes first, end or loss
    lost: list[MachineFailed] = []

    def watch() -> None:
        while not done.wait(LOOK_SECONDS):
            try:
                head.check_raylet()
                head.answers()
            except MachineFailed as error:
                with deciding:
                    if done.is_set():
                        return
                    lost.append(error)
                    send(signal.SIGINT)
                if not done.wait(HEAD_SECONDS):
                    complain(f"error: {error}; to go on: {how_to_go_on}")
                    os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    try:
        try:
            yield
        finally:
            with deciding:
                done.set()
    except KeyboardInterrupt:
        done.set()
        if lost:
            raise lost[0] from None
        raise

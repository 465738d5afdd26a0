"""The web server of a few lines that uv asks for PyTorch's packages."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from kernel_provisioner.index.server import Loopback
from tests.support.waiting import WITHIN


@pytest.fixture
def server() -> Iterator[Loopback]:
    """Answers each path with itself."""
    server = Loopback(lambda path: (200, f"<p>{path} \u00e9</p>"))
    server.start()
    yield server
    server.close()


def ask(server: Loopback, *parts: bytes) -> bytes:
    """All that it says to these bytes, sent one after the other."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=WITHIN) as connection:
        for part in parts:
            connection.sendall(part)
        said = b""
        while more := connection.recv(65536):
            said += more
    return said


def test_a_page_comes_whole_with_its_length(server: Loopback) -> None:
    """However the request is cut into pieces; query strings and headers are left alone."""
    head, _, body = ask(server, b"GET /a/b HT", b"TP/1.1\r\nHost: x\r\n", b"\r\n").partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.0 200 ")
    assert f"Content-Length: {len(body)}".encode() in head
    assert body.decode() == "<p>/a/b \u00e9</p>"


@pytest.mark.parametrize("method", [b"POST", b"HEAD", b"get", b"\xff\xfe"])
def test_only_get_is_answered(server: Loopback, method: bytes) -> None:
    """There is nothing else to do here."""
    assert ask(server, method + b" / HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.0 405 ")


def test_who_hangs_up_early_or_never_ends_is_in_nobodys_way(server: Loopback) -> None:
    """The next one is served; a head without an end is cut off."""
    socket.create_connection(("127.0.0.1", server.port)).close()
    with socket.create_connection(("127.0.0.1", server.port), timeout=WITHIN) as endless:
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            endless.sendall(b"x" * (64 << 20))
        assert ask(server, b"GET /c HTTP/1.0\r\n\r\n").endswith("<p>/c \u00e9</p>".encode())


def test_once_closed_it_takes_nobody() -> None:
    """Its port is free again."""
    server = Loopback(lambda _: (200, ""))
    server.start()
    server.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.port), timeout=WITHIN)


def test_it_outlives_any_number_of_connections_that_say_nothing(server: Loopback) -> None:
    """Anybody on the machine can open them: the oldest is dropped, and who asks is answered meanwhile."""
    with contextlib.ExitStack() as held:
        for _ in range(300):
            connection = socket.create_connection(("127.0.0.1", server.port), timeout=WITHIN)
            held.callback(connection.close)
        assert ask(server, b"GET /still HTTP/1.0\r\n\r\n").endswith("<p>/still \u00e9</p>".encode())


def test_two_uvs_that_connect_before_they_ask_are_answered(server: Loopback) -> None:
    """Each opens fifty connections, and may be kept from going on once they are open."""
    with contextlib.ExitStack() as held:
        address = ("127.0.0.1", server.port)
        connections = [
            held.enter_context(socket.create_connection(address, timeout=WITHIN)) for _ in range(100)
        ]
        assert ask(server, b"GET /later HTTP/1.0\r\n\r\n")  # by now the others have been let in
        for connection in connections:
            connection.sendall(b"GET /a HTTP/1.0\r\n\r\n")
            assert connection.makefile(encoding="utf-8").read().endswith("<p>/a \u00e9</p>")


def test_a_shortage_of_descriptors_passes() -> None:
    """It takes requests again once there are some; the first failure does not end it for good."""
    code = """if True:
        import contextlib, resource, socket
        from kernel_provisioner.index.server import Loopback
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        server = Loopback(lambda path: (200, path))
        server.start()
        with contextlib.ExitStack() as held, contextlib.suppress(OSError):
            while True:
                held.callback(socket.create_connection(("127.0.0.1", server.port)).close)
        with socket.create_connection(("127.0.0.1", server.port)) as asking:
            asking.sendall(b"GET /again HTTP/1.0\\r\\n\\r\\n")
            print(asking.makefile().read().splitlines()[-1])
        """
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=WITHIN, check=False)
    assert done.stdout == "/again\n", done.stderr

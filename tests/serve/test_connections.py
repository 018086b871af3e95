"""Slow and silent clients: what they hold is bounded, in bytes and in time."""

import socket
import time

import numpy as np
import pytest

from .server import INFER, PATIENCE, connected, raw, status_of, until

FEW, MANY = np.array([[5, 6]]), np.full((1024, 64), 7)


@pytest.fixture(scope="module")
def patient(start, artifacts):
    return start([artifacts["embedder"]])


def in_flight(server, count):
    until(lambda: server.metric("albert_in_flight_requests") == count, f"{count} requests in the server")


def test_slow_bodies_hold_nobody_up(patient):
    head, body = raw(FEW)
    with connected(patient) as slow:
        slow.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        slow.sendall(head)
        for place in range(len(body)):
            slow.sendall(body[place : place + 1])
            if place % 40 == 0:
                assert patient.http.get("/v2/health/ready").status_code == 200
        assert status_of(slow) == 200


@pytest.fixture(scope="module")
def impatient(start, artifacts):
    return start([artifacts["embedder"]], "--timeout", 1)


def test_a_body_that_never_comes(impatient):
    head, body = raw(FEW)
    with connected(impatient) as whole, connected(impatient) as half:
        whole.sendall(head)
        half.sendall(head + body[:20])
        assert status_of(whole) == 408 and status_of(half) == 408
    in_flight(impatient, 0)
    assert impatient.metric("albert_requests_total", "v2", "embedder", "too_slow") == 2


@pytest.mark.parametrize("sent", [b"", b"POST", b"GET / HTTP/1.1\r\nhost: x\r\nx"])
def test_headers_that_never_come(impatient, sent):
    with connected(impatient) as silent:
        silent.sendall(sent)
        assert status_of(silent) == 0


@pytest.mark.parametrize("line", [b"x: " + b"a" * 1000 + b"\r\n", b"a" * 1000])
def test_headers_without_end(patient, line):
    """As many lines or as one, they are not kept."""
    with connected(patient) as endless:
        endless.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n")
        before = patient.memory()
        with pytest.raises(OSError):
            for _ in range(100_000):
                endless.sendall(line)
        assert patient.memory() - before < 16 * 2**20


@pytest.mark.parametrize("going_on", [True, False])
def test_a_body_that_was_refused_is_not_awaited_for_ever(impatient, going_on):
    """Whether more of it comes, byte by byte, or nothing."""
    with connected(impatient) as dribbling:
        dribbling.sendall(f"POST {INFER} HTTP/1.1\r\nhost: x\r\ncontent-length: {2**30}\r\n\r\n".encode())
        answer = dribbling.recv(65536)
        assert answer.startswith(b"HTTP/1.1 413 ")
        dribbling.sendall(b"x")
        dribbling.settimeout(0.1)
        began = time.monotonic()
        while time.monotonic() < began + PATIENCE:
            try:
                if going_on:
                    dribbling.sendall(b"x")
                if dribbling.recv(65536) == b"":
                    break
            except TimeoutError:
                continue
            except OSError:
                break
        assert time.monotonic() - began < PATIENCE / 2


def test_an_answer_that_nobody_reads(start, artifacts):
    """It counts as a request in the server until it is sent, and is given up after a while."""
    # Time enough for the computation on a slow machine that others use too.
    impatient = start([artifacts["embedder"]], "--timeout", 6)
    head, body = raw(MANY)
    with connected(impatient, receive_buffer=4096) as silent:
        silent.sendall(head + body)
        until(lambda: impatient.metric("albert_rows_total", "embedder") >= len(MANY), "the computation")
        in_flight(impatient, 1)
        in_flight(impatient, 0)
        with pytest.raises(OSError), silent.makefile("rb") as file:
            length = int(next(line for line in file if line.startswith(b"content-length")).split()[1])
            while file.readline().strip():
                pass
            if len(file.read(length)) < length:
                raise ConnectionError("it ends early")
    assert impatient.http.get("/v2/health/ready").status_code == 200


def test_an_answer_that_is_read_slowly_is_whole(patient):
    head, body = raw(MANY)
    with connected(patient, receive_buffer=4096) as slow:
        slow.sendall(head + body)
        text = b""
        while b"\r\n\r\n" not in text:
            text += slow.recv(100)
        headers, _, content = text.partition(b"\r\n\r\n")
        length = int(headers.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        with slow.makefile("rb") as file:
            while len(content) < length:
                content += file.read(min(2**20, length - len(content)))
                time.sleep(0.02)
    assert content.startswith(b"{") and content.endswith(b"}")
    in_flight(patient, 0)

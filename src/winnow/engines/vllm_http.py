"""HTTP client of a vLLM server: JSON in, JSON out, with one configured address and no other.

It is built on the standard library's `http.client`, which knows neither proxies nor redirects, and needs neither vLLM
nor any other package in the trainer's environment.
"""

import http.client
import ipaddress
import json
import os
import re
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from enum import StrEnum
from queue import Empty, SimpleQueue
from typing import Any
from urllib.parse import urlsplit

from winnow import signals
from winnow.errors import ConfigError
from winnow.visible_text import message

Json = Any
CONNECT_SECONDS = 10.0
"""Time within which a connection has to be there."""
LOOK_SECONDS = 0.1
"""Time between two looks for a signal while answers are waited for."""
LARGEST_ANSWER = 2**26
"""Bytes of the largest answer that is read."""
LONGEST_REASON = 300
WORKERS = re.compile(r"Worker failed with error '(.*)', please check", re.DOTALL)
"""vLLM's words around the error of one of its processes."""


class Kind(StrEnum):
    """Ways in which a server fails."""

    GONE = "gone"  # no connection, or one that broke
    STALLED = "stalled"
    REFUSED = "refused"  # an answer with an HTTP status of 400 or more
    RESTARTED = "restarted"  # it has not the weights that it was given
    FOREIGN = "foreign"  # it has weights that someone else gave it
    DAMAGED = "damaged"  # a transfer of weights has failed half-way


class Fault(Exception):
    """A request that a server did not answer as it should. `words` say what happened, in a part of a sentence."""

    def __init__(self, kind: Kind, words: str, status: int | None = None) -> None:
        super().__init__(kind, words, status)
        self.kind, self.words, self.status = kind, words, status

    def __str__(self) -> str:
        return self.words


@dataclass(frozen=True, slots=True)
class Address:
    """The scheme, host and port of a server."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can answer there."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def address_of(url: str, remote: bool) -> Address:
    """The address in `url`. Another machine's is taken only with `remote`.

    Raises:
        ConfigError: it is no address of a server, or another machine's.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in ("http", "https") or not parts.hostname or port is None or parts.path not in ("", "/"):
        raise ConfigError(f"engine.url={url}: no address of a server; type e.g. engine.url=http://127.0.0.1:8000")
    if parts.username is not None or parts.query or parts.fragment:
        raise ConfigError(
            f"engine.url={parts.scheme}://{parts.hostname}:{port}: was given with more than scheme, host and port; "
            "type these alone, and a key as the environment variable VLLM_API_KEY"
        )
    address = Address(parts.scheme, parts.hostname, port)
    if not address.is_loopback and not remote:
        raise ConfigError(
            f"engine.url={url}: is not this machine; a server's endpoints for weights ask for no password, and prompts "
            "and weights would cross the network unencrypted; type engine.remote=true if that network is trusted"
        )
    return address


class Connection:
    """A connection that is kept for several requests of one thread; `abort`, from another thread, ends a request."""

    def __init__(self, address: Address, timeout: float | None) -> None:
        of_scheme = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}[address.scheme]
        self._timeout, self._aborted = timeout, False
        self._http = of_scheme(address.host, address.port, timeout=CONNECT_SECONDS)

    def exchange(self, method: str, path: str, body: Json = None) -> Json:
        """The answer to a request, None if it is empty.

        Raises:
            Fault: there is no answer, or one that refuses.
        """
        shown, headers = path.partition("?")[0], {"Content-Type": "application/json"}
        if key := os.environ.get("VLLM_API_KEY"):
            headers["Authorization"] = f"Bearer {key}"
        try:
            if self._http.sock is None:
                self._http.connect()
                if self._http.sock is not None:
                    self._http.sock.settimeout(self._timeout)
            if self._aborted:  # it may have been while there was no socket
                raise Fault(Kind.GONE, f"was not asked for {shown} any more")
            self._http.request(method, path, None if body is None else json.dumps(body), headers)
            answer = self._http.getresponse()
            content = answer.read(LARGEST_ANSWER + 1)
        except TimeoutError as error:
            raise Fault(Kind.STALLED, f"gave no answer to {shown} within {self._timeout:g} s") from error
        except (OSError, http.client.HTTPException) as error:
            raise Fault(Kind.GONE, f"did not answer {shown} ({_reason(error)})") from error
        return _json(shown, answer.status, content)

    def abort(self) -> None:
        """Break the connection, so that a thread that waits for an answer goes on at once."""
        self._aborted = True
        sock = self._http.sock
        if sock is not None:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._http.close()


class VllmHttp:
    """A server at `address`. An answer that takes longer than `timeout` seconds counts as a stall."""

    def __init__(self, address: Address, timeout: float) -> None:
        self.address, self.timeout = address, timeout

    def get(self, path: str, timeout: float | None = None) -> Json:
        return self._once("GET", path, None, timeout)

    def post(self, path: str, body: Json = None, timeout: float | None = None) -> Json:
        return self._once("POST", path, body, timeout)

    def _once(self, method: str, path: str, body: Json, timeout: float | None) -> Json:
        with closing(Connection(self.address, timeout or self.timeout)) as connection:
            return connection.exchange(method, path, body)

    def is_healthy(self) -> bool:
        """Whether the server answers. It also does with weights that are damaged."""
        try:
            self.get("/health", CONNECT_SECONDS)
        except Fault:
            return False
        return True

    def answers(
        self, path: str, bodies: Mapping[int, Json], in_flight: int, given_up: threading.Event
    ) -> Iterator[tuple[int, Json]]:
        """The answer to each body by its number, as they come; at most `in_flight` wait at a time.

        Raises:
            Fault: one was refused or lost, none came for `timeout` seconds, or another thread has `given_up`.
            Stopped: a signal has come.
        """
        todo: SimpleQueue[int] = SimpleQueue()
        for number in bodies:
            todo.put(number)
        came: SimpleQueue[tuple[int, Json] | Exception] = SimpleQueue()
        stop = threading.Event()
        # A request waits for those before it, so that only a time without any answer tells of a stall.
        connections = [Connection(self.address, None) for _ in range(min(in_flight, len(bodies)))]

        def work(connection: Connection) -> None:
            try:
                while not stop.is_set():
                    number = todo.get_nowait()
                    came.put((number, connection.exchange("POST", path, bodies[number])))
            except Empty:
                return
            except Exception as error:  # raised again by the thread that waits
                came.put(error)

        threads = [threading.Thread(target=work, args=(each,), daemon=True) for each in connections]
        for thread in threads:
            thread.start()
        try:
            for _ in bodies:
                yield self._next(path, came, given_up)
        finally:
            stop.set()
            for connection in connections:
                connection.abort()
            for thread in threads:
                thread.join()
            for connection in connections:
                connection.close()

    def _next(
        self, path: str, came: "SimpleQueue[tuple[int, Json] | Exception]", given_up: threading.Event
    ) -> tuple[int, Json]:
        until = time.monotonic() + self.timeout
        while time.monotonic() < until:
            signals.check()
            if given_up.is_set():
                raise Fault(Kind.GONE, f"is not asked for {path} any more")
            with suppress(Empty):
                found = came.get(timeout=LOOK_SECONDS)
                if isinstance(found, Exception):
                    raise found
                return found
        raise Fault(Kind.STALLED, f"gave no answer to any {path} within {self.timeout:g} s")


def _json(path: str, status: int, content: bytes) -> Json:
    found, readable = None, len(content) <= LARGEST_ANSWER
    try:
        found = json.loads(content) if content and readable else None
    except ValueError:
        readable = False
    if status >= 300:
        said = _said(found) or content[:LONGEST_REASON].decode(errors="replace")
        words = f"answered {path} with HTTP status {status} ({message(said)[:LONGEST_REASON]})"
        raise Fault(Kind.REFUSED, words, status)
    if not readable:
        raise Fault(Kind.REFUSED, f"answered {path} with something other than JSON")
    return found


def _said(answer: Json) -> str:
    """The reason in an error's JSON, which vLLM writes in three ways."""
    if not isinstance(answer, dict):
        return ""
    error = answer.get("error", answer.get("detail"))
    said = str(error["message"]) if isinstance(error, dict) and "message" in error else str(error or "")
    inner = WORKERS.search(said)
    return said if inner is None else inner[1]


def _reason(error: Exception) -> str:
    return message(getattr(error, "strerror", None) or str(error) or type(error).__name__)[:LONGEST_REASON]

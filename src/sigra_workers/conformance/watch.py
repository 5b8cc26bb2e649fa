"""What the kit watches of its own process: its logs, and its sockets."""

import logging
import socket
import threading
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from typing import Any, Final


class Listeners:
    """Who listens to all logs of this process, from INFO on: several may at once, in any order."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._handlers: list[logging.Handler] = []
        self._level = logging.NOTSET

    def add(self, handler: logging.Handler) -> None:
        with self._lock:
            if not self._handlers:
                self._level = logging.root.level
                logging.root.setLevel(logging.INFO)
            self._handlers.append(handler)
            logging.root.addHandler(handler)

    def remove(self, handler: logging.Handler) -> None:
        with self._lock:
            logging.root.removeHandler(handler)
            self._handlers.remove(handler)
            if not self._handlers:
                logging.root.setLevel(self._level)


listeners: Final = Listeners()


@contextmanager
def counted_receives() -> Generator[list[int]]:
    """Counts how often this thread reads from a socket inside the block: what it yields holds the number."""
    count = [0]

    def receive(original: Any, self: socket.socket, *args: Any) -> Any:
        count[0] += 1
        return original(self, *args)

    with _instead(receive, "recv", "recv_into"):
        yield count


@contextmanager
def lost_answers(mark: bytes) -> Generator[list[bool]]:
    """Loses what this thread is answered once it has sent the mark: what it yields tells whether it was."""
    lost, is_sent = [False], [False]

    def send(original: Any, self: socket.socket, data: Any, *args: Any) -> Any:
        is_sent[0] = is_sent[0] or mark in bytes(data)
        return original(self, data, *args)

    def receive(original: Any, self: socket.socket, *args: Any) -> Any:
        answer = original(self, *args)
        if is_sent[0]:
            lost[0] = True
            raise ConnectionResetError("the kit lost the answer")
        return answer

    with _instead(send, "send", "sendall"), _instead(receive, "recv", "recv_into"):
        yield lost


@contextmanager
def _instead(call: Callable[..., Any], *names: str) -> Generator[None]:
    """Calls it with the original in front, where this thread calls these methods of a socket."""
    thread = threading.get_ident()

    def replaced(name: str) -> Any:
        original = getattr(socket.socket, name)

        def method(self: socket.socket, *args: Any) -> Any:
            if threading.get_ident() == thread:
                return call(original, self, *args)
            return original(self, *args)

        return method

    with ExitStack() as stack:
        for name in names:  # inherited from C: what is set here is removed again
            setattr(socket.socket, name, replaced(name))
            stack.callback(delattr, socket.socket, name)
        yield

"""A way to a server that can be frozen, closed and opened again."""

import contextlib
import socket
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager


class Proxy:
    """Passes bytes on to a port of this host, until told otherwise."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port: int = self._listener.getsockname()[1]
        self._links: list[socket.socket] = []
        self._open = True
        self._flows: list[threading.Event] = []
        """Whether bytes pass: of connections that were abandoned, and of all others at last."""
        self._begin()
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def freeze(self) -> None:
        """Take everything and pass nothing on, until `open`: a server that is stuck."""
        self._flows[-1].clear()

    def abandon(self) -> None:
        """The same for good to the connections there are: a server that is gone, and another in its place."""
        self.freeze()
        self._begin()

    def close(self) -> None:
        """End all connections, and new ones at once, until `open`: a server that is down."""
        self._open = False
        for flows in self._flows:
            flows.set()
        for link in self._links:
            with contextlib.suppress(OSError):
                link.shutdown(socket.SHUT_RDWR)

    def open(self) -> None:
        """Let everything through."""
        self._open = True
        self._flows[-1].set()

    def end(self) -> None:
        """Close for good."""
        self.close()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()
        self.close()  # what it was just letting in
        for thread in self._threads:
            thread.join()
        for link in (self._listener, *self._links):
            link.close()

    def _begin(self) -> None:
        self._flows.append(threading.Event())
        self._flows[-1].set()

    def _start(self, target: Callable[..., object], *arguments: object) -> None:
        self._threads.append(threading.Thread(target=target, args=arguments, daemon=True))
        self._threads[-1].start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                here = self._listener.accept()[0]
                if self._open:
                    there = socket.create_connection(("127.0.0.1", self._target))
                    self._links += [here, there]
                    self._start(self._copy, here, there, self._flows[-1])
                    self._start(self._copy, there, here, self._flows[-1])
                else:
                    here.close()

    def _copy(self, source: socket.socket, sink: socket.socket, flows: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                flows.wait()
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@contextmanager
def proxy_to(port: int) -> Generator[Proxy]:
    """A way to it for a block."""
    proxy = Proxy(port)
    try:
        yield proxy
    finally:
        proxy.end()

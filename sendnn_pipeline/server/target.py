"""The serve target ``http``: its socket, before anything heavy is imported."""

import errno
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sendnn_pipeline.engines.run import Run
from sendnn_pipeline.errors import ServeError
from sendnn_pipeline.frontend.endpoint import Endpoint
from sendnn_pipeline.frontend.target import Session
from sendnn_pipeline.frontend.tokenizer import TextTokenizer, load_tokenizer
from sendnn_pipeline.paths import expand_path
from sendnn_pipeline.server.own_paths import check_paths
from sendnn_pipeline.server.tls import read_tls
from sendnn_pipeline.server.unix_socket import bind_unix

# Connections that wait to be accepted; as uvicorn's own.
BACKLOG = 2048


@dataclass
class HttpTarget:
    """Offers the engine at an address."""

    ends = False
    keys: tuple[str, ...] = ()
    listening: socket.socket | None = field(default=None, init=False)
    tokenizer: TextTokenizer | None = field(default=None, init=False)
    tls: ssl.SSLContext | None = field(default=None, init=False)

    def prepare(self, run: Run, endpoints: Mapping[str, Endpoint[Any]]) -> None:
        """Bind the address, read the tokenizer and check the paths: all is known to work before weights are loaded."""
        check_paths(endpoints, run.config.serve.root_path)
        self.tokenizer = load_tokenizer(run.model.folder)
        self.tls = read_tls(run.config.serve)
        if run.config.serve.uds is not None:
            self.listening = bind_unix(expand_path(run.config.serve.uds, "serve.uds"))
            return
        host, port = run.config.serve.host, run.config.serve.port
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.listening = socket.socket(family, socket.SOCK_STREAM)
        self.listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self.listening.bind((host, port))
            # From here on the port is ours: one that is only bound can be bound, and listened at, by others, too.
            self.listening.listen(BACKLOG)
        except OSError as error:
            self.listening.close()
            taken = error.errno == errno.EADDRINUSE
            raise ServeError(
                f"serve.port={port} on {host} cannot be had: {error.strerror or error}",
                hint="stop what uses it, or choose another serve.port (0 takes a free one)"
                if taken
                else "choose another serve.host or serve.port",
            ) from None

    def check(self, run: Run, endpoints: Mapping[str, Endpoint[Any]]) -> None:
        """Refuse what ``prepare`` would, and give the address back."""
        self.prepare(run, endpoints)
        assert self.listening is not None
        self.listening.close()

    def run(self, session: Session) -> None:
        """Serve until a signal or the engine's end."""
        import uvloop

        from sendnn_pipeline.server.http import serve

        assert self.listening is not None and self.tokenizer is not None
        with self.listening:
            try:
                uvloop.run(serve(session, self.listening, self.tokenizer, self.tls))
            finally:
                if session.run.config.serve.uds is not None:
                    expand_path(session.run.config.serve.uds, "serve.uds").unlink(missing_ok=True)

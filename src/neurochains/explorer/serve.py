"""Serving: the explorer as a local web server in a thread, on a port of its own, until it is closed."""

from __future__ import annotations

import errno
import importlib.util
import os
import secrets
import socket
import tempfile
import threading
from collections.abc import Sequence
from contextlib import suppress
from html import escape
from typing import TYPE_CHECKING, Any

from neurochains.errors import ModelError, SettingsError

if TYPE_CHECKING:
    from torch import nn

    from neurochains.chains import Chain
    from neurochains.circuits import Bundle, Circuit
    from neurochains.decoupling import Decoupled
    from neurochains.network import Network

__all__ = ["HERE", "Explorer", "explore"]

HERE = "127.0.0.1"
_PORT, _TRIES = 8050, 20
_NEEDED = ("dash", "dash_mantine_components", "diskcache", "multiprocess", "psutil")


class Explorer:
    """A running explorer: `url` is where it answers; `close` ends it. A notebook shows it below the cell."""

    def __init__(self, app: Any, host: str, port: int | None, token: str | None, folder: Any) -> None:
        self._connections: set[Any] = set()
        self._server = _bind(app.server, host, port, self._connections)
        self._worker, self._folder = app._background_manager, folder
        self.port: int = self._server.server_port
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{self.port}/" + (f"?token={token}" if token else "")
        self._thread = threading.Thread(target=self._server.serve_forever, name="explorer", daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Return when the explorer was closed."""
        self._thread.join()

    def close(self) -> None:
        """End the explorer; what it kept of this session is removed."""
        self._server.shutdown()
        self._server.server_close()
        for connection in list(self._connections):  # browsers keep them open, and would go on being answered
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._worker.close()
        self._folder.cleanup()

    def __enter__(self) -> Explorer:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def _repr_html_(self) -> str:
        url = escape(self.url, quote=True)
        return f'<iframe src="{url}" title="NeuroChains explorer" style="width:100%;height:860px;border:0"></iframe>'

    def __repr__(self) -> str:
        return f"Explorer({self.url!r})"


def explore(
    bundle: Bundle | str | os.PathLike[str],
    *,
    chains: Sequence[Chain | Circuit | Decoupled | str | os.PathLike[str]] = (),
    model: nn.Module | Network | None = None,
    host: str = HERE,
    port: int | None = None,
) -> Explorer:
    """Return a running explorer of a bundle; a notebook shows it below the cell.

    On another host than 127.0.0.1 everybody who can reach this machine could look, so the address then has a token.

    Args:
        bundle: what `prepare` wrote, or its folder.
        chains: chains, circuits and decoupled networks of the same network, or the folders that `extract`, `circuit`
            and `decouple train` wrote.
        model: of the bundle; where it is None, loaded by its name when it is needed, if it is one of the zoo's.
        host: the address to listen on.
        port: the port; 8050 or the next that is free if None.

    Raises:
        ArtifactError: there is no bundle, it is damaged, or a chain or the model is of another network.
        SettingsError: the port is taken or cannot be had.
        ModelError: a package of the extra "explorer" is missing.
    """
    _check_extra()
    from neurochains.circuits import Bundle as Opened
    from neurochains.explorer.app import build
    from neurochains.explorer.desk import Desk

    opened = bundle if isinstance(bundle, Opened) else Opened.open(bundle)
    desk = Desk(opened, chains=chains, model=model)
    token = None if host in (HERE, "localhost", "::1") else secrets.token_urlsafe(24)
    folder = tempfile.TemporaryDirectory(prefix="neurochains-explorer-", ignore_cleanup_errors=True)
    app = build(desk, folder.name, token=token, framed=_in_notebook())
    try:
        running = Explorer(app, host, port, token, folder)
        threading.Thread(target=_warm, args=(desk,), name="explorer-warm", daemon=True).start()
        return running
    except BaseException:
        app._background_manager.close()  # pyright: ignore[reportAttributeAccessIssue, reportOptionalMemberAccess]
        folder.cleanup()
        raise


def _warm(desk: Any) -> None:
    """Load the network and draw the first view before somebody waits for it; what goes wrong is told when it is."""
    from plotly.io.json import to_json_plotly

    from neurochains.errors import NeuroChainsError
    from neurochains.explorer.graph import draw
    from neurochains.explorer.graph_panel import figure
    from neurochains.explorer.view import View

    with suppress(NeuroChainsError, OSError):
        to_json_plotly(figure(desk, View(), draw(desk, View())))
        desk.seen(View())


def _check_extra() -> None:
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ModelError(f"The explorer needs {' and '.join(missing)}: pip install 'neurochains[explorer]'.")


def _bind(application: Any, host: str, port: int | None, connections: set[Any]) -> Any:
    """Return a server bound to a port; where none was asked for, to the first of some that is free."""
    from werkzeug.serving import make_server

    wanted = [port] if port is not None else [*range(_PORT, _PORT + _TRIES), 0]
    for number in wanted:
        problem = _cannot_bind(host, number)
        if problem is None:
            server = make_server(host, number, application, threaded=True, request_handler=_handler(connections))
            server.daemon_threads = True  # pyright: ignore[reportAttributeAccessIssue] - it is a threaded one
            return server
        if problem.errno != errno.EADDRINUSE or port is not None:
            raise _refused(host, number, problem)
    raise SettingsError(f"No port from {_PORT} on is free on {host}. Name one with --port.")


def _cannot_bind(host: str, port: int) -> OSError | None:
    """Return why a port cannot be had, None if it can; the server itself would end the process."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except (OSError, OverflowError) as error:
        return error if isinstance(error, OSError) else OSError(errno.EINVAL, "it is no port")
    return None


def _refused(host: str, port: int, error: OSError) -> SettingsError:
    if error.errno == errno.EADDRINUSE:
        return SettingsError(f"Port {port} of {host} is taken by another program. Name another with --port, or none.")
    return SettingsError(f"{host}, port {port}, cannot be listened on ({error.strerror}). Name another with --port.")


def _handler(connections: set[Any]) -> type:
    """Return the handler of requests: it writes no line on the terminal for each, and enters its connection."""
    from werkzeug.serving import WSGIRequestHandler

    class Quiet(WSGIRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            connections.add(self.connection)

        def finish(self) -> None:
            connections.discard(self.connection)
            with suppress(OSError):
                super().finish()

        def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002, ARG002 - the name is given
            return

    return Quiet


def _in_notebook() -> bool:
    import sys

    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return getattr(shell, "kernel", None) is not None

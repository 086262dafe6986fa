"""Faults injected from outside: proxies that a test puts before the API server or before gRPC.

TcpProxy knows bytes only, so it serves both. ApiProxy ends TLS with the cluster's authority and knows requests.
"""

import contextlib
import dataclasses
import http.client
import http.server
import json
import math
import re
import socket
import ssl
import struct
import threading
import time

_issuing = threading.Lock()  # of certificates, which are files

PASS, REFUSE, BLACKHOLE, DROP_REPLIES = "pass", "refuse", "blackhole", "drop replies"


class TcpProxy:
    """Forwards connections to `target` (host, port), which may be changed. `delay`: seconds before each piece of data.

    mode: PASS; REFUSE: nobody listens, live connections are reset; BLACKHOLE: connections are accepted and all data
    stands still until the mode changes; DROP_REPLIES: requests arrive, what the server says is thrown away.
    """

    def __init__(self, target=None):
        self.target = target
        self.delay = 0.0
        self._mode = PASS
        self._changed = threading.Condition()
        self._live = {}  # client socket -> server socket, None while there is none
        # Bound, but no listener: nobody else gets the port while we refuse.
        self._reservation = socket.socket()
        self._reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._reservation.bind(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self._reservation.getsockname()[1]
        self._listen()

    @property
    def mode(self):
        return self._mode

    @mode.setter
    def mode(self, mode):
        with self._changed:
            was, self._mode = self._mode, mode
            self._changed.notify_all()
        if mode == REFUSE and was != REFUSE:
            _close(self._listener)
            self.reset()
        if was == REFUSE and mode != REFUSE:
            self._listen()

    @contextlib.contextmanager
    def in_mode(self, mode):
        self.mode = mode
        try:
            yield
        finally:
            self.mode = PASS

    def reset(self):
        """Resets all live connections."""
        with self._changed:
            live, self._live = self._live, {}
        for pair in live.items():
            for s in filter(None, pair):
                _reset(s)

    def close(self):
        self.mode = REFUSE
        self._reservation.close()

    def _listen(self):
        self._listener = socket.create_server(self._reservation.getsockname(), backlog=128)
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _accept(self, listener):
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        with self._changed:
            if self._mode == REFUSE:  # it came while the listener was being closed
                return _reset(client)
            self._live[client] = None
        self._wait_while_blackholed()
        try:
            server = socket.create_connection(self.target, timeout=5)
            server.settimeout(None)
            for s in (client, server):
                s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError:  # or the client was reset meanwhile
            _reset(client)
            return
        with self._changed:
            self._live[client] = server
        threading.Thread(target=self._pump, args=(client, client, server), daemon=True).start()
        self._pump(client, server, client)
        with self._changed:
            self._live.pop(client, None)
        _close(client)
        _close(server)

    def _pump(self, client, source, sink):
        try:
            while True:
                data = source.recv(65536)
                if data and self.delay:
                    time.sleep(self.delay)
                self._wait_while_blackholed()
                if client not in self._live:
                    return  # reset: nothing polite may follow
                if not data:
                    return sink.shutdown(socket.SHUT_WR)
                if not (sink is client and self._mode == DROP_REPLIES):
                    sink.sendall(data)
        except OSError:
            _close(source)
            _close(sink)

    def _wait_while_blackholed(self):
        with self._changed:
            self._changed.wait_for(lambda: self._mode != BLACKHOLE)


@dataclasses.dataclass(eq=False)
class Request:
    """One that came to an ApiProxy."""
    time: float  # Unix seconds
    agent: str
    method: str
    path: str  # with the query
    body: bytes
    fault: "Fault | None" = None  # that struck it
    answered: float = math.inf  # when it had done so


@dataclasses.dataclass(eq=False)
class Fault:
    """What to do with requests of `method` whose path and query match the regular expression `path`, whose body matches
    `asks`, by callers whose User-Agent begins with `agent`; empty: any.

    In this order: `commit`: the server gets the request first; `hold`: wait until release() is called; then one of:
    `code`: that answer; `cut`: the connection is reset; otherwise the request goes its way. `stall`: the answer's head
    is passed on, then silence (running streams too): a watch that has died without anybody noticing.
    """
    method: str = ""
    path: str = ""
    asks: str = ""
    agent: str = ""
    times: int | None = None  # matches so often; default: always
    commit: bool = False
    hold: bool = False
    code: int | None = None
    reason: str = ""
    body: object = None  # default: a Status
    headers: dict = dataclasses.field(default_factory=dict)
    cut: bool = False
    stall: bool = False

    def __post_init__(self):
        self.hits = 0
        self.reached = threading.Event()  # set by the first hit, after `commit`
        self._released = threading.Event()

    def release(self):
        self._released.set()

    def matches(self, request):
        return (self.method in ("", request.method) and re.search(self.path, request.path) is not None
                and re.search(self.asks, request.body.decode(errors="replace")) is not None
                and request.agent.startswith(self.agent))

    def used_up(self):
        return self.hits == self.times


def too_many_requests(retry_after, **match):
    return Fault(code=429, reason="TooManyRequests", headers={"Retry-After": str(retry_after)}, **match)


def lost_reply(**match):
    return Fault(commit=True, cut=True, **match)


def timeout_after_commit(**match):
    return Fault(commit=True, code=504, reason="Timeout", **match)


def expired_watch(**match):
    status = _status(410, "Expired")
    return Fault(method="GET", path=match.pop("path", r"[?&]watch="), code=200,
                 body={"type": "ERROR", "object": status}, **match)


class ApiProxy:
    """An HTTPS proxy before the API server. Callers authenticate with tokens: client certificates end here.

    `requests`: what came, oldest first.
    """

    def __init__(self, cluster):
        self.requests = []
        self._faults = []
        self._streams = set()
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._upstream_host = cluster.url.removeprefix("https://")
        self._upstream_tls = ssl.create_default_context(cafile=cluster.authority.certificate)
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with _issuing:
            tls.load_cert_chain(*cluster.authority.issue("proxy", "proxy", addresses="IP:127.0.0.1"))
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # callers that die are what tests are about
        self._server.socket = tls.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self.address = self._server.server_address
        self.url = "https://127.0.0.1:%d" % self.address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def close(self):
        self._closed.set()
        self.clear()
        self._server.shutdown()
        self._server.server_close()

    def add(self, fault):
        """The first fault that matches decides."""
        with self._lock:
            self._faults.append(fault)
        return fault

    def remove(self, fault):
        with self._lock:
            if fault in self._faults:
                self._faults.remove(fault)
        fault.release()

    def clear(self):
        """Ends all faults, and with them whatever they hold."""
        for fault in list(self._faults):
            self.remove(fault)

    @contextlib.contextmanager
    def fault(self, fault):
        self.add(fault)
        try:
            yield fault
        finally:
            self.remove(fault)

    def break_streams(self, path="", agent=""):
        """Closes the connections of the watches that run now, in the middle of an answer. How many."""
        streams = self._running(path, agent)
        for stream in streams:
            with contextlib.suppress(OSError):
                stream.connection.shutdown(socket.SHUT_RDWR)
        return len(streams)

    def silence_streams(self, path="", agent=""):
        """From here on the watches that run now say nothing, and do not end either. How many."""
        streams = self._running(path, agent)
        for stream in streams:
            stream.silent = True
        return len(streams)

    def _running(self, path, agent):
        with self._lock:
            return [s for s in self._streams
                    if re.search(path, s.request.path) and s.request.agent.startswith(agent)]

    def _take(self, request):
        """The fault that strikes, noted in the request."""
        with self._lock:
            self.requests.append(request)
            for fault in self._faults:
                if fault.matches(request) and not fault.used_up():
                    fault.hits += 1
                    request.fault = fault
                    return fault
        return None

    def _stalled(self, request):
        """The fault that silences this stream."""
        with self._lock:
            return next((f for f in self._faults if f.stall and f.matches(request)), None)

    @contextlib.contextmanager
    def _streaming(self, stream):
        with self._lock:
            self._streams.add(stream)
        try:
            yield
        finally:
            with self._lock:
                self._streams.discard(stream)


class _Stream:
    def __init__(self, request, connection):
        self.request = request
        self.connection = connection
        self.silent = False


def _handler(proxy):
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def setup(self):
            super().setup()
            self._upstream = http.client.HTTPSConnection(proxy._upstream_host, context=proxy._upstream_tls)

        def finish(self):
            self._upstream.close()
            with contextlib.suppress(OSError):
                super().finish()

        def log_message(self, *_):
            pass

        def _serve(self):
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            request = Request(time.time(), self.headers.get("User-Agent", ""), self.command, self.path, body)
            fault = proxy._take(request)
            reply = None
            try:
                if fault and fault.commit:
                    reply = self._ask(body)
                if fault:
                    fault.reached.set()
                    if fault.hold:
                        fault._released.wait()
                    request.answered = time.time()
                    if reply and (fault.code or fault.cut):
                        self._upstream.close()  # the rest of what it says is in the way of the next request
                    if fault.code:
                        return self._answer(fault)
                    if fault.cut:
                        return self._cut()
                self._pass_on(request, reply or self._ask(body))
            except (OSError, http.client.HTTPException):
                request.answered = time.time()
                self._cut()

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve

        def _ask(self, body):
            headers = {k: v for k, v in self.headers.items() if k.lower() not in ("host", "connection", "content-length")}
            try:
                self._upstream.request(self.command, self.path, body or None, headers)
                reply = self._upstream.getresponse()
                if reply.headers.get("Content-Length") is not None:
                    reply.whole_body = reply.read()
                return reply
            except Exception:
                self._upstream.close()  # the next request connects again
                raise

        def _answer(self, fault):
            data = json.dumps(fault.body or _status(fault.code, fault.reason)).encode()
            self.send_response(fault.code)
            for name, value in {"Content-Type": "application/json", "Content-Length": len(data),
                                **fault.headers}.items():
                self.send_header(name, str(value))
            self.end_headers()
            self.wfile.write(data)

        def _pass_on(self, request, reply):
            whole = getattr(reply, "whole_body", None)
            self.send_response_only(reply.status, reply.reason)
            for name, value in reply.headers.items():
                if name.lower() not in ("transfer-encoding", "connection"):
                    self.send_header(name, value)
            if whole is None:
                self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            if whole is not None:
                self.wfile.write(whole)
                return
            stream = _Stream(request, self.connection)
            with proxy._streaming(stream):
                self._pass_on_stream(stream, reply)

        def _pass_on_stream(self, stream, reply):
            try:
                while data := reply.read1(65536):
                    if stall := proxy._stalled(stream.request):
                        stall.reached.set()
                        stall._released.wait()
                        return self._cut()
                    if not stream.silent:
                        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
                        self.wfile.flush()
            except (OSError, http.client.HTTPException):
                if not stream.silent:
                    raise
            if stream.silent:
                proxy._closed.wait()
                return self._cut()
            self.wfile.write(b"0\r\n\r\n")

        def _cut(self):
            self.close_connection = True
            _reset(self.connection)

    return Handler


def _status(code, reason):
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code, "reason": reason,
            "message": f"{code} injected by the test"}


def _close(s):
    with contextlib.suppress(OSError):
        s.shutdown(socket.SHUT_RDWR)
    s.close()


def _reset(s):
    """Resets a connection, also one that another thread reads from: shutdown wakes that thread, then close resets."""
    with contextlib.suppress(OSError):
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        s.shutdown(socket.SHUT_RD)
    s.close()

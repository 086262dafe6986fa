"""The faults that other tests inject, each seen to happen."""

import http.client
import json
import os
import socket
import ssl
import threading
import time
import urllib.parse

import pytest

import manifests
import proxy
from api import Api, path_of
from process import wait_until


@pytest.fixture
def tcp(cluster):
    address = urllib.parse.urlsplit(cluster.url)
    tcp = proxy.TcpProxy((address.hostname, address.port))
    yield tcp
    tcp.close()


@pytest.fixture
def api_proxy(cluster):
    api_proxy = proxy.ApiProxy(cluster)
    yield api_proxy
    api_proxy.close()


@pytest.fixture
def through(cluster, namespace, api_proxy):
    """An admin who calls through the proxy."""
    cluster.kubectl("-n", namespace, "create", "serviceaccount", "caller")
    cluster.kubectl("create", "clusterrolebinding", namespace, "--clusterrole=cluster-admin",
                    f"--serviceaccount={namespace}:caller")
    return Api(api_proxy.url, cluster.authority.certificate, token=cluster.token(namespace, "caller"), timeout=10)


def version(cluster, tcp, timeout=1):
    """The status of a request over a new connection, or the exception."""
    tls = ssl.create_default_context(cafile=cluster.authority.certificate)
    connection = http.client.HTTPSConnection(tcp.address, timeout=timeout, context=tls)
    try:
        connection.request("GET", "/version")
        return connection.getresponse().status
    except OSError as e:
        return type(e)
    finally:
        connection.close()


def test_a_connection_that_comes_while_the_listener_closes_is_reset(tcp):
    host, port = tcp.address.split(":")
    threads = threading.active_count()
    with socket.create_connection((host, int(port)), timeout=5) as client:
        with tcp._changed:  # so that it is accepted, and not known yet
            wait_until("the connection to be accepted", lambda: threading.active_count() > threads)
            tcp.mode = proxy.REFUSE
        with pytest.raises(ConnectionResetError):
            client.recv(1)


def test_tcp_modes(cluster, tcp):
    assert version(cluster, tcp) == 200
    with tcp.in_mode(proxy.REFUSE):
        assert version(cluster, tcp) is ConnectionRefusedError
    assert version(cluster, tcp) == 200
    for mode in (proxy.BLACKHOLE, proxy.DROP_REPLIES):
        with tcp.in_mode(mode):
            assert version(cluster, tcp) is TimeoutError
        assert version(cluster, tcp) == 200
    tcp.delay = 0.1
    begin = time.monotonic()
    assert version(cluster, tcp, timeout=10) == 200
    assert time.monotonic() - begin > 0.3  # a hello each way, then request and reply


def test_a_port_that_is_refused_stays_ours():
    tcp = proxy.TcpProxy(target=("127.0.0.1", 1))
    host, port = tcp.address.split(":")
    with tcp.in_mode(proxy.REFUSE), socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind((host, int(port)))
    socket.create_connection((host, int(port))).close()
    tcp.close()


def test_tcp_blackhole_lets_data_through_afterwards(cluster, tcp):
    tcp.mode = proxy.BLACKHOLE
    threading.Timer(0.3, lambda: setattr(tcp, "mode", proxy.PASS)).start()
    assert version(cluster, tcp, timeout=10) == 200


@pytest.mark.parametrize("strike", [lambda tcp: tcp.reset(), lambda tcp: setattr(tcp, "mode", proxy.REFUSE)],
                         ids=["reset", "refuse"])
def test_tcp_live_connections_are_reset(cluster, tcp, strike):
    tls = ssl.create_default_context(cafile=cluster.authority.certificate)
    connection = http.client.HTTPSConnection(tcp.address, timeout=10, context=tls)
    connection.request("GET", "/version")
    connection.getresponse().read()
    strike(tcp)
    # Below TLS, where Python takes a reset for an end.
    with socket.socket(fileno=os.dup(connection.sock.fileno())) as raw, pytest.raises(ConnectionResetError):
        raw.settimeout(10)
        raw.recv(1)


def test_api_answers_are_injected_as_often_as_asked(namespace, through, api_proxy):
    path = path_of("PersistentVolumeClaim", namespace)
    with api_proxy.fault(proxy.too_many_requests(1, method="GET", path="persistentvolumeclaims", times=2)):
        codes = [through.call("GET", path)[0] for _ in range(3)]
        assert through.call("GET", path_of("VolumeSnapshot", namespace))[0] == 200
    assert codes == [429, 429, 200]
    with api_proxy.fault(proxy.Fault(code=503)):
        assert through.call("GET", path)[0] == 503
    assert through.call("GET", path)[0] == 200


def test_api_lost_replies_and_timeouts_come_after_the_commit(cluster, namespace, through, api_proxy):
    with api_proxy.fault(proxy.lost_reply(method="POST", path="volumesnapshots")):
        with pytest.raises((OSError, http.client.HTTPException)):
            through.create(manifests.snapshot(namespace, "lost", "data"))
    with api_proxy.fault(proxy.timeout_after_commit(method="POST", path="volumesnapshots")):
        code, body = through.call("POST", path_of("VolumeSnapshot", namespace),
                                  manifests.snapshot(namespace, "timed-out", "data"))
    assert (code, body["reason"]) == (504, "Timeout")
    assert {s["metadata"]["name"] for s in cluster.admin.list("VolumeSnapshot", namespace)} == {"lost", "timed-out"}


def test_api_requests_are_held_until_released(cluster, namespace, through, api_proxy):
    with api_proxy.fault(proxy.Fault("POST", "volumesnapshots", asks='"name": *"held"', hold=True)) as fault:
        through.create(manifests.snapshot(namespace, "passed", "data"))
        poster = threading.Thread(target=through.create, args=(manifests.snapshot(namespace, "held", "data"),))
        poster.start()
        assert fault.reached.wait(10)
        assert cluster.admin.get("VolumeSnapshot", namespace, "held") is None
        fault.release()
        poster.join()
    assert cluster.admin.get("VolumeSnapshot", namespace, "held")


def test_api_watches_pass_stall_and_expire(cluster, namespace, api_proxy, through):
    path = path_of("VolumeSnapshot", namespace) + "?watch=1&resourceVersion=0"
    stall = proxy.Fault(path="watch=1", stall=True)
    events, watcher = watch(cluster, through, api_proxy, path)
    cluster.admin.create(manifests.snapshot(namespace, "seen", "data"))
    wait_until("the event", lambda: "seen" in events)
    with api_proxy.fault(stall):
        cluster.admin.create(manifests.snapshot(namespace, "unseen", "data"))
        assert stall.reached.wait(10)
        assert set(events) == {"seen"}
    watcher.join(10)
    assert set(events) == {"seen", "end"}

    with api_proxy.fault(proxy.expired_watch()):
        code, event = through.call("GET", path)
    assert (code, event["type"], event["object"]["code"]) == (200, "ERROR", 410)


def test_api_watches_that_run_are_silenced_or_broken(cluster, namespace, api_proxy, through):
    path = path_of("VolumeSnapshot", namespace) + "?watch=1&resourceVersion=0"
    silent, silent_watcher = watch(cluster, through, api_proxy, path)
    cluster.admin.create(manifests.snapshot(namespace, "seen", "data"))
    wait_until("the event", lambda: "seen" in silent)
    assert api_proxy.silence_streams("volumesnapshots") == 1
    # A new one is not concerned.
    events, watcher = watch(cluster, through, api_proxy, path)
    cluster.admin.create(manifests.snapshot(namespace, "unseen", "data"))
    wait_until("the event", lambda: "unseen" in events)
    assert set(silent) == {"seen"}
    assert api_proxy.break_streams("pods") == 0
    assert api_proxy.break_streams("volumesnapshots") == 2
    for thread in (watcher, silent_watcher):
        thread.join(10)
    assert (events[-1], silent[-1]) == ("end", "end")
    assert [r.path for r in api_proxy.requests if r.method == "GET"] == [path, path]


def watch(cluster, through, api_proxy, path):
    """The names in a watch's events, as they come, and the thread that reads them; "end" after the last."""
    events = []

    def read():
        tls = ssl.create_default_context(cafile=cluster.authority.certificate)
        connection = http.client.HTTPSConnection(api_proxy.url.removeprefix("https://"), context=tls)
        connection.request("GET", path, headers=through._headers)
        response = connection.getresponse()
        try:
            while line := response.readline():
                events.append(json.loads(line)["object"]["metadata"]["name"])
        except (OSError, http.client.HTTPException):
            pass
        events.append("end")

    thread = threading.Thread(target=read)
    thread.start()
    return events, thread

"""What the tests' own proxy must hold, or other tests fail at random."""

import socket

import pytest

from proxy import PASS, REFUSE, TcpProxy


def test_a_proxy_that_refuses_keeps_its_port():
    proxy = TcpProxy()
    host, port = proxy.address.split(":")
    try:
        proxy.mode = REFUSE
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((host, int(port)))
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind((host, int(port)))
        proxy.mode = PASS
        socket.create_connection((host, int(port))).close()
    finally:
        proxy.close()

"""Tests of the recipes: no network, no file left behind."""

from __future__ import annotations

import socket

import datasets
import pytest
from helpers.recipes import WRITERS


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """Arrow files of these tests go away with them."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))


@pytest.fixture(autouse=True)
def loopback_only(monkeypatch):
    """A connection to anywhere but this machine fails the test."""
    asked, here = [], ("127.0.0.1", "::1", "localhost", "")

    def refuse(what, real):
        def guarded(*args, **kwargs):
            address = args[1] if what == "connect" else args[0]
            host = address[0] if isinstance(address, tuple) else address
            if isinstance(host, str) and host not in here and not host.startswith("/"):
                asked.append(host)
                raise OSError(f"no network in tests, asked for {host}")
            return real(*args, **kwargs)

        return guarded

    monkeypatch.setattr(socket.socket, "connect", refuse("connect", socket.socket.connect))
    monkeypatch.setattr(socket.socket, "connect_ex", refuse("connect", socket.socket.connect_ex))
    monkeypatch.setattr(socket, "getaddrinfo", refuse("getaddrinfo", socket.getaddrinfo))
    yield
    assert not asked


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """Data set -> where files in its layout are."""
    return {name: write(tmp_path_factory.mktemp(name)) for name, write in WRITERS.items()}

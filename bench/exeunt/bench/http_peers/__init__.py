"""Peers over HTTP: our server beside LitServe, BentoML and Ray Serve, on the same requests."""

from exeunt.bench.http_peers.bench import bench_http
from exeunt.bench.http_peers.settings import PEERS, HttpSettings, http_settings

__all__ = ["PEERS", "HttpSettings", "bench_http", "http_settings"]

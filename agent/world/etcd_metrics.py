"""etcd's metrics port: what it tells even where a member answers nothing else, without a certificate."""

from __future__ import annotations

import re
from datetime import timedelta
from time import perf_counter

import urllib3

from agent.model.faults import Unavailable
from agent.model.known import Ignorance

HAS_LEADER = re.compile(rb"^etcd_server_has_leader (\S+)$", re.MULTILINE)
SYNCED = re.compile(rb'^etcd_disk_wal_fsync_duration_seconds_bucket\{le="([^"]+)"\} (\d+)$', re.MULTILINE)
MAX_BYTES = 8 << 20
CHUNK_BYTES = 64 << 10


def leader_seen(url: str, deadline: timedelta) -> bool:
    """Whether the member sees a leader. Unavailable where the port does not say so in time."""
    text = _page(f"{url.rstrip('/')}/metrics", deadline.total_seconds())
    match = HAS_LEADER.search(text)
    if match is None or match[1] not in (b"0", b"1"):
        raise Unavailable(Ignorance.MALFORMED, f"{url} says nothing of etcd_server_has_leader: is it etcd's?")
    return match[1] == b"1"


def sync_histogram(url: str, deadline: timedelta) -> dict[float, int]:
    """How often the log was synced within how many seconds, by etcd's own count since it started; `inf`: ever."""
    found = SYNCED.findall(_page(f"{url.rstrip('/')}/metrics", deadline.total_seconds()))
    if not found:
        raise Unavailable(Ignorance.MALFORMED, f"{url} says nothing of etcd_disk_wal_fsync_duration_seconds")
    return {float(bound): int(count) for bound, count in found}


def _page(url: str, seconds: float) -> bytes:
    """The whole deadline counts, however slowly the page drips in."""
    end = perf_counter() + seconds
    try:
        with urllib3.PoolManager(num_pools=1, timeout=seconds, retries=False) as pool:
            answer = pool.request("GET", url, preload_content=False, redirect=False)
            if answer.status != 200:
                raise Unavailable(Ignorance.FAILED, f"{url} answered {answer.status}")
            found = b""
            for chunk in answer.stream(CHUNK_BYTES):
                found += chunk
                if perf_counter() > end:
                    raise Unavailable(Ignorance.TIMEOUT, f"{url} did not end in time")
                if len(found) > MAX_BYTES:
                    raise Unavailable(Ignorance.MALFORMED, f"{url} goes on and on: is it etcd's?")
            return found
    except (urllib3.exceptions.HTTPError, ValueError) as error:
        raise _silence(error, url) from error


def _silence(error: Exception, url: str) -> Unavailable:
    refused = isinstance(error, urllib3.exceptions.NewConnectionError)  # to urllib3 a kind of timeout
    if isinstance(error, urllib3.exceptions.TimeoutError) and not refused:
        return Unavailable(Ignorance.TIMEOUT, f"{url}: no answer in time")
    if isinstance(error, ValueError):
        return Unavailable(Ignorance.MALFORMED, f"{url!r} is no URL of a metrics port")
    return Unavailable(Ignorance.UNREACHABLE, f"{url}: {type(error).__name__}")

"""Names and numbers of etcd, raft and AWS, each a type of its own so that they cannot be mixed up."""

from __future__ import annotations

from typing import NewType

InstanceId = NewType("InstanceId", str)
"""An EC2 instance ID (`i-0abc…`); also the name of the etcd member that runs there."""

PeerUrl = NewType("PeerUrl", str)
"""Where raft messages go, e.g. `https://10.0.1.5:2380`."""

ClientUrl = NewType("ClientUrl", str)
"""Where clients go, e.g. `https://10.0.1.5:2379`."""

GenerationNumber = NewType("GenerationNumber", int)
"""One incarnation of the cluster, counted from 1."""

Nonce = NewType("Nonce", str)
"""A random word that tells our own write from somebody else's."""


class _Hex(int):
    """An unsigned 64-bit number that prints in hex, as etcdctl prints it."""

    __slots__ = ()

    def __str__(self) -> str:
        return f"{self:x}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self:#x})"


class MemberId(_Hex):
    """A raft member ID."""

    __slots__ = ()


class ClusterId(_Hex):
    """An etcd cluster ID; etcd derives it from the founders' member IDs."""

    __slots__ = ()

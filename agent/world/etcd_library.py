"""The one place that imports python-etcd3, gRPC and our own messages, because the import needs care.

Its messages (2020) were generated for a protobuf that is gone: current protobuf takes them only with its pure-Python
backend, chosen for the whole process before protobuf's first import, and warns 81 times. gRPC's own log, up to four
lines on stderr for each failed handshake, is off unless the operator asks for it (every failure reaches us as an
error with the same text); it too is chosen before the first import. So the other files take all three from here.
"""

from __future__ import annotations

import os
import warnings

os.environ["PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION"] = "python"
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    import grpc
    from etcd3 import Etcd3Client, etcdrpc

    from agent.world import etcd_wire_pb2 as wire

__all__ = ["Etcd3Client", "etcdrpc", "grpc", "wire"]

"""Asks etcd and the tool beside it for their versions."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from agent.doctor.judging.versions import Installed
from agent.doctor.looking.known import known
from agent.model.faults import Refused
from agent.model.known import Ignorance, Unknown
from agent.world import durable
from agent.world.etcd_restore import can_bump_revisions, restore_tool
from agent.world.host import EtcdBinary

TOOL_VERSION = re.compile(r"^(?:etcdutl|etcdctl) version: (\S+)", re.MULTILINE)
TOOL_TIMEOUT_SECONDS = 10


def versions(binary: str, *, wants_bump: bool) -> Installed:
    tool = known(lambda: restore_tool(binary))
    return Installed(
        etcd=known(EtcdBinary(binary).version),
        tool=tool if isinstance(tool, Unknown) else str(tool),
        tool_version=tool if isinstance(tool, Unknown) else known(lambda: _tool_version(tool)),
        bumps=tool if isinstance(tool, Unknown) else known(lambda: can_bump_revisions(tool)),
        wants_bump=wants_bump,
    )


def _tool_version(tool: Path) -> str:
    with durable.refusing(f"running {tool} version"):
        try:
            done = subprocess.run(
                [tool, "version"],
                env={"PATH": os.environ.get("PATH", ""), "ETCDCTL_API": "3"},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=TOOL_TIMEOUT_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise Refused(f"{tool} version did not end in time", Ignorance.TIMEOUT) from error
    match = TOOL_VERSION.search(done.stdout)
    if match is None:
        raise Refused(f"{tool} version did not say a version", Ignorance.MALFORMED)
    return match[1]

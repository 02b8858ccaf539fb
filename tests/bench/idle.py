"""What three agents cost while nothing happens: processor, memory and calls to AWS."""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from pathlib import Path

from agent.lab.client import Lab
from agent.lab.spec import LabSpec
from tests.bench import bare, processes
from tests.bench.report import Table
from tests.etcd_versions import EtcdVersion

SETTLING_S = 60.0
"""After forming, the first looks at everything are over by then."""


def measure(etcd: EtcdVersion, seconds: float) -> Table:
    """One idle window; a whole number of the agents' longest interval (5 min) says most."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        lab = Lab.start(LabSpec(instances=3, etcd=str(etcd.etcd)), Path(name) / "lab", lifeline=True)
        try:
            lab.wait_agents(3)
            bare.first_write(list(lab.addresses()))
            time.sleep(SETTLING_S)
            return _measure(lab, seconds)
        finally:
            lab.down()


def _measure(lab: Lab, seconds: float) -> Table:
    instances = [each for each in lab.instances() if each.agent_pid and each.etcd_pids]
    assert len(instances) == 3
    agents = {each.id: each.agent_pid or 0 for each in instances}
    etcds = {each.id: each.etcd_pids[0] for each in instances}
    before = {pid: processes.cpu_seconds(pid) for pid in (*agents.values(), *etcds.values())}
    since = lab.last_call()
    time.sleep(seconds)
    used = {pid: processes.cpu_seconds(pid) - cpu for pid, cpu in before.items()}
    calls = Counter(f"{call['service']} {call['operation']}" for call in lab.calls(since) if call["caller"] in agents)
    hourly = {name: count * 3600 / seconds for name, count in sorted(calls.items())}
    cpu = [100 * used[agents[each]] / seconds for each in agents]
    beside = [100 * used[etcds[each]] / seconds for each in agents]
    memory = [processes.rss_mb(pid) for pid in agents.values()]
    return Table(
        title="Idle: a healthy three-member cluster",
        how=f"{seconds:.0f} s without a client, after {SETTLING_S:.0f} s to settle; the three agents side by side.",
        command="make bench",
        columns=("what", "measured"),
        rows=(
            ("agent, share of one core", ", ".join(f"{each:.2f} %" for each in cpu)),
            ("the etcd beside it", ", ".join(f"{each:.2f} %" for each in beside)),
            ("agent, resident memory", ", ".join(f"{each:.0f} MB" for each in memory)),
            ("AWS calls an hour, whole cluster", f"{sum(hourly.values()):.0f}"),
            *((f"… of these {name}", f"{count:.0f}") for name, count in hourly.items()),
        ),
    )

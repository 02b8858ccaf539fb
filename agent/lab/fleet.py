"""The machines of a lab and their instances: powers them on and off as EC2 says, and does to them what people ask.

House rule: the caller holds the cloud's lock; an instance never shows `shutting-down` while its machine has power.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from agent.lab import processes
from agent.lab.addresses import Block, free_address
from agent.lab.imds import ImdsFault, Leaves, Metadata, Switchboard
from agent.lab.machine import Machine
from agent.lab.network import Firewall
from agent.lab.spec import LabError, LabSpec
from agent.lab.user_data import settings_in

POWERED = frozenset({"pending", "running"})
KEPT = frozenset({"stopping", "stopped"})
"""Without power, but it may come back."""


class Fleet:
    """Every machine that exists, by instance ID."""

    def __init__(self, block: Block, spec: LabSpec, folder: Path, endpoint: str) -> None:
        self.machines: dict[str, Machine] = {}
        self.firewall = Firewall(block)
        self.spec = spec
        self._block, self._folder, self._endpoint = block, folder, endpoint
        self._switchboard = Switchboard()
        self._last_host: dict[str, int] = {}
        self._promised: set[str] = set()

    # ---- as EC2 says ----

    def address_in(self, subnet: str) -> str:
        """An address for the next instance in a /24, used by nobody alive."""
        used = frozenset(machine.address for machine in self.machines.values()) | self._promised
        address = free_address(subnet, used, self._last_host.get(subnet, 10))
        self._last_host[subnet] = int(address.rpartition(".")[2])
        self._promised.add(address)
        return address

    def follow(self, instances: Iterable[Any], leaves_of: Callable[[str], Leaves], now: float) -> None:
        """Make the machines be what EC2 says of their instances."""
        present = set()
        for instance in instances:
            present.add(instance.id)
            if self._block.holds(instance.private_ip):
                self._follow_one(instance, leaves_of, now)
        for instance_id in set(self.machines) - present:
            self._retire(self.machines[instance_id])

    def _follow_one(self, instance: Any, leaves_of: Callable[[str], Leaves], now: float) -> None:
        state = str(instance.state)
        machine = self.machines.get(instance.id)
        if state in POWERED and machine is None:
            machine = self._install(instance, leaves_of(instance.id))
        if machine is None:
            return
        if state in POWERED and not machine.powered:
            self._power_on(machine, now)
        elif state in KEPT and machine.powered:
            self._power_off(machine)
        elif state not in POWERED | KEPT:
            self._retire(machine)

    def _install(self, instance: Any, leaves: Leaves) -> Machine:
        address = str(instance.private_ip)
        self._promised.discard(address)
        folder = self._folder / "machines" / instance.id
        folder.mkdir(parents=True, exist_ok=True)
        zone = str(instance.placement.zone)
        metadata = Metadata(address, leaves)
        told = settings_in(instance.user_data)
        etcd = self.spec.images.get(str(instance.image_id), self.spec.etcd)
        machine = Machine(instance.id, address, zone, folder, self._endpoint, self.spec, metadata, told, etcd)
        self.machines[instance.id] = machine
        return machine

    def _power_on(self, machine: Machine, now: float) -> None:
        self.firewall.admit(machine.address)
        if machine.metadata.fault is not ImdsFault.REFUSE:
            self._switchboard.open(machine.metadata)
        machine.power_on(now)

    def _power_off(self, machine: Machine) -> None:
        machine.power_off()
        self._switchboard.close(machine.address)

    def _retire(self, machine: Machine) -> None:
        """Terminated: its power and its address go; its folder stays until the lab goes."""
        self._power_off(machine)
        self.firewall.forget(machine.address)
        del self.machines[machine.instance]

    def tick(self, now: float) -> None:
        """Start what is due, notice what ended."""
        for machine in self.machines.values():
            machine.tick(now)

    # ---- as people ask ----

    def machine(self, instance_id: str) -> Machine:
        """The machine of an instance; LabError if it has none."""
        try:
            return self.machines[instance_id]
        except KeyError:
            raise LabError(f"{instance_id} is not a machine of this lab, or not any more") from None

    def act(self, instance_id: str, verb: str, now: float) -> dict[str, Any]:
        """Carry out one verb on one machine; returns what there is to tell."""
        machine = self.machine(instance_id)
        actions: dict[str, Callable[[], object]] = {
            "kill-agent": lambda: machine.kill_agent(signal.SIGKILL),
            "stop-agent": machine.hold_agent,
            "start-agent": lambda: machine.release_agent(now),
            "kill-etcd": lambda: machine.kill_etcd(signal.SIGKILL),
            "reboot": lambda: self._reboot(machine, now),
            "wipe": lambda: self._wipe(machine, now),
            "freeze": machine.freeze,
            "thaw": machine.thaw,
            "isolate": lambda: self.firewall.isolate(machine.address),
            "heal": lambda: self.firewall.heal(machine.address),
        }
        if verb not in actions:
            raise LabError(f"no verb {verb!r}; there are {', '.join(actions)}")
        if verb not in ("isolate", "heal") and not machine.powered:
            raise LabError(f"{instance_id} has no power: start it first")
        return {"done": actions[verb]()}

    def _reboot(self, machine: Machine, now: float) -> None:
        self._power_off(machine)
        self._power_on(machine, now)

    def _wipe(self, machine: Machine, now: float) -> None:
        self._power_off(machine)
        machine.wipe()
        self._power_on(machine, now)

    def move(self, instance_id: str, address: str, now: float) -> None:
        """Reboot a machine under another address, with its disk: a volume that moved."""
        machine = self.machine(instance_id)
        self._power_off(machine)
        self.firewall.forget(machine.address)
        self._promised.discard(address)
        machine.address = machine.metadata.address = address
        self._power_on(machine, now)

    def spoil_metadata(self, instance_id: str, fault: ImdsFault) -> None:
        """Break or mend an instance's IMDS."""
        machine = self.machine(instance_id)
        machine.metadata.fault = fault
        if fault is ImdsFault.REFUSE:
            self._switchboard.close(machine.address)
        elif machine.powered:
            self._switchboard.open(machine.metadata)

    def change(self, spec: LabSpec) -> None:
        """Another pace, or other settings from the next boot on."""
        self.spec = spec
        for machine in self.machines.values():
            machine.spec = spec

    def close(self) -> None:
        """End every process and rule. The files stay."""
        processes.kill_all(self.machines)
        for machine in self.machines.values():
            machine.power_off()
            self._switchboard.close(machine.address)
        self.machines.clear()
        self.firewall.close()

"""The daemon: one process that hosts the emulated AWS, every instance's IMDS, and every machine of a lab.

    python -m agent.lab.cloud STATE_DIR [--lifeline]

reads STATE_DIR/spec.json, writes STATE_DIR/lab.json when everything is up, and runs until SIGTERM, `POST /lab/down`, or
(with --lifeline) the end of its standard input. `agent.lab.client` starts it; nobody else needs to.

House rules: one lock for everything that EC2 and Auto Scaling know; the ticker settles the cloud ten times a second and
never dies of an exception.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

os.environ["MOTO_EC2_LOAD_DEFAULT_AMIS"] = "false"  # read by moto at import; saves half a second

from moto.autoscaling.models import autoscaling_backends
from moto.ec2.models import ec2_backends
from moto.iam.models import iam_backends
from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from moto.s3.models import s3_backends
from moto.sts.models import sts_backends
from werkzeug.serving import make_server

from agent.lab import enforcement, foundation, groups, interruptions, metadata, processes, sweep
from agent.lab.addresses import Block, claim_block
from agent.lab.calls import Call
from agent.lab.control import Control
from agent.lab.enforcement import Backends, Enforcement, role_in
from agent.lab.fleet import Fleet
from agent.lab.gateway import Gateway
from agent.lab.imds import ImdsFault, Leaves
from agent.lab.power import StateWalk
from agent.lab.spec import ACCOUNT, CLOUD_PORT, REGION, ROLE, LabError, LabSpec, Pace

log = logging.getLogger("agent.lab.cloud")

TICK_S = 0.1


class QuietHandler(MotoRequestHandler):
    """Serves without a line a request."""

    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002 - the parent's name for it
        """The call log has it."""


class Cloud:
    """A lab, running."""

    def __init__(
        self, folder: Path, spec: LabSpec, block: Block, listener: socket.socket, down: threading.Event
    ) -> None:
        groups.install()
        if spec.enforces_iam:
            enforcement.install()
        self.spec, self.block, self.folder = spec, block, folder
        self.endpoint = f"http://{block.cloud}:{CLOUD_PORT}"
        self.lock = threading.RLock()
        self.down = down
        self.fleet = Fleet(block, spec, folder, self.endpoint)
        self.ec2: Any = ec2_backends[ACCOUNT][REGION]
        self.groups = cast("groups.Backend", autoscaling_backends[ACCOUNT][REGION])
        self.keys = metadata.RoleKeys(sts_backends[ACCOUNT]["aws"])
        self.walk = StateWalk()
        self.iam: Any = iam_backends[ACCOUNT]["aws"]
        self._enforcement = Enforcement(Backends(self.iam, s3_backends[ACCOUNT]["aws"], self.groups))
        self.interruptions = interruptions.Interruptions()
        control = Control(self, lambda: self.gateway.weather, lambda: self.gateway.calls)
        moto = DomainDispatcherApplication(create_backend_app)
        self.gateway = Gateway(moto, control, self.lock, self.settle, self._who, self._objection)
        self.gateway.honours_preconditions = spec.honours_preconditions
        self._server = make_server(
            block.cloud,
            CLOUD_PORT,
            self.gateway,
            threaded=True,
            request_handler=QuietHandler,
            fd=listener.fileno(),
        )

    # ---- life ----

    def start(self) -> None:
        """Serve, build the foundation, and say that all is ready."""
        threading.Thread(target=self._server.serve_forever, name="aws", daemon=True).start()
        foundation.lay(self.endpoint, self.block, self.spec)
        threading.Thread(target=self._tick, name="ticker", daemon=True).start()
        state = {"pid": os.getpid(), "block": self.block.x, "endpoint": self.endpoint, "region": REGION}
        temporary = self.folder / f"{sweep.STATE}.new"
        temporary.write_text(json.dumps(state))
        temporary.replace(self.folder / sweep.STATE)

    def _tick(self) -> None:
        while not self.down.wait(TICK_S):
            try:
                with self.lock:
                    self.settle()
                    self.fleet.tick(time.monotonic())
            except Exception:  # the cloud goes on; the log says what it could not do
                log.exception("tick failed")

    def close(self) -> None:
        """End every process of every machine; nothing is launched any more."""
        self.down.set()
        with self.lock:
            self.fleet.close()
        self.gateway.weather.clear()

    # ---- the laws of this cloud ----

    @property
    def pace(self) -> Pace:
        """How long things take at the moment."""
        return self.spec.pace

    def settle(self) -> None:
        """Let time act on EC2, the groups and the machines. The caller holds the lock."""
        now = time.monotonic()
        self.interruptions.settle(self.ec2, now)
        self.walk.settle(self.ec2, now, self.pace)
        for group in self.groups.groups:
            groups.settle(group, now, self.pace, self._allot)
        self.walk.settle(self.ec2, now, self.pace)
        self.fleet.follow(self.ec2.all_instances(), self._leaves, now)

    def _allot(self, subnet_id: str) -> str | None:
        subnet = self.ec2.get_subnet(subnet_id)
        cidr = str(subnet.cidr_block)
        return self.fleet.address_in(cidr) if self.block.holds(cidr.partition("/")[0]) else None

    def _leaves(self, instance_id: str) -> Leaves:
        def read() -> Mapping[str, str]:
            with self.lock:
                instance = self.ec2.get_instance(instance_id)
                found = self.groups.find(instance_id)
                member = found[1] if found else None
                return metadata.leaves(instance, member, _tags(instance), self.keys, self._role_of(instance_id))

        return read

    def _role_of(self, instance_id: str) -> str:
        """The role in the instance profile of its group's launch template; the lab's own, if that names none."""
        found = self.groups.find(instance_id)
        return (role_in(found[0].ec2_launch_template, self.iam) if found else None) or ROLE

    def _objection(self, environ: Mapping[str, Any], call: Call) -> str | None:
        if not self.spec.enforces_iam:
            return None
        with self.lock:
            role = self._role_of(call.caller) if call.caller.startswith("i-") else ""
            return self._enforcement.objection(environ, call, None if call.caller == "operator" else role)

    def _who(self, access_key_id: str) -> str:
        if access_key_id == foundation.OPERATOR_KEY:
            return "operator"
        return self.keys.owner(access_key_id) or access_key_id

    # ---- what the control API asks ----

    def status(self) -> dict[str, Any]:
        """Everything there is, for people and tests."""
        with self.lock:
            running = processes.marked(self.fleet.machines)
            instances = [self._describe(instance, running) for instance in self.ec2.all_instances()]
            desired = {group.name: group.desired_capacity for group in self.groups.groups}
        return {
            "endpoint": self.endpoint,
            "region": REGION,
            "cluster": self.spec.cluster,
            "bucket": self.spec.bucket,
            "prefix": self.spec.prefix,
            "etcd": self.spec.etcd,
            "groups": desired,
            "cannot_isolate": self.fleet.firewall.missing,
            "instances": instances,
        }

    def _describe(self, instance: Any, running: tuple[processes.Process, ...]) -> dict[str, Any]:
        machine = self.fleet.machines.get(instance.id)
        found = self.groups.find(instance.id)
        etcd = Path(self.spec.etcd).name[:15]
        mine = [process for process in running if process.instance == instance.id]
        agent = machine.agent.pid if machine and machine.agent else None
        return {
            "id": instance.id,
            "group": found[0].name if found else "",
            "zone": str(instance.placement.zone),
            "address": instance.private_ip,
            "state": instance.state,
            "lifecycle": found[1].lifecycle_state if found else "",
            "health": found[1].health_status if found else "",
            "powered": bool(machine and machine.powered),
            "frozen": bool(machine and machine.frozen),
            "isolated": bool(machine and self.fleet.firewall.is_cut(machine.address)),
            "agent_pid": agent,
            "agent_starts": machine.starts if machine else 0,
            "agent_exit": machine.last_exit if machine else None,
            "etcd_pids": [process.pid for process in mine if process.name == etcd],
            "folder": str(self.folder / sweep.MACHINES / instance.id),
        }

    def change(self, wanted: dict[str, Any]) -> None:
        """Another pace, other agent settings (from the next boot on), or a store that ignores preconditions."""
        with self.lock:
            pace = replace(self.spec.pace, **wanted.get("pace", {}))
            changes = {name: wanted[name] for name in ("settings", "environment", "agent_command") if name in wanted}
            if "agent_command" in changes:
                changes["agent_command"] = tuple(changes["agent_command"])
            self.spec = replace(self.spec, pace=pace, **changes)
            self.fleet.change(self.spec)
        if self.spec.enforces_iam and "settings" in wanted:
            foundation.grant(self.endpoint, self.spec)
        self.gateway.honours_preconditions = wanted.get("honours_preconditions", self.gateway.honours_preconditions)

    def act(self, instance_id: str, verb: str) -> dict[str, Any]:
        """One verb on one machine."""
        with self.lock:
            if verb == "move":
                return {"address": self._move(instance_id)}
            return self.fleet.act(instance_id, verb, time.monotonic())

    def _move(self, instance_id: str) -> str:
        """A new private address in the same subnet, in EC2, IMDS and under the machine."""
        self.fleet.machine(instance_id)
        instance = self.ec2.get_instance(instance_id)
        address = self._allot(instance.subnet_id)
        assert address is not None
        interface = instance.nics[0]
        interface.private_ip_address = address
        interface.private_ip_addresses = [{"Primary": True, "PrivateIpAddress": address}]
        self.fleet.move(instance_id, address, time.monotonic())
        return address

    def spoil_imds(self, instance_id: str, wanted: dict[str, Any]) -> None:
        """Lay a value over a path, take it off again, or break the whole service."""
        with self.lock:
            machine = self.fleet.machine(instance_id)
            if "fault" in wanted:
                self.fleet.spoil_metadata(instance_id, ImdsFault(wanted["fault"] or ""))
            elif wanted.get("restore"):
                machine.metadata.overrides.pop(wanted["path"], None)
            else:
                machine.metadata.overrides[wanted["path"]] = wanted["value"]

    def interrupt(self, instance_id: str, wanted: dict[str, Any]) -> None:
        """A spot notice after which the instance really goes, or a mere recommendation."""
        with self.lock:
            where = self.fleet.machine(instance_id).metadata
            if wanted["action"] == "rebalance":
                interruptions.recommend(where)
                return
            self.interruptions.announce(instance_id, where, wanted["action"], wanted["seconds"], time.monotonic())

    def go_down(self) -> None:
        """End soon: after this request is answered."""
        self.down.set()


def _tags(instance: Any) -> dict[str, str]:
    """IMDS shows no tag whose key it could not put in a path."""
    return {tag["key"]: tag["value"] for tag in instance.get_tags() if "/" not in tag["key"]}


# ---- the process ----


def main() -> None:
    """Run a lab until it is told to end."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--lifeline", action="store_true")
    args = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    down = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: down.set())
    try:
        spec = LabSpec.from_json((args.folder / sweep.SPEC).read_text())
        block, listener = claim_block()
    except LabError as error:
        sys.exit(f"lab: {error}")
    if args.lifeline:
        threading.Thread(target=_watch_lifeline, args=(down,), daemon=True).start()
    with _last_will(args.folder, block):
        _run(args.folder, spec, block, listener, down)
    logging.shutdown()
    os._exit(0)  # no thread of ours has anything left to say, and taking moto apart politely takes a second


def _run(folder: Path, spec: LabSpec, block: Block, listener: socket.socket, down: threading.Event) -> None:
    with listener:
        cloud = Cloud(folder, spec, block, listener, down)
    try:
        cloud.start()
        down.wait()
    finally:
        cloud.close()


def _last_will(folder: Path, block: Block) -> subprocess.Popen[bytes]:
    """A helper that cleans up if we are killed, made before there is anything to clean up.

    Our end of its pipe is closed by our death.
    """
    command = [sys.executable, "-m", "agent.lab.sweep", str(folder), str(block.x)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)


def _watch_lifeline(down: threading.Event) -> None:
    while os.read(sys.stdin.fileno(), 1):
        pass
    down.set()


if __name__ == "__main__":
    main()

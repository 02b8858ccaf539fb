"""A stand-in for the agent, for tests of the emulated cloud: runs, starts a child in a session of its own, logs, waits.

It ends with the code in `<disk>/exit`, if somebody puts a number there.
"""

import json
import os
import subprocess
import sys
import time
import tomllib
from pathlib import Path

settings = tomllib.loads(Path(sys.argv[1]).read_text())
disk = Path(settings["etcd"]["data_root"])
with (disk / "boots").open("a") as boots:
    boots.write(f"{os.getpid()}\n")
(disk / "environment.json").write_text(json.dumps(dict(os.environ)))
child = subprocess.Popen(
    ["sleep", "1000"],
    start_new_session=True,
    env={"PATH": os.environ["PATH"], "HOME": os.environ["HOME"]},  # as little as the agent gives its etcd
)
sys.stdout.write("up\n")
sys.stdout.flush()
while not (disk / "exit").exists():
    time.sleep(0.05)
sys.exit(int((disk / "exit").read_text()))

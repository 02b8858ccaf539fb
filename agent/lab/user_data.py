"""What cloud-init would make of an instance's user data, as far as the agent is concerned: its config.toml."""

from __future__ import annotations

import base64
import binascii
import re
import tomllib
from typing import Any

WRITES_CONFIG = re.compile(r"^cat >/etc/etcd-asg-agent/config\.toml <<'(\w+)'\n(.*?)^\1$", re.DOTALL | re.MULTILINE)


def settings_in(user_data: object) -> dict[str, dict[str, Any]]:
    """The sections of the settings that a script in the user data writes; none where it writes none."""
    if not user_data:
        return {}
    try:
        script = base64.b64decode(str(user_data), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        script = str(user_data)
    found = WRITES_CONFIG.search(script)
    return tomllib.loads(found[2]) if found else {}

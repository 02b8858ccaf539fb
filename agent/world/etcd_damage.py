"""The one error of the readers of etcd's files: what lies there is not what etcd wrote.

It never leaves `agent.world.etcd_survey`, where it becomes a `Damaged`. A file that cannot be read is an OSError
instead: that says nothing about its content.
"""

from __future__ import annotations


class Damage(Exception):
    """A checksum, a gap or a structure is wrong. `str()` of it is one line for a person."""

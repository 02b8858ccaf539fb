"""Asks AWS what time it is, by a request that nobody has to allow; and the machine's time service how sure it is."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import boto3
import botocore.session
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from agent.doctor.judging.clock import Compared, Kept
from agent.model.faults import Refused, Unavailable
from agent.model.known import Ignorance
from agent.world.aws_errors import Asked, trouble

SECONDS = 5
LEAP = {"Normal", "Insert second", "Delete second"}
"""chronyc's words for a clock that is synchronised."""


def compared(bucket: str, region: str, now: Callable[[], datetime]) -> Compared:
    """S3's Date header in its answer to a HEAD of the bucket that is not signed. It is refused, and dated.

    Signed, it would need credentials, and a clock that is not too far off already.
    """
    session = boto3.Session(botocore_session=botocore.session.Session(), region_name=region)
    config = Config(
        signature_version=UNSIGNED, connect_timeout=SECONDS, read_timeout=SECONDS, retries={"total_max_attempts": 1}
    )
    client: Any = session.client("s3", config=config)
    asked, asked_at = Asked("s3", "HeadBucket", f"bucket {bucket}"), now()
    try:
        answer = client.head_bucket(Bucket=bucket)
    except ClientError as error:
        answer = error.response
    except BotoCoreError as error:
        raise trouble(error, asked) from error
    return Compared("S3's Date header", asked_at, now(), _date(answer, asked))


def _date(answer: Mapping[str, Any], asked: Asked) -> datetime:
    try:
        return parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])
    except (KeyError, TypeError, ValueError) as error:
        raise Unavailable(Ignorance.MALFORMED, f"{asked} was answered without a Date: is this S3?") from error


def kept() -> Kept:
    """By chronyd, else by whatever systemd knows of."""
    if shutil.which("chronyc"):
        return chrony(_said(["chronyc", "-n", "-c", "tracking"]))
    if shutil.which("timedatectl"):
        said = _said(["timedatectl", "show", "--property=NTPSynchronized", "--value"]).strip()
        if said not in ("yes", "no"):
            raise Refused(f"timedatectl says {said!r}", Ignorance.MALFORMED)
        return Kept("systemd (timedatectl)", said == "yes")
    raise Refused("there is neither chronyc nor timedatectl here", Ignorance.OURS)


def chrony(said: str) -> Kept:
    """chronyc(1), `tracking`, as comma-separated values: the clock is off by no more than its offset, the root
    dispersion and half of the root delay.
    """
    fields = said.strip().split(",")
    try:
        offset, delay, dispersion, leap = float(fields[4]), float(fields[10]), float(fields[11]), fields[13]
    except (IndexError, ValueError) as error:
        raise Refused(f"chronyc says {said.strip()[:80]!r}", Ignorance.MALFORMED) from error
    return Kept("chronyd", leap in LEAP, timedelta(seconds=abs(offset) + dispersion + delay / 2))


def _said(command: list[str]) -> str:
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Refused(f"{command[0]} did not answer: {error}", Ignorance.TIMEOUT) from error
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines() or ["no word"]
        raise Refused(f"{command[0]}: {said[0]}", Ignorance.FAILED)
    return done.stdout

"""The bucket's rules: what decides must stay, and stay readable. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from agent.doctor.finding import Finding, failure, ok, unknown, warning
from agent.model.known import Ignorance, Unknown
from agent.world.bucket_lifecycle import expiring_rule

ASK_AN_ADMINISTRATOR = "run the doctor with an administrator's credentials: the agent's role need not allow this"
BLOCKS = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")


class Precondition(StrEnum):
    """What became of `If-None-Match: *` on an object that is there. Written would have been what is in it already."""

    HONOURED = "honoured"
    IGNORED = "ignored"
    UNTRIED = "untried"  # the probe is not there yet: the agent writes it when it first starts


@dataclass(frozen=True, slots=True)
class BucketSeen:
    """Each as S3 says it, read alone."""

    bucket: str
    root: str
    precondition: Precondition | Unknown
    lifecycle: Sequence[Mapping[str, Any]] | Unknown
    versioning: str | Unknown
    """`Enabled`, `Suspended`, or nothing where it never was."""
    encryption: Sequence[str] | Unknown
    """The algorithms of its default encryption."""
    blocks: Mapping[str, bool] | Unknown


def judge(seen: BucketSeen) -> Iterator[Finding]:
    """Where it cannot be asked at all, and that is no weather, the rest is not worth saying."""
    if isinstance(seen.precondition, Unknown) and seen.precondition.why is Ignorance.OURS:
        said = "the agent can neither found nor join, and saves nothing"
        fix = "check storage.bucket, AWS_REGION and the role of this instance (its instance profile)"
        yield failure("bucket", f"{seen.bucket} cannot be used: {seen.precondition.detail}", said, fix)
        return
    yield from _precondition(seen)
    yield from _lifecycle(seen)
    yield from _versioning(seen)
    yield from _encryption(seen)
    yield from _public_access(seen)


def _precondition(seen: BucketSeen) -> Iterator[Finding]:
    check = "bucket-preconditions"
    said = "two agents could each found a cluster: nothing arbitrates, and the agent refuses to run"
    if isinstance(seen.precondition, Unknown):
        yield unknown(check, seen.precondition, said, "mend that, and run the doctor again")
    elif seen.precondition is Precondition.IGNORED:
        found = f"{seen.bucket} ignores If-None-Match on PUT"
        yield failure(check, found, said, "use a store that honours it; AWS S3 does")
    elif seen.precondition is Precondition.UNTRIED:
        found = f"there is no {seen.root}probe.json yet to try them with"
        yield unknown(check, found, said, "start the agent once: it proves it, and ends with code 2 where it cannot")
    else:
        yield ok(check, f"{seen.bucket} honours If-None-Match on PUT")


def _lifecycle(seen: BucketSeen) -> Iterator[Finding]:
    check, generations = "bucket-lifecycle", f"{seen.root}generations/"
    said = f"a record that expires looks like a cluster that never was: no rule may touch {generations}"
    if isinstance(seen.lifecycle, Unknown):
        yield unknown(check, seen.lifecycle, said, "allow the statement ReadLifecycleRules of `iam-policy`")
        return
    rule = expiring_rule(seen.lifecycle, generations)
    if rule is not None:
        found = f"lifecycle rule {rule!r} of {seen.bucket} could take away {generations}"
        yield failure(check, found, said, f"limit that rule to other prefixes, such as {seen.root}assembly/")
    else:
        yield ok(check, f"{len(seen.lifecycle)} rules, none of which touches {generations}")


def _versioning(seen: BucketSeen) -> Iterator[Finding]:
    check = "bucket-versioning"
    said = "a record or snapshot that somebody deletes or overwrites by hand is gone for good"
    if isinstance(seen.versioning, Unknown):
        yield _not_told(check, "GetBucketVersioning", seen.versioning, said)
    elif seen.versioning != "Enabled":
        found = f"versioning of {seen.bucket} is {seen.versioning.lower() or 'off'}"
        yield warning(check, found, said, f"aws s3api put-bucket-versioning --bucket {seen.bucket} "
                      "--versioning-configuration Status=Enabled")  # fmt: skip
    else:
        yield ok(check, f"{seen.bucket} keeps versions")


def _encryption(seen: BucketSeen) -> Iterator[Finding]:
    check = "bucket-encryption"
    said = "snapshots hold everything that is in etcd, secrets too"
    if isinstance(seen.encryption, Unknown):
        yield _not_told(check, "GetEncryptionConfiguration", seen.encryption, said)
    elif not seen.encryption:
        fix = "give the bucket a default encryption (S3 of AWS always has one), or set storage.kms_key_id"
        yield warning(check, f"{seen.bucket} has no default encryption", said, fix)
    else:
        yield ok(check, f"{seen.bucket} encrypts with {', '.join(seen.encryption)} by default")


def _public_access(seen: BucketSeen) -> Iterator[Finding]:
    check = "bucket-public-access"
    said = "one policy or ACL by mistake, and everything in etcd is readable to the world"
    if isinstance(seen.blocks, Unknown):
        yield _not_told(check, "GetBucketPublicAccessBlock", seen.blocks, said)
        return
    open_ones = [each for each in BLOCKS if not seen.blocks.get(each)]
    if open_ones:
        found = f"{seen.bucket} does not block public access: {', '.join(open_ones)} off (the account's own may be on)"
        fix = f"aws s3api put-public-access-block --bucket {seen.bucket}, with all four on"
        yield warning(check, found, said, fix)
    else:
        yield ok(check, f"{seen.bucket} blocks all public access")


def _not_told(check: str, action: str, why: Unknown, consequence: str) -> Finding:
    if why.why is Ignorance.DENIED:
        return unknown(check, f"these credentials do not allow s3:{action}", consequence, ASK_AN_ADMINISTRATOR)
    return unknown(check, why, consequence, "mend that, and run the doctor again")

"""What a failed AWS call means: botocore's errors told apart by what the caller does next.

House rules. A code that says the request had no effect and will be refused again is `Refused`, in one line that an
operator can act on: the call, the resource, and the policy statement that would allow it. Everything that says nothing
about the world is `Unavailable`. A fault of our own (credentials, clock, certificate store) is never called a fault of
the service. What nobody has seen yet is `Unavailable`: only a definite no may be called one.
Codes: AWS's "Error Responses" of S3, "Error codes" of EC2, "Common errors" of Auto Scaling, "PutParameter" of SSM.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import dataclass

from boto3.exceptions import Boto3Error
from botocore import exceptions as aws
from botocore.parsers import ResponseParserError

from agent.model.faults import Refused, Trouble, Unavailable
from agent.model.known import Ignorance
from agent.world.permissions import ACTIONS, Need, need_of, need_of_action

THROTTLED = frozenset(
    {
        "BandwidthLimitExceeded",
        "EC2ThrottledException",
        "LimitExceededException",
        "PriorRequestNotComplete",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "SlowDown",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
        "TooManyUpdates",
    }
)

OURS = frozenset(
    {
        "AuthFailure",
        "ExpiredToken",
        "ExpiredTokenException",
        "IncompleteSignature",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidToken",
        "MissingAuthenticationToken",
        "RequestExpired",
        "RequestTimeTooSkewed",
        "SignatureDoesNotMatch",
        "TokenRefreshRequired",
        "UnrecognizedClientException",
    }
)
"""Our credentials or our clock. They mend themselves when IMDS hands out new ones or the clock is set."""

DENIED = frozenset(
    {
        "403",  # the answer to a HEAD has no words
        "AccessDenied",
        "AccessDeniedException",
        "AccountProblem",
        "AllAccessDisabled",
        "Forbidden",
        "OptInRequired",
        "UnauthorizedOperation",
    }
)

WRONG_REGION = frozenset({"AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "PermanentRedirect"})

DENIED_FOR = re.compile(r"not authorized to perform: ((?:s3|kms):\w+)(?:.*?(arn:aws[\w-]*:(?:s3|kms):[^\s,\"]+))?")
"""AWS's "Access denied message examples" of S3: `User: … is not authorized to perform: ACTION on resource: "ARN" …`."""

ABSENT = frozenset(
    {
        "NoSuchKey",
        "NoSuchLifecycleConfiguration",
        "NoSuchPublicAccessBlockConfiguration",
        "ServerSideEncryptionConfigurationNotFoundError",
    }
)
"""S3's own words for "there is none". A 404 in any other words may come from something that is not S3."""


class NotFound(Refused):
    """S3 answered, and holds no such thing."""


class AlreadyThere(Refused):
    """S3 answered that `If-None-Match: *` failed, or SSM that there is such a parameter: there is one.

    It may be our own, from an answer we lost.
    """


class OutOfRange(Refused):
    """S3 answered that the object ends before the range that was asked for."""


class NotSupported(Refused):
    """The service does not know this feature (501)."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A call as a person knows it. `arn` is the resource as IAM names it: what the missing statement is about."""

    service: str
    operation: str
    resource: str = "*"
    arn: str = "*"
    key: str = ""
    """Of an object of the cluster's, below its root."""

    @property
    def need(self) -> Need | None:
        """The statement of the role's policy that allows it. None: no agent is meant to do that."""
        return need_of(f"{self.service}:{self.operation}", self.key)

    @property
    def action(self) -> str:
        name = f"{self.service}:{self.operation}"
        return ACTIONS.get(name, name)

    def __str__(self) -> str:
        return f"{self.action} on {self.resource}"


@contextmanager
def translated(asked: Asked) -> Iterator[None]:
    """What botocore, boto3 and the transfer manager raise in here leaves as `Trouble`; ours passes as it is."""
    try:
        yield
    except (aws.BotoCoreError, aws.ClientError, Boto3Error, CancelledError, ResponseParserError) as error:
        raise trouble(error, asked) from error


def trouble(error: Exception, asked: Asked) -> Trouble:
    """The error of ours that this one of botocore's means."""
    if isinstance(error, aws.ClientError):
        return _answered(error, asked)
    why = next((why for kind, why in _KINDS if isinstance(error, kind)), Ignorance.FAILED)
    return Unavailable(why, f"{asked}: {_one_line(error)}")


_KINDS: tuple[tuple[type[Exception], Ignorance], ...] = (
    (aws.ConnectTimeoutError, Ignorance.TIMEOUT),
    (aws.ReadTimeoutError, Ignorance.TIMEOUT),
    (aws.SSLError, Ignorance.OURS),
    (aws.EndpointConnectionError, Ignorance.UNREACHABLE),
    (aws.ConnectionClosedError, Ignorance.UNREACHABLE),
    (aws.ProxyConnectionError, Ignorance.UNREACHABLE),
    (aws.IncompleteReadError, Ignorance.UNREACHABLE),
    (aws.ResponseStreamingError, Ignorance.UNREACHABLE),
    (aws.ConnectionError, Ignorance.UNREACHABLE),
    (aws.HTTPClientError, Ignorance.UNREACHABLE),
    (aws.NoCredentialsError, Ignorance.OURS),
    (aws.PartialCredentialsError, Ignorance.OURS),
    (aws.CredentialRetrievalError, Ignorance.OURS),
    (aws.MetadataRetrievalError, Ignorance.OURS),
    (aws.NoRegionError, Ignorance.OURS),
    (aws.ParamValidationError, Ignorance.OURS),
    (ResponseParserError, Ignorance.MALFORMED),
    (aws.FlexibleChecksumError, Ignorance.MALFORMED),
    (aws.ChecksumError, Ignorance.MALFORMED),
    (ValueError, Ignorance.MALFORMED),  # a date or a number in the answer that is none
    (KeyError, Ignorance.MALFORMED),  # what botocore raises for a page instead of Auto Scaling's or a balancer's answer
)


def _answered(error: aws.ClientError, asked: Asked) -> Trouble:
    """The service answered with a code. Its own family first, then the HTTP status."""
    code, status = _code_of(error)
    said = f"{asked}: {code} {_one_line(error.response.get('Error', {}).get('Message') or '')}".rstrip()
    if code in THROTTLED or status == 429:
        return Unavailable(Ignorance.THROTTLED, said)
    if code in OURS:
        hint = "check the instance role and this instance's clock"
        return Unavailable(Ignorance.OURS, f"{said} ({hint})")
    if code in DENIED:
        return Refused(f"{asked} was denied: add {_statement(error, asked)} to the instance role ({_said(error)})")
    if code == "NoSuchBucket":
        return Refused(f"{asked} was refused: there is no such bucket; check storage.bucket", Ignorance.OURS)
    if code == "NoSuchHostedZone":
        return Refused(f"{said}: check dns.zone_id", Ignorance.OURS)
    if code in WRONG_REGION:
        return Refused(f"{said}: the bucket is in another region; check storage.bucket and AWS_REGION", Ignorance.OURS)
    if code == "ParameterAlreadyExists":
        return AlreadyThere(said)
    if code in ABSENT or (asked.operation, code) == ("AbortMultipartUpload", "NoSuchUpload"):
        return NotFound(said)
    return _by_status(status, said)


def _by_status(status: int, said: str) -> Trouble:
    match status:
        case 404:
            return Unavailable(Ignorance.MALFORMED, f"{said}: is this AWS?")
        case 412:
            return AlreadyThere(said)
        case 416:
            return OutOfRange(said)
        case 501:
            return NotSupported(said)
        case 408 | 409:  # 409: another conditional write on this key is under way
            return Unavailable(Ignorance.FAILED, said)
        case _ if 400 <= status < 500:
            return Refused(said, Ignorance.OURS)
        case _:
            return Unavailable(Ignorance.FAILED, said)


def _code_of(error: aws.ClientError) -> tuple[str, int]:
    response = error.response
    code = str(response.get("Error", {}).get("Code") or "")
    return code.removeprefix("Client."), int(response.get("ResponseMetadata", {}).get("HTTPStatusCode") or 0)


def _said(error: aws.ClientError) -> str:
    return f"{_code_of(error)[0]}: {_one_line(error.response.get('Error', {}).get('Message') or 'no message')}"


def _statement(error: aws.ClientError, asked: Asked) -> str:
    """The IAM statement that would allow this call, under the name that the printed policy gives it.

    Where AWS lacks the permission for something else than what was asked (a key of KMS; whether an object is there),
    only its message says so.
    """
    action, resource, need = asked.action, asked.arn, asked.need
    said = DENIED_FOR.search(_one_line(error.response.get("Error", {}).get("Message") or ""))
    if said is not None and said[1] != action:
        action, resource, need = said[1], said[2] or "*", need_of_action(said[1], asked.service)
    sid = {} if need is None else {"Sid": need.sid}
    return json.dumps({**sid, "Effect": "Allow", "Action": action, "Resource": resource}, separators=(",", ":"))


def _one_line(text: object) -> str:
    line = " ".join(str(text).split())
    return line if len(line) <= 300 else f"{line[:300]}…"

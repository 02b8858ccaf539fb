"""One session with AWS for all of its services: explicit timeouts, one request a call, every call counted.

House rules. Nothing is retried here but a read whose kept-alive connection the other side had closed: `agent.loop` is
the retry, and a retried write would hide that its first answer was lost. The exception is bulk: one part of a
snapshot that failed would cost the whole of it, and a part is idempotent (the same bytes under the same number), so
botocore's standard retries stay on there, and whoever uploads looks at what S3 holds afterwards. The region is always
given: nothing of botocore's may go looking for one. Endpoints and credentials are found by botocore's own rules
(`AWS_ENDPOINT_URL*`, environment, IMDS at `AWS_EC2_METADATA_SERVICE_ENDPOINT`).

Memory: of EC2 an API version of 2016 is used where botocore still carries it. It has all that we ask, AWS serves it
for good, and its description takes 14 MB less than today's (measured with botocore 1.44: 54 against 68 MB for the
three clients).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from threading import Lock
from time import perf_counter
from typing import Any

import boto3
import botocore.session
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionClosedError,
    DataNotFoundError,
    UnknownServiceError,
)
from botocore.parsers import ResponseParserError
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt

from agent.model.faults import Trouble
from agent.world.aws_errors import AlreadyThere, Asked, NotFound, trouble

OnCall = Callable[[str, str, str, float], None]
"""Hears of every call: service, operation, result (`ok`, `not-found`, `exists` or an `Ignorance`) and its seconds."""

SLIM_API_VERSIONS = {"ec2": "2016-09-15"}

METHODS = {
    "AbortMultipartUpload": "abort_multipart_upload",
    "ChangeResourceRecordSets": "change_resource_record_sets",
    "CompleteLifecycleAction": "complete_lifecycle_action",
    "DeregisterTargets": "deregister_targets",
    "DeleteObject": "delete_object",
    "DescribeAutoScalingGroups": "describe_auto_scaling_groups",
    "DescribeInstances": "describe_instances",
    "DescribeLifecycleHooks": "describe_lifecycle_hooks",
    "DescribeScalingActivities": "describe_scaling_activities",
    "DescribeTargetHealth": "describe_target_health",
    "DescribeWarmPool": "describe_warm_pool",
    "GetBucketLifecycleConfiguration": "get_bucket_lifecycle_configuration",
    "GetObject": "get_object",
    "GetParametersByPath": "get_parameters_by_path",
    "HeadObject": "head_object",
    "ListMultipartUploads": "list_multipart_uploads",
    "ListObjectsV2": "list_objects_v2",
    "ListResourceRecordSets": "list_resource_record_sets",
    "PutObject": "put_object",
    "PutParameter": "put_parameter",
    "RecordLifecycleActionHeartbeat": "record_lifecycle_action_heartbeat",
    "RegisterTargets": "register_targets",
    "SetInstanceHealth": "set_instance_health",
    "SetInstanceProtection": "set_instance_protection",
}
"""Every AWS operation that `call` knows, and boto3's name of it."""

DIAGNOSTICS = {
    "GetBucketEncryption": "get_bucket_encryption",
    "GetBucketVersioning": "get_bucket_versioning",
    "GetPublicAccessBlock": "get_public_access_block",
}
"""What the doctor asks besides. No instance role has to allow it: an administrator's may."""

BULK = (
    "CreateMultipartUpload",
    "UploadPart",
    "CompleteMultipartUpload",
    "AbortMultipartUpload",
    "PutObject",
    "GetObject",
)
"""What is called through `bulk_s3`. With METHODS this is all that the instance role must allow."""

WRITES = ("Put", "Change", "Complete", "Record", "Set", "Register", "Deregister")
"""How the operations begin whose lost answer is not asked for again."""

BEGAN = "etcd_asg_agent_began"


ONCE_MORE = Retrying(retry=retry_if_exception_type(ConnectionClosedError), stop=stop_after_attempt(2), reraise=True)
"""Reads only: most often a kept-alive connection that had grown old."""


class Aws:
    """Makes clients as they are needed, and calls. May be used from several threads."""

    def __init__(
        self,
        region: str,
        connect_timeout: timedelta = timedelta(seconds=2),
        read_timeout: timedelta = timedelta(seconds=5),
        on_call: OnCall = lambda *_: None,
    ) -> None:
        assert region, "a region is always given"
        core = botocore.session.Session()
        core.set_config_variable("metadata_service_timeout", 2)
        core.set_config_variable("metadata_service_num_attempts", 3)
        self._session = boto3.Session(botocore_session=core, region_name=region)
        self._config = Config(
            region_name=region,
            connect_timeout=connect_timeout.total_seconds(),
            read_timeout=read_timeout.total_seconds(),
            retries={"mode": "standard", "total_max_attempts": 1},
            user_agent_extra="etcd-asg-agent",
        )
        self._on_call = on_call
        self._clients: dict[str, Any] = {}
        self._making = Lock()

    def call(self, asked: Asked, **parameters: Any) -> Mapping[str, Any]:
        """The answer, with `Body` read to its end where there is one. Raises `Trouble`, never botocore's errors."""
        started, result = perf_counter(), "ok"
        try:
            return self._answer(asked, parameters)
        except (BotoCoreError, ClientError, ResponseParserError, ValueError, KeyError) as error:
            found = trouble(error, asked)
            result = _result(found)
            raise found from error
        finally:
            self._on_call(asked.service, asked.operation, result, perf_counter() - started)

    def bulk_s3(self, at_once: int, silence: timedelta) -> Any:
        """A client of S3 of its own for long transfers, to be used from up to `at_once` threads.

        There is no limit to how long one takes, only to how long the other side may be silent. Every request is
        counted, the retried ones too; botocore's errors are the caller's to translate (`aws_errors.translated`).
        """
        bulk = Config(
            connect_timeout=silence.total_seconds(),  # urllib3 allows as much for each 16 KiB that it sends
            read_timeout=silence.total_seconds(),
            retries={"mode": "standard", "total_max_attempts": 3},
            max_pool_connections=at_once,
            response_checksum_validation="when_required",  # whoever reads a snapshot compares digests of his own
        )
        with self._making:
            client = self._new_client("s3", self._config.merge(bulk))
        client.meta.events.register("request-created.s3", _begin)
        client.meta.events.register("response-received.s3", self._count)
        return client

    def _count(
        self,
        event_name: str,
        context: Mapping[str, Any],
        parsed_response: Any,
        exception: Exception | None,
        **_: object,
    ) -> None:
        """One request of the bulk client came to its end, by botocore's own event."""
        operation, error = event_name.rpartition(".")[2], exception
        if error is None and parsed_response["ResponseMetadata"]["HTTPStatusCode"] >= 300:
            error = ClientError(parsed_response, operation)
        result = "ok" if error is None else _result(trouble(error, Asked("s3", operation)))
        self._on_call("s3", operation, result, perf_counter() - context.get(BEGAN, perf_counter()))

    def _answer(self, asked: Asked, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
        method = getattr(self._client(asked.service), (METHODS | DIAGNOSTICS)[asked.operation])
        if asked.operation.startswith(WRITES):
            return _with_body(method(**parameters))
        return ONCE_MORE.copy()(lambda: _with_body(method(**parameters)))

    def _client(self, service: str) -> Any:
        with self._making:  # making clients is not safe in several threads; using them is
            if service not in self._clients:
                self._clients[service] = self._new_client(service, self._config)
            return self._clients[service]

    def _new_client(self, service: str, config: Config) -> Any:
        make: Any = self._session.client
        version = SLIM_API_VERSIONS.get(service)
        if version is not None:
            try:
                return make(service, api_version=version, config=config)
            except (DataNotFoundError, UnknownServiceError):
                pass  # a later botocore without it: the current one will do
        return make(service, config=config)


def _begin(request: Any, **_: object) -> None:
    request.context[BEGAN] = perf_counter()


def _with_body(answer: dict[str, Any]) -> dict[str, Any]:
    body = answer.get("Body")
    return answer if body is None else {**answer, "Body": body.read()}


def _result(found: Trouble) -> str:
    """A bounded label: a 404 or a 412 is an answer, not a failure."""
    if isinstance(found, NotFound):
        return "not-found"
    if isinstance(found, AlreadyThere):
        return "exists"
    unknown = getattr(found, "unknown", None)
    return str(unknown.why) if unknown is not None else "refused"

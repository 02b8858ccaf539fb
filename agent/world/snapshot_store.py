"""Snapshots into the bucket and out of it: the data first and verified, the manifest last, and no file on the way up.

House rules.
 - No manifest without its data: `commit` looks that the data is there, `expire` deletes the manifest first.
 - No data without a digest: etcd's own trailer is checked before the upload is completed, and what S3 holds is
   compared with what we sent before `upload` returns.
 - Data is written once, as everything that counts: `If-None-Match: *` on the put or the completion. Parts may be
   sent again by botocore (the same bytes under the same number); a completion whose answer was lost is looked up.
 - Memory is bounded by `Transfers`, whatever the size of the database: the parts that wait or are under way.
 - Nothing outside `snapshots/` of our own prefix is listed, aborted or deleted.

What S3 holds is verified by its own checksum: it computes CRC32 of every part as it arrives, and HeadObject answers
the composite of them (`x-amz-checksum-crc32: …-N`; AWS S3 and moto 5.2, which leaves out the `-N`), where it is
asked for with botocore 1.36 or later. A store that answers none, or one over the full object, has the object read
back once, unpacked and compared by sha256.

IAM: s3:PutObject, s3:GetObject, s3:AbortMultipartUpload and s3:DeleteObject on PREFIX/CLUSTER/snapshots/*,
s3:ListBucket and s3:ListBucketMultipartUploads on the bucket; with a key of KMS kms:GenerateDataKey and kms:Decrypt
(which a multipart upload needs as well). Importing needs s3:GetObject where the file lies.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from threading import Lock
from typing import IO, Any, cast

from boto3.s3.transfer import TransferConfig, create_transfer_manager

from agent.model.faults import Refused, Trouble, Unavailable
from agent.model.known import Ignorance
from agent.model.snapshot import Manifest, SnapshotName
from agent.world import heap, snapshot_listing, stale_uploads
from agent.world import snapshot_download as download
from agent.world.aws import Aws
from agent.world.aws_errors import Asked, NotFound, translated
from agent.world.objects import Objects
from agent.world.read_ahead import Source, reading
from agent.world.snapshot_listing import SNAPSHOTS
from agent.world.snapshot_stream import CompressedSnapshot, OnBytes, TrailedDigest, Uploaded, check

MIB = 1 << 20
S3_URL = re.compile(r"s3://([^/]+)/(.+)")


@dataclass(frozen=True, slots=True)
class Transfers:
    """How much is under way at once, and how long the other side may be silent.

    An upload holds (uploads + 2) parts, a download (downloads + 1) ranges. S3 takes 10,000 parts: 50 GB of 5 MiB.
    """

    part_bytes: int = 5 * MIB  # the least that S3 takes
    uploads: int = 4
    range_bytes: int = 8 * MIB
    downloads: int = 4
    silence: timedelta = timedelta(seconds=30)

    def __post_init__(self) -> None:
        assert self.part_bytes >= 5 * MIB  # the transfer manager would correct it unasked


class SnapshotStore:
    """One cluster's snapshots. One transfer at a time is what it is made for; it may be used from several threads.

    Everything raises `Unavailable` for what may pass, and `Refused` for a definite no, with what to do.
    """

    def __init__(
        self,
        aws: Aws,
        bucket: str,
        prefix: str,
        cluster: str,
        kms_key_id: str = "",
        transfers: Transfers | None = None,
    ) -> None:
        self._objects = Objects(aws, bucket, prefix, cluster, kms_key_id)
        self._transfers = transfers or Transfers()
        self._making = Lock()
        self._made: Any = None

    # ---- up --------------------------------------------------------------------------------------------------------

    def upload(self, name: SnapshotName, blobs: Iterable[bytes], on_bytes: OnBytes = lambda _: None) -> Uploaded:
        """Stream etcd's snapshot (its pieces, the trailer last) into the bucket, and know that it is there.

        `blobs` is read in another thread, and no further than to its first error, which is raised here. Unavailable:
        it broke off, or S3 did; nothing is there, or nothing that counts. Refused: etcd's digest is not that of its
        bytes. The multipart upload of a failure is aborted, if S3 can be reached.
        """
        return self._upload(name, CompressedSnapshot(blobs, self._transfers.part_bytes, on_bytes))

    def _upload(self, name: SnapshotName, stream: CompressedSnapshot) -> Uploaded:
        try:
            with heap.tidy(), translated(self._objects.asked("PutObject", name.data_key)):
                self._send(name.data_key, stream)
        except Trouble:
            sent = stream.passed
            if sent is None or not self._is_stored(name.data_key, sent, stream.stored.checksum):
                raise  # what we sent is not there: another's is, or nothing
        else:
            sent = stream.passed
            assert sent is not None
            self._verify(name.data_key, sent, stream.stored.checksum)
        return sent

    def _send(self, key: str, stream: CompressedSnapshot) -> None:
        more = {"ChecksumAlgorithm": "CRC32", "ContentType": "application/zstd", **self._objects.encryption}
        with create_transfer_manager(self._client, _transfer_config(self._transfers)) as manager:
            sending = manager.upload(cast(IO[bytes], stream), self._objects.bucket, self._objects.root + key, more)
            stream.given_up = sending.done
            sending.result()

    def _is_stored(self, key: str, sent: Uploaded, checksum: str) -> bool:
        """After an answer that was lost: it may have been a yes."""
        try:
            self._verify(key, sent, checksum)
        except Trouble:
            return False
        return True

    def _verify(self, key: str, sent: Uploaded, checksum: str) -> None:
        """Raise unless S3 holds exactly what was sent."""
        objects = self._objects
        asked, where = objects.asked("HeadObject", key), {"Bucket": objects.bucket, "Key": objects.root + key}
        answer = objects.aws.call(asked, ChecksumMode="ENABLED", **where)
        if answer.get("ContentLength") != sent.stored_bytes:
            said = f"{key}: S3 holds {answer.get('ContentLength')} bytes of {sent.stored_bytes}"
            raise Unavailable(Ignorance.MALFORMED, said)
        theirs = _comparable_checksum(answer)
        if theirs is None:
            for _ in self._contents(key, sent):
                pass
        elif theirs != checksum:
            raise Unavailable(Ignorance.MALFORMED, f"{key}: S3 holds other bytes than were sent (CRC32 {theirs})")

    def commit(self, manifest: Manifest) -> None:
        """Write the manifest, once: from now on the snapshot counts. Refused where its data is not there, or where
        another manifest is.
        """
        assert manifest.cluster == self._objects.cluster
        name = manifest.name
        stored, _ = self._source(name.data_key).whole()
        if stored != manifest.stored_bytes:
            raise Refused(f"{name.data_key} has {stored} bytes, not {manifest.stored_bytes}", Ignorance.MALFORMED)
        found = self._objects.put_once(name.manifest_key, manifest.to_json(), Manifest.from_json)
        if found is not None and found != manifest:
            raise Refused(f"{name.manifest_key}: {found.instance} wrote another manifest there", Ignorance.MALFORMED)

    def adopt(self, url: str, name: SnapshotName, on_bytes: OnBytes = lambda _: None) -> Uploaded:
        """Take in what `etcdctl snapshot save` wrote, from `s3://BUCKET/KEY`: as it is, or packed by zstd or gzip.

        Refused where it is not there, or does not end in etcd's digest, or in one that is not its own.
        """
        cut_short = download.untrailed(url)
        with self._foreign(url) as pieces:
            return self._upload(name, CompressedSnapshot(pieces, self._transfers.part_bytes, on_bytes, cut_short))

    @contextmanager
    def _foreign(self, url: str) -> Iterator[Iterator[bytes]]:
        """An object of anybody's, unpacked."""
        match = S3_URL.fullmatch(url)
        if match is None:
            raise Refused(f"{url}: expected s3://BUCKET/KEY", Ignorance.OURS)
        asked = Asked("s3", "GetObject", url, f"arn:aws:s3:::{match[1]}/{match[2]}")
        source = Source(self._client, asked, match[1], match[2])
        size, etag = source.whole()
        with reading(source, size, etag, self._transfers.range_bytes, self._transfers.downloads) as stream:
            yield download.unpacked_by_magic(stream, url)

    # ---- down ------------------------------------------------------------------------------------------------------

    def fetch(self, manifest: Manifest, into: Path, on_bytes: OnBytes = lambda _: None) -> None:
        """Write the snapshot to `into`, as `etcdctl snapshot save` would have: whole and verified, or not
        at all. It is not synced.

        Refused: there is no such data, or it is not what its manifest says; or the disk cannot take it. The folder
        must be there; a `.partial` file that a killed agent left in it is replaced.
        """
        pieces = self._of(manifest, on_bytes)
        with heap.tidy(), closing(pieces), download.whole_or_nothing(into) as file:
            download.write_all(file, pieces)

    def verify(self, manifest: Manifest, on_bytes: OnBytes = lambda _: None) -> None:
        """Read the snapshot to its end and compare it with its manifest, as `fetch` does; nothing is written."""
        with closing(self._of(manifest, on_bytes)) as pieces:
            for _ in pieces:
                pass

    def fetch_foreign(self, url: str, into: Path, on_bytes: OnBytes = lambda _: None) -> None:
        """What `adopt` would take in, as a file: unpacked, whole and by its own digest, or not at all."""
        passed = TrailedDigest()
        with self._foreign(url) as pieces, download.whole_or_nothing(into) as file:
            download.write_all(file, download.counted(pieces, passed, on_bytes))
            check(passed, download.untrailed(url))

    def _of(self, manifest: Manifest, on_bytes: OnBytes) -> Generator[bytes, None, None]:
        if manifest.cluster != self._objects.cluster:
            raise Refused(f"{manifest.name} is of cluster {manifest.cluster!r}", Ignorance.MALFORMED)
        wanted = Uploaded(manifest.size_bytes, manifest.sha256, manifest.stored_bytes)
        return self._contents(manifest.name.data_key, wanted, on_bytes)

    def _contents(self, key: str, wanted: Uploaded, on_bytes: OnBytes = lambda _: None) -> Generator[bytes, None, None]:
        """The snapshot, unpacked; comes to its end only if it is what was wanted."""
        source, what = self._source(key), f"s3://{self._objects.bucket}/{self._objects.root}{key}"
        try:
            size, etag = source.whole()
        except NotFound as error:
            raise download.refused(what, "its data is not there") from error
        if size != wanted.stored_bytes:
            raise download.refused(what, f"it has {size} bytes; its manifest says {wanted.stored_bytes}")
        with reading(source, size, etag, self._transfers.range_bytes, self._transfers.downloads) as stream:
            yield from download.verified(download.unpacked(stream, what), wanted, what, on_bytes)

    # ---- away ------------------------------------------------------------------------------------------------------

    def delete(self, names: Iterable[SnapshotName]) -> None:
        """Manifest first, then data, then the mark of a bad one. Deleting what is gone is no error."""
        snapshot_listing.expire(self._objects, names)

    def abort_stale_uploads(self, older_than: timedelta) -> int:
        """End uploads that were begun so long ago, by S3's clock, and never completed; how many there were.

        What a killed agent leaves costs money and is listed nowhere else. An upload that is under way is younger.
        """
        return stale_uploads.abort(self._objects, SNAPSHOTS, older_than)

    # ---- the client ------------------------------------------------------------------------------------------------

    def _source(self, key: str) -> Source:
        objects = self._objects
        return Source(self._client, objects.asked("GetObject", key), objects.bucket, objects.root + key)

    @property
    def _client(self) -> Any:
        """Made when it is first needed: most agents never move a snapshot."""
        with self._making:
            if self._made is None:
                at_once = max(self._transfers.uploads, self._transfers.downloads)
                self._made = self._objects.aws.bulk_s3(at_once, self._transfers.silence)
                for operation in ("PutObject", "CompleteMultipartUpload"):
                    self._made.meta.events.register(f"provide-client-params.s3.{operation}", _once)
            return self._made


def _once(params: Mapping[str, Any], **_: object) -> Mapping[str, Any]:
    """The transfer manager knows no preconditions: botocore's event adds ours."""
    return {**params, "IfNoneMatch": "*"}


def _transfer_config(transfers: Transfers) -> Any:
    config = TransferConfig(
        multipart_threshold=transfers.part_bytes,
        multipart_chunksize=transfers.part_bytes,
        max_concurrency=transfers.uploads,
        preferred_transfer_client="classic",  # the other one has its own client, which counts nothing
    )
    config.max_in_memory_upload_chunks = transfers.uploads + 1  # waiting or under way; its default is 10
    return config


def _comparable_checksum(answer: Mapping[str, Any]) -> str | None:
    """S3's CRC32 of what it holds, over the parts if it came in parts. None: it answers none that we can compute."""
    checksum = answer.get("ChecksumCRC32")
    in_parts = "-" in str(answer.get("ETag", ""))
    if checksum is None or (in_parts and answer.get("ChecksumType") == "FULL_OBJECT"):
        return None
    return str(checksum).partition("-")[0]

"""packer/image/data_volume.py on real block devices: formatted only where it is blank, else not one byte changed.

The volumes are loop devices over sparse files. What cannot be made everywhere (XFS, RAID, LVM, LUKS) is put there as
its signature; everything else is the real thing: ext4, partitions, mounts, swap, read errors.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from packer.image import data_volume
from packer.image.data_volume import EDGE, LABEL, MIB, STRIDE, NotBlank

SCRIPT = Path(data_volume.__file__)
SIZE = 3 * STRIDE
PAGE = 4096

pytestmark = [
    pytest.mark.delivery,
    pytest.mark.root,
    pytest.mark.skipif(
        os.geteuid() != 0 or not Path("/dev/loop-control").exists(), reason="needs root and loop devices"
    ),
]


def run(*command: object, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(each) for each in command], capture_output=True, text=True, check=check, timeout=60)


class Volume:
    """A loop device over a sparse file."""

    def __init__(self, folder: Path, *options: str, size: int = SIZE) -> None:
        self.folder = folder
        self.file = folder / "volume"
        with self.file.open("wb") as file:
            file.truncate(size)
        self.device = Path(run("losetup", "--find", "--show", *options, self.file).stdout.strip())
        self.mounted = folder / "mounted"
        self.mounted.mkdir()

    def put(self, offset: int, data: bytes) -> None:
        with self.device.open("r+b", buffering=0) as volume:
            volume.seek(offset)
            volume.write(data)
            os.fsync(volume.fileno())

    def get(self, offset: int, length: int) -> bytes:
        with self.device.open("rb") as volume:
            volume.seek(offset)
            return volume.read(length)

    def digest(self) -> str:
        """Of what the file holds, and where; its holes are not read."""
        run("blockdev", "--flushbufs", self.device)
        found, end = hashlib.sha256(), 0
        with self.file.open("rb") as file:
            while (start := _next(file.fileno(), end, os.SEEK_DATA)) is not None:
                end = _next(file.fileno(), start, os.SEEK_HOLE) or self.file.stat().st_size
                data = os.pread(file.fileno(), end - start, start)
                found.update(b"".join(_told(start, data)))
        return found.hexdigest()

    def tag(self, name: str) -> str:
        return run(
            "blkid", "--probe", "--output", "value", "--match-tag", name, self.device, check=False
        ).stdout.strip()

    def detach(self) -> None:
        run("umount", self.mounted, check=False)
        run("losetup", "--detach", self.device, check=False)


def _next(fd: int, offset: int, whence: int) -> int | None:
    try:
        return os.lseek(fd, offset, whence)
    except OSError:
        return None


def _told(start: int, data: bytes) -> Iterator[bytes]:
    """Pages that are not zero, each with its place: a hole that became a page of zeros is no change."""
    for offset in range(0, len(data), PAGE):
        page = data[offset : offset + PAGE]
        if page.count(0) != len(page):
            yield str(start + offset).encode() + page


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Volume]:
    made = Volume(tmp_path)
    yield made
    made.detach()


def prepare(folder: Path, device: object, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The script as the unit runs it."""
    (folder / "config").write_text(f"# a comment\nDEVICE={device}\n")
    (folder / "run").mkdir(exist_ok=True)
    where = ("--config", folder / "config", "--run", folder / "run", "--wait", "0")
    return run("python3", "-IS", SCRIPT, *where, *arguments, check=False)


# ---- blank, or ours --------------------------------------------------------------------------------------------------


def test_a_blank_volume_is_formatted_and_can_be_mounted(volume: Volume) -> None:
    done = prepare(volume.folder, volume.device)
    assert done.returncode == 0, done.stderr
    assert "was blank" in done.stdout
    assert (volume.tag("TYPE"), volume.tag("LABEL")) == ("ext4", LABEL)
    assert (volume.folder / "run/device").readlink() == volume.device
    run("mount", volume.folder / "run/device", volume.mounted)
    assert os.path.ismount(volume.mounted)


def test_ours_is_never_formatted_again(volume: Volume) -> None:
    prepare(volume.folder, volume.device)
    run("mount", volume.device, volume.mounted)
    (volume.mounted / "member").write_text("data")
    run("umount", volume.mounted)
    uuid, before = volume.tag("UUID"), volume.digest()
    for _ in range(2):
        done = prepare(volume.folder, volume.device)
        assert done.returncode == 0
        assert "is etcd's volume" in done.stdout
    assert (volume.tag("UUID"), volume.digest()) == (uuid, before)


def test_ours_may_be_mounted_already(volume: Volume) -> None:
    """The unit was restarted by hand."""
    prepare(volume.folder, volume.device)
    run("mount", volume.device, volume.mounted)
    assert prepare(volume.folder, volume.device).returncode == 0


def test_ours_with_a_journal_to_replay_is_ours(volume: Volume) -> None:
    """As after a power cut: copied while it was mounted and written to."""
    prepare(volume.folder, volume.device)
    run("mount", volume.device, volume.mounted)
    (volume.mounted / "member").write_text("data")
    os.sync()
    after = volume.folder / "after"
    after.mkdir()
    shutil.copy(volume.file, after / "copied")
    run("umount", volume.mounted)
    crashed = Volume(after)
    try:
        run("dd", f"if={after / 'copied'}", f"of={crashed.device}", "bs=4M", "conv=fsync")
        assert "is etcd's volume" in prepare(after, crashed.device).stdout
        run("mount", crashed.device, crashed.mounted)
        assert (crashed.mounted / "member").read_text() == "data"
    finally:
        crashed.detach()


def test_what_a_human_may_do_about_a_refusal(volume: Volume) -> None:
    """By the hints' own words: an ext4 gets our label, and anything else is emptied."""
    ext4()(volume)
    assert "e2label" in prepare(volume.folder, volume.device).stderr
    run("e2label", volume.device, LABEL)
    assert "is etcd's volume" in prepare(volume.folder, volume.device).stdout
    run("e2label", volume.device, "photos")
    assert "blkdiscard --zeroout" in prepare(volume.folder, volume.device).stderr
    run("blkdiscard", "--zeroout", volume.device)
    assert "was blank" in prepare(volume.folder, volume.device).stdout


def test_a_dry_run_changes_nothing(volume: Volume) -> None:
    before = volume.digest()
    done = prepare(volume.folder, volume.device, "--dry-run")
    assert "would be formatted" in done.stdout
    assert volume.digest() == before
    assert not (volume.folder / "run/device").exists()


def test_what_no_look_has_seen_outlives_the_formatting(volume: Volume) -> None:
    """It is not discarded: where a rescue is still possible afterwards, it stays so."""
    hidden = 2 * STRIDE + 77 * MIB
    volume.put(hidden, b"somebody's" * 100)
    assert prepare(volume.folder, volume.device).returncode == 0
    assert volume.get(hidden, 1000) == b"somebody's" * 100


# ---- neither: every way in which a volume is not blank ---------------------------------------------------------------


def mbr(partitions: bytes = b"") -> bytes:
    return (b"\0" * 446 + partitions).ljust(510, b"\0") + b"\x55\xaa"


ONE_PARTITION = bytes([0, 0, 2, 0, 0x83, 0, 0, 0]) + (2048).to_bytes(4, "little") + (40960).to_bytes(4, "little")


def ext4(*options: str) -> Callable[[Volume], None]:
    return lambda volume: void(run("mke2fs", "-q", "-t", "ext4", *options, volume.device))


def void(_: object) -> None:
    """A step of which nothing is asked."""


def signature(offset: int, magic: bytes) -> Callable[[Volume], None]:
    return lambda volume: volume.put(
        offset % SIZE // 512 * 512, b"\0" * (offset % 512) + magic + b"\0" * (512 - offset % 512)
    )


def without(volume: Volume, *regions: tuple[int, int]) -> None:
    for offset, length in regions:
        volume.put(offset, b"\0" * length)


def emptied_front(volume: Volume) -> None:
    ext4()(volume)
    without(volume, (0, EDGE))


def emptied_ends(volume: Volume) -> None:
    ext4()(volume)
    without(volume, (0, EDGE), (SIZE - EDGE, EDGE))


def ours_beside_a_partition_table(volume: Volume) -> None:
    ext4("-L", LABEL)(volume)
    volume.put(0, mbr(ONE_PARTITION))


def ours_beside_another_signature(volume: Volume) -> None:
    ext4("-L", LABEL)(volume)
    volume.put(0, b"LUKS\xba\xbe\0\1" + b"\0" * 504)


HOLDS: dict[str, Callable[[Volume], None]] = {
    "an ext4 without our label": ext4(),
    "an ext4 with another label": ext4("-L", "etcd"),
    "an ext2 with our label": lambda volume: void(run("mke2fs", "-q", "-t", "ext2", "-L", LABEL, volume.device)),
    "an ext4 whose front was overwritten": emptied_front,
    "an ext4 whose both ends were overwritten": emptied_ends,
    "our filesystem and a partition table": ours_beside_a_partition_table,
    "our filesystem and another one's signature": ours_beside_another_signature,
    "swap": lambda volume: void(run("mkswap", "-q", volume.device)),
    "an XFS": signature(0, b"XFSB"),
    "a btrfs": signature(0x10040, b"_BHRfS_M"),
    "a ZFS label at the end": signature(-256 * 1024 + 0x20000, (0x00BAB10C).to_bytes(8, "little")),
    "LUKS": signature(0, b"LUKS\xba\xbe"),
    "an LVM volume": signature(512, b"LABELONE"),
    "a RAID member, its superblock at the front": signature(4096, (0xA92B4EFC).to_bytes(4, "little")),
    "a RAID member, its superblock at the end": signature(-8192, (0xA92B4EFC).to_bytes(4, "little")),
    "a GPT": signature(512, b"EFI PART"),
    "a GPT of which only the copy is left": signature(-512, b"EFI PART"),
    "an MBR without a partition": lambda volume: volume.put(0, mbr()),
    "an MBR with a partition": lambda volume: volume.put(0, mbr(ONE_PARTITION)),
    "one byte at the front": signature(0, b"\1"),
    "one byte at the back": signature(-1, b"\1"),
    "one byte right before the end of what is read at the front": signature(EDGE - 1, b"\1"),
    "one byte right where what is read at the back begins": signature(-EDGE, b"\1"),
    "one byte in the middle, where a copy of a superblock would be": signature(STRIDE, b"\1"),
    "one byte where a btrfs keeps its copy": signature(64 * MIB, b"\1"),
    "one byte where an XFS begins its next group": signature(SIZE // 4, b"\1"),
}


@pytest.mark.parametrize("name", HOLDS)
def test_what_holds_something_is_left_as_it_is(volume: Volume, name: str) -> None:
    HOLDS[name](volume)
    refused_and_unchanged(volume, volume.device)


@pytest.mark.parametrize("name", ["an ext4 without our label", "swap", "an MBR without a partition"])
def test_each_look_would_be_enough(volume: Volume, name: str) -> None:
    """None counts on another: by its bytes, by blkid, and by wipefs."""
    HOLDS[name](volume)
    with volume.device.open("rb") as opened, pytest.raises(NotBlank, match="not zero"):
        data_volume.must_be_zero(opened.fileno(), SIZE)
    with pytest.raises(NotBlank, match="it holds"):
        data_volume.must_be_unsigned(volume.device)
    assert run("wipefs", "--no-act", "--parsable", volume.device).stdout.strip() != ""


def refused_and_unchanged(volume: Volume, device: object, why: str = "") -> None:
    before = volume.digest()
    done = prepare(volume.folder, device)
    assert done.returncode == 1, done.stdout
    assert "left as it is" in done.stderr
    assert "by hand" in done.stderr
    assert why in done.stderr
    assert "Traceback" not in done.stderr
    assert volume.digest() == before
    assert not (volume.folder / "run/device").exists(), "and nothing is mounted"


def test_a_read_error_is_not_blank(volume: Volume) -> None:
    """The file behind it ends before the volume does: the kernel says EIO there, and zeros before."""
    os.truncate(volume.file, SIZE // 2)
    refused_and_unchanged(volume, volume.device, "cannot be read at byte")


def test_blkid_alone_would_have_called_it_blank(volume: Volume) -> None:
    """Its code for a volume that cannot be read is the same as for an empty one."""
    os.truncate(volume.file, 0)
    assert run("blkid", "--probe", volume.device, check=False).returncode == 2
    refused_and_unchanged(volume, volume.device)


def test_a_disk_with_partitions_and_each_of_them(tmp_path: Path) -> None:
    """Of which no table is left: everything is zero, and only the kernel still has them."""
    disk = Volume(tmp_path, "--partscan")
    try:
        run("addpart", disk.device, 1, 2048, SIZE // 512 - 4096)
        refused_and_unchanged(disk, disk.device, "it has partitions")
        refused_and_unchanged(disk, f"{disk.device}p1", "it is a partition of a disk")
    finally:
        run("delpart", disk.device, 1, check=False)
        disk.detach()


def test_a_volume_that_is_mounted(volume: Volume) -> None:
    ext4()(volume)
    run("mount", volume.device, volume.mounted)
    done = prepare(volume.folder, volume.device)
    assert (done.returncode, "in use" in done.stderr) == (1, True), done.stderr


def test_a_volume_that_is_mounted_where_we_cannot_see_it(volume: Volume) -> None:
    """In another mount namespace; and its signature gone from the disk, so that only the kernel knows."""
    ext4()(volume)
    asked = ["unshare", "--mount", "sh", "-c", f"mount {volume.device} {volume.mounted} && echo there && exec sleep 60"]
    with subprocess.Popen(asked, stdout=subprocess.PIPE, text=True) as elsewhere:
        try:
            assert elsewhere.stdout is not None
            assert elsewhere.stdout.readline() == "there\n"
            assert str(volume.device) not in Path("/proc/self/mountinfo").read_text()
            done = prepare(volume.folder, volume.device)
            assert (done.returncode, "in use" in done.stderr) == (1, True), done.stderr
        finally:
            elsewhere.kill()


def test_a_volume_that_is_swapped_to(volume: Volume) -> None:
    run("mkswap", "-q", volume.device)
    run("swapon", volume.device)
    try:
        done = prepare(volume.folder, volume.device)
        assert (done.returncode, "in use" in done.stderr) == (1, True), done.stderr
    finally:
        run("swapoff", volume.device)


def test_a_volume_that_somebody_has_claimed(volume: Volume) -> None:
    """As mkfs of any kind, LVM and RAID do; it is blank."""
    claimed = os.open(volume.device, os.O_RDONLY | os.O_EXCL)
    try:
        refused_and_unchanged(volume, volume.device, "in use")
    finally:
        os.close(claimed)


def test_a_volume_that_another_of_us_works_on(volume: Volume) -> None:
    before = volume.digest()
    with volume.device.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        done = prepare(volume.folder, volume.device)
    assert (done.returncode, "worked on" in done.stderr) == (1, True), done.stderr
    assert volume.digest() == before


def test_a_volume_that_is_read_only(tmp_path: Path) -> None:
    made = Volume(tmp_path, "--read-only")
    try:
        refused_and_unchanged(made, made.device, "read-only")
    finally:
        made.detach()


def test_a_volume_that_is_too_small(tmp_path: Path) -> None:
    made = Volume(tmp_path, size=2 * EDGE - PAGE)
    try:
        refused_and_unchanged(made, made.device, "no volume for etcd")
    finally:
        made.detach()


def test_a_volume_of_an_odd_size(tmp_path: Path) -> None:
    """Not a whole number of anything."""
    made = Volume(tmp_path, size=SIZE + 3 * 512)
    try:
        assert prepare(tmp_path, made.device).returncode == 0
    finally:
        made.detach()


def test_a_formatting_that_was_cut_off(volume: Volume) -> None:
    """Nobody can tell it from somebody's data any more, and nobody guesses."""
    ext4("-L", LABEL)(volume)
    without(volume, (0, 64 * 1024))
    refused_and_unchanged(volume, volume.device)


def test_a_file_is_no_volume(volume: Volume) -> None:
    other = volume.folder / "file"
    other.write_bytes(b"\0" * (2 * EDGE))
    done = prepare(volume.folder, other)
    assert (done.returncode, "no block device" in done.stderr) == (1, True), done.stderr
    assert other.read_bytes() == b"\0" * (2 * EDGE)


# ---- which one -------------------------------------------------------------------------------------------------------


@contextmanager
def named(name: str, volume: Volume) -> Iterator[None]:
    """As udev links a disk by the name that it was attached by."""
    link = Path(name)
    link.symlink_to(volume.device)
    try:
        yield
    finally:
        link.unlink()


@pytest.mark.parametrize(
    ("there", "asked"), [("/dev/xvdzz", "/dev/xvdzz"), ("/dev/xvdzz", "/dev/sdzz"), ("/dev/sdzz",) * 2]
)
def test_it_is_found_by_udevs_link_whichever_way_it_is_spelt(volume: Volume, there: str, asked: str) -> None:
    """The kernel's own name is what is mounted then, lest the link move."""
    with named(there, volume):
        assert prepare(volume.folder, asked).returncode == 0
        assert (volume.folder / "run/device").readlink() == volume.device


def test_if_two_disks_answer_to_a_name_neither_is_taken(volume: Volume, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = Volume(tmp_path / "other")
    try:
        with named("/dev/xvdzz", volume), named("/dev/sdzz", other):
            done = prepare(volume.folder, "/dev/sdzz")
        assert (done.returncode, "may be any of" in done.stderr) == (1, True), done.stderr
        assert (volume.tag("TYPE"), other.tag("TYPE")) == ("", "")
    finally:
        other.detach()


def test_what_is_not_named_is_not_touched(volume: Volume) -> None:
    done = prepare(volume.folder, "/dev/xvdzz")
    assert (done.returncode, "is not attached" in done.stderr) == (1, True), done.stderr
    assert volume.tag("TYPE") == ""

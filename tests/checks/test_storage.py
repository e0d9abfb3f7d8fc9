"""checks/storage.py: tables of facts -> status."""

import pytest

from gpudoctor import (
    EnvSet,
    Mount,
    NetworkMount,
    NetworkMounts,
    Place,
    Status,
    Storage,
    User,
    Workload,
)
from gpudoctor.registry import get

MIB, GIB, TIB = 1 << 20, 1 << 30, 1 << 40
EROFS = "EROFS: Read-only file system"
EACCES = "EACCES: Permission denied"
LATE = "ETIMEDOUT: no answer in 2.5 s"
JOB = Workload()
ALICE = User(uid=1000, gid=1000, home="/home/alice")

TMP = ("temporary files", "/tmp", "TMPDIR")
HERE = ("working directory", "/home/alice/job", "")
HOME = ("home", "/home/alice", "HOME")
CACHE = ("cache", "/home/alice/.cache", "XDG_CACHE_HOME")
TRITON = ("cache", "/home/alice/.triton/cache", "TRITON_CACHE_DIR")
INDUCTOR = ("cache", "/tmp/torchinductor_alice", "TORCHINDUCTOR_CACHE_DIR")
ROOT = ("root", "/", "")
ALL = (TMP, HERE, HOME, CACHE, TRITON, INDUCTOR, ROOT)


def place(what: tuple[str, str, str], **more) -> Place:
    role, path, moved_by = what
    room = {"total_bytes": 500 * GIB, "free_bytes": 200 * GIB, "filesystem": "ext4", "mount": "/"}
    builds = what in (TRITON, INDUCTOR)
    return Place(
        **{"role": role, "path": path, "moved_by": moved_by, "builds": builds, **room, **more}
    )


def storage(changed: dict = {}, everywhere: dict = {}, also: tuple = ()) -> Storage:  # noqa: B006
    """A well-set machine, with some places changed and some added."""
    places = [place(what, **{**everywhere, **changed.get(what, {})}) for what in ALL]
    return Storage(places=(*also, *places))


def room(free: int, total: int, **more) -> dict:
    return {"free_bytes": free, "total_bytes": total, **more}


SEPARATE_TMP = {"mount": "/tmp", "filesystem": "tmpfs"}


@pytest.mark.parametrize(
    ("found", "status", "says"),
    [
        pytest.param(storage(), Status.PASS, "200 GiB free on /", id="laptop"),
        pytest.param(
            storage(everywhere=room(5 * TIB, 500 * TIB)), Status.PASS, "5 TiB", id="NFS, 1 % free"
        ),
        pytest.param(
            storage(everywhere=room(30 * GIB, 1000 * GIB)), Status.PASS, "30 GiB", id="3 %, 30 GiB"
        ),
        pytest.param(
            storage(everywhere=room(10 * GIB, 1000 * GIB)), Status.WARN, "10 GiB of", id="1 %"
        ),
        pytest.param(
            storage(everywhere=room(4 * GIB, 30 * GIB)), Status.WARN, "4 GiB of 30 GiB", id="4 GiB"
        ),
        pytest.param(
            storage(everywhere=room(700 * MIB, 30 * GIB)), Status.FAIL, "700 MiB of", id="700 MiB"
        ),
        pytest.param(
            storage({CACHE: room(700 * MIB, 30 * GIB, mount="/home")}),
            Status.FAIL,
            "700 MiB of 30 GiB free on /home",
            id="only the caches' file system",
        ),
        pytest.param(
            storage({HOME: room(700 * MIB, 5 * GIB, mount="/home")}),
            Status.PASS,
            "free on /",
            id="small home, caches elsewhere",
        ),
        pytest.param(
            storage({ROOT: room(700 * MIB, 30 * GIB)}), Status.WARN, "700 MiB", id="only the root"
        ),
        pytest.param(
            storage({ROOT: room(3 * GIB, 8 * GIB)}), Status.PASS, "3 GiB", id="small immutable root"
        ),
        pytest.param(
            storage({ROOT: room(0, 30 * GIB, write_error=EROFS)}),
            Status.PASS,
            "200 GiB",
            id="squashfs root is always full",
        ),
        pytest.param(
            storage({w: room(3 * GIB, 3 * GIB, **SEPARATE_TMP) for w in (TMP, INDUCTOR)}),
            Status.PASS,
            "3 GiB free on /tmp",
            id="tmpfs /tmp of a small laptop",
        ),
        pytest.param(
            storage({w: room(500 * MIB, GIB, **SEPARATE_TMP) for w in (TMP, INDUCTOR)}),
            Status.WARN,
            "500 MiB of 1 GiB free on /tmp",
            id="tmpfs /tmp, half full",
        ),
        pytest.param(
            storage({w: room(64 * MIB, 64 * MIB, **SEPARATE_TMP) for w in (TMP, INDUCTOR)}),
            Status.FAIL,
            "64 MiB of 64 MiB free on /tmp",
            id="tmpfs /tmp, tiny",
        ),
        pytest.param(
            storage(everywhere={"total_bytes": None, "free_bytes": None}),
            Status.PASS,
            "no file system has a limit",
            id="tmpfs without a size",
        ),
        pytest.param(
            storage(everywhere={"inodes": 1_000_000, "inodes_free": 900}),
            Status.WARN,
            "900 of 1000000 inodes free on /",
            id="inodes",
        ),
        pytest.param(
            storage(everywhere={"inodes": 4_000_000_000, "inodes_free": 150_000_000}),
            Status.PASS,
            "",
            id="3.75 % of very many inodes",
        ),
        pytest.param(
            storage({HOME: {"write_error": "EDQUOT: Disk quota exceeded"}}),
            Status.FAIL,
            "home /home/alice: EDQUOT",
            id="quota, which df does not show",
        ),
        pytest.param(
            storage({HERE: {"write_error": "ENOSPC: No space left on device"}}),
            Status.FAIL,
            "ENOSPC",
            id="no inode left",
        ),
        pytest.param(
            storage(everywhere={"write_error": EROFS}),
            Status.ERROR,
            "storage-writable",
            id="read-only container",
        ),
        pytest.param(
            storage(everywhere={"write_error": LATE}),
            Status.ERROR,
            "storage-writable",
            id="all hang",
        ),
    ],
)
def test_space(found, status, says):
    finding = get("storage-space")(found, JOB)

    assert finding.status is status
    assert says in finding.summary + finding.reason


CHECKPOINTS = place(("checkpoints", "/data/ckpt", ""), mount="/data", **room(250 * GIB, TIB))


@pytest.mark.parametrize(
    ("found", "demands", "status", "says"),
    [
        pytest.param(storage(), {"checkpoint_bytes": 60 * GIB}, Status.PASS, "", id="here, fits"),
        pytest.param(
            storage(),
            {"checkpoint_bytes": 80 * GIB},
            Status.FAIL,
            "200 GiB free on /, 3 checkpoints need 240 GiB",
            id="here, three do not fit",
        ),
        pytest.param(
            storage(also=(CHECKPOINTS,)),
            {"checkpoint_bytes": 80 * GIB, "checkpoint_dir": "/data/ckpt"},
            Status.PASS,
            "",
            id="elsewhere, fits",
        ),
        pytest.param(
            storage(also=(CHECKPOINTS,)),
            {"checkpoint_bytes": 90 * GIB, "checkpoint_dir": "/data/ckpt"},
            Status.FAIL,
            "250 GiB free on /data",
            id="elsewhere, does not",
        ),
        pytest.param(
            storage(),
            {"checkpoint_dir": "/data/ckpt"},
            Status.ERROR,
            "--checkpoint-dir /data/ckpt",
            id="not looked at",
        ),
    ],
)
def test_space_for_checkpoints(found, demands, status, says):
    finding = get("storage-space")(found, JOB.told(demands, "gpudoctor.toml"))

    assert finding.status is status
    assert says in finding.summary + finding.reason


def test_space_puts_caches_where_room_was_seen():
    full = room(700 * MIB, 30 * GIB, mount="/home")
    finding = get("storage-space")(storage({CACHE: full, HOME: full, TRITON: full}), JOB)

    assert finding.fix.settings == (
        EnvSet("XDG_CACHE_HOME", "/tmp/xdg_cache_home"),
        EnvSet("TRITON_CACHE_DIR", "/tmp/triton_cache"),
    )
    assert "df -h /home/alice/.cache" in finding.fix.commands


def test_space_asks_for_a_larger_tmpfs_where_nothing_has_room():
    small = {w: room(64 * MIB, 64 * MIB, **SEPARATE_TMP) for w in (TMP, INDUCTOR)}
    finding = get("storage-space")(storage(small, room(4 * GIB, 30 * GIB)), JOB)

    assert Mount("/tmp", executable=True, tmpfs_bytes=8 * GIB) in finding.fix.settings


NOBODY = User(uid=4711, gid=0, has_passwd_entry=False, home="/tmp")
HOME_BAD = {w: {"write_error": EROFS} for w in (HOME, CACHE, TRITON)}
TMP_NOEXEC = {w: {"noexec": True, "mount": "/tmp"} for w in (TMP, INDUCTOR)}


def named(name: str, **more) -> Place:
    return place(("cache", "/models", name), named_by=name, **more)


@pytest.mark.parametrize(
    ("found", "user", "status", "says", "settings"),
    [
        pytest.param(storage(), ALICE, Status.PASS, "home, 3 caches", (), id="laptop"),
        pytest.param(
            storage(), User(uid=0, gid=0, home="/root"), Status.PASS, "", (), id="root in container"
        ),
        pytest.param(
            storage(),
            User(
                uid=4711, gid=0, home="/tmp", has_passwd_entry=False, name_from_environment="USER"
            ),
            Status.PASS,
            "",
            (),
            id="random uid, HOME=/tmp, USER set",
        ),
        pytest.param(storage(), None, Status.PASS, "", (), id="user not known"),
        pytest.param(
            storage(HOME_BAD),
            ALICE,
            Status.FAIL,
            f"HOME /home/alice: {EROFS}",
            (EnvSet("HOME", "/tmp"),),
            id="read-only home",
        ),
        pytest.param(
            storage({HOME: {"write_error": EROFS}}),
            ALICE,
            Status.PASS,
            "",
            (),
            id="read-only home, caches elsewhere",
        ),
        pytest.param(
            storage({CACHE: {"write_error": EACCES}}),
            ALICE,
            Status.FAIL,
            f"cache /home/alice/.cache: {EACCES}",
            (EnvSet("XDG_CACHE_HOME", "/tmp/xdg_cache_home"),),
            id="cache of somebody else in our home",
        ),
        pytest.param(
            storage({INDUCTOR: {"write_error": EACCES}}),
            ALICE,
            Status.FAIL,
            "/tmp/torchinductor_alice",
            (EnvSet("TORCHINDUCTOR_CACHE_DIR", "/tmp/torchinductor_cache"),),
            id="cache of somebody else in /tmp",
        ),
        pytest.param(
            storage(also=(named("TORCH_HOME", write_error=EROFS),)),
            ALICE,
            Status.FAIL,
            f"TORCH_HOME /models: {EROFS}",
            (EnvSet("TORCH_HOME", "/tmp/torch_home"),),
            id="named cache",
        ),
        pytest.param(
            storage(also=(named("HF_HOME", write_error=EROFS),)),
            ALICE,
            Status.WARN,
            "HF_HOME /models",
            (EnvSet("HF_HOME", "/tmp/hf_home"),),
            id="models may be there already",
        ),
        pytest.param(
            storage({HERE: {"write_error": EACCES}}),
            ALICE,
            Status.WARN,
            "working directory",
            (),
            id="working directory",
        ),
        pytest.param(
            storage(TMP_NOEXEC),
            ALICE,
            Status.FAIL,
            "/tmp/torchinductor_alice is noexec",
            (EnvSet("TORCHINDUCTOR_CACHE_DIR", "/home/alice/torchinductor_cache"),),
            id="noexec /tmp",
        ),
        pytest.param(
            storage(
                {**TMP_NOEXEC, INDUCTOR: {"named_by": "TORCHINDUCTOR_CACHE_DIR"}},
            ),
            ALICE,
            Status.PASS,
            "",
            (),
            id="noexec /tmp, nothing built there",
        ),
        pytest.param(
            storage({TRITON: {"noexec": True}}),
            ALICE,
            Status.WARN,
            "noexec",
            (EnvSet("TRITON_CACHE_DIR", "/tmp/triton_cache"),),
            id="noexec home: only own kernels",
        ),
        pytest.param(
            storage(everywhere={"noexec": True}),
            ALICE,
            Status.FAIL,
            "noexec",
            (
                Mount("/tmp", executable=True, tmpfs_bytes=8 * GIB),
                EnvSet("TORCHINDUCTOR_CACHE_DIR", "/tmp/torchinductor_cache"),
                EnvSet("TRITON_CACHE_DIR", "/tmp/triton_cache"),
            ),
            id="noexec everywhere",
        ),
        pytest.param(
            storage(),
            NOBODY,
            Status.FAIL,
            "uid 4711 has no name",
            (EnvSet("USER", "uid4711"),),
            id="uid without a name",
        ),
        pytest.param(
            storage({INDUCTOR: {"named_by": "TORCHINDUCTOR_CACHE_DIR"}}),
            NOBODY,
            Status.WARN,
            "uid 4711 has no name",
            (EnvSet("USER", "uid4711"),),
            id="uid without a name, which torch need not know",
        ),
        pytest.param(
            storage(),
            User(uid=1000, gid=1000, has_passwd_entry=None, home="/home/alice"),
            Status.WARN,
            "does not answer who uid 1000 is",
            (EnvSet("USER", "uid1000"),),
            id="LDAP does not answer",
        ),
        pytest.param(
            storage(),
            User(uid=4711, gid=0, has_passwd_entry=False, name_from_environment="USER", home=""),
            Status.WARN,
            "HOME is not set",
            (EnvSet("HOME", "/tmp"),),
            id="no home at all",
        ),
        pytest.param(
            storage(also=(place(TMP, path="/scratch/17", named_by="TMPDIR", exists=False),)),
            ALICE,
            Status.WARN,
            "TMPDIR /scratch/17: there is no such directory",
            (EnvSet("TMPDIR", "/tmp"),),
            id="TMPDIR of the host in a container",
        ),
        pytest.param(
            storage({TMP: {"write_error": EROFS}}),
            ALICE,
            Status.FAIL,
            "no directory for temporary files",
            (EnvSet("TMPDIR", "/tmp"), Mount("/tmp", executable=True, tmpfs_bytes=8 * GIB)),
            id="no directory for temporary files",
        ),
        pytest.param(
            storage(everywhere={"write_error": "ENOSPC: No space left on device"}),
            ALICE,
            Status.PASS,
            "",
            (),
            id="full is for storage-space to say",
        ),
        pytest.param(
            storage({w: {"write_error": LATE} for w in (HOME, CACHE, TRITON)}),
            ALICE,
            Status.FAIL,
            f"HOME /home/alice: {LATE}",
            (EnvSet("HOME", "/tmp"),),
            id="home on a server that is gone",
        ),
    ],
)
def test_writable(found, user, status, says, settings):
    finding = get("storage-writable")(found, user)

    assert finding.status is status
    assert says in finding.summary
    assert {*settings} == {*(finding.fix.settings if finding.fix else ())}


def test_writable_counts_what_else_is_wrong():
    finding = get("storage-writable")(storage({**HOME_BAD, HERE: {"write_error": EROFS}}), NOBODY)

    assert finding.summary == f"HOME /home/alice: {EROFS} (and 2 more)"
    assert len(finding.evidence) == 3
    assert finding.fix.commands == ("cd /tmp  # in a container: --workdir /tmp",)


def nfs(target: str = "/data", **more) -> NetworkMount:
    fields = {"filesystem": "nfs4", "source": "nas:/data", "answered": True, "seconds": 0.002}
    return NetworkMount(target=target, **{**fields, **more})


HUNG = nfs("/my data", answered=False, seconds=2.5, error="no answer in 2.5 s")


@pytest.mark.parametrize(
    ("mounts", "status", "says", "command"),
    [
        pytest.param((), Status.SKIP, "no network file system", "", id="none"),
        pytest.param((nfs(), nfs("/home")), Status.PASS, "2 mounts answered", "", id="well"),
        pytest.param(
            (nfs(), HUNG),
            Status.FAIL,
            "/my data (nfs4 nas:/data): no answer in 2.5 s",
            "sudo umount -f -l '/my data'",
            id="hung",
        ),
        pytest.param(
            (nfs(seconds=1.4),), Status.WARN, "1.4 s to answer", "time stat -f /data", id="slow"
        ),
        pytest.param(
            (nfs(error="ESTALE: Stale file handle"),),
            Status.WARN,
            "ESTALE",
            "sudo umount -f -l /data",
            id="stale",
        ),
        pytest.param(
            (nfs(seconds=1.4), HUNG),
            Status.FAIL,
            "/my data (nfs4 nas:/data): no answer in 2.5 s (and 1 more)",
            "sudo umount -f -l '/my data'",
            id="the hung one first",
        ),
    ],
)
def test_mounts(mounts, status, says, command):
    finding = get("storage-mounts")(NetworkMounts(mounts=mounts))

    assert finding.status is status
    assert says in finding.summary + finding.reason
    assert not command or finding.fix.commands[0] == command

"""probes/cgroup.py on recorded and composed trees, and on this machine."""

from pathlib import Path

import pytest

from gpudoctor import Absent, Cgroup, Machine
from gpudoctor.collect import collect
from gpudoctor.probes.cgroup import cgroup, parse_counts, parse_cpus, parse_groups, parse_limit, way
from gpudoctor.probes.mounts import parse

from . import record

RECORDED = Path(__file__).parent / "recorded" / "cgroup"
MIB, GIB = 1 << 20, 1 << 30


@pytest.fixture
def planted(tmp_path):
    """The machine that a recorded text describes."""

    def plant(name: str) -> Machine:
        record.plant((RECORDED / f"{name}.txt").read_text(), tmp_path)
        return Machine(str(tmp_path))

    return plant


EXPECTED = {
    "v1-hybrid-host": Cgroup(version=1, memory_used_bytes=563830784, oom_kills=0, cpuset_cpus=2),
    "v1-podman": Cgroup(
        version=1,
        memory_limit_bytes=300 * MIB,
        memory_used_bytes=10002432,
        memory_reclaimable_bytes=28672,
        oom_kills=0,
        cpu_quota=1.5,
        cpu_periods=1,
        cpu_throttled_periods=0,
        cpuset_cpus=1,
        pids_limit=50,
        pids_used=1,
    ),
    "v1-podman-private": Cgroup(
        version=1,
        memory_limit_bytes=300 * MIB,
        memory_used_bytes=9986048,
        memory_reclaimable_bytes=20480,
        oom_kills=0,
        cpuset_cpus=2,
        pids_limit=2048,
        pids_used=1,
    ),
    "v1-docker": Cgroup(
        version=1,
        memory_limit_bytes=GIB,
        memory_used_bytes=GIB - 8192,
        memory_reclaimable_bytes=512 * MIB,
        oom_kills=3,
        cpu_quota=0.5,
        cpu_periods=800,
        cpu_throttled_periods=20,
        cpuset_cpus=8,
        pids_used=5,
    ),
    "v2-podman": Cgroup(
        version=2,
        memory_limit_bytes=200 * MIB,
        memory_high_bytes=150 * MIB,
        memory_used_bytes=21958656,
        memory_reclaimable_bytes=9547776 + 2310144,
        oom_kills=0,
        cpu_quota=1.5,
        cpu_periods=42,
        cpu_throttled_periods=0,
        cpuset_cpus=1,
        pids_limit=2048,
        pids_used=3,
    ),
    # The container may have 2048 processes, the pod around it 1000.
    "v2-podman-host-namespace": Cgroup(
        version=2,
        memory_limit_bytes=200 * MIB,
        memory_high_bytes=150 * MIB,
        memory_used_bytes=22020096,
        memory_reclaimable_bytes=11718656 + 16384,
        oom_kills=0,
        cpu_quota=1.5,
        cpu_periods=23,
        cpu_throttled_periods=0,
        cpuset_cpus=1,
        pids_limit=1000,
        pids_used=2,
    ),
    "v2-docker": Cgroup(
        version=2,
        memory_limit_bytes=8 * GIB,
        memory_used_bytes=3 * GIB,
        memory_reclaimable_bytes=1536 * MIB,
        oom_kills=1,
        cpu_quota=4.0,
        cpu_periods=6000,
        cpu_throttled_periods=1500,
        cpuset_cpus=32,
        pids_limit=512,
        pids_used=37,
    ),
    # The pod has the limits, the container none.
    "v2-kubernetes": Cgroup(
        version=2,
        memory_limit_bytes=64 * GIB,
        memory_used_bytes=4 * GIB,
        memory_reclaimable_bytes=2 * GIB,
        oom_kills=2,
        cpu_quota=32.0,
        cpu_periods=10,
        cpu_throttled_periods=0,
        cpuset_cpus=128,
        pids_limit=4096,
        pids_used=61,
    ),
    "v2-user-slice": Cgroup(
        version=2,
        memory_used_bytes=50 * MIB,
        oom_kills=0,
        cpuset_cpus=16,
        pids_limit=84301,
        pids_used=311,
    ),
    # Job and step have the same limit; the job has used more of it.
    "v2-slurm": Cgroup(
        version=2,
        memory_limit_bytes=32 * GIB,
        memory_high_bytes=32 * GIB,
        memory_used_bytes=GIB,
        memory_reclaimable_bytes=256 * MIB,
        oom_kills=0,
        cpuset_cpus=8,
    ),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_recorded(planted, name):
    assert cgroup(planted(name)) == EXPECTED[name]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("not-mounted", "/system.slice/slurmstepd.scope/job_9"),
        ("v2-outside-namespace", "/../../../other"),
        ("v2-mount-of-another-namespace", "(/)"),
    ],
)
def test_out_of_sight_is_not_unlimited(planted, name, says):
    found = cgroup(planted(name))

    assert isinstance(found, Absent)
    assert not found.broken
    assert says in found.absent


def test_every_recorded_tree_is_tested():
    names = {path.stem for path in RECORDED.glob("*.txt")}

    assert names == {
        *EXPECTED,
        "not-mounted",
        "v2-outside-namespace",
        "v2-mount-of-another-namespace",
    }


def test_one_controller_out_of_sight(planted, tmp_path):
    machine = planted("v1-docker")
    mountinfo = tmp_path / "proc/1/mountinfo"
    lines = mountinfo.read_text().splitlines(keepends=True)
    mountinfo.write_text("".join(line for line in lines if "/memory" not in line))

    found = cgroup(machine)

    assert isinstance(found, Cgroup)
    assert found.unseen == ("memory",)
    assert found.memory_limit_bytes is None
    assert found.cpu_quota == 0.5


def test_the_limit_that_is_reached_first_counts(planted, tmp_path):
    machine = planted("v2-kubernetes")
    slice_ = tmp_path / "sys/fs/cgroup/kubepods.slice"
    # The node's whole slice is larger than the pod's limit, but nearly used up.
    (slice_ / "memory.current").write_text(f"{1082331758592 - GIB}\n")
    (slice_ / "memory.stat").write_text("inactive_file 0\nactive_file 0\n")

    found = cgroup(machine)

    assert isinstance(found, Cgroup)
    assert found.memory_limit_bytes == 1082331758592
    assert found.memory_free_bytes == GIB


def test_full_of_page_cache_is_not_full(planted):
    found = cgroup(planted("v1-docker"))

    assert isinstance(found, Cgroup)
    assert found.memory_free_bytes == 512 * MIB + 8192


def test_a_kernel_without_cgroups(tmp_path):
    (tmp_path / "proc/1").mkdir(parents=True)

    assert cgroup(Machine(str(tmp_path))) == Absent("this kernel has no cgroups")


def test_an_unreadable_proc_is_broken(tmp_path):
    found = collect([cgroup], Machine(str(tmp_path))).facts["cgroup"]

    assert isinstance(found, Absent)
    assert found.broken


def test_here():
    found = cgroup(Machine())

    assert isinstance(found, Cgroup | Absent)
    if isinstance(found, Cgroup):
        assert found.version in (1, 2)
        assert found.cpuset_cpus is None or found.cpuset_cpus >= 1


def test_groups():
    text = "4:cpu,cpuacct:/a:b\n1:name=systemd:/x\n0::/init.scope (deleted)\n"

    assert parse_groups(text) == {
        "cpu": "/a:b",
        "cpuacct": "/a:b",
        "name=systemd": "/x",
        "": "/init.scope",
    }


V2 = "9 1 0:1 {root} {target} rw - cgroup2 cgroup2 rw"


@pytest.mark.parametrize(
    ("path", "mounted", "levels"),
    [
        pytest.param("/", [("/", "/c")], ["/c"], id="root"),
        pytest.param("/a/b", [("/", "/c")], ["/c/a/b", "/c/a", "/c"], id="the whole way"),
        pytest.param("/a/b", [("/a", "/c")], ["/c/b", "/c"], id="a part is mounted"),
        pytest.param("/a/b", [("/a/b", "/c")], ["/c"], id="only its own is mounted"),
        pytest.param("/ab", [("/a", "/c")], None, id="another's is mounted"),
        pytest.param("/a", [("/a", "/c"), ("/", "/d")], ["/d/a", "/d"], id="the longer way"),
        pytest.param("/", [("/", "/c"), ("/", "/d")], ["/d"], id="the later mount"),
        pytest.param("/../x", [("/", "/c")], None, id="outside of the namespace"),
        pytest.param("/../x", [("/..", "/c")], ["/c/x", "/c"], id="outside, but mounted"),
        pytest.param("/", [("/../..", "/c")], None, id="below an unknown name"),
        pytest.param("/", [], None, id="nothing mounted"),
    ],
)
def test_way(path, mounted, levels):
    mounts = parse("\n".join(V2.format(root=root, target=target) for root, target in mounted))

    found = way("memory", {"": path}, mounts)

    assert (list(found.levels) if found else None) == levels


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("max", None),
        ("-1", None),
        ("9223372036854771712", None),  # 4 KiB pages
        ("9223372036854710272", None),  # 64 KiB pages
        ("9223372036854710271", 9223372036854710271),
        ("0", 0),
        ("", None),
        (None, None),
    ],
)
def test_limit(text, limit):
    assert parse_limit(text) == limit


@pytest.mark.parametrize(
    ("text", "count"),
    [("0", 1), ("0-3", 4), ("0-3,8-11,15", 9), ("", None), (None, None)],
)
def test_cpus(text, count):
    assert parse_cpus(text) == count


def test_counts():
    assert parse_counts("oom_kill_disable 0\noom_kill 3\nodd\n") == {
        "oom_kill_disable": 0,
        "oom_kill": 3,
    }

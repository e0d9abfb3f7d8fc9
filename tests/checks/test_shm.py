"""checks/shm.py: tables of facts -> status."""

import pytest

from gpudoctor import (
    Cgroup,
    Container,
    Environment,
    Gpus,
    JobPython,
    Memory,
    Mount,
    Pair,
    Shm,
    ShmFile,
    ShmFiles,
    ShmSize,
    ShmWrite,
    Status,
    Workload,
)
from gpudoctor.registry import get

MIB, GIB = 1 << 20, 1 << 30
ONE = Workload()
ONE_WITH_WORKERS = Workload().told({"workers": 8}, "gpudoctor.toml")
TWO = Workload().told({"local_ranks": 2}, "--nproc-per-node")
EIGHT = Workload().told({"local_ranks": 8}, "8 GPU device nodes")


def shm(total: int, free: int | None = None, **more) -> Shm:
    free = total if free is None else free
    return Shm(total_bytes=total, free_bytes=free, filesystem="tmpfs", **more)


@pytest.mark.parametrize(
    ("found", "job", "status", "says"),
    [
        pytest.param(shm(64 * MIB), TWO, Status.FAIL, "this job needs", id="docker default"),
        pytest.param(shm(64 * MIB), EIGHT, Status.FAIL, "64 MiB", id="docker default, 8 ranks"),
        pytest.param(shm(64 * MIB), ONE, Status.WARN, "without DataLoader", id="one rank, unknown"),
        pytest.param(shm(64 * MIB), ONE_WITH_WORKERS, Status.FAIL, "64 MiB", id="one with workers"),
        pytest.param(shm(GIB), TWO, Status.PASS, "1 GiB", id="NCCL docs' 1g, two ranks"),
        pytest.param(shm(8 * GIB), EIGHT, Status.PASS, "8 GiB", id="8g, eight ranks"),
        pytest.param(Shm(exists=False), TWO, Status.FAIL, "no /dev/shm", id="none at all"),
    ],
)
def test_size(found, job, status, says):
    finding = get("shm-size")(found, job, None, None)

    assert finding.status is status
    assert says in finding.summary


def test_size_boundary_is_the_need():
    from gpudoctor import shm_need

    need = shm_need(TWO).bytes

    assert get("shm-size")(shm(need), TWO, None, None).status is Status.PASS
    assert get("shm-size")(shm(need - 4096), TWO, None, None).status is Status.FAIL


@pytest.mark.parametrize(
    ("path", "p2p", "told", "counts"),
    [
        pytest.param("NVLink", "ok", {}, False, id="NVLink"),
        pytest.param("XGMI", "ok", {}, False, id="XGMI"),
        pytest.param("host bridge", "ok", {}, True, id="NCCL does not use it by itself"),
        pytest.param("NVLink", "not supported", {}, True, id="not allowed"),
        pytest.param("NVLink", "ok", {"NCCL_P2P_DISABLE": "1"}, True, id="turned off"),
        pytest.param("NVLink", "ok", {"NCCL_P2P_DISABLE": "0"}, False, id="not turned off"),
    ],
)
def test_size_counts_segments_only_where_gpus_do_not_reach_each_other(path, p2p, told, counts):
    gpus = Gpus(pairs=(Pair(one=0, other=1, p2p=p2p, path=path),))

    finding = get("shm-size")(shm(8 * GIB), TWO, None, None, gpus, Environment(values=told))

    assert any("without P2P" in line for line in finding.evidence) is counts


def test_size_shows_its_arithmetic_and_asks_for_enough():
    finding = get("shm-size")(shm(64 * MIB), EIGHT, None, None)

    assert finding.fix.settings == (ShmSize(8 * GIB),)
    assert any("8 ranks" in line for line in finding.evidence)
    assert any("assumed" in line for line in finding.evidence)


def test_size_never_recommends_more_than_the_memory_limit_can_back():
    small = Cgroup(version=2, memory_limit_bytes=2 * GIB, memory_used_bytes=0)

    finding = get("shm-size")(shm(64 * MIB), TWO, None, small)

    assert finding.fix.settings[0].bytes <= GIB


def test_size_knows_that_old_nccl_needs_less():
    def needs(nccl: str) -> str:
        python = JobPython(path="p", chosen_by="PATH", packages={"nvidia-nccl-cu12": nccl})
        return get("shm-size")(shm(GIB), EIGHT, python, None).evidence[1]

    assert "4 MiB" in needs("2.18.3")
    assert "31.5 MiB" in needs("2.27.3")


@pytest.mark.parametrize(
    ("write", "status", "setting"),
    [
        pytest.param(ShmWrite(tried_bytes=16 * MIB), Status.PASS, None, id="works"),
        pytest.param(
            ShmWrite(tried_bytes=MIB, error="EROFS: Read-only file system"),
            Status.FAIL,
            Mount,
            id="read-only",
        ),
        pytest.param(
            ShmWrite(tried_bytes=MIB, error="ENOSPC: No space left on device"),
            Status.FAIL,
            ShmSize,
            id="full",
        ),
    ],
)
def test_write(write, status, setting):
    finding = get("shm-write")(write, shm(64 * MIB))

    assert finding.status is status
    if setting:
        assert isinstance(finding.fix.settings[0], setting)


def files(*found: tuple[str, int, str]) -> ShmFiles:
    return ShmFiles(
        count=len(found),
        files=tuple(
            ShmFile(name=name, bytes=count, age_seconds=7200, uid=0, owner=owner)
            for name, count, owner in found
        ),
    )


@pytest.mark.parametrize(
    ("found", "left", "status", "says"),
    [
        pytest.param(shm(GIB), files(), Status.PASS, "1 GiB of 1 GiB free", id="empty"),
        pytest.param(
            shm(GIB, 500 * MIB),
            files(("nccl-Ab12", 500 * MIB, "alive")),
            Status.PASS,
            "500 MiB",
            id="in use, enough left",
        ),
        pytest.param(
            shm(GIB, 700 * MIB),
            files(("torch_77_1_0", 300 * MIB, "dead")),
            Status.WARN,
            "300 MiB in 1 file of dead processes",
            id="stale",
        ),
        pytest.param(
            shm(GIB, 700 * MIB),
            files(("torch_77_1_0", 300 * MIB, "unknown")),
            Status.PASS,
            "700 MiB",
            id="cannot be called dead",
        ),
        pytest.param(
            shm(GIB, 700 * MIB),
            files(("plasma-store", 300 * MIB, "dead")),
            Status.PASS,
            "700 MiB",
            id="not ours to judge",
        ),
        pytest.param(
            shm(GIB, 10 * MIB),
            files(("nccl-Ab12", 1000 * MIB, "dead")),
            Status.FAIL,
            "10 MiB of 1 GiB free, this job needs",
            id="full of stale",
        ),
        pytest.param(
            shm(GIB, 10 * MIB),
            files(("data", 1000 * MIB, "alive")),
            Status.FAIL,
            "10 MiB of 1 GiB free",
            id="full and in use",
        ),
        pytest.param(shm(64 * MIB), files(), Status.SKIP, "", id="too small anyway"),
        pytest.param(Shm(exists=False), files(), Status.SKIP, "", id="none at all"),
    ],
)
def test_free(found, left, status, says):
    finding = get("shm-free")(found, left, TWO, None)

    assert finding.status is status
    assert says in finding.summary


def test_free_names_what_to_remove():
    finding = get("shm-free")(
        shm(GIB, 700 * MIB), files(("torch_77 x", 300 * MIB, "dead")), TWO, None
    )

    assert finding.fix.commands == ("rm -f /dev/shm/'torch_77 x'",)


@pytest.mark.parametrize(
    ("limit", "used", "total", "private", "status"),
    [
        pytest.param(None, 0, 8 * GIB, True, Status.PASS, id="no limit"),
        pytest.param(64 * GIB, GIB, 8 * GIB, True, Status.PASS, id="plenty"),
        pytest.param(300 * MIB, 200 * MIB, 8 * GIB, True, Status.FAIL, id="no room for the need"),
        pytest.param(4 * GIB, 0, 8 * GIB, True, Status.WARN, id="larger than the limit"),
        pytest.param(4 * GIB, 0, 8 * GIB, False, Status.PASS, id="host's own, larger"),
    ],
)
def test_cgroup(limit, used, total, private, status):
    group = Cgroup(version=2, memory_limit_bytes=limit, memory_used_bytes=used)

    finding = get("shm-cgroup")(shm(total), group, TWO, None, Container(ipc_private=private))

    assert finding.status is status
    if status is Status.FAIL:
        assert isinstance(finding.fix.settings[0], Memory)

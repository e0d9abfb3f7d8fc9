"""checks/cluster/alike.py: tables of nodes -> status, words, blame."""

import shlex

import pytest
from msgspec.structs import replace

from gpudoctor import (
    GIB,
    Cgroup,
    Code,
    Devices,
    Environment,
    EnvSet,
    EnvUnset,
    Gpus,
    Image,
    Job,
    Memlock,
    NcclAnswer,
    NcclFile,
    NcclSettings,
    Nodes,
    NoFile,
    Packages,
    Shm,
    ShmSize,
    Status,
    TorchBuild,
)
from gpudoctor.registry import get
from gpudoctor.snapshot import Snapshot
from tests.cluster_machines import (
    WHEELS,
    blind,
    gpus,
    limits,
    members,
    node,
    nodes,
    python,
    system,
)
from tests.gpu_machines import H100, RTX_4090

IDS = ["versions", "image", "environment", "gpus", "limits"]
OLD_TORCH = TorchBuild(version="2.8.0+cu128", cuda=(12, 8), path="/opt/venv/torch")
L40S = replace(H100, name="NVIDIA L40S", links=None, fabric_state=None, power_limit_w=350.0)
ODD_GPU = {1: (gpus(),), 2: (gpus(),)}


def judge(topic: str, found: Nodes, ranks: int = 8):
    check = get(f"cluster-{topic}")
    if topic != "gpus":
        return check(found)
    joined = members(len(found.snapshots))
    return check(found, replace(joined, members=[replace(m, ranks=ranks) for m in joined.members]))


def environment(**values: str) -> Environment:
    return Environment(values={"NCCL_IB_DISABLE": "0", **values})


@pytest.mark.parametrize("topic", IDS)
@pytest.mark.parametrize("count", [2, 4, 8, 64])
def test_equal_nodes_are_well(topic, count):
    finding = judge(topic, nodes(count))

    assert finding.status is Status.PASS, (finding.summary, finding.evidence)
    assert f"{count} nodes alike: " in finding.summary
    assert len(finding.summary) < 80


@pytest.mark.parametrize("topic", IDS)
def test_one_node_has_nobody_to_be_compared_with(topic):
    finding = judge(topic, nodes(1))

    assert finding.status is Status.SKIP
    assert "on every node of the job" in finding.reason


@pytest.mark.parametrize("topic", IDS)
def test_nothing_known_is_not_healthy(topic):
    finding = judge(topic, Nodes(snapshots=(Snapshot("n1"), Snapshot("n2"))))

    assert finding.status is Status.SKIP
    assert finding.reason


@pytest.mark.parametrize("topic", IDS)
@pytest.mark.parametrize("broken", [False, True])
def test_what_is_not_known_of_a_node_is_no_difference(topic, broken):
    lost = ("gpus", "torch_build", "job_python", "environment", "limits", "shm", "packages")
    usual = nodes(4).snapshots

    finding = judge(topic, Nodes(snapshots=(*usual[:3], blind(4, *lost, broken=broken))))

    assert finding.status is Status.PASS, (finding.summary, finding.evidence)
    assert any("not known on n4" in line for line in finding.evidence) is broken


@pytest.mark.parametrize(
    ("topic", "odd", "status", "summary", "owner"),
    [
        pytest.param(
            "versions",
            (gpus(driver="570.86.15"),),
            Status.WARN,
            "NVIDIA driver 570.86.15 on n7, 580.95.05 on 63 others",
            "node",
            id="another driver",
        ),
        pytest.param(
            "versions",
            (OLD_TORCH, python(torch="2.8.0+cu128")),
            Status.FAIL,
            "torch 2.8.0+cu128 on n7, 2.9.1+cu128 on 63 others",
            "image",
            id="another torch",
        ),
        pytest.param(
            "versions",
            (NcclAnswer(library="/usr/lib/libnccl.so.2", version=(2, 18, 3)),),
            Status.FAIL,
            "NCCL 2.18.3 on n7, 2.27.5 on 63 others",
            "image",
            id="another NCCL",
        ),
        pytest.param(
            "versions",
            (python(numpy="1.26.4"),),
            Status.WARN,
            "numpy 1.26.4 on n7, 2.1.3 on 63 others",
            "image",
            id="a package that matters",
        ),
        pytest.param(
            "versions",
            (python(deepspeed="0.18.1"),),
            Status.WARN,
            "deepspeed 0.18.1 on n7, not installed on 63 others",
            "image",
            id="a package that others lack",
        ),
        pytest.param(
            "versions",
            (system(kernel="6.8.0-51-generic"),),
            Status.PASS,
            "64 nodes alike: NVIDIA driver 580.95.05, torch 2.9.1+cu128",
            None,
            id="healthy: another kernel is only said",
        ),
        pytest.param(
            "image",
            (Packages(versions={**WHEELS, "pillow": "10.0.0"}),),
            Status.WARN,
            "pillow 10.0.0 on n7, 11.0.0 on 63 others",
            "image",
            id="any package",
        ),
        pytest.param(
            "environment",
            (environment(NCCL_IB_DISABLE="1"),),
            Status.FAIL,
            "NCCL_IB_DISABLE 1 on n7, 0 on 63 others",
            "launch",
            id="another network",
        ),
        pytest.param(
            "environment",
            (environment(NCCL_MIN_NCHANNELS="4"),),
            Status.WARN,
            "NCCL_MIN_NCHANNELS 4 on n7, unset on 63 others",
            "launch",
            id="a variable that others do not have",
        ),
        pytest.param(
            "environment",
            (NcclSettings(files=(NcclFile(path="/etc/nccl.conf", values={"NCCL_PROTO": "LL"}),)),),
            Status.FAIL,
            "NCCL_PROTO LL on n7, unset on 63 others",
            "launch",
            id="NCCL's own file says it",
        ),
        pytest.param(
            "environment",
            (Job(launcher="slurm", world_size=16, nodes=2, master_port=29600),),
            Status.FAIL,
            "MASTER_PORT 29600 on n7, 29500 on 63 others",
            "launch",
            id="another MASTER_PORT",
        ),
        pytest.param(
            "environment",
            (
                environment(
                    NCCL_DEBUG="INFO",
                    NCCL_SOCKET_IFNAME="ens3",
                    NCCL_IB_HCA="mlx5_1",
                    NCCL_TOPO_FILE="/etc/topo.xml",
                    MASTER_ADDR="localhost",
                    CUDA_VISIBLE_DEVICES="0,1",
                    RANK="7",
                    TORCH_NCCL_TRACE_BUFFER_SIZE="2000",
                ),
            ),
            Status.PASS,
            "64 nodes alike",
            None,
            id="healthy: names, ranks, paths and logs of its own",
        ),
        pytest.param(
            "gpus",
            (gpus(7),),
            Status.WARN,
            "GPUs 7 on n7, 8 on 63 others",
            "node",
            id="a GPU is missing",
        ),
        pytest.param(
            "gpus",
            (Gpus(devices=(*gpus(7).devices, replace(H100, index=7, lost="GPU is lost"))),),
            Status.WARN,
            "GPUs 7 on n7, 8 on 63 others",
            "node",
            id="a GPU is lost",
        ),
        pytest.param(
            "gpus",
            (gpus(model=replace(H100, mig_enabled=True)),),
            Status.WARN,
            "MIG mode enabled on n7, disabled on 63 others",
            "node",
            id="MIG",
        ),
        pytest.param(
            "gpus",
            (gpus(model=replace(H100, power_limit_w=400.0)),),
            Status.WARN,
            "power limit 400 W on n7, 700 W on 63 others",
            "node",
            id="power limit",
        ),
        pytest.param(
            "gpus",
            (gpus(model=replace(H100, links=(H100.links or ())[:16])),),
            Status.WARN,
            "NVLink or XGMI 16 links on n7, 18 links on 63 others",
            "node",
            id="links",
        ),
        pytest.param(
            "limits",
            (Shm(total_bytes=64 << 20, filesystem="tmpfs"),),
            Status.WARN,
            "/dev/shm 64 MiB on n7, 64 GiB on 63 others",
            "launch",
            id="shm",
        ),
        pytest.param(
            "limits",
            (limits(memlock=8 << 20),),
            Status.WARN,
            "memlock 8 MiB on n7, unlimited on 63 others",
            "launch",
            id="memlock",
        ),
        pytest.param(
            "limits",
            (limits(nofile=1024),),
            Status.WARN,
            "nofile 1024 on n7, 1048576 on 63 others",
            "launch",
            id="nofile",
        ),
        pytest.param(
            "limits",
            (Cgroup(version=2, memory_limit_bytes=64 * GIB),),
            Status.WARN,
            "cgroup memory 64 GiB on n7, unlimited on 63 others",
            "launch",
            id="cgroup",
        ),
        pytest.param(
            "limits",
            (Shm(total_bytes=63 * GIB + 900, filesystem="tmpfs"),),
            Status.PASS,
            "/dev/shm 64 GiB",
            None,
            id="healthy: nearly the same shm",
        ),
        pytest.param(
            "limits",
            (system(memory_bytes=1900 * GIB, cpus_usable=96),),
            Status.PASS,
            "64 nodes alike",
            None,
            id="healthy: a machine of another size",
        ),
    ],
)
def test_one_of_64(topic, odd, status, summary, owner):
    finding = judge(topic, nodes(64, {7: odd}))

    assert (finding.status, finding.owner) == (status, owner), (finding.summary, finding.evidence)
    assert summary in finding.summary
    assert len(finding.summary) < 80
    assert finding.nodes == (() if status is Status.PASS else ("n7",))
    if status is not Status.PASS:
        assert "n[1-6,8-64]" in finding.evidence[0]
        assert "n7" in finding.fix.text
        assert finding.fix.settings or finding.fix.commands


@pytest.mark.parametrize(
    ("topic", "odd", "wanted"),
    [
        pytest.param(
            "versions",
            (OLD_TORCH,),
            "/opt/venv/bin/python -m pip install torch==2.9.1+cu128 --index-url",
            id="torch",
        ),
        pytest.param(
            "versions",
            (python(**{"nvidia-nccl-cu12": "2.26.2"}),),
            "/opt/venv/bin/python -m pip install nvidia-nccl-cu12==2.27.5",
            id="NCCL's wheel",
        ),
        pytest.param(
            "versions",
            (python(numpy="1.26.4"),),
            "/opt/venv/bin/python -m pip install numpy==2.1.3",
            id="a package",
        ),
        pytest.param(
            "environment", (environment(NCCL_PROTO="LL"),), EnvUnset("NCCL_PROTO"), id="unset"
        ),
        pytest.param(
            "environment",
            (environment(NCCL_IB_DISABLE="1"),),
            EnvSet("NCCL_IB_DISABLE", "0"),
            id="set",
        ),
        pytest.param(
            "gpus",
            (gpus(model=replace(H100, mig_enabled=True)),),
            "sudo nvidia-smi -mig 0",
            id="MIG",
        ),
        pytest.param(
            "gpus",
            (gpus(model=replace(H100, power_limit_w=400.0)),),
            "sudo nvidia-smi -pl 700",
            id="power",
        ),
        pytest.param("limits", (limits(memlock=8 << 20),), Memlock(None), id="memlock"),
        pytest.param("limits", (limits(nofile=1024),), NoFile(1 << 20), id="nofile"),
        pytest.param(
            "limits",
            (Shm(total_bytes=64 << 20),),
            ShmSize(64 * GIB),
            id="shm",
        ),
    ],
)
def test_the_fix_makes_the_few_like_the_many(topic, odd, wanted):
    fix = judge(topic, nodes(4, {3: odd})).fix

    assert any(wanted == s for s in fix.settings) or any(
        isinstance(wanted, str) and command.startswith(wanted) for command in fix.commands
    ), (fix.settings, fix.commands)


def test_the_wheels_that_torch_brings_are_not_installed_beside_it():
    old = python(torch="2.8.0+cu128", **{"nvidia-cublas-cu12": "12.8.3", "triton": "3.4.0"})

    fix = judge("versions", nodes(4, {3: (OLD_TORCH, old)})).fix

    assert len(fix.commands) == 1


@pytest.mark.parametrize(
    ("count", "odd", "says"),
    [
        pytest.param(2, (2,), "torch 2.8.0+cu128 on n2, 2.9.1+cu128 on n1", id="two nodes"),
        pytest.param(4, (3, 4), "torch 2.8.0+cu128 on n[3-4], 2.9.1+cu128 on n[1-2]", id="half"),
    ],
)
def test_a_tie_is_told_and_blames_nobody(count, odd, says):
    finding = judge("versions", nodes(count, dict.fromkeys(odd, (OLD_TORCH,))))

    assert finding.status is Status.FAIL
    assert finding.summary == says
    assert finding.nodes == ()
    assert "for instance torch 2.9.1" in finding.fix.text


def test_a_third_value_each_is_told_in_one_line():
    odd = {n: (TorchBuild(version=f"2.{n}.0"),) for n in (1, 2, 3)}

    finding = judge("versions", nodes(3, odd))

    assert finding.summary.startswith("torch: 3 different among 3 nodes")
    assert finding.nodes == ()


def test_many_differences_fold_into_one_line():
    odd = {n: (gpus(driver="570.86.15"), python(numpy="1.26.4")) for n in range(1, 64, 3)}

    finding = judge("versions", nodes(64, odd))

    assert (
        finding.summary == "NVIDIA driver 570.86.15 on 21 nodes, 580.95.05 on 43 others, and 1 more"
    )
    assert len(finding.nodes) == 21
    assert all(len(line) < 600 for line in finding.evidence)


@pytest.mark.parametrize(
    ("topic", "odd"),
    [
        pytest.param("gpus", {n: (gpus(4, L40S),) for n in (3, 4)}, id="two kinds of GPU"),
        pytest.param("gpus", {4: (gpus(1, RTX_4090),)}, id="one node of another kind"),
        pytest.param(
            "versions",
            {n: (gpus(4, L40S, driver="570.86.15"),) for n in (3, 4)},
            id="each kind with its own driver",
        ),
        pytest.param(
            "limits",
            {n: (gpus(4, L40S), Shm(total_bytes=GIB)) for n in (3, 4)},
            id="each kind with its own limits",
        ),
        pytest.param(
            "environment",
            {n: (gpus(4, L40S), environment(NCCL_P2P_DISABLE="1")) for n in (3, 4)},
            id="a variable for one kind only",
        ),
    ],
)
def test_nodes_of_different_kinds_are_meant(topic, odd):
    finding = judge(topic, nodes(4, odd))

    assert finding.status is Status.PASS, (finding.summary, finding.evidence)


def test_kinds_are_compared_among_themselves():
    odd = {n: (gpus(4, L40S),) for n in (4, 5, 6)} | {6: (gpus(3, L40S),)}

    finding = judge("gpus", nodes(6, odd), ranks=4)

    assert finding.summary == "GPUs 3 on n6, 4 on 2 others"
    assert finding.nodes == ("n6",)


@pytest.mark.parametrize(
    ("ranks", "status"),
    [
        pytest.param({"n4": 8}, Status.WARN, id="as many ranks as the others"),
        pytest.param({"n4": 1}, Status.PASS, id="healthy: a head node with one rank"),
    ],
)
def test_a_node_without_gpus(ranks, status):
    bare = Snapshot("n4", {**node(4).facts, **blind(4, "gpus").facts, "devices": Devices()})
    joined = members(4)
    joined = replace(
        joined, members=[replace(m, ranks=ranks.get(m.name, 8)) for m in joined.members]
    )

    finding = get("cluster-gpus")(Nodes(snapshots=(*nodes(3).snapshots, bare)), joined)

    assert finding.status is status
    assert finding.nodes == (("n4",) if status is Status.WARN else ())


def test_a_node_with_as_many_gpus_as_ranks_is_meant():
    uneven = nodes(3, {3: (gpus(4),)})
    joined = members(3)
    ranks = {"n3": 4}
    joined = replace(
        joined, members=[replace(m, ranks=ranks.get(m.name, 8)) for m in joined.members]
    )

    assert get("cluster-gpus")(uneven, joined).status is Status.PASS


def test_no_gpus_anywhere():
    none = [Snapshot(f"n{n}", {**blind(n, "gpus").facts, "devices": Devices()}) for n in (1, 2)]

    assert judge("gpus", Nodes(snapshots=tuple(none))).status is Status.SKIP


def code(digest: str, path: str = "/work/train", **more) -> Code:
    return Code(path=path, digest=digest * 8, files=12, bytes=4000, **more)


@pytest.mark.parametrize(
    ("odd", "status", "says"),
    [
        pytest.param(code("ab12cd34"), Status.PASS, "code ab12cd34ab12 (12 files)", id="same"),
        pytest.param(code("ffffffff"), Status.FAIL, "code ffffffffffff (12", id="other content"),
        pytest.param(
            Code(path="/work/train", missing="ENOENT: No such file or directory"),
            Status.FAIL,
            "code not there on n3",
            id="not there",
        ),
        pytest.param(
            code("ab12cd34", "/home/me/train"),
            Status.WARN,
            "path of the code /home/me/train on n3",
            id="other path",
        ),
        pytest.param(
            Code(path="/work/train", error="more than 20000 files"),
            Status.ERROR,
            "more than 20000 files (n3)",
            id="not known there",
        ),
    ],
)
def test_code(odd, status, says):
    usual = code("ab12cd34")
    finding = judge("image", nodes(3, {1: (usual,), 2: (usual,), 3: (odd,)}))

    assert finding.status is status
    assert says in finding.summary + finding.reason
    if status is Status.FAIL:
        assert finding.owner == "job"
        assert finding.fix.commands == ("rsync -a --delete n1:/work/train/ /work/train/  # on n3",)


def test_images_are_compared_by_what_is_in_them():
    odd = {
        n: (Image(id=f"sha256:{'a1' if n < 3 else 'b2'}", name="job:latest"),) for n in (1, 2, 3)
    }

    finding = judge("image", nodes(3, odd))

    assert finding.status is Status.WARN
    assert finding.summary == "container image sha256:b2 on n3, sha256:a1 on 2 others"
    assert finding.fix.commands[0].startswith("docker pull job:latest")


@pytest.mark.parametrize(
    ("topic", "evil"),
    [
        pytest.param("versions", gpus(driver="570; poweroff\npoweroff #"), id="driver"),
        pytest.param("versions", TorchBuild(version="2.9; poweroff\npoweroff+cu128"), id="torch"),
        pytest.param("versions", python(numpy="1; poweroff\npoweroff #"), id="package"),
        pytest.param("image", Image(id="a", name="x; poweroff\npoweroff #"), id="image"),
        pytest.param(
            "environment", Environment(values={"NCCL_X; poweroff\n": "1; poweroff"}), id="variable"
        ),
    ],
)
def test_what_most_nodes_say_does_not_run(topic, evil):
    """The fix has their values in it: here they have the majority."""
    usual = Image(id="b", name="job")

    finding = judge(topic, nodes(3, {1: (evil,), 2: (evil,), 3: (usual,)}))

    for command in finding.fix.commands if finding.fix else ():
        words = shlex.split(command, comments=True)
        assert "poweroff" not in [word.strip("#;") for word in words]

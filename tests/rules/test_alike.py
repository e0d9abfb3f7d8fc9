"""rules/alike.py, traits.py, shared_variables.py: what is compared, and with whom."""

import pytest
from msgspec.structs import replace

from gpudoctor import GIB, Devices, Gpus, Shm, Workload
from gpudoctor.rules.alike import KINDS, NO_GPU, cohorts, compare, model, traits
from gpudoctor.rules.differences import who
from gpudoctor.rules.shared_variables import is_breaking, is_inside, is_shared
from gpudoctor.rules.variables import known
from gpudoctor.snapshot import Absent, Snapshot, dump, load
from tests.cluster_machines import blind, gpus, node, nodes, system
from tests.gpu_machines import H100, RTX_4090


def labels(snapshot: Snapshot) -> dict[str, str]:
    return {trait.label: value for trait, value in traits(snapshot).items()}


def test_what_a_node_tells():
    told = labels(node(1))

    assert told["NVIDIA driver"] == "580.95.05"
    assert told["torch"] == "2.9.1+cu128"
    assert told["CUDA of torch"] == "12.8"
    assert told["NCCL"] == "2.27.5"
    assert told["Python"] == "3.12"
    assert told["GPU model"] == "NVIDIA H100 80GB HBM3"
    assert told["GPUs"] == "8"
    assert told["power limit"] == "700 W"
    assert told["/dev/shm"] == "64 GiB"
    assert told["memlock"] == "unlimited"
    assert told["interface"] == "eth0"
    assert told["NCCL_IB_DISABLE"] == "0"
    assert "MASTER_ADDR" not in told


def test_what_is_not_known_has_no_entry():
    assert traits(Snapshot("n1")) == {}
    assert traits(blind(1, *node(1).facts)) == {}


def test_labels_are_unique():
    found = traits(node(1))

    assert len({(trait.label, trait.group) for trait in found}) == len(found)


def test_every_trait_says_which_fact_it_is_read_from():
    names = {kind.__name__ for kind in KINDS}

    assert all(trait.fact for trait in traits(node(1)))
    assert {"Gpus", "Packages", "Code", "Environment"} <= names


def test_traits_are_the_same_after_a_file():
    (back,) = load(dump([node(1)]))

    assert traits(back) == traits(node(1))


@pytest.mark.parametrize(
    ("snapshot", "wanted"),
    [
        pytest.param(node(1), "NVIDIA H100 80GB HBM3", id="one model"),
        pytest.param(
            node(1, Gpus(devices=(H100, replace(RTX_4090, index=1)))),
            "NVIDIA GeForce RTX 4090 and NVIDIA H100 80GB HBM3",
            id="two models",
        ),
        pytest.param(
            Snapshot("n1", {"gpus": Absent("no GPU"), "devices": Devices()}), NO_GPU, id="none"
        ),
        pytest.param(
            Snapshot("n1", {"gpus": Absent("no answer", True), "devices": Devices()}),
            "",
            id="not known: the driver hangs",
        ),
        pytest.param(Snapshot("n1"), "", id="not known: nobody looked"),
    ],
)
def test_model(snapshot, wanted):
    assert model(snapshot) == wanted


def test_a_node_whose_gpus_are_not_known_goes_with_the_most():
    others = nodes(5, {4: (gpus(1, RTX_4090),), 5: (gpus(1, RTX_4090),)}).snapshots

    found = cohorts([*others, blind(6, "gpus", broken=True)])

    assert [node.name for node in found["NVIDIA H100 80GB HBM3"]] == ["n1", "n2", "n3", "n6"]


@pytest.mark.parametrize(
    ("sizes", "groups"),
    [
        pytest.param([1007, 1007, 1006, 1005], 1, id="firmware takes a little"),
        pytest.param([1007, 1007, 512, 512], 2, id="half"),
        pytest.param([64, 65, 66, 67], 1, id="within 5 %"),
        pytest.param([64, 65, 72, 73], 2, id="beyond"),
    ],
)
def test_sizes_that_are_close_are_alike(sizes, groups):
    found = [node(n, Shm(total_bytes=size * GIB)) for n, size in enumerate(sizes, 1)]

    (shm,) = [c for c in compare(found, "limits") if c.trait.label == "/dev/shm"]

    assert len(shm.split.groups) == groups


def test_the_kernels_half_of_the_memory_is_the_same_everywhere():
    small = node(1, Shm(total_bytes=500 * GIB), system(memory_bytes=1000 * GIB))
    large = node(2, Shm(total_bytes=1000 * GIB), system(memory_bytes=2000 * GIB))

    (shm,) = [c for c in compare([small, large], "limits") if c.trait.label == "/dev/shm"]

    assert shm.split.alike


@pytest.mark.parametrize(
    ("name", "shared", "breaking", "inside"),
    [
        ("NCCL_ALGO", True, True, False),
        ("NCCL_IB_DISABLE", True, True, False),
        ("NCCL_P2P_NET_CHUNKSIZE", True, True, False),
        ("NCCL_P2P_DISABLE", True, False, True),
        ("NCCL_MIN_NCHANNELS", True, False, False),
        ("TORCH_NCCL_BLOCKING_WAIT", True, False, False),
        ("TORCH_DISTRIBUTED_DEBUG", True, False, False),
        ("NCCL_SOCKET_IFNAME", False, False, False),
        ("NCCL_IB_HCA", False, False, False),
        ("NCCL_DEBUG", False, False, False),
        ("NCCL_DEBUG_FILE", False, False, False),
        ("NCCL_TOPO_FILE", False, False, False),
        ("NCCL_HOSTID", False, False, False),
        ("GLOO_SOCKET_IFNAME", False, False, False),
        ("UCX_NET_DEVICES", False, False, False),
        ("CUDA_VISIBLE_DEVICES", False, False, False),
        ("RANK", False, False, False),
        ("LOCAL_RANK", False, False, False),
        ("MASTER_ADDR", False, False, False),
        ("HOME", False, False, False),
        ("LD_LIBRARY_PATH", False, False, False),
    ],
)
def test_variables(name, shared, breaking, inside):
    assert (is_shared(name), is_breaking(name), is_inside(name)) == (shared, breaking, inside)


def test_what_breaks_is_a_variable_that_there_is():
    from gpudoctor.rules import shared_variables

    assert set(known()) >= shared_variables._BREAKING


def test_a_fact_of_the_job_alone_is_no_trait():
    assert traits(Snapshot("n1").replace(Workload())) == {}


def test_a_thousand_nodes_are_alike():
    """Each comparison is one pass over them."""
    many = [replace_name(node(1), f"n{n}") for n in range(1000)]

    found = compare(many)

    assert all(c.split.alike for c in found)


def replace_name(snapshot: Snapshot, name: str) -> Snapshot:
    return Snapshot(name, snapshot.facts)


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        pytest.param(["n1", "n2", "n7"], "n[1-2,7]", id="folded"),
        pytest.param(["gpu1.cluster.example.com"], "gpu1", id="without its domain"),
        pytest.param(["10.0.0.1"], "10.0.0.1", id="an address"),
        pytest.param(["2001:db8:1234:5678:9abc::1"], "2001:db8:1234:...", id="a long address"),
        pytest.param([f"{c}{c}{c}{c}" for c in "abcdefgh"], "8 nodes", id="too many"),
        pytest.param(["a.east.example.com", "a.west.example.com"], "2 nodes", id="by domain"),
    ],
)
def test_nodes_in_a_summary(names, wanted):
    assert who(names, 17) == wanted

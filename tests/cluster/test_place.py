"""Who a process is in its job, and where the nodes meet, by each launcher's variables."""

import pytest

from gpudoctor.cluster.place import NoPlace, excludes, place
from gpudoctor.rules import job_variables

TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "none",
    "TORCHELASTIC_RESTART_COUNT": "0",
    "RANK": "9",
    "LOCAL_RANK": "1",
    "WORLD_SIZE": "32",
    "LOCAL_WORLD_SIZE": "8",
    "GROUP_RANK": "1",
    "GROUP_WORLD_SIZE": "4",
    "MASTER_ADDR": "node0",
    "MASTER_PORT": "29500",
}
SRUN = {
    "SLURM_JOB_ID": "4711",
    "SLURM_STEP_ID": "0",
    "SLURM_PROCID": "8",
    "SLURM_LOCALID": "0",
    "SLURM_NODEID": "1",
    "SLURM_STEP_NUM_TASKS": "16",
    "SLURM_STEP_NUM_NODES": "2",
    "SLURM_STEP_TASKS_PER_NODE": "8(x2)",
    "SLURM_STEP_NODELIST": "gpu-a-[007,012]",
    "SLURM_JOB_NODELIST": "gpu-a-[007,012-014]",
    "SLURMD_NODENAME": "gpu-a-012",
}
MPIRUN = {
    "OMPI_COMM_WORLD_RANK": "4",
    "OMPI_COMM_WORLD_SIZE": "8",
    "OMPI_COMM_WORLD_LOCAL_RANK": "0",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "4",
    "PMIX_NAMESPACE": "123456",
}
INDEXED = {"JOB_COMPLETION_INDEX": "1", "MASTER_ADDR": "job-0.job", "NNODES": "2"}
PLAIN = {"MASTER_ADDR": "node0", "MASTER_PORT": "1234", "RANK": "1", "WORLD_SIZE": "2"}
HAND = {"nodes": 2, "node_rank": 0, "master_addr": "node0", "master_port": 4000}


def where(env, told=None, meet_port=None):
    return place(job_variables.read(env, told), env, meet_port)


@pytest.mark.parametrize(
    ("env", "told", "wanted"),
    [
        pytest.param(
            TORCHRUN,
            None,
            {"rank": 9, "leads": False, "nodes": 4, "world": 32, "host": "node0", "port": 29501},
            id="torchrun: second rank of a node",
        ),
        pytest.param(
            {**TORCHRUN, "LOCAL_RANK": "0", "RANK": "8"},
            None,
            {"rank": 8, "ranks": 8, "leads": True, "key": "none-0-29500"},
            id="torchrun: first rank of a node",
        ),
        pytest.param(
            SRUN,
            None,
            {
                "rank": 8,
                "ranks": 8,
                "leads": True,
                "nodes": 2,
                "told_by": "SLURM_STEP_NUM_NODES",
                "names": ("gpu-a-007", "gpu-a-012"),
                "name": "gpu-a-012",
                "key": "4711-0",
                "host": "gpu-a-007",
                "port": 24711,
            },
            id="srun: the list's first node, a port by the job's number",
        ),
        pytest.param(
            {**SRUN, "MASTER_ADDR": "gpu-a-012", "MASTER_PORT": "29700"},
            None,
            {"host": "gpu-a-012", "port": 29701},
            id="srun: MASTER_ADDR wins",
        ),
        pytest.param(
            {**SRUN, "SLURM_STEP_NODELIST": "gpu-a-[007"},
            None,
            {"names": (), "host": ""},
            id="srun: a list that cannot be read, and one of other nodes",
        ),
        pytest.param(
            MPIRUN,
            None,
            {
                "rank": 4,
                "ranks": 4,
                "leads": True,
                "nodes": None,
                "world": 8,
                "told_by": "OMPI_COMM_WORLD_SIZE",
                "key": "123456",
                "host": "",
            },
            id="mpirun: nodes are counted by ranks, nothing says where",
        ),
        pytest.param(
            {**MPIRUN, "OMPI_COMM_WORLD_LOCAL_RANK": "3"}, None, {"leads": False}, id="mpirun: no"
        ),
        pytest.param(
            INDEXED,
            None,
            {"rank": 1, "leads": True, "nodes": 2, "host": "job-0.job", "port": 29501},
            id="Indexed Job",
        ),
        pytest.param(
            PLAIN,
            None,
            {"rank": 1, "leads": None, "ranks": None, "nodes": None, "world": 2, "port": 1235},
            id="plain: whoever of the host comes first",
        ),
        pytest.param(
            {**PLAIN, "RANK": "0"}, None, {"leads": True, "ranks": None}, id="plain: rank 0 leads"
        ),
        pytest.param(
            {**PLAIN, "LOCAL_RANK": "1"},
            None,
            {"leads": None, "ranks": None},
            id="no LOCAL_WORLD_SIZE, so ranks are counted",
        ),
        pytest.param(
            {**PLAIN, "WORLD_SIZE": "1", "RANK": "0"}, None, {"nodes": 1}, id="a job of one"
        ),
        pytest.param(
            {},
            HAND,
            {"rank": 0, "leads": True, "nodes": 2, "told_by": "--nnodes", "port": 4001},
            id="by hand",
        ),
        pytest.param({}, {**HAND, "master_port": 65535}, {"port": 65534}, id="the last port"),
        pytest.param(
            {}, {"node_rank": 1}, {"nodes": None, "world": None}, id="nobody says how many"
        ),
    ],
)
def test_place(env, told, wanted):
    found = where(env, told)

    assert {name: getattr(found, name) for name in wanted} == wanted


def test_the_meeting_port_that_is_given():
    assert where(TORCHRUN, meet_port=7777).port == 7777


@pytest.mark.parametrize(
    ("env", "told", "said"),
    [
        pytest.param({}, None, "no launcher", id="nothing"),
        pytest.param({}, {"nodes": 2}, "--nnodes says 2 nodes.*--node-rank", id="which of two?"),
        pytest.param({**PLAIN, "MASTER_ADDR": "a,b"}, None, "is a list", id="a list"),
        pytest.param(
            {name: value for name, value in SRUN.items() if name != "SLURM_STEP_ID"},
            None,
            "srun --ntasks-per-node=1",
            id="the batch script itself",
        ),
    ],
)
def test_no_place(env, told, said):
    with pytest.raises(NoPlace, match=said):
        where(env, told)


POD = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}


@pytest.mark.parametrize(
    ("env", "wanted"),
    [
        pytest.param(SRUN, "slurm", id="srun"),
        pytest.param({**TORCHRUN, "SLURM_JOB_ID": "7"}, "slurm", id="torchrun in a job of Slurm"),
        pytest.param({**MPIRUN, "MASTER_ADDR": "n"}, "openmpi", id="mpirun"),
        pytest.param({**INDEXED, **POD}, "", id="a pod that does not know its node"),
        pytest.param({**INDEXED, **POD, "NODE_NAME": "worker-1"}, "kubernetes", id="one that does"),
        pytest.param(INDEXED, "", id="no pod"),
        pytest.param({**PLAIN, "NODE_NAME": "agent"}, "plain", id="plain; a name of Jenkins"),
    ],
)
def test_who_can_be_told_whom_to_go_without(env, wanted):
    job = job_variables.read(env)

    assert excludes(place(job, env), job, env) == wanted

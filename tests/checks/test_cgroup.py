"""checks/cgroup.py: tables of facts -> status."""

import pytest

from gpudoctor import Cgroup, Cpus, Environment, Memory, Pids, Status, System, Workload, thread_need
from gpudoctor.judge import judge_one
from gpudoctor.registry import get
from gpudoctor.snapshot import Absent, Snapshot

MIB, GIB = 1 << 20, 1 << 30
ONE = Workload()
TWO = Workload().told({"local_ranks": 2}, "--nproc-per-node")
EIGHT = Workload().told({"local_ranks": 8}, "8 GPU device nodes")
EIGHT_STEPS = Workload().told({"local_ranks": 8}, "SLURM_STEP_TASKS_PER_NODE")
WITH_CHECKPOINT = TWO.told({"checkpoint_bytes": 12 * GIB}, "gpudoctor.toml")


def machine(cpus: int = 128, usable: int | None = None, ram: int = 2048 * GIB) -> System:
    return System(
        hostname="n1",
        kernel="6.1",
        architecture="x86_64",
        memory_bytes=ram,
        cpus=cpus,
        cpus_usable=usable or cpus,
    )


LAPTOP = machine(8, ram=32 * GIB)
NODE = machine()


def pids(limit: int | None, used: int = 10) -> Cgroup:
    return Cgroup(version=2, pids_limit=limit, pids_used=used)


@pytest.mark.parametrize(
    ("group", "job", "system", "status", "says"),
    [
        pytest.param(pids(None), EIGHT, NODE, "pass", "no limit", id="docker, bare host"),
        pytest.param(pids(84301, 311), EIGHT, NODE, "pass", "84301", id="login session"),
        pytest.param(pids(2048), ONE, LAPTOP, "pass", "2048", id="podman on a laptop"),
        pytest.param(pids(2048), TWO, LAPTOP, "pass", "2048", id="podman, two ranks"),
        pytest.param(pids(4096), EIGHT, NODE, "pass", "4096", id="k8s pod, 8 GPUs"),
        pytest.param(pids(2048), EIGHT, NODE, "warn", "needs 336 to 2856", id="podman, 8 GPUs"),
        pytest.param(pids(50), TWO, LAPTOP, "fail", "50, 10 in use", id="--pids-limit 50"),
        pytest.param(pids(2048, 2000), TWO, LAPTOP, "fail", "2000 in use", id="used up"),
        pytest.param(pids(100), EIGHT, None, "fail", "100", id="machine not known"),
    ],
)
def test_pids(group, job, system, status, says):
    finding = get("cgroup-pids")(group, job, system, None)

    assert finding.status.value == status
    assert says in finding.summary
    if status in ("fail", "warn"):
        assert finding.fix.settings == (Pids(None),)
        assert any("8 ranks" in line or "2 ranks" in line for line in finding.evidence)


def test_pids_boundaries_are_the_needs():
    need = thread_need(EIGHT, NODE)

    def status(limit):
        return get("cgroup-pids")(pids(limit, 0), EIGHT, NODE, None).status

    assert status(need.least - 1) == "fail"
    assert status(need.least) == "warn"
    assert status(need.most) == "pass"


def test_pids_with_small_thread_pools():
    told = Environment(values={"OMP_NUM_THREADS": "1"})

    assert get("cgroup-pids")(pids(2048), EIGHT, NODE, told).status is Status.PASS


def memory(limit, used=0, cache=0, **more):
    return Cgroup(
        version=2,
        memory_limit_bytes=limit,
        memory_used_bytes=used,
        memory_reclaimable_bytes=cache,
        **more,
    )


@pytest.mark.parametrize(
    ("group", "job", "status", "says"),
    [
        pytest.param(memory(None), EIGHT, "pass", "no limit", id="bare host"),
        pytest.param(memory(None, oom_kills=3), EIGHT, "pass", "no limit", id="host OOM, no limit"),
        pytest.param(memory(64 * GIB, 2 * GIB), EIGHT, "pass", "62 GiB of 64", id="k8s, 8 GPUs"),
        pytest.param(
            memory(8 * GIB), ONE, "pass", "8 GiB of 8 GiB", id="small container, one rank"
        ),
        pytest.param(
            memory(64 * GIB, 64 * GIB, 60 * GIB), EIGHT, "pass", "60 GiB", id="full of page cache"
        ),
        pytest.param(memory(300 * MIB), TWO, "fail", "300 MiB", id="--memory 300m"),
        pytest.param(memory(512 * MIB), ONE, "fail", "512 MiB", id="one rank does not start"),
        pytest.param(memory(4 * GIB), EIGHT, "fail", "4 GiB", id="4 GiB, 8 ranks"),
        pytest.param(memory(64 * GIB, 60 * GIB), EIGHT, "fail", "4 GiB of 64 GiB", id="used up"),
        pytest.param(memory(16 * GIB), EIGHT, "warn", "16 GiB", id="2 GiB for each rank"),
        pytest.param(memory(24 * GIB), WITH_CHECKPOINT, "warn", "24 GiB", id="checkpoint twice"),
        pytest.param(memory(32 * GIB), WITH_CHECKPOINT, "pass", "32 GiB", id="checkpoint fits"),
        pytest.param(
            memory(64 * GIB, oom_kills=1), EIGHT, "warn", "1 process killed", id="killed before"
        ),
        pytest.param(
            memory(None, 32 * GIB, GIB // 2, memory_high_bytes=32 * GIB),
            ONE,
            "warn",
            "slowed down from 32 GiB on",
            id="memory.high reached",
        ),
        pytest.param(
            memory(32 * GIB, GIB, 0, memory_high_bytes=32 * GIB),
            TWO,
            "pass",
            "31 GiB of 32 GiB",
            id="Slurm: high and limit are the same",
        ),
        pytest.param(
            memory(64 * GIB, GIB, 0, memory_high_bytes=2 * GIB),
            TWO,
            "warn",
            "1 GiB of 2 GiB",
            id="memory.high is low",
        ),
    ],
)
def test_memory(group, job, status, says):
    finding = get("cgroup-memory")(group, job, NODE)

    assert finding.status.value == status
    assert says in finding.summary
    if status in ("fail", "warn"):
        assert isinstance(finding.fix.settings[0], Memory)


@pytest.mark.parametrize(
    ("limit", "ram", "asked"),
    [
        pytest.param(4 * GIB, 2048 * GIB, 128 * GIB, id="what 8 ranks usually take"),
        pytest.param(4 * GIB, 64 * GIB, 64 * GIB, id="not more than the machine has"),
        pytest.param(4 * GIB, None, 128 * GIB, id="machine not known"),
    ],
)
def test_memory_asks_for_what_can_be_given(limit, ram, asked):
    system = machine(ram=ram) if ram else None

    finding = get("cgroup-memory")(memory(limit), EIGHT, system)

    assert finding.fix.settings == (Memory(asked),)


def test_memory_says_that_the_model_is_not_known():
    finding = get("cgroup-memory")(memory(4 * GIB), EIGHT, NODE)

    assert "the model's size is not known" in finding.evidence
    assert finding.basis == "rule-of-thumb"


def cpu(quota=None, cpuset=None, **more):
    return Cgroup(version=2, cpu_quota=quota, cpuset_cpus=cpuset, **more)


@pytest.mark.parametrize(
    ("group", "job", "system", "status", "says"),
    [
        pytest.param(cpu(), EIGHT, NODE, "pass", "128 CPUs for 8 ranks", id="bare host"),
        pytest.param(cpu(cpuset=8), ONE, LAPTOP, "pass", "8 CPUs for 1 rank", id="laptop"),
        pytest.param(cpu(), ONE, machine(2), "pass", "2 CPUs", id="small VM, one rank"),
        pytest.param(
            cpu(32.0, 128), EIGHT, NODE, "pass", "32 CPUs for 8 ranks (quota)", id="k8s pod, 8 GPUs"
        ),
        pytest.param(cpu(1.5), TWO, LAPTOP, "fail", "1.5 CPUs for 2 ranks", id="--cpus 1.5"),
        pytest.param(cpu(12.0), EIGHT, NODE, "warn", "12 CPUs for 8 ranks", id="12 CPUs, 8 ranks"),
        pytest.param(cpu(cpuset=1), TWO, LAPTOP, "fail", "(cpuset)", id="--cpuset-cpus 0"),
        pytest.param(cpu(), TWO, machine(8, 1), "fail", "(CPU affinity)", id="taskset"),
        pytest.param(cpu(), EIGHT, machine(4), "warn", "all of this machine", id="small machine"),
        # A Slurm step: each task is bound to CPUs of its own within those of the step.
        pytest.param(
            cpu(cpuset=64), EIGHT_STEPS, machine(128, 8), "pass", "64 CPUs", id="bound task"
        ),
        pytest.param(
            cpu(cpuset=8),
            EIGHT_STEPS,
            machine(128, 1),
            "warn",
            "8 CPUs for 8",
            id="one CPU per task",
        ),
        pytest.param(
            cpu(cpuset=8), EIGHT_STEPS, machine(128, 8), "warn", "8 CPUs for 8", id="unbound task"
        ),
        pytest.param(
            cpu(cpuset=4), EIGHT_STEPS, machine(128, 4), "fail", "4 CPUs for 8", id="too few"
        ),
    ],
)
def test_cpu(group, job, system, status, says):
    finding = get("cgroup-cpu")(group, job, system)

    assert finding.status.value == status
    assert says in finding.summary
    if status in ("fail", "warn"):
        assert finding.fix.settings or finding.fix.text


@pytest.mark.parametrize(
    ("periods", "throttled", "status"),
    [
        pytest.param(6000, 1500, "warn", id="a quarter"),
        pytest.param(6000, 240, "pass", id="4 %"),
        pytest.param(50, 40, "pass", id="too short to say"),
    ],
)
def test_cpu_throttling(periods, throttled, status):
    group = cpu(32.0, cpu_periods=periods, cpu_throttled_periods=throttled)

    finding = get("cgroup-cpu")(group, EIGHT, NODE)

    assert finding.status.value == status
    if status == "warn":
        assert "25 % of the time slices" in finding.summary
        assert finding.fix.settings == (Cpus(64),)


def test_cpu_asks_for_what_the_machine_has():
    assert get("cgroup-cpu")(cpu(1.5), TWO, LAPTOP).fix.settings == (Cpus(8),)
    assert get("cgroup-cpu")(cpu(1.5), TWO, machine(4)).fix.settings == (Cpus(4),)
    assert get("cgroup-cpu")(cpu(), EIGHT, machine(4)).fix.settings == ()


@pytest.mark.parametrize(
    ("check_id", "controller"),
    [("cgroup-pids", "pids"), ("cgroup-memory", "memory"), ("cgroup-cpu", "cpu")],
)
def test_skips_what_cannot_be_seen(check_id, controller):
    unseen = Cgroup(version=1, unseen=(controller,))
    nowhere = Absent("the cgroup of this process (/x) is not mounted here")

    hidden = judge_one(get(check_id), Snapshot("n").replace(unseen, EIGHT, NODE))
    gone = judge_one(get(check_id), Snapshot("n", {"cgroup": nowhere}).replace(EIGHT, NODE))

    assert hidden.status is Status.SKIP
    assert controller in hidden.reason
    assert gone.status is Status.SKIP
    assert "not mounted" in gone.reason

"""gpudoctor/watch: looks, one after the other -> what is said of them."""

import pytest
from msgspec.structs import replace

from gpudoctor import Gpu
from gpudoctor.watch.job import how_ended
from gpudoctor.watch.known import Reader
from gpudoctor.watch.links import LOST, TELLING
from gpudoctor.watch.look import Group, Job, Link, Logs, Look, Port, Process, Space, Told
from gpudoctor.watch.watch import Watch

GIB = 1 << 30
EVERY, PATIENCE = 10.0, 60.0
MANY = 8  # looks that try the patience


def looks_of(parts, every=EVERY):
    """Looks of which each adds something to what is well."""
    reader = Reader()
    for number, part in enumerate(parts):
        at = number * every
        told: list[Told] = []
        if lines := part.get("logs"):
            told += reader.read("train.log", lines)
        told += reader.chosen()
        logs = Logs(told=tuple(told))
        yield Look(**{"at": at, "clock": 1e9 + at, **WELL, **part, "logs": logs})


def course(*parts, every=EVERY, patience=PATIENCE):
    """Events of such looks, as (state, id, subject)."""
    watch = Watch(patience)
    events = [event for look in looks_of(parts, every) for event in watch.take(look)]
    return [(event.state, event.trouble.id, event.trouble.subject) for event in events]


def gpu(index=0, **fields):
    usual = {
        "busy_percent": 97,
        "bus_id": f"0000:{index + 1:02x}:00.0",
        "memory_used_bytes": 60 * GIB,
        "ecc_uncorrected": 0,
        "remap_pending": False,
        "remap_failed": False,
        "recovery_action": "none",
        "throttle": ("sw power cap",),  # as every GPU under load
        "temperature_c": 71,
        "temperature_slowdown_c": 90,
    }
    return Gpu(vendor="nvidia", index=index, **{**usual, **fields})


def gpus(*others, **fields):
    """Two GPUs, of which the second is told."""
    return {"gpus": (gpu(0), gpu(1, **fields), *others)}


def shm(share, total=GIB):
    free = round(total * (1 - share))
    return {"job": Job(shm=(Space(path="/dev/shm", total_bytes=total, free_bytes=free),))}


def memory(share=0.5, kills=0, host=0):
    group = Group(limit_bytes=8 * GIB, kept_bytes=round(share * 8 * GIB), oom_kills=kills)
    return {"job": Job(memory=(group,), host_oom_kills=host)}


def rank(pid, seconds=0.0, state="R", **fields):
    return Process(pid=pid, name="python", cpu_seconds=seconds, state=state, **fields)


def ranks(*processes):
    return {"job": Job(processes=processes)}


def ended(pid, status=None, parent=0):
    return Process(pid=pid, name="python", ended=True, status=status, parent=parent)


def link(**fields):
    return {"network": (Link(**{"name": "eth0", "running": True, **fields}),)}


def port(state="ACTIVE", **counters):
    zeros = dict.fromkeys((*TELLING, *LOST, "port_xmit_packets"), 0)
    return {"rdma": (Port(name="mlx5_0:1", state=state, counters={**zeros, **counters}),)}


def place(free, total=10 << 40, **inodes):
    return {"places": (Space(path="/ckpt", total_bytes=total, free_bytes=free, **inodes),)}


def kernel(*lines):
    return {"kernel": lines, **gpus()}


def log(*lines):
    return {"logs": "".join(f"{line}\n" for line in lines).encode()}


WELL = {
    **shm(0.4),
    **gpus(),
    **link(),
    **port(),
    **place(5 << 40),
    "kernel": (),
    "logs": None,
}
XID = "NVRM: Xid (PCI:0000:02:00): {}, pid=4242, name=python3, Ch 00000008"
NCCL_WIRED = (
    "node1:77:77 [0] NCCL INFO NCCL version 2.27.5+cuda12.9",
    "node1:77:81 [0] NCCL INFO Bootstrap: Using eth0:10.0.0.1<0>",
    "node1:77:81 [0] NCCL INFO NET/IB : No device found.",
    "node1:77:81 [0] NCCL INFO NET/Socket : Using [0]eth0:10.0.0.1<0>",
    "node1:77:81 [0] NCCL INFO Channel 00/0 : 1[0] -> 0[0] [receive] via NET/Socket/0",
)
NCCL_WIRELESS = tuple(line.replace("eth0", "wlan0") for line in NCCL_WIRED)
TRACEBACK = "Traceback (most recent call last):"
NFS = "nfs-silent"
BUS_ERROR = "RuntimeError: DataLoader worker (pid 213) is killed by signal: Bus error."
G1 = "GPU 1"


@pytest.mark.parametrize(
    ("looks", "said"),
    [
        pytest.param([{}] * 20, [], id="all is well"),
        # /dev/shm
        pytest.param([shm(0.79), shm(0.2)] * 5, [], id="shm comes and goes below the mark"),
        pytest.param(
            [shm(0.5), shm(0.81), shm(0.9), shm(0.7), shm(0.85), shm(0.8)],
            [("began", "shm-filling", "/dev/shm")],
            id="shm about the mark is one trouble",
        ),
        pytest.param(
            [shm(0.5), shm(0.9), shm(0.5), shm(0.5), shm(0.5), shm(0.5), shm(0.9)],
            [
                ("began", "shm-filling", "/dev/shm"),
                ("over", "shm-filling", "/dev/shm"),
                ("began", "shm-filling", "/dev/shm"),
            ],
            id="shm fills twice",
        ),
        pytest.param(
            [shm(0.5), shm(1)],
            [("began", "shm-full", "/dev/shm"), ("began", "shm-filling", "/dev/shm")],
            id="shm is full",
        ),
        pytest.param([shm(0, total=0)] * 3, [], id="shm without a limit"),
        pytest.param(
            [shm(0.9), *[shm(0.5)] * 4] * 100,
            [
                ("began", "shm-filling", "/dev/shm"),
                ("over", "shm-filling", "/dev/shm"),
                ("began", "shm-filling", "/dev/shm"),
            ],
            id="shm fills again and again",
        ),
        # Memory
        pytest.param([memory(0.94)] * 5, [], id="memory below the mark"),
        pytest.param([memory(), memory(0.97)], [("began", "memory-limit", "memory")], id="near"),
        pytest.param([memory(kills=3)] * 3, [], id="killed before the start"),
        pytest.param(
            [memory(), memory(kills=1), memory(kills=1), memory(kills=2, host=2)],
            [("once", "memory-oom", "memory"), ("once", "memory-oom", "memory")],
            id="killed, and again",
        ),
        pytest.param(
            [{**memory(host=n), "kernel": None} for n in (5, 6, 6)],
            [("once", "memory-oom", "memory of this machine")],
            id="somebody was killed",
        ),
        pytest.param(
            [
                {"job": Job(memory=(Group(path="process 7", oom_kills=kills),) if kills else ())}
                for kills in (0, 4, 4, 5)
            ],
            [("once", "memory-oom", "memory of process 7")],
            id="a cgroup that was not there at first",
        ),
        # Processes
        pytest.param([ranks(rank(7, n * 10)) for n in range(20)], [], id="a rank at work"),
        pytest.param([ranks(rank(7, n * 10)) for n in range(3)] + [ranks(ended(7, 0))], [], id="0"),
        pytest.param(
            [ranks(rank(7), rank(8)), ranks(rank(7), ended(8, 256)), ranks(rank(7), ended(8, 256))],
            [("once", "rank-ended", "process 8 (python)")],
            id="exit code 1",
        ),
        pytest.param(
            [ranks(rank(7), rank(8)), *[ranks(rank(7), ended(8, 0))] * 3, ranks(ended(7, 0))],
            [],
            id="ranks end one after the other",
        ),
        pytest.param(
            [ranks(rank(7), rank(8)), *[ranks(rank(7), ended(8))] * MANY],
            [("once", "rank-ended", "process 8 (python)")],
            id="one has ended and the others go on",
        ),
        pytest.param(
            [
                ranks(rank(7), rank(2), rank(3, parent=2)),
                *[ranks(rank(7), ended(2, 0), ended(3, 0, parent=2))] * MANY,
            ],
            [],
            id="a second job has ended",
        ),
        pytest.param(
            [ranks(rank(7)), *[ranks(rank(7, state="T"))] * 2, *[ranks(rank(7))] * 9], [], id="T"
        ),
        pytest.param(
            [ranks(rank(7)), *[ranks(rank(7, state="T"))] * 3, *[ranks(rank(7))] * 3],
            [
                ("began", "rank-stopped", "process 7 (python)"),
                ("over", "rank-stopped", "process 7 (python)"),
            ],
            id="stopped",
        ),
        pytest.param([ranks(rank(7, state="D")), ranks(rank(7))] * 9, [], id="D now and then"),
        pytest.param(
            [ranks(rank(7, state="D"))] * MANY,
            [("began", "rank-stuck", "process 7 (python)")],
            id="D all the time",
        ),
        pytest.param(
            [ranks(rank(7, n * 10), rank(8, min(n, 3) * 10)) for n in range(3 + MANY)],
            [("began", "rank-idle", "process 8 (python)")],
            id="a rank that does nothing any more",
        ),
        pytest.param(
            [
                ranks(rank(5, min(n, 1) * 5), *(rank(p, n * 10, parent=5) for p in (7, 8)))
                for n in range(3 + MANY)
            ],
            [],
            id="a launcher that worked at first",
        ),
        pytest.param(
            [
                ranks(rank(6, n * 10), *(rank(p, min(n, 3) * 10) for p in (7, 8, 9)))
                for n in range(3 + MANY)
            ],
            [],
            id="one evaluates, the others wait",
        ),
        pytest.param(
            [ranks(rank(7, n * 10), rank(8, 0.01 * n)) for n in range(3 + MANY)],
            [],
            id="a launcher that never did anything",
        ),
        pytest.param(
            [ranks(rank(7, min(n, 3) * 10), rank(8, min(n, 3) * 10)) for n in range(3 + MANY)],
            [],
            id="all ranks wait",
        ),
        # GPUs
        pytest.param([gpus(throttle=("idle",), busy_percent=0)] * 20, [], id="a GPU never used"),
        pytest.param(
            [gpus(), *[gpus(busy_percent=0)] * MANY, gpus(), gpus(), gpus()],
            [("began", "gpu-idle", G1), ("over", "gpu-idle", G1)],
            id="a GPU idles while the other works",
        ),
        pytest.param([gpus(), *[gpus(busy_percent=0)] * 5, gpus()] * 4, [], id="a GPU rests"),
        pytest.param(
            [gpus(), *[gpus(busy_percent=0, memory_used_bytes=4 << 20)] * MANY],
            [],
            id="another job has ended",
        ),
        pytest.param(
            [gpus(gpu(2)), *[gpus(gpu(2, busy_percent=0), busy_percent=0)] * MANY],
            [],
            id="one evaluates or saves, the others wait",
        ),
        pytest.param(
            [{}, *[{"gpus": (gpu(0, busy_percent=0), gpu(1, busy_percent=0))}] * MANY],
            [("began", "gpu-stall", "all GPUs")],
            id="all GPUs idle",
        ),
        pytest.param(
            [
                {},
                *[
                    {
                        "gpus": tuple(
                            gpu(n, busy_percent=0, memory_used_bytes=4 << 20) for n in (0, 1)
                        )
                    }
                ]
                * MANY,
            ],
            [],
            id="the job has ended and gave its memory back",
        ),
        pytest.param(
            [gpus(throttle=("hw slowdown", "hw thermal"))] * 2 + [{}] * 4, [], id="a moment of heat"
        ),
        pytest.param(
            [gpus(throttle=("hw slowdown", "hw thermal"))] * 4 + [{}] * 3,
            [("began", "gpu-throttle", G1), ("over", "gpu-throttle", G1)],
            id="heat",
        ),
        pytest.param(
            [gpus(throttle=("hw power brake",))] * 3, [("began", "gpu-throttle", G1)], id="brake"
        ),
        pytest.param([gpus(throttle=("hw slowdown", "idle"))] * 9, [], id="slowed down and idle"),
        pytest.param([gpus(temperature_c=89)] * 9, [], id="hot, not too hot"),
        pytest.param(
            [gpus(temperature_c=91)] * 3, [("began", "gpu-temperature", G1)], id="too hot"
        ),
        pytest.param([gpus(ecc_uncorrected=4)] * 3, [], id="ECC errors before the start"),
        pytest.param(
            [{}, *[gpus(ecc_uncorrected=1)] * 3, gpus(ecc_uncorrected=2)],
            [("once", "gpu-ecc", G1)] * 2,
            id="ECC errors",
        ),
        pytest.param([gpus(remap_pending=True)] * 3, [], id="remapping was pending"),
        pytest.param(
            [{}, *[gpus(remap_pending=True)] * 3], [("once", "gpu-remap", G1)], id="remap pending"
        ),
        pytest.param(
            [{}, *[gpus(remap_failed=True)] * 3],
            [("once", "gpu-remap-failed", G1)],
            id="remap failed",
        ),
        pytest.param(
            [{}, *[gpus(recovery_action="reset")] * 3],
            [("began", "gpu-recovery", G1)],
            id="the driver asks for a reset",
        ),
        pytest.param(
            [{}, *[gpus(lost="NVML_ERROR_GPU_IS_LOST")] * 3], [("began", "gpu-lost", G1)], id="lost"
        ),
        pytest.param([{}, {"gpus": (gpu(0),)}], [("began", "gpu-lost", G1)], id="not listed"),
        pytest.param([{}, *[gpus(lost="no answer in 3 s")] * 2, {}], [], id="late"),
        pytest.param(
            [{}, *[gpus(lost="no answer in 3 s")] * 3], [("began", "gpu-lost", G1)], id="silent"
        ),
        pytest.param(
            [{}, *[gpus(gpu(2))] * 3], [], id="a GPU that was not there at first is not judged"
        ),
        # Network
        pytest.param(
            [{}, link(running=False), link(running=False), *[{}] * 3],
            [("began", "net-down", "eth0"), ("over", "net-down", "eth0")],
            id="link down",
        ),
        pytest.param([link(running=False)] * 3, [], id="link was never up"),
        pytest.param([{}, {"network": ()}], [("began", "net-down", "eth0")], id="link gone"),
        pytest.param(
            [link(carrier_changes=1), link(carrier_changes=3), link(carrier_changes=3)],
            [("once", "net-flap", "eth0")],
            id="link was down for a moment",
        ),
        pytest.param(
            [link(carrier_changes=2 * n) for n in range(100)],
            [("once", "net-flap", "eth0")] * 7,
            id="link that flaps all the time",
        ),
        pytest.param(
            [link(packets=n * 10**6, errors=n * 5) for n in range(20)], [], id="a few errors"
        ),
        pytest.param(
            [link(packets=n * 10**6, errors=n * 50) for n in range(9)],
            [("began", "net-errors", "eth0")],
            id="many errors",
        ),
        pytest.param(
            [link(packets=n * 20, dropped=n * 20) for n in range(20)],
            [],
            id="spanning tree on a quiet link",
        ),
        pytest.param(
            [link(packets=n * 10**6, dropped=n * 600) for n in range(20)], [], id="a few drops"
        ),
        pytest.param(
            [link(packets=n * 10**4, dropped=n * 1000) for n in range(5)],
            [("began", "net-drops", "eth0")],
            id="many drops",
        ),
        # RDMA
        pytest.param(
            [{}, *[port("DOWN")] * 2, *[{}] * 3],
            [("began", "rdma-down", "mlx5_0:1"), ("over", "rdma-down", "mlx5_0:1")],
            id="port down",
        ),
        pytest.param([port("DOWN")] * 4, [], id="port was never up"),
        pytest.param([{}, {"rdma": ()}], [("began", "rdma-down", "mlx5_0:1")], id="port gone"),
        pytest.param([port(link_downed=7, symbol_error=10**6)] * 4, [], id="counted before"),
        pytest.param(
            [{"rdma": (Port(name="mlx5_0:1", state="ACTIVE"),)}, port(symbol_error=10**6)],
            [],
            id="counters that could not be read at first",
        ),
        pytest.param(
            [{}, port(link_downed=1), port(link_downed=1)],
            [("once", "rdma-link-downed", "mlx5_0:1")],
            id="port was down",
        ),
        pytest.param(
            [
                port(symbol_error=n * 5, port_rcv_errors=n, local_ack_timeout_err=n // 4)
                for n in range(60)
            ],
            [],
            id="what a good cable has",
        ),
        pytest.param(
            [{}, port(symbol_error=5000)],
            [("once", "rdma-symbol-error", "mlx5_0:1")],
            id="symbol errors",
        ),
        pytest.param(
            [port(packet_seq_err=n * 10, port_xmit_packets=n * 10**7) for n in range(300)],
            [],
            id="RoCE loses a packet of a million",
        ),
        pytest.param(
            [port(), port(packet_seq_err=5000, out_of_sequence=5100, port_xmit_packets=10**6)],
            [("once", "rdma-packet-seq-err", "mlx5_0:1")],
            id="RoCE loses many",
        ),
        pytest.param(
            [port(out_of_sequence=n * 10**6, port_xmit_packets=n * 10**7) for n in range(9)],
            [],
            id="adaptive routing changes the order",
        ),
        # Places and clock
        pytest.param([place(200 << 30)] * 3, [], id="2 % of a large file system is much"),
        pytest.param([place(40 << 30)] * 3, [("began", "disk-filling", "/ckpt")], id="filling"),
        pytest.param([place(10 << 20)] * 3, [("began", "disk-full", "/ckpt")], id="full"),
        pytest.param(
            [place(5 << 40, inodes=100)] * 3, [("began", "disk-full", "/ckpt")], id="no inodes"
        ),
        pytest.param(
            [{}, {"clock": 1e9 + EVERY + 0.4}, {"clock": 1e9 + 2 * EVERY}], [], id="clock slewed"
        ),
        pytest.param(
            [{}, {"clock": 1e9 + 3600}, {"clock": 1e9 + 3600 + EVERY}],
            [("once", "clock-step", "clock")],
            id="clock set",
        ),
        # Lines
        pytest.param([kernel("usb 1-1: new device", "eth0: link becomes ready")], [], id="kernel"),
        pytest.param(
            [{}, kernel(XID.format(79)), kernel(XID.format(79))],
            [("once", "gpu-kernel-log", G1)],
            id="Xid, twice",
        ),
        pytest.param(
            [{}, kernel(XID.format(48), XID.format(31))],
            [("once", "gpu-kernel-log", G1)] * 2,
            id="two Xids",
        ),
        pytest.param(
            [kernel("nvidia-nvswitch3: SXid (PCI:0000:05:00.0): 12028, Non-fatal, Link 32 egress")],
            [],
            id="SXid that is not fatal",
        ),
        pytest.param(
            [
                kernel(
                    "firefox invoked oom-killer: gfp_mask=0x140dca, order=0, oom_score_adj=0",
                    "Out of memory: Killed process 999 (firefox) total-vm:1kB",
                    "oom_reaper: reaped process 999 (firefox), now anon-rss:0kB",
                )
            ],
            [("once", "memory-killed", "process 999 (firefox)")],
            id="kernel killed",
        ),
        pytest.param(
            [log("step 100 loss 2.31 lr 3e-4", "Epoch 1/5:   0%|          | 0/244")], [], id="log"
        ),
        pytest.param(
            [log(BUS_ERROR), log(BUS_ERROR)],
            [("once", "dataloader-bus-error", "train.log")],
            id="a known line of a log",
        ),
        pytest.param(
            [log(*NCCL_WIRELESS), {}, {}], [("once", "nccl-choice", "NCCL")], id="NCCL on wireless"
        ),
        pytest.param([log(*NCCL_WIRED), {}, {}], [], id="NCCL on a cable, without RDMA"),
        pytest.param(
            [log(TRACEBACK, "  File train.py", "KeyError: 'lr'")],
            [("once", "python-exception", "train.log")],
            id="an exception that no rule knows",
        ),
        pytest.param(
            [kernel("nfs: server nas1 not responding, still trying")],
            [("once", NFS, "kernel's log")],
            id="a network mount does not answer",
        ),
        # Sources
        pytest.param(
            [{}, *[{"gpus": None, "gaps": {"gpus": "no answer in 5 s"}}] * 4, *[{}] * 3],
            [("began", "watch-blind", "gpus"), ("over", "watch-blind", "gpus")],
            id="a source hangs and comes back",
        ),
        pytest.param(
            [{}, gpus(lost="gone"), *[{"gpus": None, "gaps": {"gpus": "no answer"}}] * 9],
            [("began", "gpu-lost", G1), ("began", "watch-blind", "gpus")],
            id="nothing is over while nobody looks",
        ),
        pytest.param(
            [{"gpus": None, "network": None, "rdma": None, "job": None, "places": None}] * 5,
            [],
            id="nothing there",
        ),
    ],
)
def test_what_is_said(looks, said):
    assert course(*looks) == said


@pytest.mark.parametrize(
    ("looks", "failed"),
    [
        pytest.param([shm(0.9)], False, id="a warning"),
        pytest.param([{}, gpus(lost="gone")], True, id="an error"),
        pytest.param([{}, gpus(ecc_uncorrected=2), {}, {}, {}], True, id="an error of once"),
        pytest.param([{}, kernel(XID.format(79))], True, id="Xid 79"),
        pytest.param([{}, kernel(XID.format(13))], False, id="the application's own fault"),
        pytest.param(
            [{}, kernel(XID.format(48).replace(":02:", ":99:"))], False, id="another job's GPU"
        ),
        pytest.param([gpus(throttle=("hw thermal",))] * 4, True, id="halved"),
        pytest.param(
            [gpus(throttle=("hw thermal",), name="RTX 4090 Laptop GPU")] * 4, False, id="laptop"
        ),
        pytest.param(
            [ranks(rank(7)), {**ranks(ended(7)), "kernel": ("Killed process 7 (python)",)}],
            True,
            id="our rank was killed",
        ),
        pytest.param([log(BUS_ERROR)], True, id="a line that ends jobs"),
    ],
)
def test_errors_make_it_fail(looks, failed):
    watch = Watch(PATIENCE)
    for look in looks_of(looks):
        watch.take(look)

    assert watch.failed == failed


def test_errors_are_counted_by_the_hour():
    """A link that loses 60 frames an hour never has more than a hundred of them counted."""
    every = 1200.0
    looks = [link(packets=n * 10**6, errors=n * 20) for n in range(100)]

    assert course(*looks, every=every) == []


def test_every_trouble_says_what_to_do():
    """In one line: the measure, the meaning, the way out, and the check that says more."""
    (event,) = Watch().take(Look(**{"at": 0.0, "clock": 0.0, **WELL, **shm(0.9)}))

    assert "/dev/shm: 90 % of 1 GiB used; when it is full, DataLoader workers" in event.line()
    assert event.line().endswith("[gpudoctor check shm-size]")
    assert "\n" not in event.line()
    assert event.data() == {
        "event": "began",
        "time": "1970-01-01T00:00:00Z",
        "id": "shm-filling",
        "subject": "/dev/shm",
        "level": "warning",
        "text": "90 % of 1 GiB used",
        "means": event.trouble.means,
        "do": event.trouble.do,
        "check": "shm-size",
    }


def test_what_is_over_tells_how_bad_it_was():
    watch = Watch()
    parts = [shm(0.85), shm(0.97), shm(0.3), shm(0.3), shm(0.2)]
    looks = [Look(at=n * 10.0, clock=n * 10.0, **part) for n, part in enumerate(parts)]
    events = [event for look in looks for event in watch.take(look)]

    assert (
        events[-1]
        .line()
        .endswith(
            " over    /dev/shm: there is room again; it was 97 % full at most"
            " (shm-filling, after 20 s)"
        )
    )


@pytest.mark.parametrize(
    ("status", "words", "bad"),
    [
        (0, "ended with exit code 0", False),
        (256, "ended with exit code 1", True),
        (9, "killed by SIGKILL, by somebody, or by the kernel for memory", True),
        (0x80 | 11, "killed by SIGSEGV", True),  # with a core
        (None, "ended, its exit code is not known", False),
    ],
)
def test_how_a_process_ended(status, words, bad):
    assert how_ended(status) == (words, bad)


def test_checks_that_are_named_exist():
    """And no trouble has an id twice in one look."""
    from gpudoctor.registry import get

    watch = Watch(0.0)
    bad = {
        **shm(1),
        **gpus(
            throttle=("hw thermal",),
            temperature_c=99,
            ecc_uncorrected=1,
            remap_failed=True,
            remap_pending=True,
            recovery_action="reset",
        ),
        **link(running=False, carrier_changes=4, errors=10**6, packets=10**6, dropped=10**6),
        **port("DOWN", link_downed=9, symbol_error=10**6),
        **place(1),
        "kernel": (XID.format(79),),
        "clock": 0.0,
    }
    looks = [Look(**{"at": 0.0, "clock": 1e9, **WELL})]
    looks += [replace(Look(at=n * 10.0, **bad)) for n in range(1, 6)]
    events = [event for look in looks for event in watch.take(look)]

    assert len({(e.trouble.id, e.trouble.subject, e.trouble.mark) for e in events}) == len(events)
    assert len({event.trouble.id for event in events}) >= 13
    assert all(get(event.trouble.check).id == event.trouble.check for event in events)
    assert all(event.trouble.do and event.trouble.means for event in events)

"""sharing.py: what a report may tell at each level, and what must stay readable."""

import pytest
from msgspec.structs import replace

from gpudoctor import Status
from gpudoctor import report as reports
from gpudoctor.identities import identities
from gpudoctor.report import Cluster, Node, Report
from gpudoctor.rules.identifiers import HOST, USER
from gpudoctor.sharing import Redactor, redacted
from gpudoctor.snapshot import Snapshot, encode
from tests.reported import report, result

UUID = "8932f937-d72c-4106-c12f-20bd9faed9f6"
SECRETS = {
    "URL": "https://me:tr0ub4dor@proxy.example:3128/x",
    "AWS": "AKIAIOSFODNN7EXAMPLE",
    "JWT": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dBjftJeZ4CVP",
    "key": "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\n-----END RSA PRIVATE KEY-----",
    "option": "train.py --password hunter2xyz",
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("/home/alice/x and /home/alice", "/home/user-1/x and /home/user-1", id="home"),
        pytest.param("/fsx/home/bob/run", "/fsx/home/user-1/run", id="home elsewhere"),
        pytest.param("/Users/bob/run", "/Users/user-1/run", id="Mac"),
        pytest.param("~bob/run", "~user-1/run", id="tilde"),
        pytest.param("/root/x /home/ubuntu/x", "/root/x /home/ubuntu/x", id="everybody's"),
        pytest.param("/tmp/torchinductor_bob/x", "/tmp/torchinductor_user-1/x", id="inductor"),
        pytest.param("ssh -p 22 bob@h x", "ssh -p 22 user-1@h x", id="ssh"),
        pytest.param("ask jane.d@corp.com.", "ask mail-1.", id="mail"),
        pytest.param("checkout@v4.1.2 x@sha256:ab", "checkout@v4.1.2 x@sha256:ab", id="no mail"),
        pytest.param("arn:aws:iam::123456789012:role/x", "arn:aws:iam::cloud-1:role/x", id="ARN"),
        pytest.param("gcr.io/my-project-1/x", "gcr.io/cloud-1/x", id="Google project"),
        pytest.param("10.0.0.1 gpu-a-17.corp.com", "10.0.0.1 gpu-a-17.corp.com", id="not hosts"),
    ],
)
def test_internal_hides_people(text, expected):
    assert Redactor("internal").text(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("10.0.0.1, then 10.0.0.2.", "ip-01, then ip-02.", id="IPv4"),
        pytest.param("10.0.0.0/24 via 10.0.0.1", "ip-01/24 via ip-02", id="network"),
        pytest.param("10.0.0.1-10.0.0.9", "ip-01-ip-02", id="range"),
        pytest.param("10.0.0.1:29500", "ip-01:29500", id="port"),
        pytest.param("fe80::fc:ff:fe00:1%eth0", "ip-01%eth0", id="IPv6"),
        pytest.param("[fd00::2]:29500", "[ip-01]:29500", id="IPv6 and port"),
        pytest.param("fe80:0000:0000:0000:0c42:a1ff:fe65:1a2b", "ip-01", id="GID"),
        pytest.param("aa:bb:cc:dd:ee:ff", "mac-1", id="MAC"),
        pytest.param("0c42:a103:0065:1a2b", "guid-1", id="GUID"),
        pytest.param("guid 0x0c42a10300651a2b", "guid guid-1", id="GUID as a number"),
        pytest.param(f"GPU-{UUID} GPU-8932f937", "gpu-1 gpu-1", id="GPU, also cut short"),
        pytest.param(f"MIG-{UUID}", "gpu-1", id="MIG"),
        pytest.param(f"boot {UUID}", "boot guid-1", id="UUID"),
        pytest.param(f"/kubepods/pod{UUID}/x", "/kubepods/podguid-1/x", id="pod"),
        pytest.param("Serial Number: 1654321000123", "Serial Number: serial-1", id="serial"),
        pytest.param(
            "srun --partition=h100-x --account me2",
            "srun --partition=partition-1 --account account-1",
            id="Slurm",
        ),
        pytest.param("gpu-a-17.corp.com", "host-01.domain-1", id="domain"),
        pytest.param("http://proxy7:3128/", "http://host-01:3128/", id="URL"),
        pytest.param("ip-10-0-3-17.ec2.internal", "host-01.ec2.internal", id="AWS"),
        pytest.param("registry.corp.com:5000/a/b:1", "registry-1:5000/a/b:1", id="registry"),
        pytest.param("reg7:5000/a/b:1", "registry-1:5000/a/b:1", id="registry by its port"),
        pytest.param(
            "--master-addr=gpu7 --nodelist=a[1-2]",
            "--master-addr=host-01 --nodelist=host-[02-03]",
            id="options",
        ),
    ],
)
def test_public_hides_places(text, expected):
    assert Redactor("public").text(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "driver 570.86.10, 570.172.08, NCCL 2.21.5, CUDA 12.8",
        "nvidia-cudnn-cu12 9.10.2.21, nvidia-cudnn-cu12==9.10.2.21, libcudnn.so.9.1.0.70",
        "127.0.0.1, 127.0.1.1, 0.0.0.0/0, ::1, ::/0, fe80::/64, 255.255.255.0",
        "0000:3b:00.0 and 0000:3b:00.0/x, 14:02:11, 2026-11-20T14:02:11Z",
        "NVIDIA H100 80GB HBM3, mlx5_0:1, gfx942, sm_90",
        "c10::Error, at::Tensor, std::runtime_error",
        "nvcr.io/nvidia/pytorch:24.05-py3, docker.io/library/x:1, nvidia.com/gpu: 8",
        "https://docs.nvidia.com/deeplearning/nccl/user-guide/docs/env.html",
        "no MASTER_ADDR is set, and no --master-addr given",
        "localhost, /dev/shm, 64 MiB of 662 MiB, capabilities 000001ffffffffff",
        "mount -o remount,size=8g /dev/shm; docker run --shm-size=8g IMAGE",
        "gpudoctor check --cluster --deep, Path.home(), torch.int, vpc.amazonaws.com/efa",
        "libnccl.so.2, train.py, run.sh, torch.distributed.run, vm.max_map_count",
    ],
)
def test_what_must_stay_stays(text):
    assert Redactor("public").text(text) == text


def test_names_that_a_report_states_are_replaced_everywhere():
    facts = {
        "system": {"hostname": "gpu-a-017.corp.x"},
        "user": {"home": "/data/people/alice"},
        "job": {"master_addr": "gpu-a-001"},
        "network_mounts": {"mounts": [{"source": "filer:/export/alice", "target": "/data"}]},
        "gpus": {"devices": [{"uuid": "4aff74a0-0000-1000-80aa-bbccddeeff00", "name": "MI300X"}]},
        "image": {"name": "reg.ourlab/team/train:1"},
        "job_python": {"packages": {"nvidia-cublas-cu12": "12.8.4.1"}},
    }
    texts = (
        "gpu-a-017 waits for gpu-a-001 and gpu-a-[001-003,017]",
        "/scratch/alice/ckpt, torchinductor_alice, alice-old, malice",
        "pull reg.ourlab/team/train:1, reg.ourlab:5000/x/y",
        "filer does not answer; cublas 12.8.4.1; 4aff74a0-0000-1000-80aa-bbccddeeff00",
    )
    whole = report((result("a", Status.FAIL, evidence=texts),))
    whole = replace(whole, nodes=(replace(whole.nodes[0], name="gpu-a-017.corp.x", facts=facts),))

    [node] = redacted(whole, "public").nodes

    assert node.name == "host-01.domain-1"
    assert node.facts["system"]["hostname"] == node.name
    assert node.facts["job"]["master_addr"] == "host-02"
    assert node.facts["network_mounts"]["mounts"][0]["source"] == "host-03:/export/user-1"
    assert node.facts["gpus"]["devices"] == [{"uuid": "gpu-1", "name": "MI300X"}]
    assert node.results[0].evidence == (
        "host-01 waits for host-02 and host-[01-02,04-05]",
        "/scratch/user-1/ckpt, torchinductor_user-1, user-1-old, malice",
        "pull registry-1/team/train:1, registry-1:5000/x/y",
        "host-03 does not answer; cublas 12.8.4.1; gpu-1",
    )


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        pytest.param("nas:/export", "host-01:/export", id="NFS"),
        pytest.param("[fd00::1]:/export", "[ip-01]:/export", id="NFS by IPv6"),
        pytest.param("//box/share", "//host-01/share", id="SMB"),
        pytest.param("mgs-a@tcp:mgs-b@tcp:/fs", "host-01@tcp:host-02@tcp:/fs", id="Lustre"),
        pytest.param("mon:6789,ceph:6789:/", "host-01:6789,host-02:6789:/", id="Ceph"),
        pytest.param("jane@box:/x", "user-1@host-01:/x", id="sshfs"),
        pytest.param("/dev/nvme0n1", "/dev/nvme0n1", id="disk"),
    ],
)
def test_servers_of_mounts(source, expected):
    mounts = {"mounts": [{"source": source, "target": "/data"}]}

    assert Redactor("public").fact("network_mounts", mounts)["mounts"][0]["source"] == expected


def test_tokens_are_the_same_in_every_report_of_one_redactor():
    redactor = Redactor("public")
    some = [_named(f"gpu-{number:03d}") for number in (7, 3, 7)]

    shared = [redactor.report(one) for one in some]

    assert [one.nodes[0].name for one in shared] == ["host-01", "host-02", "host-01"]
    assert [dict(one.redaction.replaced) for one in shared] == [{"host name": 1}] * 3
    assert redactor.redaction.replaced == {"host name": 2}


def test_tokens_tell_nothing_of_the_order_of_names():
    assert [Redactor("public").report(_named(name)).nodes[0].name for name in ("zz9", "aa1")] == [
        "host-01",
        "host-01",
    ]


def test_a_cluster_is_covered():
    facts = {
        "members": {"names": ["n-01", "n-02"], "members": [{"name": "n-02"}], "meeting": "n-01:1"},
        "links": {"ways": [{"source": "n-01", "target": "n-02", "address": "10.1.2.3"}]},
    }
    blamed = result("b", Status.FAIL, nodes=("n-02",), evidence=("n-02 to n-01",))
    cluster = Cluster(
        facts=facts,
        results=(blamed,),
        missing=("n-03",),
        exclude=("n-02",),
        exclude_lines={"slurm": "--exclude=n-02"},
    )

    shared = redacted(replace(_named("n-01"), cluster=cluster), "public")

    raw = encode(shared)
    assert b"n-0" not in raw
    assert b"10.1" not in raw
    assert shared.cluster.exclude_lines == {"slurm": "--exclude=host-02"}
    assert shared.cluster.results[0].nodes == ("host-02",)
    assert reports.load(raw) == shared


def test_levels_only_ever_hide_more():
    once = redacted(_named("gpu-7", home="/home/alice"), "internal")
    twice = redacted(once, "public")

    assert once.nodes[0].facts["user"]["home"] == "/home/user-1"
    assert twice.nodes[0].facts["user"]["home"] == "/home/user-1"
    assert twice.redaction == reports.Redaction(
        level="public", replaced={"user": 1, "host name": 1}
    )
    assert redacted(twice, "internal") == redacted(twice, "none") == twice
    strange = replace(once, redaction=reports.Redaction(level="of-tomorrow"))
    assert redacted(strange, "public") == strange


@pytest.mark.parametrize("level", ["none", "internal", "public"])
@pytest.mark.parametrize("secret", SECRETS.values(), ids=SECRETS)
def test_secrets_in_what_others_wrote_are_cut(level, secret):
    whole = report((result("a", Status.FAIL, evidence=(secret,)),))

    said = encode(redacted(whole, level)).decode()

    for part in ("tr0ub4dor", "AKIA", "eyJ", "MIIEow", "hunter2xyz"):
        assert part not in said


def test_facts_alone():
    facts = {"user": {"home": "/home/alice"}, "system": {"hostname": "gpu-7"}}

    shared = Redactor("public").snapshot(Snapshot("gpu-7", facts))

    assert shared == Snapshot(
        "host-01", {"user": {"home": "/home/user-1"}, "system": {"hostname": "host-01"}}
    )


def test_who_runs_us_is_known():
    names = [*identities({"USER": "alice", "SLURM_JOB_PARTITION": "h100-lab"}, "gpu-7.corp.x")]

    assert (USER, "alice") in names
    assert (HOST, "gpu-7") in names
    redactor = Redactor("public", names)
    assert redactor.text("alice on gpu-7 in h100-lab") == "user-1 on host-01 in partition-1"
    container = {"HOME": "/data/people/bob", "MASTER_ADDR": "head-a.corp.x"}
    redactor = Redactor("public", identities(container, "8f2a"))
    assert redactor.text("/scratch/bob asks head-a") == "/scratch/user-1 asks host-01"


@pytest.mark.parametrize("name", ["node", "train", "vm", "a", "12345", "memory"])
def test_a_host_is_a_token_where_the_report_states_it(name):
    facts = {
        "system": {"hostname": f"{name}.corp.x"},
        "names": {"hosts_lines": [f"10.0.0.1 {name} {name}.corp.x"]},
        "job": {"master_addr": name},
    }
    whole = _named(name)
    whole = replace(whole, nodes=(replace(whole.nodes[0], facts=facts),))

    [node] = redacted(whole, "public").nodes

    assert node.name == "host-01"
    assert node.facts == {
        "system": {"hostname": "host-01.domain-1"},
        "names": {"hosts_lines": ["ip-01 host-01 host-01.domain-1"]},
        "job": {"master_addr": "host-01"},
    }


@pytest.mark.parametrize("name", ["node", "a", "max", "memory", "8"])
def test_ordinary_words_spoil_no_sentence(name):
    said = "a node of 8 has no max of memory: vm.max_map_count"
    whole = report((result("x", Status.FAIL, evidence=(said,), why="It has a max of memory."),))
    names = [(HOST, name), (USER, name)]

    assert Redactor("public", names).report(whole).results[0].evidence == (said,)


def test_everyday_accounts_stay():
    shared = redacted(_named("node", home="/home/ubuntu"), "public")

    assert shared.nodes[0].facts["user"]["home"] == "/home/ubuntu"


def test_short_names_and_numbers():
    redactor = Redactor("public", [(HOST, "n1"), (HOST, "vm"), (HOST, "8"), (USER, "al")])

    assert redactor.text("n1 asks vm as al: 8 of 8") == "host-01 asks host-02 as user-1: 8 of 8"
    assert redactor.text("vm.max_map_count, vm-al, 8") == "vm.max_map_count, vm-al, 8"
    assert [redactor.text(text) for text in ("vm", "al", "8")] == ["host-02", "user-1", "8"]
    assert redactor.text("/home/al/x, /mnt/al") == "/home/user-1/x, /mnt/user-1"
    assert redactor.text("n[1-2], cpu[0-7]") == "host-[01,03], cpu[0-7]"


@pytest.mark.parametrize("name", ["max", "4711", "a"])
def test_a_user_with_an_ordinary_name_stands_in_no_path(name):
    redactor = Redactor("public", [(USER, name)])

    assert redactor.text(f"/scratch/{name}/run") == "/scratch/user-1/run"


def test_words_of_ours_are_never_replaced():
    """A host that is called as a check is leaves the check its name."""
    whole = report((result("shm-size", Status.PASS),))
    named = replace(whole, nodes=(replace(whole.nodes[0], name="shm-size"),))

    shared = redacted(named, "public")

    assert shared.nodes[0].name == "host-01"
    assert shared.nodes[0].results[0].id == "shm-size"


def test_a_file_that_lint_names_is_found_again():
    whole = report((result("a", Status.FAIL, place=reports.Place("/home/bob/x.sh", 3)),))

    internal, public = (redacted(whole, level) for level in ("internal", "public"))

    assert internal.results[0].place == whole.results[0].place
    assert public.results[0].place == reports.Place("/home/user-1/x.sh", 3)


def _named(name: str, home: str = "/root") -> Report:
    whole = report((result("a", Status.PASS),))
    facts = {"user": {"home": home}}
    return replace(whole, nodes=(Node(name=name, facts=facts, results=whole.results),))

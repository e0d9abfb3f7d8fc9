"""The command line: exit codes, streams, files, and what a mistake is answered with."""

import contextlib
import json
import os
import pathlib
import pty
import signal
import subprocess
import sys

import jsonschema
import pytest

GPUDOCTOR = [sys.executable, "-m", "gpudoctor"]

PLUGIN = '''
import time
from gpudoctor import Fact, Finding, Fix, Machine, Shm, ShmSize, check, fail, ok, probe, warn

class Slow(Fact, frozen=True, kw_only=True):
    pass

@probe(isolated=True, timeout=60)
def slow(machine: Machine) -> Slow:
    time.sleep(60)
    return Slow()

@check(owner="job")
def site_passes(shm: Shm) -> Finding:
    """It works."""
    return ok("1 of 1")

@check(owner="job")
def site_warns(shm: Shm) -> Finding:
    """It works well."""
    return warn("half of it", Fix(text="Do more", commands=["more"]))

@check(owner="launch")
def site_fails(shm: Shm) -> Finding:
    """It works at all."""
    return fail("none of it", Fix(ShmSize(1 << 30)))

@check(owner="job")
def site_crashes(shm: Shm) -> Finding:
    """It does not crash."""
    raise RuntimeError("bang")

@check(owner="job")
def site_slow(slow: Slow) -> Finding:
    """It is quick."""
    return ok("at once")
'''


@pytest.fixture
def site(tmp_path):
    folder = tmp_path / "checks"
    folder.mkdir()
    (folder / "site.py").write_text(PLUGIN)
    return ["--checks", str(folder)]


def run(*words: str, **settings) -> subprocess.CompletedProcess:
    settings.setdefault("timeout", 60)
    return subprocess.run(
        [*GPUDOCTOR, *words], capture_output=True, text=True, check=False, **settings
    )


@pytest.mark.parametrize(
    ("words", "code"),
    [
        pytest.param(["site-passes"], 0, id="0: all passed"),
        pytest.param(["site-passes", "site-warns"], 0, id="0: warnings allowed"),
        pytest.param(["site-warns", "--strict"], 1, id="1: strict"),
        pytest.param(["site-fails", "site-crashes"], 1, id="1: failed"),
        pytest.param(["site-crashes", "site-passes"], 3, id="3: an error"),
        pytest.param(["no-such-check"], 2, id="2: unknown check"),
        pytest.param(["--only", "no-*"], 2, id="2: unknown pattern"),
        pytest.param(["--skip", "*"], 2, id="2: nothing left"),
        pytest.param(["-f", "word"], 2, id="2: unknown format"),
        pytest.param(["-o", "report.html"], 2, id="2: output without a format"),
        pytest.param(["-o", "json=/no/such/dir/x"], 2, id="2: output nowhere"),
        pytest.param(["--profile", "nix"], 2, id="2: unknown profile"),
        pytest.param(["--root", "/no/such/dir"], 2, id="2: no root"),
        pytest.param(["--facts", "/no/such/file"], 2, id="2: no facts"),
        pytest.param(["--config", "/no/such/file"], 2, id="2: no configuration"),
    ],
)
def test_exit_codes(site, words, code):
    done = run("check", *site, *words)

    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    if code == 2:
        assert done.stdout == ""
        assert "Error:" in done.stderr


@pytest.mark.parametrize(
    ("words", "nagios", "npd"),
    [
        pytest.param(["site-passes"], 0, 2, id="passed, nothing of the node"),
        pytest.param(["site-passes", "site-warns"], 1, 2, id="a warning"),
        pytest.param(["site-warns", "--strict"], 2, 2, id="a warning, strict"),
        pytest.param(["site-fails", "site-crashes"], 2, 2, id="failed"),
        pytest.param(["site-crashes"], 3, 2, id="an error"),
        pytest.param(["no-such-check"], 3, 2, id="wrong usage"),
        pytest.param(["--config", "/no/such/file"], 3, 2, id="no configuration"),
    ],
)
def test_exit_codes_of_hosts_that_have_their_own(site, words, nagios, npd):
    for kind, code in (("nagios", nagios), ("npd", npd)):
        done = run("check", *site, "-f", kind, *words)

        assert done.returncode == code, done.stderr
        assert bool(done.stdout) != ("Error:" in done.stderr)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_run_still_reports(site, number, code, tmp_path):
    out = tmp_path / "report.json"
    process = subprocess.Popen(
        [*GPUDOCTOR, "check", *site, "site-slow", "site-passes", "-o", f"json={out}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    children = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while not children.read_text():
        assert process.poll() is None
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=20)
    report = json.loads(out.read_text())

    assert process.returncode == code
    assert "interrupted" in stderr
    assert report["run"]["complete"] is False
    statuses = {result["id"]: result["status"] for result in report["nodes"][0]["results"]}
    assert statuses == {"site-passes": "pass", "site-slow": "error"}
    assert "site-slow" in stdout


def test_json_is_the_documented_document(site):
    done = run("check", "-f", "json", *site, "--skip", "site-slow", "shm", "site")
    report = json.loads(done.stdout)
    schema = json.loads(run("list", "--schema").stdout)

    jsonschema.validate(report, schema)
    assert set(report) == {
        *("schema", "tool", "run", "status", "exit_code", "counts"),
        *("nodes", "cluster", "redaction", "next_steps"),
    }
    assert report["schema"] == "gpudoctor.report/1"
    assert report["exit_code"] == done.returncode == 1
    assert report["status"] == "fail"
    [node] = report["nodes"]
    assert set(node) >= {"name", "facts", "results"}
    for result in node["results"]:
        assert set(result) >= {
            *("id", "topic", "title", "status", "owner", "summary", "reason", "evidence"),
            *("basis", "fixes", "symptoms", "url", "seconds"),
        }
        assert result["reason"] or result["status"] not in ("skip", "error")
        if result["status"] in ("warn", "fail"):
            assert result["fixes"]
            assert all(set(f) == {"for", "text", "commands", "needs_root"} for f in result["fixes"])
    assert sum(report["counts"].values()) == len(node["results"])
    assert {step["owner"] for step in report["next_steps"]} >= {"job"}


def test_stdout_is_the_report_and_nothing_else(site):
    done = run("check", "-f", "json", *site, "site-crashes", "site-passes")

    json.loads(done.stdout)


def test_every_option_has_its_variable(site):
    variables = {
        "GPUDOCTOR_CHECKS": site[1],
        "GPUDOCTOR_ONLY": "site-warns site-passes",
        "GPUDOCTOR_FORMAT": "json",
        "GPUDOCTOR_STRICT": "1",
        "GPUDOCTOR_NPROC_PER_NODE": "3",
        "GPUDOCTOR_PROFILE": "ddp",
    }

    done = run("check", env={**os.environ, **variables})
    report = json.loads(done.stdout)

    assert done.returncode == 1
    assert [result["id"] for result in report["nodes"][0]["results"]] == [
        "site-passes",
        "site-warns",
    ]
    assert report["run"]["profile"] == "ddp"
    assert report["nodes"][0]["facts"]["workload"]["local_ranks"] == 3


def test_without_a_command_it_checks(site):
    assert run(*site, "--only", "site-passes", "-f", "json").returncode == 0


def test_files_are_written_beside_the_terminal(site, tmp_path):
    target = tmp_path / "r.json"

    done = run("check", *site, "site-warns", "-o", f"json={target}")

    assert json.loads(target.read_text())["status"] == "warn"
    assert "site-warns" in done.stdout
    assert str(target) in done.stderr
    assert list(tmp_path.glob("*.partial")) == []


def test_quiet_levels(site):
    loud, findings, nothing = (
        run("check", *site, "site-passes", "site-warns", *level).stdout
        for level in ((), ("-q",), ("-qq",))
    )

    assert len(loud) > len(findings) > 0 == len(nothing)
    assert "site-warns" in findings


def test_a_plug_in_that_does_not_load_is_an_error_and_the_rest_runs(tmp_path):
    (tmp_path / "bad.py").write_text("import nowhere")

    done = run("check", "--checks", str(tmp_path), "shm-write", "-f", "json")
    results = {r["id"]: r for r in json.loads(done.stdout)["nodes"][0]["results"]}

    assert done.returncode == 3
    assert results["plugin-bad"]["status"] == "error"
    assert "nowhere" in results["plugin-bad"]["reason"]
    assert results["shm-write"]["status"] == "pass"


def test_facts_can_be_judged_elsewhere(tmp_path):
    facts = tmp_path / "facts.json"
    assert run("collect", "-o", str(facts)).returncode == 0
    document = json.loads(facts.read_text())
    document["nodes"][0]["name"] = "far-away"
    document["nodes"][0]["facts"]["shm"]["total_bytes"] = 64 << 20
    facts.write_text(json.dumps(document))

    judge = ["check", "shm-size", "-f", "json", "--nproc-per-node", "2"]
    done = run(*judge, "--facts", str(facts))
    piped = run(*judge, "--facts", "-", input=facts.read_text())

    assert done.returncode == piped.returncode == 1
    [node] = json.loads(done.stdout)["nodes"]
    assert node["name"] == "far-away"
    assert node["results"][0]["summary"].startswith("64 MiB")


@pytest.mark.parametrize(
    ("given", "code"), [("gpus=0", 0), ("gpus=x", 2), ("cats=1", 2), ("gpus", 2)]
)
def test_expectations(given, code, tmp_path):
    facts = tmp_path / "facts.json"
    nothing: dict[str, dict] = {"expectations": {}, "pci_bus": {}, "kernel_driver": {}}
    nodes = [{"name": "n", "facts": nothing}]
    facts.write_text(json.dumps({"schema": "gpudoctor.facts/1", "nodes": nodes}))

    done = run("check", "gpu-visible", "--facts", str(facts), "--expect", given)

    assert done.returncode == code, done.stdout + done.stderr


def test_facts_have_a_schema():
    schema = json.loads(run("list", "--facts-schema").stdout)
    facts = json.loads(run("collect").stdout)

    jsonschema.validate(facts, schema)
    facts["nodes"][0]["facts"]["shm"]["total_bytes"] = "much"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(facts, schema)


def test_a_terminal_is_told_what_is_waited_for(site):
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*GPUDOCTOR, "check", *site, "site-slow", "--deadline", "2"],
        stdout=subprocess.DEVNULL,
        stderr=theirs,
        env={name: value for name, value in os.environ.items() if name != "CI"},
    )
    os.close(theirs)
    said = b""
    with contextlib.suppress(OSError):  # EIO: the other end is closed
        while chunk := os.read(ours, 1024):
            said += chunk
    process.wait(timeout=20)
    os.close(ours)

    assert b"looking at slow" in said
    assert said.endswith(b"\r\x1b[K"), "the line is taken away again"


def test_checkpoint_directory_is_looked_at(tmp_path):
    # The directory may have its user's name.
    words = ["--checkpoint-dir", str(tmp_path), "-f", "json", "--redact", "none"]
    done = run("check", "storage-space", *words)

    places = json.loads(done.stdout)["nodes"][0]["facts"]["storage"]["places"]
    assert str(tmp_path) in {place["path"] for place in places if place["role"] == "checkpoints"}


def test_collect_brings_every_fact_and_its_report_can_be_judged_again():
    from gpudoctor.snapshot import builtin_kinds, name_of

    facts = json.loads(run("collect").stdout)
    again = run("check", "--facts", "-", "-f", "json", input=json.dumps(facts))

    assert set(facts["nodes"][0]["facts"]) == {name_of(kind) for kind in builtin_kinds()} - {
        "launch",  # read off a file, by lint
        *("members", "nodes", "links"),  # of several nodes
        "shm_use",  # of processes that somebody names
    }
    assert again.returncode in (0, 1, 3)
    assert json.loads(again.stdout)["nodes"][0]["facts"].keys() == facts["nodes"][0]["facts"].keys()


def test_facts_of_one_node_of_a_job_can_be_collected(tmp_path):
    place = ["--nproc-per-node", "8", "--nnodes", "2", "--node-rank", "0"]
    master = ["--master-addr", "localhost", "--checkpoint-dir", str(tmp_path)]

    done = run("collect", *place, *master, "--redact", "none")

    found = json.loads(done.stdout)["nodes"][0]["facts"]
    assert (found["workload"]["nodes"], found["workload"]["local_ranks"]) == (2, 8)
    assert found["job"]["told_by"]["node_rank"] == "--node-rank"
    assert found["master"]["here"]
    assert found["names"]["hostname"]
    assert str(tmp_path) in {place["path"] for place in found["storage"]["places"]}


@pytest.mark.parametrize(
    "junk", [b"x" * 10_000_000, b"[" * 1_000_000, b"\x00\x01\xff", b'{"schema": 1}', b""]
)
def test_junk_as_facts_is_refused_in_words(tmp_path, junk):
    (tmp_path / "junk").write_bytes(junk)

    done = run("check", "--facts", str(tmp_path / "junk"))

    assert done.returncode == 2
    assert "junk" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr) < 2000


def test_ignored_findings_stay_visible_but_do_not_count(site, tmp_path):
    (tmp_path / "c.toml").write_text(
        '[[ignore]]\ncheck = "site-fails"\nreason = "known, INFRA-1"\n'
        '[[ignore]]\ncheck = "site-warns"\nreason = "long gone"\nexpires = 2020-01-01\n'
    )

    done = run(
        *("check", *site, "--config", str(tmp_path / "c.toml")),
        *("site-passes", "site-fails", "site-warns"),
    )

    assert done.returncode == 0
    assert "known, INFRA-1" in done.stdout
    assert "expired" in done.stdout


def test_list_shows_what_profiles_demand():
    rows = json.loads(run("list", "--profiles", "-f", "json").stdout)
    text = run("list", "--profiles").stdout

    assert {row["name"] for row in rows} >= {"train", "nemo-single-gpu", "rocm-ddp", "cpm-9g"}
    assert "  package torch ==1.13.1\n" in text
    assert "  variable NVTE_FWD_LAYERNORM_SM_MARGIN=16: harmful\n" in text
    assert run("list", "--profiles", "-f", "markdown").stdout.startswith("### ")


def test_list_shows_the_sites_own_profile_too(tmp_path):
    (tmp_path / "ours.toml").write_text("about = 'Our vision jobs'\ninherit = 'ddp'\n")
    (tmp_path / "gpudoctor.toml").write_text("profile = 'ours.toml'\n")

    done = run("list", "--profiles", "--config", str(tmp_path / "gpudoctor.toml"))
    (tmp_path / "ours.toml").write_text("inherit = 'ddp'\n")
    broken = run("list", "--profiles", "--config", str(tmp_path / "gpudoctor.toml"))

    assert "Our vision jobs" in done.stdout
    assert (broken.returncode, "missing required field `about`" in broken.stderr) == (2, True)


def test_facts_collected_for_a_profile_are_judged_by_it_elsewhere(tmp_path):
    text = "about = 'ours'\n[[packages]]\nname = 'no-such-package-of-ours'\n"
    (tmp_path / "ours.toml").write_text(text)
    facts = run("collect", "--profile", str(tmp_path / "ours.toml")).stdout

    done = run("check", "profile-packages", "--facts", "-", "-f", "json", input=facts)
    (result,) = json.loads(done.stdout)["nodes"][0]["results"]

    assert done.returncode == 1
    assert result["summary"] == "no-such-package-of-ours is not installed"
    assert run("collect", "--profile", "nix").returncode == 2


def test_list_shows_all_and_explain_knows_each():
    ids = [row["id"] for row in json.loads(run("list", "-f", "json").stdout)]

    assert "shm-size" in ids
    assert "shm-size" in run("list").stdout
    done = run("explain", "shm-size")
    assert "Bus error" in done.stdout
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("message", "check"),
    [
        ("RuntimeError: DataLoader worker (pid 7) is killed by signal: Bus error.", "shm-size"),
        ("NCCL WARN Error: failed to extend /dev/shm/nccl-Xy to 9637892 bytes", "shm-size"),
        ("OSError: [Errno 24] Too many open files", "limits-nofile"),
        ("RuntimeError: received 0 items of ancdata", "limits-nofile"),
        ("ibv_reg_mr failed with error Cannot allocate memory", "limits-memlock"),
        (
            "pthread_create failed for thread 22 of 48: Resource temporarily unavailable",
            "cgroup-pids",
        ),
        ("KeyError: 'getpwuid(): uid not found: 1000'", "storage-writable"),
        ("ImportError: x.so: failed to map segment from shared object", "storage-writable"),
        ("OSError: [Errno 28] No space left on device", "storage-space"),
        ("libtorch_cuda.so: undefined symbol: ncclCommRegister", "env-library-path"),
    ],
)
def test_explain_finds_the_check_for_a_message(message, check):
    done = run("explain", "--message", message)

    assert done.returncode == 0, done.stdout
    assert check in done.stdout


@pytest.mark.parametrize(
    ("check", "flags"),
    [("cluster-mtu", "--cluster"), ("bandwidth-straggler", "--cluster --deep")],
)
def test_what_judges_several_nodes_says_how_to_start_it(check, flags):
    assert f"gpudoctor check {check} {flags}" in run("explain", check).stdout
    told = run("explain", "--message", "Watchdog caught collective operation timeout").stdout
    alone, several = (line for line in told.splitlines() if "gpudoctor check" in line)
    assert check not in alone
    assert check in several


@pytest.mark.parametrize(
    ("check", "flags"),
    [
        ("profile-packages", "--profile NAME"),
        ("profile-files", "--data PATH"),
        ("profile-image", "--image-tar FILE"),
        ("resource-memory", "--model-params 7B --method full"),
    ],
)
def test_what_must_be_told_something_says_what(check, flags):
    assert run("explain", check).stdout.endswith(f"\n  gpudoctor check {check} {flags}\n")


@pytest.mark.parametrize("words", [["cluster-mtu"], ["cluster"], ["--only", "cluster-*"]])
def test_checks_over_a_cluster_need_one(words):
    done = run("check", *words)

    assert done.returncode == 2
    assert "it needs --cluster" in done.stderr


def test_explain_says_so_when_nothing_is_known():
    assert run("explain", "--message", "zzz").returncode == 1
    assert run("explain").returncode == 2
    assert run("explain", "no-such").returncode == 2


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell):
    done = run("completion", shell)

    assert "_GPUDOCTOR_COMPLETE" in done.stdout


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        ("gpudoctor ch", "check"),
        ("gpudoctor check shm-s", "shm-size"),
        ("gpudoctor check --on", "--only"),
    ],
)
def test_completion_completes(words, answer):
    variables = {
        "_GPUDOCTOR_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(words.count(" ")),
    }

    done = subprocess.run(
        [sys.executable, "-c", "from gpudoctor.cli import main; main()"],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )

    assert f"plain,{answer}" in done.stdout


def test_help_names_every_command():
    done = run("--help")

    for command in ("check", "exec", "explain", "list", "collect", "completion"):
        assert command in done.stdout
        assert run(command, "--help").returncode == 0


def test_version():
    import gpudoctor

    assert gpudoctor.__version__ in run("--version").stdout

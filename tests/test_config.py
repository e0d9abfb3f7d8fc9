"""Configuration files, profiles, ignores."""

import datetime
import os

import pytest

from gpudoctor import config


def written(tmp_path, text: str, name: str = "gpudoctor.toml") -> str:
    path = tmp_path / name
    path.write_text(text)
    return str(path)


def test_everything_that_a_file_may_say(tmp_path):
    found = config.load(
        written(
            tmp_path,
            """
            profile = "ddp"
            skip = ["clock-*"]
            checks = ["ours"]
            strict = true
            deadline = 5.0
            output = ["html=report.html"]
            [workload]
            workers = 8
            batch-bytes = "37MiB"
            [expect]
            gpus = 8
            [[ignore]]
            check = "storage-space"
            reason = "scratch is always full, INFRA-311"
            expires = 2027-01-31
            """,
        )
    )

    assert (found.profile, found.skip, found.strict, found.deadline) == (
        "ddp",
        ("clock-*",),
        True,
        5.0,
    )
    assert found.checks == (str(tmp_path / "ours"),)
    assert found.workload == {"workers": 8, "batch_bytes": 37 << 20}
    assert found.expect == {"gpus": 8}
    assert found.ignore[0].expires == datetime.date(2027, 1, 31)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("profile = ", "not TOML"),
        ("profil = 'x'", "unknown field `profil`"),
        ("strict = 'yes'", "Expected `bool`, got `str` - at `$.strict`"),
        ("[[ignore]]\ncheck = 'a'", "missing required field `reason`"),
        ("[workload]\nwrokers = 1", "workload has no 'wrokers'"),
        ("[expect]\ncats = 1", "expect has no 'cats'; it has: gpus"),
        ("[workload]\nbatch-bytes = 'big'", "workload.batch-bytes: 'big' is not a size"),
    ],
)
def test_mistakes_are_named_with_file_and_key(tmp_path, text, says):
    path = written(tmp_path, text)

    with pytest.raises(config.BadConfig) as bad:
        config.load(path)

    assert says in str(bad.value)
    assert path in str(bad.value)


def test_what_is_too_large_is_not_read():
    with pytest.raises(config.BadConfig, match="more than 1048576 bytes"):
        config.load("/dev/zero")


def test_missing_file_is_said(tmp_path):
    with pytest.raises(config.BadConfig, match="No such file"):
        config.load(str(tmp_path / "none.toml"))


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A working directory deep in a project, and a home, with nothing in them."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / "project" / "deep").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "project" / "deep")
    monkeypatch.setattr(config, "SYSTEM_FILE", str(tmp_path / "etc.toml"))
    return tmp_path


def test_files_are_found_nearest_first(home):
    assert config.find() is None
    found = []
    for path, text in (
        ("etc.toml", ""),
        ("config/gpudoctor/config.toml", ""),
        ("project/pyproject.toml", "[tool.gpudoctor]\nstrict = true"),
        ("project/deep/gpudoctor.toml", ""),
    ):
        (home / path).parent.mkdir(parents=True, exist_ok=True)
        (home / path).write_text(text)
        found.append(config.find() == str(home / path))

    assert found == [True, True, True, True]


def test_pyproject_without_our_table_is_passed_over(home):
    (home / "project" / "pyproject.toml").write_text("[tool.other]\n")

    assert config.find() is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to somebody else")
def test_a_strangers_file_is_passed_over(home):
    path = home / "project" / "deep" / "gpudoctor.toml"
    path.write_text("checks = ['/evil']")
    os.chown(path, 12345, 12345)

    assert config.find() is None


def test_default_profile_demands_nothing():
    default, none = config.profile("train"), config.profile()

    assert (default.workload, default.only, default.skip) == ({}, (), ())
    assert (none.name, none.workload, none.only, none.skip) == ("train", {}, (), ())


def test_profiles_inherit():
    single = config.profile("single-gpu")

    assert single.workload == {"local_ranks": 1, "nodes": 1}
    assert single.about


def test_a_nemo_job_on_one_gpu_has_what_nemo_has_but_for_what_it_says_anew():
    nemo, single = config.profile("nemo"), config.profile("nemo-single-gpu")
    verdicts = {demand.name: demand.verdict for demand in single.variables}

    assert single.inherit == "nemo"
    assert set(nemo.notes) < set(single.notes)
    assert {demand.name for demand in nemo.variables} < set(verdicts)
    assert verdicts["NVTE_FWD_LAYERNORM_SM_MARGIN"] == "harmful"
    assert verdicts["NVTE_ASYNC_AMAX_REDUCTION"] == "stale"
    assert len(verdicts) == len(single.variables)


OURS = """
about = "ours"
inherit = "cpm-9g"
python = ">=3.8,<3.12"
files = ["data/train.idx"]
image-tar = "ours.tar"
image-tag = "ours:1"
notes = ["for the vision team"]
only = ["profile-*"]
skip = ["clock-*"]

[workload]
model-params = "7B"
batch-bytes = "37MiB"
method = "lora"

[[packages]]
name = "torch"
versions = "~=2.6"

[[packages]]
name = "flash-attn"
options = "--no-build-isolation"

[[variables]]
name = "HF_HOME"
verdict = "required"
value = "/hf"
why = "shared"
"""


def test_everything_that_a_profile_may_say(tmp_path):
    path = written(tmp_path, OURS, "ours.toml")

    found = config.profile(path)
    asked = found.demands(files=("more.bin",), tar="other.tar")

    assert found.workload == {"model_params": 7 * 10**9, "batch_bytes": 37 << 20, "method": "lora"}
    assert (found.only, found.skip) == (("profile-*",), ("clock-*",))
    assert found.notes[-1] == "for the vision team"
    assert asked is not None
    assert (asked.by, asked.basis) == (f"profile {path}", "site")
    assert asked.python == ">=3.8,<3.12"
    assert asked.files == ("data/train.idx", "more.bin")
    assert (asked.image_tar, asked.image_tag) == ("other.tar", "ours:1")
    packages = {demand.name: demand for demand in asked.packages}
    assert packages["torch"].versions == "~=2.6"
    assert packages["flash-attn"].versions == ""
    assert packages["bmtrain"].versions == "==0.2.3.post2"
    assert asked.variables[-1].value == "/hf"


def test_paths_of_profiles_are_beside_the_file_that_names_them(tmp_path, monkeypatch):
    (tmp_path / "site" / "teams").mkdir(parents=True)
    written(tmp_path / "site", "about = 'base'\n[workload]\nworkers = 3\n", "base.toml")
    written(tmp_path / "site" / "teams", "about = 'ours'\ninherit = '../base.toml'\n", "ours.toml")
    settings = written(tmp_path / "site", "profile = 'teams/ours.toml'\n")
    monkeypatch.chdir("/")

    found = config.load(settings)

    assert found.profile == str(tmp_path / "site" / "teams" / "ours.toml")
    assert config.profile(found.profile).workload == {"workers": 3}


def test_a_sites_own_profile(tmp_path):
    path = written(
        tmp_path, "about = 'ours'\ninherit = 'single-gpu'\n[workload]\nworkers = 2\n", "ours.toml"
    )

    assert config.profile(path).workload == {"local_ranks": 1, "nodes": 1, "workers": 2}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("inherit = 'train'", "missing required field `about`"),
        ("about = 'x'\ninherit = 'nix'", "there is no profile 'nix'"),
        ("about = 'x'\ninherit = '{path}'", "inherits itself"),
        ("about = 'x'\ninherit = './none.toml'", "No such file"),
        ("about = 'x'\nname = 'y'", "its name is that of its file"),
        ("about = 'x'\nfiles = 'one'", r"Expected `array`, got `str` - at `\$.files`"),
        ("about = 'x'\nimage_tag = 'a:b'", "unknown field `image_tag`"),
        ("about = 'x'\npython = '3.8'", "python: '3.8' is not a specifier"),
        ("about = 'x'\npython = '==3.8.10'", "only major and minor version count"),
        ("about = 'x'\n[[packages]]\nversions = '==1'", "missing required field `name`"),
        ("about = 'x'\n[[packages]]\nname = 'a b'", "'a b' is not a package's name"),
        (
            "about = 'x'\n[[packages]]\nname = 'torch'\nversions = '=1.13'",
            "packages.torch.versions: '=1.13' is not a specifier such as ==1.13.1",
        ),
        (
            "about = 'x'\n[[packages]]\nname = 'torch'\noptions = '-x; y'",
            "packages.torch.options: '-x; y' are not options of pip",
        ),
        ("about = 'x'\n[[packages]]\nname = 'torch'\nversion = '==1'", "unknown field `version`"),
        ("about = 'x'\n[[variables]]\nname = 'A'", "missing required field `verdict`"),
        (
            "about = 'x'\n[[variables]]\nname = 'A'\nverdict = 'bad'",
            r"Invalid enum value 'bad' - at `\$.variables\[0\].verdict`",
        ),
        (
            "about = 'x'\n[[variables]]\nname = 'A=1'\nverdict = 'stale'",
            "'A=1' is not a variable's name",
        ),
        (
            "about = 'x'\n[[variables]]\nname = 'HF_TOKEN'\nverdict = 'required'\nvalue = 'abc'",
            "variables.HF_TOKEN: leave its value out",
        ),
        (
            "about = 'x'\n[[variables]]\nname = 'https_proxy'\nverdict = 'required'\n"
            "value = 'http://me:word@proxy'",
            "variables.https_proxy: leave its value out",
        ),
        ("about = 'x'\n[workload]\nmethod = 'sft'", "workload.method: 'sft' is none of: pretrain"),
        ("about = 'x'\n[workload]\nworkers = -1", "workload.workers: -1 is below 0"),
        (
            "about = 'x'\n[workload]\nmodel-params = '7X'",
            "workload.model-params: '7X' is not a count",
        ),
        ("about = 'x'\n[workload]\ncheckpoint-dir = 3", "workload.checkpoint-dir: 3 is not a text"),
    ],
)
def test_profile_mistakes(tmp_path, text, says):
    path = str(tmp_path / "p.toml")
    (tmp_path / "p.toml").write_text(text.replace("{path}", path))

    with pytest.raises(config.BadConfig, match=says):
        config.profile(path)


@pytest.mark.parametrize("name", config.profiles())
def test_every_profile_loads(name):
    assert config.profile(name).about


@pytest.mark.parametrize(
    ("expires", "expired"),
    [(None, False), (datetime.date(2026, 1, 1), False), (datetime.date(2025, 12, 31), True)],
)
def test_ignores_expire_after_their_last_day(expires, expired):
    ignore = config.Ignore(check="a", reason="r", expires=expires)

    assert ignore.is_expired(datetime.date(2026, 1, 1)) is expired


def test_an_address_is_told_without_its_key():
    asked = config.Profile(about="x", name="x").demands(
        ("s3://bucket/x?Signature=abc", "https://me:word@host/y", "what?.jsonl")
    )

    assert asked is not None
    assert asked.files == ("s3://bucket/x", "https://***@host/y", "what?.jsonl")

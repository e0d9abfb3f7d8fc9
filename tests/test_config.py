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

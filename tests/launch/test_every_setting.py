"""No setting is dropped by any launcher, and no two contradict each other."""

import re
import shutil
import subprocess
from typing import get_args

import pytest
import yaml

from gpudoctor.launch import LAUNCHERS, merge, spell
from gpudoctor.launch.settings import AnySetting, IpcHost, Setting, ShmSize

from .examples import EVERY, GIB, PAIRS, TOGETHER, spelled

IN_YAML = ("compose", "kubernetes")


def test_examples_are_of_every_kind():
    assert {type(setting) for setting in EVERY.values()} == set(get_args(AnySetting))


@pytest.mark.parametrize(("launcher", "name"), PAIRS)
def test_every_launcher_says_something_of_every_setting(launcher, name):
    words = spelled(launcher, EVERY[name])

    assert words.lines or words.node_lines or words.text
    assert bool(words.node_text) == bool(words.node_lines)
    assert words.text or not words.lines
    if words.lines:
        bare = {"docker run IMAGE COMMAND", "podman run IMAGE COMMAND", "[Service]"}
        assert not bare & {"\n".join(words.lines)}
    assert len(words.text) < 80
    assert len(words.node_text) < 80


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_nothing_to_say_of_nothing(launcher):
    words = spelled(launcher)

    assert not words.node_lines
    assert not words.text or words.lines


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_unknown_words_are_in_capitals(launcher):
    """What cannot be pasted as it is can be seen at once."""
    words = spelled(launcher, *TOGETHER)
    text = "\n".join((*words.lines, *words.node_lines))

    assert not re.search(r"<\w+>|\.\.\.|\bTODO\b", text)


@pytest.mark.parametrize(("launcher", "name"), [pair for pair in PAIRS if pair[0] in IN_YAML])
def test_yaml_is_read(launcher, name):
    text = "\n".join(spelled(launcher, EVERY[name]).lines)

    document = yaml.safe_load(text)

    assert document is None or set(document) <= {"services", "spec"}


@pytest.mark.parametrize("launcher", IN_YAML)
def test_yaml_of_everything_has_each_key_once(launcher):
    lines = spelled(launcher, *TOGETHER).lines

    keys = [line for line in lines if re.fullmatch(r" *\w+:.*", line)]
    tops = [key for key in keys if key.startswith("  ") and not key.startswith("    ")]
    assert len(tops) == len(set(tops))
    yaml.safe_load("\n".join(lines))


SHELL = [launcher for launcher in LAUNCHERS if launcher not in (*IN_YAML, "systemd")]


@pytest.mark.parametrize(
    "tool", [["bash", "-n"], ["shellcheck", "-S", "warning", "-s", "bash", "-"]], ids=" ".join
)
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_shell_is_correct(launcher, tool):
    if shutil.which(tool[0]) is None:
        pytest.skip(f"{tool[0]} is not installed")
    alone: list[list[Setting]] = [[setting] for setting in EVERY.values()]
    for settings in (TOGETHER, *alone):
        words = spell(settings, launcher)
        for lines in (words.lines if launcher in SHELL else (), words.node_lines):
            ended = subprocess.run(tool, input="\n".join(lines), capture_output=True, text=True)

            assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_lines_fit_a_terminal(launcher):
    long = ("env, hostile", "bind", "plain tmpfs")
    words = spell([s for s in TOGETHER if s not in map(EVERY.get, long)], launcher)

    assert not [line for line in (*words.lines, *words.node_lines) if len(line) > 80]


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_host_ipc_leaves_no_size(launcher):
    words = spelled(launcher, ShmSize(8 * GIB), IpcHost())

    assert merge([ShmSize(8 * GIB), IpcHost()]) == (IpcHost(),)
    assert "shm-size" not in "\n".join(words.lines)
    assert "8g" not in "\n".join((*words.lines, *words.node_lines)).lower()

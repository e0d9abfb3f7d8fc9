"""Variables of a script: which are put in, and which are left to the moment of launch."""

import pytest

from gpudoctor import GIB, HostNetwork, ShmSize
from gpudoctor.lint.assigned import resolved
from gpudoctor.lint.containers import read
from gpudoctor.lint.shell import commands
from gpudoctor.lint.source import Source, edited


def last(text: str) -> list[str]:
    source = Source("run.sh", text)
    return [word.text for word in resolved(source, commands(source))[-1].words]


@pytest.mark.parametrize(
    ("script", "words"),
    [
        pytest.param("A=b\nrun $A", ["run", "b"], id="set"),
        pytest.param("A='b c'; run x${A}y \"$A\"", ["run", "xb cy", "b c"], id="in words"),
        pytest.param('A="b  c"\nrun $A', ["run", "b", "c"], id="split"),
        pytest.param("A=\nrun $A x", ["run", "x"], id="empty"),
        pytest.param("export A=b\nrun $A", ["run", "b"], id="exported"),
        pytest.param("A=(b 'c d'\n  e)\nrun \"${A[@]}\"", ["run", "b", "c d", "e"], id="array"),
        pytest.param("A=b\nB=$A\nrun $B", ["run", "b"], id="by another"),
        pytest.param("A=b\nA=c\nrun $A", ["run", "$A"], id="set twice"),
        pytest.param("A=b\nA+=c\nrun $A", ["run", "$A"], id="added to"),
        pytest.param("if x; then A=b; fi\nrun $A", ["run", "$A"], id="in if"),
        pytest.param("x && A=b\nrun $A", ["run", "$A"], id="behind &&"),
        pytest.param("( A=b )\nrun $A", ["run", "$A"], id="in a subshell"),
        pytest.param("f() { A=b; }\nrun $A", ["run", "$A"], id="in a function"),
        pytest.param("A=b x\nrun $A", ["run", "$A"], id="of one command"),
        pytest.param("run $A\nA=b\nrun $A", ["run", "b"], id="set before"),
        pytest.param("A=b\nfor A in c; do :; done\nrun $A", ["run", "$A"], id="for"),
        pytest.param("A=b\nread A\nrun $A", ["run", "$A"], id="read"),
        pytest.param("A=b\n. ./env.sh\nrun $A", ["run", "$A"], id="perhaps elsewhere"),
        pytest.param("A=$(x)\nrun $A", ["run", "$A"], id="a command's output"),
        pytest.param("A=${A:-b}\nrun $A", ["run", "$A"], id="a default"),
        pytest.param(
            "A=b\nrun ${A:-c} ${A%x} $1", ["run", "${A:-c}", "${A%x}", "$1"], id="changed"
        ),
        pytest.param('A=(b $C)\nrun "${A[@]}"', ["run", "${A[@]}"], id="array with a variable"),
        pytest.param("while x; do y; done; A=b\nrun $A", ["run", "b"], id="behind a loop"),
    ],
)
def test_resolved(script, words):
    assert last(script) == words


SCRIPT = """IMAGE=nvcr.io/nvidia/pytorch:25.01-py3
SHM=64m
FLAGS="--rm --ipc private"
GPUS=(
  --gpus 8  # all of them
  --ulimit memlock=-1
)
docker run $FLAGS "${GPUS[@]}" --shm-size=$SHM -p 80:80 $IMAGE torchrun x.py
"""


def test_a_launch_is_read_with_its_variables():
    (found,) = read(Source("run.sh", SCRIPT))

    assert found.launch.image == "nvcr.io/nvidia/pytorch:25.01-py3"
    assert found.launch.gpus == 8
    assert found.launch.ipc == "private"
    assert found.launch.shm_bytes == 64 << 20
    assert found.launch.lines["gpus"] == 5
    assert not found.launch.open_words


def test_only_what_stands_there_is_changed():
    source = Source("run.sh", SCRIPT)
    (found,) = read(source)

    after = edited(source, found.edits([ShmSize(8 * GIB), HostNetwork()]))

    assert after.splitlines()[:-1] == SCRIPT.splitlines()[:-1]
    assert after.splitlines()[-1] == (
        'docker run $FLAGS "${GPUS[@]}" --shm-size=8g --network=host $IMAGE torchrun x.py'
    )


@pytest.mark.parametrize(
    "script",
    [
        'RUN=(docker run --rm --gpus all image)\n"${RUN[@]}" torchrun --nproc-per-node=8 x.py\n',
        "RUN='docker run --rm --gpus all image'\n$RUN torchrun --nproc-per-node=8 x.py\n",
    ],
    ids=["array", "text"],
)
def test_a_command_in_a_variable_is_judged_and_left_alone(script):
    (found,) = read(Source("run.sh", script))

    assert found.launch.ranks == 8
    assert found.launch.gpus == -1
    assert not found.end
    assert found.edits([ShmSize(8 * GIB)]) == []

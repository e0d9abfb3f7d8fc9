"""How many ranks and nodes a command starts: torchrun and its like, also inside `bash -c`."""

import re
from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct

from gpudoctor.lint.shell import split
from gpudoctor.rules.job_variables import RDZV_PORT, host_and_port

_SHELLS = {"sh", "bash", "dash", "zsh", "ash"}
_TORCH = {"torch.distributed.run", "torch.distributed.launch"}
_STARTERS = {"torchrun", "accelerate", "deepspeed", "mpirun", "mpiexec", "horovodrun"}
# Programs that do no training themselves: they show something, build, test, or prepare.
_LOOKING = {
    *("nvidia-smi", "rocm-smi", "rocminfo", "amd-smi", "nvtop", "nvcc", "deviceQuery", "hy-smi"),
    *("ls", "cat", "echo", "env", "printenv", "id", "df", "true", "uname", "which", "ldd", "git"),
    *("make", "cmake", "ninja", "gcc", "g++", "pip", "pip3", "uv", "conda", "apt", "apt-get"),
    *("pytest", "tox", "ruff", "mypy", "cd", "mkdir", "cp", "mv", "rm", "chmod", "chown", "export"),
    *("set", "test", "[", "curl", "wget", "tar", "gpudoctor", "date", "hostname", "head", "grep"),
}
_ASIDE = re.compile(r"-c|-m (pip|pytest|venv|build|torch\.utils\.collect_env)\b|-V|--version")


class Job(Struct, frozen=True):
    """What a command says of the job; None: it does not say.

    Attributes:
        ranks: processes that it starts on one node.
        nodes: of the whole job.
        starter: what starts them: "torchrun".
        only_looks: it runs nothing that could be training.
        variables: in which torchrun would take what its options say of where nodes meet.
    """

    ranks: int | None = None
    nodes: int | None = None
    starter: str = ""
    only_looks: bool = False
    variables: Mapping[str, str] = {}


def job_of(command: Sequence[str]) -> Job:
    """What a command, words without quotes, says of the job."""
    parts = [list(words) for words in _commands(command)]
    for words in parts:
        if found := _started(words):
            return found
    parts = [words for words in parts if words]
    return Job(only_looks=bool(parts) and all(map(_looks, parts)))


def _looks(words: Sequence[str]) -> bool:
    """Whether a command cannot be training."""
    name = _base(words[0])
    if re.fullmatch(r"python[\d.]*", name):
        return _ASIDE.match(" ".join(words[1:3])) is not None
    return name in _LOOKING


def _commands(command: Sequence[str]) -> Iterator[Sequence[str]]:
    """The command, or those in the text that it hands to a shell."""
    if [_base(word) for word in command[:2]] == ["gpudoctor", "exec"] and "--" in command:
        command = command[command.index("--") + 1 :]  # what it becomes
    if command and _base(command[0]) in _SHELLS:
        for number, word in enumerate(command[1:-1], 1):
            if re.fullmatch(r"-[a-z]*c", word):
                for inside in split(command[number + 1]):
                    yield [word.text for word in inside.words]
                return
    yield command


def _started(words: list[str]) -> Job | None:
    for number, word in enumerate(words):
        name = _base(word)
        if name not in _STARTERS and word not in _TORCH:
            continue
        rest = words[number + 1 :]
        if name == "torchrun" or (word in _TORCH and number and words[number - 1] == "-m"):
            # Its default is one process (torch/distributed/run.py).
            ranks, nodes = _flag(rest, "nproc-per-node"), _number(_flag(rest, "nnodes") or "1")
            meeting = {} if nodes == 1 else _meeting(rest)
            return Job(1 if ranks is None else _number(ranks), nodes, "torchrun", variables=meeting)
        if name == "accelerate" and rest[:1] == ["launch"]:
            nodes, total = (_number(_flag(rest, n)) for n in ("num-machines", "num-processes"))
            ranks_of_all = total // (nodes or 1) if total else None
            return Job(ranks_of_all, nodes, "accelerate launch")
        if name == "deepspeed" and any(word.endswith(".py") for word in rest):
            return Job(_number(_flag(rest, "num-gpus")), _number(_flag(rest, "num-nodes")), name)
        if name in ("mpirun", "mpiexec", "horovodrun") and rest:
            return Job(starter=name)  # where its processes run, a host file says
    return None


def _meeting(words: Sequence[str]) -> dict[str, str]:
    """Where torchrun's nodes meet; a port of 0 is chosen by who starts first."""
    found = {"PET_MASTER_ADDR": _flag(words, "master-addr")}
    found["PET_MASTER_PORT"] = _flag(words, "master-port")
    if endpoint := _flag(words, "rdzv-endpoint"):
        host, port = host_and_port(endpoint)
        port = RDZV_PORT if port is None else port
        found = {"PET_MASTER_ADDR": host, "PET_MASTER_PORT": str(port)} if port else {}
    return {name: value for name, value in found.items() if value}


def _flag(words: Sequence[str], name: str) -> str | None:
    """The value of a flag, spelled with hyphens or underscores; None: it is not there."""
    for number, word in enumerate(words):
        key, equals, value = word.partition("=")
        if key.startswith("--") and key[2:].replace("_", "-") == name:
            return value if equals else "".join(words[number + 1 : number + 2])
    return None


def _number(text: str | None) -> int | None:
    """A count; "auto", "gpu", "1:4" and variables are none."""
    return int(text) if text and text.isdigit() and int(text) > 0 else None


def _base(word: str) -> str:
    return word.rpartition("/")[2]

"""Which readers a launch file is for."""

import importlib
import re

from gpudoctor.lint.source import MOST, BadLaunch, Found, Source

# The modules of gpudoctor.lint that read each kind of file; a script may hold several launches.
READERS = {
    "shell": ("containers", "slurm", "apptainer", "torchrun"),
    "compose": ("compose",),
    "Kubernetes": ("kubernetes",),
    "Dockerfile": ("dockerfile",),
}


def read(source: Source) -> list[Found]:
    """Every launch in the file, in its order.

    Raises:
        BadLaunch: it is none of the files that are read here, or is broken.
    """
    modules = [importlib.import_module(f"gpudoctor.lint.{n}") for n in READERS[kind_of(source)]]
    found: list[Found] = [launch for module in modules for launch in module.read(source)]
    found.sort(key=lambda launch: launch.line)
    if len(found) > MOST:
        line = found[MOST].line
        raise BadLaunch(f"line {line}: more than {MOST} launches in one file: give it in parts")
    return found


def kind_of(source: Source) -> str:
    """The kind of a file by its name, or by what is in it.

    Raises:
        BadLaunch: it is none of those that are read.
    """
    name, text = source.name.rpartition("/")[2].lower(), source.text
    if name.endswith(_NOT_READ):
        raise BadLaunch("a script, a manifest or a Dockerfile is wanted, or a command on stdin")
    if name.endswith(_SCRIPTS) or text.startswith("#!"):
        return "shell"  # a here document in it may hold anything
    if _DOCKERFILE.search(name):
        return "Dockerfile"
    json = re.match(r"\s*\{\s*[\"}]", text) is not None  # no template, no group of a shell
    for kind, key in (("Kubernetes", "apiVersion"), ("compose", "services")):
        if f'"{key}"' in text if json else _is_key(key, text):
            return kind
    if json or name.endswith((".yaml", ".yml", ".json")):
        raise BadLaunch("line 1: neither `services:` nor `apiVersion:` is in it")
    said = (line.split() for line in text.splitlines())
    first = next((words for words in said if words and not words[0].startswith("#")), [""])
    return "Dockerfile" if first[0].upper() in ("FROM", "ARG") else "shell"


_NOT_READ = (".md", ".rst", ".py", ".ipynb", ".html", ".toml")
_SCRIPTS = (".sh", ".bash", ".zsh", ".sbatch", ".slurm")
_DOCKERFILE = re.compile(r"^(docker|container)file|\.(docker|container)file$")


def _is_key(key: str, text: str) -> bool:
    """Whether a YAML text has the key at its top."""
    return re.search(rf"^([\"']?){key}\1\s*:", text, re.MULTILINE) is not None

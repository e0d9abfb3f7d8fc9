"""Slurm's options: `lint` takes and refuses what the real sbatch and srun do, without a cluster."""

import os
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from gpudoctor.data import table
from gpudoctor.lint.slurm import read
from gpudoctor.lint.source import Source

# Options that are younger than Slurm 22.05.
LATER = {
    *("container-id", "tres-per-task", "segment", "oom-kill-step", "resv-ports", "stepmgr"),
    *("external", "consolidate-segments", "spread-segments"),
}
Parse = Callable[..., str]


@pytest.fixture(scope="module")
def parse(require, tmp_path_factory) -> Parse:
    """`parse(program, *words)`: what is wrong with them; empty: they are taken."""
    require(shutil.which("sbatch") and shutil.which("srun"), "Slurm is not installed")
    conf: Path = tmp_path_factory.mktemp("slurm") / "slurm.conf"
    conf.write_text(
        "ClusterName=x\nSlurmctldHost=localhost\nNodeName=localhost\n"
        "PartitionName=p Nodes=localhost\nCredType=cred/none\nAuthType=auth/none\n"
        "SelectType=select/cons_tres\nGresTypes=gpu,license\n"
    )

    def run(program: str, *words: str) -> str:
        # --usage ends it as soon as all options before that are read.
        ended = subprocess.run(
            [program, *words, "--usage"],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "SLURM_CONF": str(conf)},
            timeout=20,
        )
        return "" if ended.returncode == 0 else ended.stderr

    return run


@pytest.mark.parametrize("program", ["sbatch", "srun"])
def test_the_table_is_what_the_programs_know(parse, program):
    known = table("slurm_flags")[program]
    strange = {
        name
        for kind in ("valued", "optional", "switches")
        for name in known[kind]
        if "unrecognized option" in parse(program, f"--{name}", *[""] * (kind == "valued"))
    }
    taking = {n for n in known["switches"] if "allow an argument" not in parse(program, f"--{n}=1")}

    assert strange <= LATER
    assert taking <= LATER


@pytest.mark.parametrize(
    ("directive", "taken"),
    [
        pytest.param("--nodes=2", True, id="nodes"),
        pytest.param("-N2 -n4 -c 8", True, id="letters"),
        pytest.param("--ntasks-per-n=2", True, id="abbreviated"),
        pytest.param("--tasks-per-node=2", True, id="formerly"),
        pytest.param("--gres=gpu:a100:2,license:1", True, id="gres"),
        pytest.param("-G h100:4", True, id="GPUs"),
        pytest.param('--constraint="a|b" --exclusive', True, id="quoted"),
        pytest.param("-N2  # two", True, id="a comment"),
        pytest.param("--gpu=4", False, id="ambiguous"),
        pytest.param("--ntask-per-node=4", False, id="misspelt"),
        pytest.param("--nodes=$N", False, id="a variable"),
        pytest.param("--mem = 4G", False, id="blanks"),
    ],
)
def test_directives(parse, directive, taken):
    (found,) = read(Source("job", f"#!/bin/bash\n#SBATCH {directive}\nhostname\n"))

    said = parse("sbatch", *shlex.split(directive, comments=True))

    assert (said == "") is taken, said
    assert bool(found.launch.unknown or found.launch.refused) is not taken

"""probes/firewall.py where its tools refuse, fail, or are not there."""

from pathlib import Path

import pytest

from gpudoctor import Absent, Machine
from gpudoctor.facts.firewall import Chain
from gpudoctor.probes import firewall as probe

REFUSED = "echo 'Operation not permitted (you must be root)' >&2; exit 1"
NO_TABLES = "echo 'cache initialization failed: Protocol not supported' >&2; exit 1"
NOTHING = "echo '{\"nftables\": []}'"


@pytest.fixture
def tools(tmp_path, monkeypatch):
    """`tools(nft=SCRIPT)`: the only programs that are found."""

    def plant(**scripts: str) -> None:
        for name, script in scripts.items():
            file = tmp_path / name.replace("_", "-")
            file.write_text(f"#!/bin/sh\n{script}\n")
            file.chmod(0o755)

    monkeypatch.setattr(probe, "_PLACES", str(tmp_path))
    return plant


def test_no_tool(tools):
    tools()

    assert probe._read() == ([], 0)


def test_no_rules_is_told_by_a_tool(tools):
    tools(nft=NOTHING)

    assert probe._read() == ([], 1)


def test_a_kernel_without_tables_has_no_tool(tools):
    tools(nft=NO_TABLES)

    assert probe._read() == ([], 0)


@pytest.mark.parametrize(
    ("script", "error", "words"),
    [
        pytest.param(REFUSED, PermissionError, "nft: Operation not permitted", id="refused"),
        pytest.param("exit 3", OSError, "nft: exit code 3", id="failed"),
        pytest.param("echo nonsense", ValueError, "not what nft prints", id="nonsense"),
    ],
)
def test_a_tool_that_does_not_answer_is_never_no_rules(tools, script, error, words):
    tools(nft=script)

    with pytest.raises(error, match=words):
        probe._read()


def test_tables_of_both_kinds_of_iptables_are_read(tools):
    saved = "*filter\\n:INPUT {} [0:0]\\nCOMMIT\\n"
    tools(
        iptables_save=f"printf '# by v1.8.9 (nf_tables)\\n{saved.format('ACCEPT')}'\n"
        "echo '# Warning: iptables-legacy tables present' >&2",
        iptables_legacy_save=f"printf '{saved.format('DROP')}'",
        nft=NOTHING,
    )

    chains, told = probe._read()

    assert [chain.otherwise for chain in chains] == ["accept", "drop"]
    assert told == 2


def test_without_root_its_files_say_who_owns_it(tmp_path, monkeypatch):
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    file = tmp_path / "etc/ufw/ufw.conf"
    file.parent.mkdir(parents=True)
    file.write_text("# on boot\nENABLED=yes\n")
    machine = Machine(str(tmp_path))

    assert probe._owner(machine) == "ufw"
    found = probe.firewall(Machine())
    assert isinstance(found, Absent)
    assert "need root" in found.absent
    assert not found.broken


def test_elsewhere_it_is_not_known(tmp_path: Path):
    assert isinstance(probe.firewall(Machine(str(tmp_path))), Absent)


def chain(table: str, name: str) -> Chain:
    return Chain(table=table, name=name, first=True, otherwise="accept")


@pytest.mark.parametrize(
    ("chains", "tool"),
    [
        pytest.param([], "", id="none"),
        pytest.param([chain("ip filter", "INPUT")], "iptables", id="iptables"),
        pytest.param([chain("inet filter", "input")], "nftables", id="nftables"),
        pytest.param(
            [chain("ip filter", "INPUT"), chain("ip filter", "ufw-user-input")], "ufw", id="ufw"
        ),
        pytest.param([chain("inet firewalld", "filter_INPUT")], "firewalld", id="firewalld"),
        pytest.param(
            [chain("ip filter", "INPUT"), chain("ip filter", "INPUT_ZONES")],
            "firewalld",
            id="firewalld over iptables",
        ),
    ],
)
def test_whose_it_is(chains, tool):
    assert probe._tool("", chains) == tool

"""checks/cluster/reach.py: ways between nodes -> status, words, blame."""

import shlex

import pytest
from msgspec.structs import replace

from gpudoctor import (
    Chain,
    EnvSet,
    Firewall,
    Job,
    Links,
    Member,
    Members,
    Nodes,
    PortTry,
    Rule,
    Status,
    Way,
)
from gpudoctor.registry import get
from tests.cluster_machines import failing, links, nodes, way

CHECK = get("cluster-reachability")
DOWN = [failing(n, 4) for n in (1, 2, 3)]


def nameless(source: int, target: int) -> Way:
    return way(source, target, resolved=(), resolve_error="EAI_NONAME")


def tries(count: int, *failed: int, error: str = "ETIMEDOUT") -> tuple[PortTry, ...]:
    return tuple(
        PortTry(source=f"n{n}", error=error if n in failed else "") for n in range(2, count + 1)
    )


@pytest.mark.parametrize("count", [2, 4, 8, 64])
def test_all_reach_each_other(count):
    finding = CHECK(links(count), nodes(count), None)

    pairs = count * (count - 1) // 2
    assert finding.status is Status.PASS
    assert finding.summary.startswith(f"{pairs} pair")


def test_what_was_not_tried_is_said():
    part = links(8, pairs_all=30, rounds=5, unfinished="no time after round 5 of 7")

    assert (
        "28 of 30 pairs were tried: no time after round 5 of 7" in CHECK(part, None, None).evidence
    )


def test_ways_of_which_nothing_was_told_are_not_known_to_be_well():
    whole = links(4)
    part = replace(whole, ways=whole.ways[1:])

    assert CHECK(part, None, None).status is Status.ERROR
    assert CHECK(whole, None, None).status is Status.PASS


@pytest.mark.parametrize(
    ("found", "owner", "says", "blamed"),
    [
        pytest.param(
            links(4, *DOWN),
            "node",
            "n4 takes no connections from 3 nodes: dropped on the way",
            ("n4",),
            id="a firewall at n4's door",
        ),
        pytest.param(
            links(4, *(failing(n, 4, "ECONNREFUSED") for n in (1, 2, 3))),
            "node",
            "n4 takes no connections from 3 nodes: refused",
            ("n4",),
            id="one that rejects",
        ),
        pytest.param(
            links(4, *(failing(4, n) for n in (1, 2, 3))),
            "node",
            "n4 gets no connections through to 3 nodes",
            ("n4",),
            id="its own output",
        ),
        pytest.param(
            links(2, failing(1, 2, "EHOSTUNREACH")),
            "node",
            "n2 takes no connections from 1 node: rejected by a firewall",
            ("n2",),
            id="two nodes, one way",
        ),
        pytest.param(
            links(2, failing(1, 2), failing(2, 1)),
            "network",
            "connections fail on 2 of 2 ways between nodes: dropped on the way",
            (),
            id="two nodes, no way",
        ),
        pytest.param(
            links(4, failing(1, 2), failing(2, 1)),
            "network",
            "connections fail between n1 and n2: dropped on the way",
            (),
            id="one link",
        ),
        pytest.param(
            links(4, *(failing(n, 4, "SILENT", "hello") for n in (1, 2, 3))),
            "node",
            "n4 takes no connections from 3 nodes: accepted, then silence",
            ("n4",),
            id="frozen",
        ),
        pytest.param(
            links(4, *(failing(n, 4, "SILENT", "large") for n in (1, 2, 3))),
            "node",
            "n4 takes no connections from 3 nodes",
            ("n4",),
            id="frozen later on",
        ),
        pytest.param(
            links(4, *(failing(n, 4, "STRANGER", "hello") for n in (1, 2, 3))),
            "node",
            "somebody else answers there",
            ("n4",),
            id="another machine has its address",
        ),
        pytest.param(
            links(64, *(failing(n, 7) for n in range(1, 65) if n != 7)),
            "node",
            "n7 takes no connections from 63 nodes",
            ("n7",),
            id="one of 64",
        ),
    ],
)
def test_who_is_in_the_way(found, owner, says, blamed):
    finding = CHECK(found, nodes(4), None)

    assert (finding.status, finding.owner) == (Status.FAIL, owner)
    assert says in finding.summary
    assert len(finding.summary) < 80
    assert finding.nodes == blamed
    assert finding.fix.commands
    assert len(finding.evidence) < 12


def test_the_fix_lets_the_subnet_in():
    finding = CHECK(links(4, *DOWN), nodes(4), None)

    assert (
        finding.fix.text == "On n4: let the other nodes connect, on any port that its kernel picks"
    )
    assert "sudo ufw allow from 10.0.0.0/24  # ufw" in finding.fix.commands


def test_the_fix_speaks_to_the_firewall_that_is_there():
    drop = Chain(table="ip filter", name="input", first=True, otherwise="drop")
    there = nodes(4, {4: (Firewall(tool="nftables", chains=(drop,)),)})

    finding = CHECK(links(4, *DOWN), there, None)

    assert finding.fix.commands == (
        "sudo nft 'insert rule ip filter input ip saddr 10.0.0.0/24 tcp dport"
        " { 32768-60999 } accept'",
    )


@pytest.mark.parametrize(
    ("found", "guilty", "blamed"),
    [
        pytest.param(links(4, failing(1, 2), failing(2, 1)), (2,), ("n2",), id="one of two ends"),
        pytest.param(links(2, failing(1, 2), failing(2, 1)), (1,), ("n1",), id="two nodes"),
        pytest.param(links(4, failing(1, 2), failing(2, 1)), (1, 2), (), id="both ends"),
        pytest.param(links(4, failing(1, 2), failing(2, 1)), (4,), (), id="neither"),
    ],
)
def test_a_firewall_that_says_so_is_blamed(found, guilty, blamed):
    """Also where its rules stop the answers to its own connections."""
    drop = Chain(table="ip filter", name="input", first=True, otherwise="drop")
    there = nodes(4, {n: (Firewall(tool="nftables", chains=(drop,)),) for n in guilty})

    assert CHECK(found, there, None).nodes == blamed


@pytest.mark.parametrize(
    ("found", "status", "says", "blamed"),
    [
        pytest.param(
            links(4, master_port=29500, tries=tries(4)), Status.PASS, "6 pairs", (), id="open"
        ),
        pytest.param(
            links(4, master_port=29500, tries=tries(4, 2, 3, 4)),
            Status.FAIL,
            "n[2-4] cannot reach n1:29500: dropped on the way",
            ("n1",),
            id="shut at the master",
        ),
        pytest.param(
            links(4, master_port=29500, tries=tries(4, 3)),
            Status.FAIL,
            "n3 cannot reach n1:29500",
            ("n3",),
            id="one cannot",
        ),
        pytest.param(
            links(4, master_port=29500, master_error="EADDRINUSE"),
            Status.FAIL,
            "n1 cannot listen on port 29500: EADDRINUSE",
            ("n1",),
            id="taken",
        ),
        pytest.param(
            links(4, tries=tries(4, 2, 3, 4)), Status.PASS, "6 pairs", (), id="nobody asked"
        ),
    ],
)
def test_master_port(found, status, says, blamed):
    finding = CHECK(found, nodes(4), None)

    assert finding.status is status
    assert says in finding.summary
    assert finding.nodes == blamed


def test_a_taken_port_is_changed_for_all():
    taken = links(4, master_port=29500, master_error="EADDRINUSE")

    assert CHECK(taken, nodes(4), None).fix.settings == (EnvSet("MASTER_PORT", "29501"),)


BY_IP = {n: (Job(master_addr="10.0.0.1", master_port=29500),) for n in range(1, 5)}


@pytest.mark.parametrize(
    ("found", "there", "status", "says", "blamed"),
    [
        pytest.param(
            links(4, way(3, 2, resolved=("10.0.0.4",))),
            nodes(4),
            Status.WARN,
            "n3 takes n2 for 10.0.0.4, which is n4",
            ("n3",),
            id="another node's address",
        ),
        pytest.param(
            links(4, way(3, 2, resolved=("127.0.1.1",))),
            nodes(4),
            Status.WARN,
            "n3 takes n2 for 127.0.1.1, its own machine",
            ("n3",),
            id="the loopback",
        ),
        pytest.param(
            links(4, way(3, 1, resolved=("10.0.0.4",))),
            nodes(4),
            Status.FAIL,
            "n3 takes n1 for 10.0.0.4, which is n4",
            ("n3",),
            id="the master's name",
        ),
        pytest.param(
            links(4, way(3, 1, resolved=("10.0.0.4",))),
            nodes(4, BY_IP),
            Status.WARN,
            "n3 takes n1 for",
            ("n3",),
            id="the master is called by its address",
        ),
        pytest.param(
            links(4, way(3, 2, resolved=("10.9.9.9",))),
            nodes(4),
            Status.WARN,
            "n3 takes n2 for 10.9.9.9",
            ("n3",),
            id="an old address",
        ),
        pytest.param(
            links(4, way(3, 2, resolved=(), resolve_error="EAI_NONAME: Name or service not known")),
            nodes(4),
            Status.WARN,
            "n3 takes n2 for nothing (EAI_NONAME",
            ("n3",),
            id="a line is missing",
        ),
        pytest.param(
            links(3, way(3, 2, resolved=("10.9.9.9",))),
            nodes(3),
            Status.WARN,
            "n3 takes n2 for 10.9.9.9",
            ("n3",),
            id="an old address, of three nodes",
        ),
        pytest.param(
            links(4, *(way(n, 2, resolved=("203.0.113.9",)) for n in (1, 3, 4))),
            nodes(4),
            Status.PASS,
            "6 pairs connected",
            (),
            id="healthy: all know a cloud's public address",
        ),
        pytest.param(
            links(
                2,
                *(way(a, b, resolved=(), resolve_error="EAI_NONAME") for a, b in ((1, 2), (2, 1))),
            ),
            nodes(2),
            Status.PASS,
            "1 pair connected",
            (),
            id="healthy: pods have no names",
        ),
        pytest.param(
            links(
                2,
                way(1, 2, resolved=("127.0.0.1",), own=("10.0.0.1",)),
                way(2, 1, resolved=("127.0.0.1",), own=("10.0.0.1",)),
            ),
            nodes(2),
            Status.PASS,
            "1 pair",
            (),
            id="healthy: two agents on one machine",
        ),
        pytest.param(
            links(4, way(3, 2, resolved=("10.0.0.2", "fd00::2"))),
            nodes(4),
            Status.PASS,
            "6 pairs",
            (),
            id="healthy: two addresses",
        ),
        pytest.param(
            links(4, way(3, 2, resolved=("10.9.9.9",), own=())),
            nodes(4),
            Status.PASS,
            "6 pairs",
            (),
            id="healthy: it does not tell its addresses",
        ),
    ],
)
def test_names(found, there, status, says, blamed):
    finding = CHECK(found, there, None)

    assert finding.status is status
    assert says in finding.summary
    assert finding.nodes == blamed


def test_one_node_has_nobody_to_reach():
    finding = CHECK(Links(), Nodes(), None)

    assert finding.status is Status.SKIP
    assert "--cluster" in finding.reason


@pytest.mark.parametrize(
    ("others", "blamed"),
    [
        pytest.param((Firewall(),), ("n2",), id="the other end has no rules"),
        pytest.param((), (), id="those of the other end are not known"),
    ],
)
def test_a_rule_that_is_not_understood_is_blamed_where_there_is_no_other(others, blamed):
    rule = Rule(action="drop", sources=("10.0.0.1",), unclear=True, text="tcp flags syn")
    odd = Chain(table="inet lab", name="input", first=True, otherwise="accept", rules=(rule,))
    there = nodes(2, {1: others, 2: (Firewall(tool="nftables", chains=(odd,)),)})

    assert CHECK(links(2, failing(1, 2), failing(2, 1)), there, None).nodes == blamed


def test_a_node_that_was_lost_is_no_matter_of_a_firewall():
    refused = links(4, *(failing(n, 4, "ECONNREFUSED") for n in (1, 2, 3)))
    lost = Member(name="n4", step="round 1 with n3", lost="nothing came from it in 15 s")

    finding = CHECK(refused, nodes(4), Members(members=(lost,)))

    assert finding.status is Status.PASS


HOSTILE = "x; poweroff\npoweroff #"


@pytest.mark.parametrize("error", ["STRANGER", "ENETUNREACH", "ETIMEDOUT", "SILENT", "EPERM"])
def test_what_another_node_says_does_not_run(error):
    """Names, interfaces and addresses come from other machines; commands are pasted."""
    evil = {"address": HOSTILE, "interface": HOSTILE, "own": (HOSTILE,), "error": error}
    ways = (
        Way(source=HOSTILE, target="n2", step="connect", **evil),
        Way(source="n2", target=HOSTILE, step="connect", **evil),
    )

    finding = CHECK(Links(ways=ways, pairs=1, pairs_all=1), nodes(2), None)

    assert finding.status is Status.FAIL
    for command in finding.fix.commands:
        words = shlex.split(command, comments=True)
        assert "poweroff" not in [word.strip("#;") for word in words]

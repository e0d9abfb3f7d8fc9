"""firewalls.py on rules as real tools print them, and as somebody may write them."""

from pathlib import Path

import pytest

from gpudoctor.facts.firewall import Chain, Firewall, Rule
from gpudoctor.probes import iptables, nftables
from gpudoctor.rules.firewalls import Connection, opening, verdict, verdicts

RECORDED = Path(__file__).parent.parent / "probes/recorded/firewall"
SUBNET = "10.77.0.0/24"


def saved(name: str, tool: str) -> Firewall:
    text = (RECORDED / name).read_text()
    chains = nftables.chains(text) if name.endswith("json") else iptables.chains(text, "ip")
    return Firewall(tool=tool, chains=tuple(chains))


UFW = saved("ufw.txt", "ufw")
FIREWALLD = saved("firewalld.json", "firewalld")
NFTABLES = saved("nftables.json", "nftables")
KUBERNETES = saved("kubernetes.txt", "iptables")


@pytest.mark.parametrize(
    ("firewall", "source", "port", "answer"),
    [
        pytest.param(UFW, SUBNET, 29500, "accept", id="ufw: port that was opened"),
        pytest.param(UFW, SUBNET, 40000, "drop", id="ufw: any other"),
        pytest.param(UFW, "fd00::2", 40000, "accept", id="ufw: its IPv6 rules are another file"),
        pytest.param(FIREWALLD, SUBNET, 29500, "accept", id="firewalld: port that was opened"),
        pytest.param(FIREWALLD, SUBNET, 40000, "reject", id="firewalld: any other"),
        pytest.param(FIREWALLD, "fd00::2", 29500, "unknown", id="firewalld: where IPv6 comes from"),
        pytest.param(NFTABLES, SUBNET, 40000, "accept", id="nftables: the job's subnet"),
        pytest.param(NFTABLES, SUBNET, 80, "reject", id="nftables: all ports but one"),
        pytest.param(NFTABLES, "10.0.0.7", 29500, "accept", id="nftables: by a named set"),
        pytest.param(NFTABLES, "192.168.0.7", 22, "reject", id="nftables: not in that set"),
        pytest.param(NFTABLES, "192.168.0.7", 40000, "accept", id="nftables: SYN of anybody"),
        pytest.param(NFTABLES, "fe80::7", 40000, "accept", id="nftables: IPv6"),
        pytest.param(KUBERNETES, SUBNET, 40000, "accept", id="a node of Kubernetes"),
    ],
)
def test_what_tools_print(firewall, source, port, answer):
    assert verdict(firewall, Connection(source, "eth0", port, "10.77.0.2")) == answer


def test_ranges():
    found = verdicts(UFW, Connection(SUBNET, "eth0", 22, "10.77.0.2"), 60999)

    assert found == [
        (22, 22, "accept"),
        (23, 29499, "drop"),
        (29500, 29500, "accept"),
        (29501, 60999, "drop"),
    ]


def of(*lines: str, policy: str = "DROP", more: str = "") -> Firewall:
    text = f"*filter\n:INPUT {policy} [0:0]\n:ours - [0:0]\n{more}" + "\n".join(lines)
    return Firewall(tool="iptables", chains=tuple(iptables.chains(f"{text}\nCOMMIT\n", "ip")))


ACCEPT, DROP = "-j ACCEPT", "-j DROP"


@pytest.mark.parametrize(
    ("rule", "matches"),
    [
        pytest.param("-s 10.77.0.0/24", True, id="source"),
        pytest.param("-s 10.77.0.0/255.255.0.0", True, id="mask in full"),
        pytest.param("-s 10.77.0.2/32", None, id="one host of the subnet"),
        pytest.param("-s 10.78.0.0/24", False, id="another subnet"),
        pytest.param("! -s 10.78.0.0/24", True, id="any but another subnet"),
        pytest.param("! -s 10.77.0.0/16", False, id="any but ours"),
        pytest.param("! -s 10.77.0.2/32", None, id="any but one host"),
        pytest.param("-d 10.77.0.1/32", True, id="own address"),
        pytest.param("-d 127.0.0.0/8", False, id="loopback"),
        pytest.param("-i eth0", True, id="interface"),
        pytest.param("-i eth+", True, id="interfaces by prefix"),
        pytest.param("-i lo", False, id="loopback's interface"),
        pytest.param("! -i lo", True, id="any but loopback's"),
        pytest.param("-p tcp -m tcp --dport 40000", True, id="port"),
        pytest.param("-p tcp -m tcp --dport 40000:", True, id="ports up to the last"),
        pytest.param("-p tcp -m tcp ! --dport 22", True, id="any port but one"),
        pytest.param("-p tcp -m tcp ! --dport 40000", False, id="any port but this"),
        pytest.param("-p tcp -m multiport --dports 22,30000:41000", True, id="several ports"),
        pytest.param("-p tcp -m tcp --sport 53", None, id="source port"),
        pytest.param("-p udp -m udp --dport 40000", False, id="UDP"),
        pytest.param("! -p udp", True, id="all but UDP"),
        pytest.param("-m conntrack --ctstate NEW", True, id="new"),
        pytest.param("-m state --state RELATED,ESTABLISHED", False, id="established"),
        pytest.param("-m conntrack ! --ctstate INVALID", True, id="not invalid"),
        pytest.param("-p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN", True, id="SYN"),
        pytest.param("-p tcp -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN", False, id="no SYN"),
        pytest.param("-p tcp -m tcp --tcp-flags ALL NONE", False, id="null scan"),
        pytest.param("-m addrtype --dst-type LOCAL", True, id="to us"),
        pytest.param("-m addrtype --dst-type BROADCAST", False, id="to all"),
        pytest.param("-m pkttype --pkt-type multicast", False, id="multicast"),
        pytest.param("-m mark --mark 0x8000/0x8000", False, id="marked"),
        pytest.param('-m comment --comment "it\'s -j DROP"', True, id="comment"),
        pytest.param("-m limit --limit 3/min", None, id="limit"),
        pytest.param("-m set --match-set allowed src", None, id="set of addresses"),
        pytest.param("-m geoip --source-country DE", None, id="a module that nobody knows"),
        pytest.param("-m rpfilter --invert", None, id="reverse path"),
    ],
)
def test_conditions_of_iptables(rule, matches):
    connection = Connection(SUBNET, "eth0", 40000, "10.77.0.1")
    answer = {True: "accept", False: "drop", None: "unknown"}[matches]

    assert verdict(of(f"-A INPUT {rule} {ACCEPT}"), connection) == answer


@pytest.mark.parametrize(
    ("firewall", "answer"),
    [
        pytest.param(of(), "drop", id="policy"),
        pytest.param(of(policy="ACCEPT"), "accept", id="no rules"),
        pytest.param(of(f"-A INPUT {ACCEPT}", f"-A INPUT {DROP}"), "accept", id="first wins"),
        pytest.param(of("-A INPUT -j ours", f"-A ours {ACCEPT}"), "accept", id="jump"),
        pytest.param(of("-A INPUT -j ours", policy="ACCEPT"), "accept", id="empty chain"),
        pytest.param(
            of("-A INPUT -j ours", "-A ours -j RETURN", f"-A ours {ACCEPT}"), "drop", id="return"
        ),
        pytest.param(of("-A INPUT -g ours", f"-A INPUT {ACCEPT}"), "drop", id="goto: no way back"),
        pytest.param(
            of("-A INPUT -m limit -j ours", f"-A ours {ACCEPT}", f"-A INPUT {ACCEPT}"),
            "accept",
            id="unclear, and the same either way",
        ),
        pytest.param(of(f"-A INPUT -m limit {DROP}"), "drop", id="unclear, dropped either way"),
        pytest.param(of("-A INPUT -j LOG", f"-A INPUT {ACCEPT}"), "accept", id="log goes on"),
        pytest.param(of("-A INPUT -j NFQUEUE", policy="ACCEPT"), "unknown", id="a program decides"),
        pytest.param(
            of("-A INPUT -j ours", "-A ours -j ours"), "unknown", id="a circle, were there one"
        ),
        pytest.param(Firewall(), "accept", id="no chains at all"),
    ],
)
def test_chains(firewall, answer):
    assert verdict(firewall, Connection(SUBNET, "eth0", 40000)) == answer


def test_every_first_chain_must_accept():
    two = Firewall(chains=(*of(policy="ACCEPT").chains, *of(policy="DROP").chains))

    assert verdict(two, Connection(SUBNET, "eth0", 40000)) == "drop"


def test_whether_it_filters():
    assert not of(policy="ACCEPT").filters
    assert not of("-A INPUT -p udp -j DROP", policy="ACCEPT").filters, "not TCP"
    assert of().filters
    assert of(f"-A INPUT -p tcp --dport 22 {DROP}", policy="ACCEPT").filters


def chain(table: str, name: str) -> Chain:
    return Chain(table=table, name=name, first=True, otherwise="drop")


@pytest.mark.parametrize(
    ("tool", "stops", "command"),
    [
        pytest.param(
            "ufw",
            chain("ip filter", "INPUT"),
            "sudo ufw allow proto tcp from 10.77.0.0/24 to any port 29500,32768:60999",
            id="ufw",
        ),
        pytest.param(
            "firewalld",
            chain("inet firewalld", "filter_INPUT"),
            "sudo firewall-cmd --permanent --zone=trusted --add-source=10.77.0.0/24",
            id="firewalld",
        ),
        pytest.param(
            "nftables",
            chain("inet filter", "input"),
            "sudo nft 'insert rule inet filter input ip saddr 10.77.0.0/24"
            " tcp dport { 29500, 32768-60999 } accept'",
            id="nftables",
        ),
        pytest.param(
            "iptables",
            chain("ip filter", "INPUT"),
            "sudo iptables -I INPUT -s 10.77.0.0/24 -p tcp -m multiport"
            " --dports 29500,32768:60999 -j ACCEPT",
            id="iptables",
        ),
        pytest.param(
            "iptables",
            chain("ip raw", "PREROUTING"),
            "sudo iptables -t raw -I PREROUTING -s 10.77.0.0/24 -p tcp -m multiport"
            " --dports 29500,32768:60999 -j ACCEPT",
            id="iptables, before all else",
        ),
        pytest.param(
            "ufw",
            chain("inet site", "input"),
            "sudo nft 'insert rule inet site input ip saddr 10.77.0.0/24"
            " tcp dport { 29500, 32768-60999 } accept'",
            id="not ufw's, though ufw is on",
        ),
    ],
)
def test_opening_in_the_words_of_who_stops(tool, stops, command):
    firewall = Firewall(tool=tool, chains=(stops,))
    stopped = Connection(SUBNET, "eth0", 40000)

    found = opening(firewall, stopped, [SUBNET], [(29500, 29500), (32768, 60999)])

    assert found[0] == command


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param("{}", id="something else"),
        pytest.param('{"nftables": [{"rule": {"family": "inet"}}]}', id="half a rule"),
    ],
)
def test_what_nft_does_not_print(text):
    with pytest.raises(ValueError, match="not what nft prints"):
        nftables.chains(text)


@pytest.mark.parametrize("rule", [":INPUT", "-A INPUT --dport x:y -j DROP"])
def test_what_iptables_does_not_print(rule):
    with pytest.raises(ValueError, match="not what iptables-save prints"):
        iptables.chains(f"*filter\n{rule}\nCOMMIT\n", "ip")


def test_tables_that_iptables_tells_of_are_left_to_it():
    text = (RECORDED / "nftables.json").read_text()

    assert nftables.chains(text, ["inet filter"]) == []


def test_only_what_is_not_understood_keeps_its_words():
    clear, unclear = (
        of("-A INPUT -s 10.0.0.0/8 -j DROP", "-A INPUT -m geoip -j DROP").chains[0].rules
    )

    assert clear == Rule(action="drop", sources=("10.0.0.0/8",))
    assert unclear == Rule(action="drop", unclear=True, text="-A INPUT -m geoip -j DROP")

"""The names that a report or a process states: of hosts, users, registries."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from gpudoctor.rules.identifiers import DOMAIN, GPU, HOST, REGISTRY, USER, is_address, is_public
from gpudoctor.rules.job_variables import host_and_port

Name = tuple[str, str]  # a kind, and the name

_ENDPOINTS = ("MASTER_ADDR", "PET_MASTER_ADDR", "PET_RDZV_ENDPOINT", "RAY_ADDRESS", "NCCL_COMM_ID")
_URLS = ("ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY", "HF_ENDPOINT", "NCCL_RAS_ADDR")
_SHARE = re.compile(r"(?://)?([A-Za-z][\w.-]*)/")  # "//nas/share"
_LNET = re.compile(r"(tcp|o2ib|gni|kfi|ptl)\d*")
_FOUR_PARTS = re.compile(r"(?:\d+\.){3}\d+")


def names_in(report: Mapping[str, Any]) -> Iterator[Name]:
    """All names that a report, as plain data, states, in its order."""
    for node in report.get("nodes", ()):
        # What `lint` judges is no host.
        if not any(result.get("place") for result in node.get("results", ())):
            yield from _host(node.get("name", ""))
        for name, fact in node.get("facts", {}).items():
            if isinstance(fact, Mapping) and "absent" not in fact:
                yield from _of_fact(name, fact)
    cluster = report.get("cluster") or {}
    for name, fact in cluster.get("facts", {}).items():
        if isinstance(fact, Mapping):
            yield from _of_cluster_fact(name, fact)
    for name in (*cluster.get("missing", ()), *cluster.get("exclude", ())):
        yield from _host(name)
    for result in cluster.get("results", ()):
        for name in result.get("nodes", ()):
            yield from _host(name)


def identities(environment: Mapping[str, str], hostname: str) -> Iterator[Name]:
    """Names of whoever runs us, which facts may mention but do not state, or only later."""
    for variable in ("USER", "LOGNAME", "SUDO_USER", "SLURM_JOB_USER"):
        if name := environment.get(variable, ""):
            yield USER, name
    yield from _home(environment.get("HOME", ""))
    for variable in ("SLURM_JOB_PARTITION", "SLURM_JOB_ACCOUNT", "SLURM_CLUSTER_NAME"):
        if name := environment.get(variable, ""):
            yield variable.removesuffix("_NAME").rpartition("_")[2].lower(), name
    yield from _host(hostname)
    yield from _variables(environment)


def _host(text: Any) -> Iterator[Name]:
    """A host by its name, which a port or a number may follow."""
    if not isinstance(text, str) or "/" in text or "[" in text:
        return
    name = re.sub(r"#\d+$", "", host_and_port(text)[0])
    if is_address(name) or not re.fullmatch(r"[\w.-]+", name):
        return
    label, _, domain = name.partition(".")
    yield HOST, label
    yield DOMAIN, domain


def _of_fact(name: str, fact: Mapping[str, Any]) -> Iterator[Name]:
    if name in ("system", "names"):
        yield from _host(fact.get("hostname"))
    if name == "names":
        for line in fact.get("hosts_lines", ()):
            for word in line.split()[1:]:
                yield from _host(word)
    elif name == "user":
        yield from _home(fact.get("home", ""))
    elif name == "job":
        yield from _host(fact.get("master_addr"))
        for value in fact.get("claims", {}).get("master_addr", {}).values():
            yield from _host(value)
    elif name == "master":
        yield from _host(fact.get("name"))
    elif name == "environment":
        yield from _variables(fact.get("values", {}))
    elif name == "network_mounts":
        for mount in fact.get("mounts", ()):
            yield from _servers(mount.get("source", ""))
    elif name in ("job_python", "packages"):
        for version in fact.get("packages", fact.get("versions", {})).values():
            if _FOUR_PARTS.fullmatch(version):
                yield "version", version
    elif name == "gpus":
        for gpu in fact.get("devices", ()):
            yield GPU, gpu.get("uuid", "")
    elif name == "image":
        yield from _registry(fact.get("name", ""))
    elif name == "launch":
        yield from _launch(fact)


def _servers(source: str) -> Iterator[Name]:
    """Of "nas:/export", "mgs1@tcp:mgs2@tcp:/fs", "mon1:6789,mon2:6789:/", "jane@nas:/x"."""
    servers, is_remote, _ = source.partition(":/")
    if servers.startswith("["):
        return
    if not is_remote:
        if share := _SHARE.match(source):
            yield from _host(share[1])
        return
    for word in re.split(r"[:,]", servers):
        first, at, second = word.partition("@")
        is_login = at and not _LNET.fullmatch(second)
        if is_login:
            yield USER, first
        name = second if is_login else first
        if not name.isdigit():  # a port
            yield from _host(name)


def _home(path: str) -> Iterator[Name]:
    if path.count("/") > 1:  # not /root
        yield USER, path.rstrip("/").rpartition("/")[2]


def _variables(values: Mapping[str, str]) -> Iterator[Name]:
    for name in _ENDPOINTS:
        yield from _host(values.get(name, "").partition("://")[2] or values.get(name, ""))
    for name in _URLS:
        yield from _host(values.get(name, "").partition("://")[2].partition("@")[2])
        yield from _host(values.get(name, "").partition("://")[2].partition("/")[0])
    for host in values.get("NO_PROXY", "").split(","):
        yield from _host(host.strip().lstrip("."))


def _registry(image: str) -> Iterator[Name]:
    """The host that an image's name begins with, unless everybody uses it."""
    first, slash, _ = image.partition("/")
    host = first.partition(":")[0]
    if slash and (":" in first or "." in first) and not (is_address(host) or is_public(host)):
        yield REGISTRY, host


def _launch(fact: Mapping[str, Any]) -> Iterator[Name]:
    yield from _registry(fact.get("image", ""))
    if not str(fact.get("user", "")).partition(":")[0].isdigit():
        yield USER, str(fact.get("user", "")).partition(":")[0]
    yield from _variables(fact.get("environment", {}))


def _of_cluster_fact(name: str, fact: Mapping[str, Any]) -> Iterator[Name]:
    if name == "members":
        for host in (*fact.get("names", ()), *(m.get("name") for m in fact.get("members", ()))):
            yield from _host(host)
        yield from _host(fact.get("meeting"))
    elif name == "links":
        for way in fact.get("ways", ()):
            yield from _host(way.get("source"))
            yield from _host(way.get("target"))
        yield from _host(fact.get("master"))
        for attempt in fact.get("tries", ()):
            yield from _host(attempt.get("source"))
    elif name == "pair_reduce":
        for figure in fact.get("figures", ()):
            for host in figure.get("nodes", ()):
                yield from _host(host)

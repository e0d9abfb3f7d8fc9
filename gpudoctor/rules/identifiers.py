"""What in a text is an address, a name or an id by its look alone."""

import functools
import re
from collections.abc import Iterator

from msgspec import Struct

HOST, ADDRESS, MAC, GUID, GPU = "host name", "address", "MAC address", "GUID", "GPU UUID"
USER, MAIL, ACCOUNT, DOMAIN = "user", "mail address", "cloud account", "domain"
SERIAL, REGISTRY = "serial", "registry"

# Accounts, hosts and domains of images and clouds, the same everywhere, and words of the trade:
# none of them tells whose machine it is, and replaced they would spoil every sentence.
_EVERYDAY = frozenset(
    """
    admin administrator app appuser azureuser centos debian ec2-user fedora gitlab-runner gpuuser
    guest jenkins jovyan mpiuser nobody opc operator rocky root runner sagemaker-user ubuntu user
    users vagrant vscode
    build builder cache cluster compute container gpu gpus head host local localhost login master
    net node nodes pod server us worker
    cluster.local compute.internal ec2.internal internal localdomain svc svc.cluster.local
    batch ci cloud core cuda data debug default dev docker home job kubernetes nccl none normal
    nvidia podman private public python rocm scratch shared shm slurm test tmp torch train trainer
    training unknown work workspace
    """.split()  # noqa: SIM905 - words
)
# Words so short that a host may be called so.
LITTLE = frozenset(
    """
    am an as at be by do go he if in is it me my no of on or so to up us we
    """.split()  # noqa: SIM905 - words
)
_TOP = r"""com|net|org|edu|gov|mil|io|ai|dev|cloud|app|local|internal|lan|corp|intra|localdomain
|svc|de|fr|uk|jp|cn|ch|nl|se|fi|dk|kr|au|ca|us|eu|ru|br|tw|sg|cz|example""".replace("\n", "")
_FILES = "tar|zst|zip|whl|json|yaml|yml|toml|txt|log|conf|cfg|pem|service|slice|scope|socket|mount"
# Whose pages and registries everybody uses.
_PUBLIC = (
    *("amd.com", "istio.io", "cncf.io", "docker.com", "docker.io", "gcr.io"),
    *("ghcr.io", "github.com", "githubusercontent.com", "google.com"),
    *("intel.com", "k8s.io", "kernel.org", "kubernetes.io", "mellanox.com", "nvcr.io"),
    *("nvidia.com", "openfabrics.org", "pkg.dev", "python.org", "pytorch.org"),
    *("quay.io", "readthedocs.io", "redhat.com", "schedmd.com", "ubuntu.com", "vpc.amazonaws.com"),
)

_HEX = "[0-9a-fA-F]"
_PERSONAL = rf"""
 (?P<mail>(?<![\w.+-])[\w.+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{{2,}}(?![\w-]))
|(?:/(?:home\d*|[Uu]sers)/)(?P<user>[A-Za-z0-9_][\w.+-]*)
|torchinductor_(?P<inductor>[A-Za-z0-9][\w.-]*)
|\b(?:ssh|scp|rsync|sftp)\s(?:[^@\n]{{0,60}}\s)?(?P<login>[A-Za-z_][\w.-]*)(?=@)
|~(?P<tilde>[A-Za-z_][\w.-]+)(?=/)
|arn:aws[\w-]*:[\w-]*:[\w-]*:(?P<aws>\d{{12}})
|(?<!\d)(?P<ecr>\d{{12}})(?=\.dkr\.ecr\.)
|(?:\bprojects/|\bgcr\.io/|\.pkg\.dev/)(?P<gcp>[a-z][a-z0-9-]{{4,28}}[a-z0-9])(?![\w-])
|(?i:subscriptions/)(?P<azure>{_HEX}{{8}}(?:-{_HEX}{{4}}){{3}}-{_HEX}{{12}})
"""
_PRIVATE = rf"""
|(?P<gpu>(?<![\w-])(?:GPU|MIG)-(?:GPU-)?{_HEX}{{8,16}}(?:-{_HEX}{{2,12}})*)(?:/\d+/\d+)?(?![\w-])
|(?P<guid>(?:(?<![\w-])|(?<=/pod)){_HEX}{{8}}-(?:{_HEX}{{4}}-){{3}}{_HEX}{{12}}(?![\w-])
  |(?<![\w:.]){_HEX}{{4}}(?::{_HEX}{{4}}){{3}}(?![\w:.])
  |(?<![\w:])(?:{_HEX}{{2}}:){{7}}(?:(?:{_HEX}{{2}}:){{12}})?{_HEX}{{2}}(?![\w:])
  |(?<!\w)(?:0x)?(?!0000|[fF]{{4}}|\d{{16}}){_HEX}{{16}}(?!\w))
|(?P<mac>(?<![\w:-])(?:{_HEX}{{2}}:){{5}}{_HEX}{{2}}(?![\w:-])
  |(?<![\w:-])(?:{_HEX}{{2}}-){{5}}{_HEX}{{2}}(?![\w:-]))
|(?P<ipv6>(?<![\w:.])(?:{_HEX}{{1,4}}:){{1,7}}(?::|{_HEX}{{1,4}})
  (?:{_HEX}{{1,4}})?(?::{_HEX}{{1,4}})*(?:(?<=:)\d{{1,3}}(?:\.\d{{1,3}}){{3}})?(?![\w:])
  |(?<![\w:.])::(?:{_HEX}{{1,4}}:)*(?:\d{{1,3}}(?:\.\d{{1,3}}){{3}}|{_HEX}{{1,4}})(?![\w:]))
|(?P<aws_host>(?<![\w-])ip-\d{{1,3}}(?:-\d{{1,3}}){{3}}(?:\.[\w.-]*\w)?(?![\w-]))
|(?P<ipv4>(?<![\w.])(?<![=<>~!]=)(?<!cu\d\d[ -])(?<!ersion[ ])
  (?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){{3}}(?:25[0-5]|2[0-4]\d|1?\d?\d)(?!\w|\.\d|\.dist-info|\+))
|(?i:\bserial(?:[ _-]*(?:number|no\.?|id))?)["']?\s*[:=]\s*["']?(?P<serial>(?=\w*\d)[\w-]{{4,}})
|--(?P<slurm>(?:partition|account|reservation)(?=[= ])|clusters?(?==))[= ](?P<slurm_name>\w[\w.,-]*)
|(?:--(?:master[-_]addr|rdzv[-_]endpoint|nodelist)(?:=|[ ](?=[\w-]*[\d.\[]))
  |(?:MASTER_ADDR|RDZV_ENDPOINT)=)["']?(?P<host>(?!\d+\.\d)[A-Za-z0-9][\w.-]*(?:\[[\d,-]+\])?)
|(?P<domain>(?<![\w./@-])(?:(?:[A-Za-z0-9](?:[\w-]*[A-Za-z0-9])?\.)+(?:{_TOP})
  |(?=[a-z-]+\d)[a-z][a-z0-9-]*(?:\.[a-z][a-z0-9-]*)+\.(?!{_FILES})[a-z]{{3,}})(?![\w-]|\.\w))
  (?=(?P<image>(?::\d+)?/[a-z0-9]))?
|(?<=://)(?:\*\*\*@)?(?P<url>(?!\d+\.\d)[A-Za-z0-9][\w.-]*)
|(?<![\w./-])(?P<ported>(?!\d)[\w-]+)(?=:\d+/[a-z0-9])
"""
# Without one of these there is nothing to find.
_PERSONAL_HINT = re.compile(
    r"@|/(?:home|[Uu]sers)|~\w|inductor_|arn:aws|\.dkr\.|projects/|gcr|\.pkg|ubscr"
)
_HINT = re.compile(
    r"@|/(?:home|[Uu]sers)|~\w|inductor_|arn:aws|projects/|ubscr|(?i:GPU|MIG)-|:[0-9a-fA-F]*:|://|\w:\d+/"
    rf"|\d\.\d+\.\d|{_HEX}{{8}}|(?:{_HEX}{{2}}-){{5}}|\w\.\w|--\w|ip-\d|(?i:serial)|ADDR|POINT"
)
_KINDS = {
    **{"mail": MAIL, "user": USER, "login": USER, "tilde": USER, "inductor": USER},
    **{"aws": ACCOUNT, "ecr": ACCOUNT, "gcp": ACCOUNT, "azure": ACCOUNT},
    **{"gpu": GPU, "guid": GUID, "mac": MAC, "ipv4": ADDRESS, "ipv6": ADDRESS},
    **{"aws_host": HOST, "serial": SERIAL, "host": HOST, "domain": HOST, "url": HOST},
    "ported": REGISTRY,
}


class Hit(Struct, frozen=True):
    """Something found, and where in the text."""

    kind: str
    text: str
    start: int
    end: int


def found_in(text: str, *, internal: bool = False) -> Iterator[Hit]:
    """What stands in the text, from left to right.

    Args:
        internal: only what points at a person or an account.
    """
    if not (_PERSONAL_HINT if internal else _HINT).search(text):
        return
    for match in _looks(internal).finditer(text):
        names = [name for name, value in match.groupdict().items() if value and name != "image"]
        name = names[-1]
        kind, value = _KINDS.get(name, ""), match[name]
        if name == "slurm_name":
            kind = match["slurm"].removesuffix("s")
        if name == "domain" and match["image"]:
            kind = REGISTRY
        if kind in (HOST, REGISTRY) and is_public(value):
            continue
        if kind == ADDRESS and _is_everybodys(value):
            continue
        yield Hit(kind, value, *match.span(name))


@functools.cache
def _looks(internal: bool) -> re.Pattern[str]:
    return re.compile(_PERSONAL if internal else _PERSONAL + _PRIVATE, re.VERBOSE)


def is_everyday(name: str) -> bool:
    """Whether it is a name that stands on machines everywhere."""
    return name.lower() in _EVERYDAY or not name


def is_address(text: str) -> bool:
    """Whether it is an IP address."""
    import ipaddress

    try:
        ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    return True


def is_public(name: str) -> bool:
    name = name.lower()
    return is_everyday(name) or any(f".{name}".endswith(f".{known}") for known in _PUBLIC)


def _is_everybodys(text: str) -> bool:
    """An address that every machine has, a mask, or no address after all."""
    if ":" not in text:
        masks = ("127.", "0.", "255.", "224.", "239.255.255.250", "169.254.169.254")
        return text.startswith(masks)
    import ipaddress

    try:
        address = ipaddress.IPv6Address(text)
    except ValueError:
        return True
    return address.is_loopback or int(address) == 0 or text in ("fe80::", "ff02::1", "ff00::")

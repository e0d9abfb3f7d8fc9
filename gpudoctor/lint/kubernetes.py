"""Containers of Kubernetes manifests: of pods, and of all that has a pod template inside."""

import re
from functools import partial

from msgspec.structs import replace

from gpudoctor.data import table as data
from gpudoctor.facts.launch import Form, Launch, LaunchMount
from gpudoctor.lint.kubernetes_edits import edits, edits_of_trainer
from gpudoctor.lint.pods import Pod, count, manifests, pods, say_job
from gpudoctor.lint.said import OTHERS, Said
from gpudoctor.lint.source import BadLaunch, Found, Source
from gpudoctor.lint.yaml_text import Node, Scalar, Table, documents, is_template

ON_DISK = "emptyDir"  # the source of a volume on the node's disk
FORM: Form = "Kubernetes container"
_GPU = re.compile(r"(nvidia|amd)\.com/(?:gpu(?:\.shared)?|mig-.+)")
_RDMA = re.compile(r"rdma/.+|.+/(?:efa|roce|hca|ib|infiniband|rdma|sriov)[\w.-]*")
_FILLED_IN = re.compile(r"\$\{?\w")  # by envsubst, before it is a manifest
_QUANTITY = re.compile(r"(\d+(?:\.\d+)?)(?:([KMGTP]i|[mkMGTP])|[eE](\d+))?")
_FACTORS: dict[str, float] = {"m": 0.001, "": 1, "k": 1000} | {
    unit: factor
    for power, letter in enumerate("KMGTP", 1)
    for unit, factor in ((f"{letter}i", 1024**power), (letter, 1000**power))
}


def read(source: Source) -> list[Found]:
    """Every container that a manifest starts.

    Raises:
        BadLaunch: it is not YAML, or no manifest.
    """
    found = []
    present = list(manifests(documents(source)))
    if not present:
        raise BadLaunch("line 1: there is no `apiVersion:` and `kind:`, so this is no manifest")
    for manifest in present:
        trainer = manifest.table("spec", "trainer")
        if manifest.text("kind") == "TrainJob" and trainer:
            launch = _of_trainer(source, manifest, trainer)
            line = source.line_at(trainer.start)
            found.append(Found(launch, line, partial(edits_of_trainer, source, trainer)))
        for pod in pods(manifest):
            for container in pod.spec.listing("containers").tables():
                launch = _of_container(source, pod, container)
                change = partial(edits, source, pod.spec, container, launch)
                found.append(Found(launch, source.line_at(container.start), change))
    return found


def quantity(text: str) -> float | None:
    """A number with a unit of Kubernetes: 500m, 16Gi, 2e9."""
    match = _QUANTITY.fullmatch(text)
    if match is None:
        return None
    power = float(f"1e{match[3] or 0}")
    return float(match[1]) * _FACTORS[match[2] or ""] * power


def _of_container(source: Source, pod: Pod, container: Table) -> Launch:
    said = Said(source)
    _say_words(said, pod, container)
    _say_command(said, container)
    _say_environment(said, container)
    _say_security(said, pod, container)
    _say_resources(said, container.at("resources"))
    _say_mounts(said, pod, container, is_whole=pod.is_whole and not is_template(source))
    say_job(said, pod)
    for table, what in ((pod.spec, "pod"), (container, "container")) if pod.is_plain else ():
        known = data("launch_keys")[what]["value"]
        for key in table.all_keys():
            if key.text not in known and not key.is_open:
                said.say("unknown", key.text, key.start)
    if is_template(source):
        said.leave_rest_open("what its template adds")
    launch = said.launch(FORM, "kubernetes", name=_name(pod.manifest, pod.role, container))
    return replace(launch, only_looks=launch.only_looks or (pod.only_launches and not launch.gpus))


def _of_trainer(source: Source, manifest: Table, trainer: Table) -> Launch:
    """What a TrainJob says itself; the rest is the runtime's, which is elsewhere."""
    said = Said(source)
    if word := trainer.scalar("image"):
        said.say("image", word.text, word.start)
    _say_command(said, trainer)
    _say_environment(said, trainer)
    _say_resources(said, trainer.at("resourcesPerNode"))
    if word := trainer.scalar("numNodes"):
        said.say("nodes", count(word), word.start)
    if (word := trainer.scalar("numProcPerNode")) and word.text.isdigit():
        said.say("ranks", int(word.text), word.start)
    said.leave_rest_open("what its runtime says")
    return said.launch(FORM, "kubernetes", name=_name(manifest, "trainer"))


def _name(manifest: Table, role: str, container: Table | None = None) -> str:
    own = manifest.text("metadata", "name") or manifest.text("metadata", "generateName")
    parts = [own, role, container.text("name") if container else ""]
    return f"{manifest.text('kind')} {'/'.join(filter(None, parts))}".strip()


def _say_words(said: Said, pod: Pod, container: Table) -> None:
    if word := _settled(said, "image", container.at("image")):
        said.say("image", word.text, word.start)
    if word := _settled(said, "dns_policy", pod.spec.at("dnsPolicy")):
        said.say("dns_policy", word.text, word.start)
    for field, key in (("ipc", "hostIPC"), ("network", "hostNetwork")):
        word = _settled(said, field, pod.spec.at(key))
        if word and word.is_true:
            said.say(field, "host", word.start)
    for port in container.listing("ports").tables():
        if number := port.scalar("hostPort"):
            said.say("ports", f"{number.text}:{port.text('containerPort')}", number.start)


def _say_command(said: Said, table: Table) -> None:
    words = [word for key in ("command", "args") for word in table.listing(key).scalars()]
    if words:
        said.say("command", tuple(word.text for word in words), words[0].start)
    opens = [word.text for word in words if word.is_open]
    if opens:
        said.leave_open("command", words[0].start, opens)


def _say_environment(said: Said, table: Table) -> None:
    for source in table.listing("envFrom").tables():
        said.leave_open(OTHERS, source.start, ["envFrom"])
    for variable in table.listing("env").tables():
        field = f"environment.{variable.text('name')}"
        value = variable.at("value")
        is_open = isinstance(value, Scalar) and (value.is_open or "$(" in value.text)
        if variable.find("valueFrom") or is_open:
            said.leave_open(field, variable.start)
        else:
            said.say(field, variable.text("value"), variable.start)


def _say_security(said: Said, pod: Pod, container: Table) -> None:
    own, whole = container.table("securityContext"), pod.spec.table("securityContext")
    for table in filter(None, (own, whole)):
        if (word := table.scalar("runAsUser")) and "user" not in said.fields:
            said.say("user", word.text, word.start)
    if own:
        if word := own.scalar("privileged"):
            said.say("privileged", word.is_true, word.start)
        for word in own.listing("capabilities", "add").scalars():
            said.say("capabilities", word.text.upper().removeprefix("CAP_"), word.start)
    if whole:
        group = whole.scalar("fsGroup")
        groups = [*whole.listing("supplementalGroups").scalars(), *([group] if group else [])]
        for word in groups:
            said.say("groups", word.text, word.start)


def _say_resources(said: Said, resources: Node | None) -> None:
    if isinstance(resources, Scalar):
        for field in ("gpus", "memory_bytes", "cpus", "devices"):
            said.leave_open(field, resources.start)
    if not isinstance(resources, Table):
        return
    if claims := resources.at("claims"):  # devices that a claim elsewhere asks for
        said.leave_open("gpus", claims.start)
    limits, requests = resources.table("limits"), resources.table("requests")
    for key in limits.all_keys() if limits else ():
        _say_limit(said, key, limits.at(key.text) if limits else None)
    if requests:
        _say_requests(said, requests, limits)


def _say_requests(said: Said, requests: Table, limits: Table | None) -> None:
    """Kubernetes wants a request for GPUs to be equal to their limit."""
    for key in requests.all_keys():
        asked = requests.text(key.text)
        limit = limits.at(key.text) if limits else None
        if not _GPU.fullmatch(key.text) or not asked.isdigit():
            continue
        if limit is None:
            why = "Limit must be set for non overcommitable resources"
            said.refuse(f"requests: {key.text}", why, key.start, "gpus")
        elif isinstance(limit, Scalar) and limit.text.isdigit() and asked != limit.text:
            why = f"must be equal to {key.text} limit of {limit.text}"
            said.refuse(f"requests: {key.text}", why, key.start)


def _say_limit(said: Said, key: Scalar, node: Node | None) -> None:
    gpu = _GPU.fullmatch(key.text)
    field = "gpus" if gpu else {"memory": "memory_bytes", "cpu": "cpus"}.get(key.text, "")
    word = _settled(said, field, node) if field else None
    amount = quantity(word.text) if word else None
    if _RDMA.fullmatch(key.text):
        said.say("devices", "/dev/infiniband", key.start)
    elif word and amount is None:
        said.leave_open(field, word.start, [word.text])
    elif gpu and word and amount is not None:
        if amount != int(amount):
            said.refuse(f"{key.text}: {word.text}", "must be an integer", word.start, "gpus")
        else:
            said.say("gpus", said.fields.get("gpus", 0) + int(amount), key.start)
            said.say("gpu_vendor", gpu[1], key.start)
    elif word and amount is not None:
        said.say(field, int(amount) if field == "memory_bytes" else amount, word.start)


def _say_mounts(said: Said, pod: Pod, container: Table, *, is_whole: bool) -> None:
    volumes = {table.text("name"): table for table in pod.spec.listing("volumes").tables()}
    for node in (pod.spec.at("volumes"), container.at("volumeMounts")):
        if isinstance(node, Scalar):
            said.leave_open("mounts", node.start)
            said.leave_open("shm_bytes", node.start)
    claims = pod.manifest.listing("spec", "volumeClaimTemplates").tables()  # of a StatefulSet
    names = [claim.text("metadata", "name") for claim in claims]
    for mount in container.listing("volumeMounts").tables():
        volume = volumes.get(mount.text("name"))
        if volume:
            _say_mount(said, mount, volume)
        elif is_whole and mount.text("name") not in ("", *names):
            why = f'volumeMounts: Not found: "{mount.text("name")}"'
            said.refuse(f"volume {mount.text('name')}", why, mount.start, "shm_bytes")


def _say_mount(said: Said, mount: Table, volume: Table) -> None:
    target, medium = mount.text("mountPath").rstrip("/"), volume.text("emptyDir", "medium")
    limit = volume.scalar("emptyDir", "sizeLimit")
    size = quantity(limit.text) if limit else None
    source = volume.text("hostPath", "path") or (ON_DISK if volume.find("emptyDir") else "volume")
    flag = mount.scalar("readOnly")
    made = LaunchMount(
        target=target,
        source="" if medium == "Memory" else source,
        tmpfs=medium == "Memory",
        tmpfs_bytes=int(size) if size and medium == "Memory" else None,
        read_only=bool(flag and flag.is_true),
    )
    said.say("mounts", made, mount.start)
    if target == "/dev/shm":
        empty = volume.own("emptyDir")
        kind = empty.key if empty and empty.key else volume
        at = limit.start if limit else kind.start
        if made.tmpfs_bytes:
            said.say("shm_bytes", made.tmpfs_bytes, at)
        else:  # what the pod's memory limit, the node, or its disk gives
            said.leave_open("shm_bytes", at)


def _settled(said: Said, field: str, node: Node | None) -> Scalar | None:
    """A word; one that a template puts in leaves the field open."""
    if isinstance(node, Scalar) and (node.is_open or _FILLED_IN.search(node.text)):
        said.leave_open(field, node.start, [node.text] if node.text else [])
        return None
    return node if isinstance(node, Scalar) else None

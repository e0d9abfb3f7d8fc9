"""A pod of a manifest changed so that it says what settings ask for."""

from collections.abc import Iterator, Sequence
from typing import Any

from msgspec.structs import replace

from gpudoctor.facts.launch import Launch
from gpudoctor.launch.kubernetes import before_command, pod_of
from gpudoctor.launch.settings import (
    Cpus,
    Drop,
    EnvSet,
    EnvUnset,
    GpuDevices,
    Memory,
    RdmaDevices,
    Setting,
)
from gpudoctor.lint.source import Edit, Source
from gpudoctor.lint.yaml_edit import merged, prepended, removed, replaced
from gpudoctor.lint.yaml_text import Item, Listing, Table, is_template

_KEYS = {"network": "hostNetwork", "ipc": "hostIPC", "dns_policy": "dnsPolicy"}


def edits(
    source: Source, spec: Table, container: Table, launch: Launch, settings: Sequence[Setting]
) -> list[Edit]:
    """What to change in the text; nothing of a template, which becomes something else."""
    if is_template(source):
        return []
    pod = pod_of([wanted for s in settings if (wanted := _sayable(s, launch))])
    _use_present_volumes(spec, container, pod.container.get("volumeMounts", []), pod.volumes)
    _keep_requests_equal(container, pod.container)
    found = _without(source, container, settings, pod.container)
    for above, items in _gone(spec, container, settings, pod.volumes):
        found += removed(source, above, items)
    found += _command(source, container, settings)
    found += merged(source, container, pod.container)
    top = pod.top | ({"volumes": pod.volumes} if pod.volumes else {})
    return [*found, *merged(source, spec, top)]


def edits_of_trainer(source: Source, trainer: Table, settings: Sequence[Setting]) -> list[Edit]:
    """The same for a TrainJob, which can say only some of it: the rest is its runtime's."""
    able = [s for s in settings if isinstance(s, EnvSet | Cpus | Memory | GpuDevices)]
    wanted = pod_of([s for s in able if s not in (Memory(), GpuDevices(), GpuDevices("amd"))])
    said = wanted.container
    if "resources" in said:
        said["resourcesPerNode"] = said.pop("resources")
    return merged(source, trainer, said)


def _sayable(setting: Setting, launch: Launch) -> Setting | None:
    """A setting with values for what launch/ leaves to the reader; None: not by merging."""
    match setting:
        case GpuDevices(count=None):
            return replace(setting, count=launch.ranks or launch.gpus or 1)
        case Drop() | EnvUnset() | RdmaDevices() | Memory(value=None):
            return None
    return setting


def _use_present_volumes(
    spec: Table,
    container: Table,
    mounts: Sequence[dict[str, Any]],
    volumes: Sequence[dict[str, Any]],
) -> None:
    """What is mounted there already keeps its name; other names are not taken twice."""
    own = [table for table in _tables(container, "volumeMounts") if table.text("name")]
    present = {table.text("mountPath"): table.text("name") for table in own}
    taken = {v.text("name"): v for v in _tables(spec, "volumes")}
    for mount, volume in zip(mounts, volumes, strict=True):
        name = present.get(mount["mountPath"], mount["name"])
        if mount["mountPath"] not in present and name in taken:
            is_same = taken[name].text("emptyDir", "medium") == "Memory" and "emptyDir" in volume
            name = name if is_same else f"{name}-2"
        mount["name"] = volume["name"] = name


def _keep_requests_equal(container: Table, wanted: dict[str, Any]) -> None:
    """Kubernetes wants a request for devices to be equal to their limit."""
    resources = wanted.get("resources", {})
    requests = container.table("resources", "requests")
    for name, amount in resources.get("limits", {}).items():
        if requests and requests.find(name):
            resources.setdefault("requests", {})[name] = amount


def _without(
    source: Source, container: Table, settings: Sequence[Setting], wanted: dict[str, Any]
) -> list[Edit]:
    """Takes out variables; an emptied list goes with its key."""
    names = [setting.name for setting in settings if isinstance(setting, EnvUnset)]
    key, present = container.own("env"), container.listing("env")
    gone = [
        item
        for item in present.items
        if isinstance(item.node, Table) and item.node.text("name") in names
    ]
    if not gone or key is None or len(gone) < len(present.items):
        return removed(source, present, gone)
    if "env" in wanted:
        return [replaced(source, key, wanted.pop("env"))]
    return removed(source, container, [key])


def _gone(
    spec: Table,
    container: Table,
    settings: Sequence[Setting],
    volumes: Sequence[dict[str, Any]],
) -> Iterator[tuple[Table, list[Item]]]:
    """What must not be there."""
    for volume in volumes:  # it has one kind: another than the wanted one goes
        for table in _tables(spec, "volumes"):
            if table.text("name") == volume["name"]:
                yield table, [i for i in table.items if i.key and i.key.text not in volume]
    for setting in settings:
        match setting:
            case EnvSet(name=name):
                for table in _tables(container, "env"):
                    if table.text("name") == name:
                        yield table, _present(table, "valueFrom")
            case Memory(value=None):
                for part in ("limits", "requests"):
                    if amounts := container.table("resources", part):
                        yield amounts, _present(amounts, "memory")
    keys = [_KEYS.get(s.field, s.value.partition(":")[0]) for s in settings if isinstance(s, Drop)]
    for table in (spec, container):
        yield table, _present(table, *keys)


def _present(table: Table, *keys: str) -> list[Item]:
    return [item for item in table.items if item.key and item.key.text in keys]


def _command(source: Source, container: Table, settings: Sequence[Setting]) -> list[Edit]:
    """Words before the command, if the manifest has one: the image's own is not known."""
    names = {table.text("name") for table in _tables(container, "env")}
    words = before_command(
        [s for s in settings if not (isinstance(s, EnvUnset) and s.name in names)]
    )
    present = container.at("command")
    if not words or not isinstance(present, Listing):
        return []
    return [prepended(source, present, words)]


def _tables(table: Table, key: str) -> list[Table]:
    return list(table.listing(key).tables())

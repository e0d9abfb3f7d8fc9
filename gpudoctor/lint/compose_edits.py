"""A service of a compose file changed so that it says what settings ask for."""

from collections.abc import Iterator, Sequence
from typing import Any

from gpudoctor.data import table as data
from gpudoctor.launch._shell import without
from gpudoctor.launch.compose import entries
from gpudoctor.launch.settings import (
    Drop,
    EnvUnset,
    HostNetwork,
    IpcHost,
    Setting,
)
from gpudoctor.lint.source import Edit, Source
from gpudoctor.lint.yaml_edit import merged, prepended, removed, replaced
from gpudoctor.lint.yaml_text import Item, Listing, Scalar, Table, is_template

_KEYS = {
    "shm_bytes": "shm_size",
    "network": "network_mode",
    "groups": "group_add",
    "capabilities": "cap_add",
    "security": "security_opt",
}
# Of the host: compose stops, and says where they are from, as long as nobody has set them.
_NUMBERS = {
    "KFD_GID": "${KFD_GID:?stat -c %g /dev/kfd}",
    "RENDER_GID": "${RENDER_GID:?stat -c %g /dev/dri/renderD128}",
}
_LIMITS = ("deploy", "resources", "limits")
_RESERVED = ("deploy", "resources", "reservations", "devices")
_BELOW = {"mem_limit": "memory", "cpus": "cpus", "pids_limit": "pids"}


def edits(source: Source, service: Table, settings: Sequence[Setting]) -> list[Edit]:
    """What to change in the text; nothing of a template, which becomes something else."""
    if is_template(source):
        return []
    wanted, _ = entries([setting for setting in settings if not isinstance(setting, Drop)])
    if "group_add" in wanted:
        wanted["group_add"] = [_NUMBERS.get(group, group) for group in wanted["group_add"]]
    renamed = [s for s in settings if isinstance(s, Drop) and _right(service, s) not in wanted]
    renames = {s: _right(service, s) for s in renamed if _right(service, s)}
    found = _without(source, service, [s for s in settings if s not in renames], wanted)
    for drop, right in renames.items():
        wrong = service.own(drop.value)
        found += [Edit(wrong.key.start, wrong.key.end, right)] if wrong and wrong.key else []
    limits = service.table(*_LIMITS)
    for key, below in _BELOW.items():
        # Said in both places, they must be the same.
        if key in wanted and limits and limits.find(below) and not service.find(key):
            found += merged(source, limits, {below: str(wanted.pop(key))})
    if "deploy" in wanted:
        found += _gpus(source, service, wanted)
    for key in ("volumes", "tmpfs"):
        found += _mounts(source, service, key, wanted)
    found += _command(source, service, settings)
    return [*found, *merged(source, service, wanted)]


def _right(service: Table, drop: Drop) -> str:
    """The key that is meant by one with hyphens; empty: none is, or it is there as well."""
    right = drop.value.replace("-", "_")
    known = drop.field == "unknown" and right in data("launch_keys")["service"]["value"]
    return right if known and not service.find(right) else ""


def _without(
    source: Source, service: Table, settings: Sequence[Setting], wanted: dict[str, Any]
) -> list[Edit]:
    """Takes out what contradicts the settings, or must go; an emptied list goes with its key."""
    gone: dict[str, list[Item]] = {}
    for key, name in (pair for setting in settings for pair in _against(setting)):
        item = service.own(key)
        if item and not name:
            gone[key] = [item]
        elif item and isinstance(item.node, Table | Listing):
            gone.setdefault(key, []).extend(i for i in item.node.items if _named(i, name))
    found = []
    for key, items in gone.items():
        item = service.own(key)
        if item and items:
            above = item.node
            is_part = item not in items and isinstance(above, Table | Listing)
            if isinstance(above, Table | Listing) and is_part and len(items) < len(above.items):
                found += removed(source, above, items)
            elif key in wanted:
                found.append(replaced(source, item, wanted.pop(key)))
            else:
                found += removed(source, service, [item])
    return found


def _against(setting: Setting) -> Iterator[tuple[str, str]]:
    """Keys of a service that a setting takes out, or the entry of that name under them."""
    match setting:
        case IpcHost():
            yield "shm_size", ""
        case HostNetwork():
            yield "networks", ""
            yield "ports", ""
        case EnvUnset(name=name):
            yield "environment", name
        case Drop(field="unknown" | "refused", value=value):
            yield value.partition(":")[0], ""
        case Drop(field=field, value=value):
            yield _KEYS.get(field, field), value


def _named(item: Item, name: str) -> bool:
    if item.key:
        return item.key.text == name
    text = item.node.text if isinstance(item.node, Scalar) else ""
    return name in (text, text.partition("=")[0])


def _gpus(source: Source, service: Table, wanted: dict[str, Any]) -> list[Edit]:
    """More GPUs where some are asked for already."""
    (device,) = wanted["deploy"]["resources"]["reservations"]["devices"]
    if service.text("gpus") == "all":
        del wanted["deploy"]
        return []
    for table in [*service.listing(*_RESERVED).tables(), *service.listing("gpus").tables()]:
        if "gpu" in [scalar.text for scalar in table.listing("capabilities").scalars()]:
            del wanted["deploy"]
            ids = table.own("device_ids")
            less = removed(source, table, [ids]) if ids else []
            return [*less, *merged(source, table, {"count": device["count"]})]
    return []


def _mounts(source: Source, service: Table, key: str, wanted: dict[str, Any]) -> list[Edit]:
    """Another mount where a short one of the same target stands."""
    found = []
    for value in list(wanted.get(key, ())):
        target = value["target"] if isinstance(value, dict) else value.partition(":")[0]
        for item in service.listing(key).items:
            if isinstance(item.node, Scalar) and _target(item.node.text, key) == target:
                found.append(replaced(source, item, value))
                wanted[key].remove(value)
                break
    return found


def _target(text: str, key: str) -> str:
    parts = text.split(":")
    return parts[1] if key == "volumes" and len(parts) > 1 else parts[0]


def _command(source: Source, service: Table, settings: Sequence[Setting]) -> list[Edit]:
    """Takes away a variable that the file does not set; the image's own command is not known."""
    names = {scalar.partition("=")[0] for scalar in _variables(service)}
    unset = without(s for s in settings if isinstance(s, EnvUnset) and s.name not in names)
    item = service.own("command")
    if not unset or item is None or service.find("entrypoint"):
        return []
    words = [part for word in unset for part in word.split()]
    if isinstance(item.node, Listing):
        return [prepended(source, item.node, words)]
    if isinstance(item.node, Scalar) and not item.node.is_null:
        return [replaced(source, item, " ".join([*words, item.node.text]))]
    return []


def _variables(service: Table) -> list[str]:
    node = service.at("environment")
    if isinstance(node, Table):
        return [key.text for key in node.all_keys()]
    return [scalar.text for scalar in service.listing("environment").scalars()]

"""Services of a compose file."""

import re
import shlex
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from gpudoctor.data import table as data
from gpudoctor.facts.launch import Launch, LaunchMount, Ulimit
from gpudoctor.lint.compose_edits import edits
from gpudoctor.lint.said import OTHERS, Said
from gpudoctor.lint.source import BadLaunch, Found, Source
from gpudoctor.lint.yaml_text import Listing, Node, Scalar, Table, documents, is_template
from gpudoctor.units import parse_size

ALL = -1
_LIMITS = ("deploy", "resources", "limits")
_RESERVED = ("deploy", "resources", "reservations", "devices")
_VARIABLE = re.compile(r"\$(?:\$|(\w+)|\{(\w+)(?:(:?[-?+])((?:[^{}]|\{[^{}]*\})*))?\})")


def read(source: Source) -> list[Found]:
    """Every service of the file.

    Raises:
        BadLaunch: it is not YAML, or no compose file.
    """
    roots = [root for root in documents(source) if isinstance(root, Table)]
    if not any(root.find("services") for root in roots):
        raise BadLaunch("line 1: there is no `services:`, so this is no compose file")
    found = []
    for root in roots:
        services = root.table("services")
        for key in services.all_keys() if services else ():
            service = services.table(key.text) if services else None
            if services and service and not key.text.startswith("x-"):
                launch = _Service(source, services, service).launch(key.text)
                change = partial(edits, source, service)
                found.append(Found(launch, source.line_at(key.start), change))
    return found


class _Service:
    """One service, with those that it extends below it."""

    def __init__(self, source: Source, services: Table, service: Table) -> None:
        self.said = Said(source)
        self.tables = [service]
        self.is_whole = not is_template(source)
        while len(self.tables) < 10 and (base := self.tables[-1].at("extends")):
            name = base.text if isinstance(base, Scalar) else ""
            if isinstance(base, Table):
                name = "" if base.find("file") else base.text("service")
            below = services.table(name) if name else None
            if below is None:  # in another file, which may settle anything
                self.is_whole = False
                break
            self.tables.append(below)

    def launch(self, name: str) -> Launch:
        """What it says."""
        for read in (self._words, self._lists, self._environment, self._limits, self._devices):
            read()
        known = data("launch_keys")["service"]["value"]
        for key in self.tables[0].all_keys():
            if key.text not in known and not key.text.startswith("x-") and not key.is_open:
                self.said.say("unknown", key.text, key.start)
        mode, networks = self._node("network_mode"), self._node("networks")
        if mode and networks:
            why = "`network_mode` and `networks` exclude each other"
            self.said.refuse("networks", why, networks.start)
        if not self.is_whole:
            self.said.leave_rest_open("what another file or a template adds")
        return self.said.launch("compose service", "compose", name=name)

    def _words(self) -> None:
        self._one("image", "image", str)
        self._one("ipc", "ipc", str)
        self._one("user", "user", str)
        self._one("privileged", "privileged", lambda text: text in ("true", "True", "yes"))
        self._one("network", "network_mode", str)
        networks = self._node("networks")
        first = next(iter(_names(networks)), None)
        if first:
            self.said.say("network", first.text, first.start)
        parts = [node for key in ("entrypoint", "command") if (node := self._node(key))]
        if parts:
            words = [word for node in parts for word in self._command(node)]
            self.said.say("command", tuple(words), parts[0].start)

    def _command(self, node: Node) -> list[str]:
        if isinstance(node, Scalar):
            text = self._known("command", node)
            try:
                return shlex.split(text or "")
            except ValueError as error:
                self.said.refuse("command", str(error).lower(), node.start)
                return []
        return [word for _, word in self._items("command", node)]

    def _lists(self) -> None:
        changes: tuple[tuple[str, str, Callable[[str], str]], ...] = (
            ("groups", "group_add", str),
            ("capabilities", "cap_add", lambda text: text.upper().removeprefix("CAP_")),
            ("security", "security_opt", lambda text: text.replace(":", "=", 1)),
        )
        for field, key, change in changes:
            for node in self._nodes(key):
                for at, text in self._items(field, node):
                    self.said.say(field, change(text), at)
        for node in self._nodes("ports"):
            for at, text in self._items("ports", node):
                self.said.say("ports", text, at)
            for port in node.tables() if isinstance(node, Listing) else ():
                pair = [port.text(side) for side in ("published", "target") if port.text(side)]
                self.said.say("ports", ":".join(pair), port.start)
        for node in self._nodes("tmpfs"):
            for at, text in self._items("mounts", node):
                target, _, options = text.partition(":")
                size = re.search(r"(?:^|,)size=(\d+[kmg]?)(?:,|$)", options)
                count = parse_size(size[1]) if size else None
                mount = LaunchMount(target=target, tmpfs=True, tmpfs_bytes=count)
                self.said.say("mounts", mount, at)
        for node in self._nodes("volumes"):
            for at, text in self._items("mounts", node):
                self.said.say("mounts", _volume(text), at)
            for table in node.tables() if isinstance(node, Listing) else ():
                self._mount(table)

    def _mount(self, table: Table) -> None:
        size = table.scalar("tmpfs", "size")
        mount = LaunchMount(
            target=table.text("target"),
            source=table.text("source"),
            tmpfs=table.text("type") == "tmpfs",
            tmpfs_bytes=int(size.text) if size and size.text.isdigit() else None,
            read_only=bool((flag := table.scalar("read_only")) and flag.is_true),
        )
        self.said.say("mounts", mount, table.start)

    def _environment(self) -> None:
        for node in reversed(list(self._nodes("env_file"))):
            self.said.leave_open(OTHERS, node.start, ["env_file"])
        for node in reversed(list(self._nodes("environment"))):
            for assigned, value in _assignments(node):
                name, equals, _ = assigned.partition("=")
                field = f"environment.{name}"
                if not equals and (value.is_null or isinstance(node, Listing)):  # the caller's own
                    self.said.leave_open(field, value.start, [f"${name}"])
                elif (text := self._known(field, value)) is not None:
                    text = text.partition("=")[2] if equals else text
                    self.said.say(field, text, value.start)

    def _limits(self) -> None:
        self._one("shm_bytes", "shm_size", parse_size)
        limits: tuple[tuple[str, str, str, Callable[[str], Any]], ...] = (
            ("memory_bytes", "mem_limit", "memory", lambda text: parse_size(text) or None),
            ("cpus", "cpus", "cpus", lambda text: float(text) or None),
            ("pids", "pids_limit", "pids", lambda text: int(text) or ALL),
        )
        for field, key, below, convert in limits:
            self._one(field, key if self._node(key) else (*_LIMITS, below), convert)
        for node in reversed(list(self._nodes("ulimits"))):
            for item in node.items if isinstance(node, Table) else ():
                if item.key:
                    self._ulimit(f"ulimits.{item.key.text}", item.node, item.key.start)

    def _ulimit(self, field: str, node: Node, at: int) -> None:
        parts: list[Scalar | None] = [node if isinstance(node, Scalar) else None]
        if isinstance(node, Table):
            parts = [node.scalar("soft"), node.scalar("hard")]
        numbers = [self._known(field, part) if part else None for part in parts]
        if all(text and re.fullmatch(r"-?\d+", text) for text in numbers):
            low, *high = [None if int(text) < 0 else int(text) for text in numbers if text]
            self.said.say(field, Ulimit(low, high[0] if high else low), at)
        else:
            self.said.leave_open(field, at)

    def _devices(self) -> None:
        for node in self._nodes("devices"):
            for at, text in self._items("devices", node):
                self._device(text, at)
            for table in node.tables() if isinstance(node, Listing) else ():
                self._device(table.text("source"), table.start)
        for path in (_RESERVED, ("gpus",)):
            asked = self._node(*path)
            if isinstance(asked, Scalar) and self._known("gpus", asked) == "all":
                self._gpus(ALL, "nvidia", asked.start)
            for table in asked.tables() if isinstance(asked, Listing) else ():
                self._reservation(table, is_gpu=path == ("gpus",))
        if self._node("runtime") and "gpus" not in self.said.fields:
            self._by_runtime()

    def _device(self, text: str, at: int) -> None:
        path = text.partition(":")[0] if text.startswith("/") else text
        self.said.say("devices", path, at)
        kind, equals, which = path.partition("=")
        if equals and kind in ("nvidia.com/gpu", "amd.com/gpu"):
            self._gpus(ALL if which == "all" else 1, kind.partition(".")[0], at)
        elif re.fullmatch(r"/dev/nvidia\d+", path):
            self._gpus(1, "nvidia", at)
        elif path == "/dev/kfd":
            self.said.say("gpu_vendor", "amd", at)

    def _reservation(self, table: Table, is_gpu: bool) -> None:
        able = [scalar.text for scalar in table.listing("capabilities").scalars()]
        driver = table.text("driver")
        ids = table.listing("device_ids")
        if not (is_gpu or {"gpu", "nvidia"} & set(able) or driver in ("nvidia", "cdi")):
            return
        if not able and not is_gpu:
            why = "a device needs `capabilities: [gpu]`"
            self.said.refuse("devices without capabilities", why, table.start, "gpus")
            return
        count = table.scalar("count")
        if count and ids.items:
            why = "`count` and `device_ids` exclude each other"
            self.said.refuse("device_ids", why, ids.start, "gpus")
            return
        text = self._known("gpus", count) if count else "all"
        if text is not None:
            number = ALL if text in ("all", "-1") else int(text) if text.isdigit() else 0
            number = len(ids.items) if ids.items else number
            if ids.items and any(s.text.endswith("=all") for s in ids.scalars()):
                number = ALL
            self._gpus(number, "amd" if "amd" in driver else "nvidia", table.start)

    def _gpus(self, count: int, vendor: str, at: int) -> None:
        present = self.said.fields.get("gpus", 0)
        self.said.say("gpus", ALL if ALL in (count, present) else present + count, at)
        self.said.say("gpu_vendor", vendor, at)

    def _by_runtime(self) -> None:
        node = self._node("runtime")
        if not isinstance(node, Scalar) or node.text not in ("nvidia", "amd"):
            return
        given = self.said.fields["environment"].get("NVIDIA_VISIBLE_DEVICES")
        if node.text == "amd" or given == "all":
            self._gpus(ALL, node.text, node.start)
        elif given is None:
            self.said.leave_open("gpus", node.start)  # the image may say which
        elif given not in ("", "none", "void"):
            self._gpus(len(given.split(",")), "nvidia", node.start)

    def _one(self, field: str, path: str | tuple[str, ...], convert: Callable[[str], Any]) -> None:
        """A field that one word settles."""
        node = self._node(*([path] if isinstance(path, str) else path))
        if not isinstance(node, Scalar):
            return
        text = self._known(field, node)
        if text is None:
            return
        try:
            self.said.say(field, convert(text), node.start)
        except ValueError:
            what = path if isinstance(path, str) else path[-1]
            self.said.refuse(f"{what}: {text}", "this value is not understood", node.start, field)

    def _items(self, field: str, node: Node) -> Iterator[tuple[int, str]]:
        """The words of a list, or the one word, with their places."""
        scalars = [node] if isinstance(node, Scalar) else []
        for scalar in node.scalars() if isinstance(node, Listing) else scalars:
            text = self._known(field, scalar)
            if text is not None:
                yield scalar.start, text

    def _known(self, field: str, scalar: Scalar) -> str | None:
        """A word with its ${VARIABLES} at their defaults; None if one has none."""
        words: list[str] = [scalar.text] if scalar.is_open else []

        def value(found: re.Match[str]) -> str:
            if found[0] == "$$":
                return "$"
            if found[3] in (":-", "-"):
                return found[4] or ""
            words.append(found[0])
            return found[0]

        text = _VARIABLE.sub(value, scalar.text)
        if words:
            self.said.leave_open(field, scalar.start, words)
            return None
        return text

    def _nodes(self, *path: str) -> Iterator[Node]:
        """What the service, and then those that it extends, say there."""
        key, *below = path
        for table in self.tables:
            if node := table.at(*path) or table.at(key.replace("_", "-"), *below):
                yield node

    def _node(self, *path: str) -> Node | None:
        return next(self._nodes(*path), None)


def _names(node: Node | None) -> list[Scalar]:
    if isinstance(node, Table):
        return node.all_keys()
    return list(node.scalars()) if isinstance(node, Listing) else []


def _assignments(node: Node) -> Iterator[tuple[str, Scalar]]:
    """Names and values of {NAME: value}; of [NAME=value] the whole is the value."""
    if isinstance(node, Table):
        for key in node.all_keys():
            item = node.find(key.text)
            if item and isinstance(item.node, Scalar):
                yield key.text, item.node
    elif isinstance(node, Listing):
        for scalar in node.scalars():
            yield scalar.text, scalar


def _volume(text: str) -> LaunchMount:
    source, colon, rest = text.partition(":")
    target, _, options = rest.partition(":")
    if not colon:
        source, target = "", text
    return LaunchMount(target=target, source=source, read_only="ro" in options.split(","))

"""Read what the manifests in an image's tar say: docker's own, or those of an OCI layout."""

import posixpath

import msgspec
from msgspec import Struct, field

from gpudoctor.facts.image_tar import TarImage
from gpudoctor.probes.tar import Member, Source

KEPT = 1 << 20  # bytes of one manifest
KEPT_ALL = 16 << 20
IMAGES = 1000
FILES, LINKS = (b"0", b"\0", b"7"), (b"1", b"2")
_DOCKER, _OCI = "manifest.json", "index.json"
# Docker and containerd write the first; podman and skopeo the second, perhaps the tag alone.
_NAMES = ("io.containerd.image.name", "org.opencontainers.image.ref.name")


class _Saved(Struct, rename="pascal"):
    config: str = ""
    repo_tags: list[str] | None = None
    layers: list[str] | None = None


class _Blob(Struct):
    digest: str = ""
    urls: list[str] | None = None  # then it is fetched from there, not from the tar
    annotations: dict[str, str] | None = None


class _Manifest(Struct):
    """Of one image, or an index of several."""

    config: _Blob = field(default_factory=_Blob)
    layers: list[_Blob] = field(default_factory=list)
    manifests: list[_Blob] = field(default_factory=list)


class Kept:
    """The names in a tar, and the contents of the few members that describe it."""

    def __init__(self) -> None:
        self.tops: set[str] = set()
        self._targets: dict[str, str] = {}
        self._texts: dict[str, bytes] = {}
        self._room = KEPT_ALL

    def take(self, member: Member, source: Source) -> None:
        name = member.name
        self.tops.add(name.partition("/")[0])
        target = member.target if member.kind in LINKS else ""
        if member.kind == b"2":
            target = posixpath.normpath(posixpath.join(posixpath.dirname(name), target))
        self._targets[name] = target
        describes = name in (_DOCKER, _OCI) or name.startswith("blobs/")
        if describes and member.kind in FILES and member.size <= min(KEPT, self._room):
            self._texts[name] = source.read(member.data, member.size)
            self._room -= member.size

    def images(self) -> tuple[str, tuple[TarImage, ...], str]:
        """The layout, the images, and what is wrong with the manifest."""
        name = _DOCKER if _DOCKER in self._targets else _OCI
        if name not in self._targets:
            return "", (), ""
        layout = "docker" if name == _DOCKER else "oci"
        text = self._texts.get(name, b"")
        try:
            if layout == "docker":
                saved = msgspec.json.decode(text, type=list[_Saved])
                return layout, tuple(self._saved(one) for one in saved[:IMAGES]), ""
            index = msgspec.json.decode(text, type=_Manifest)
            entries = index.manifests[:IMAGES]
            return layout, tuple(image for one in entries for image in self._indexed(one)), ""
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return layout, (), f"{name} is no manifest"

    def _has(self, name: str) -> bool:
        """Whether it is there, and also what it is a link to."""
        target = self._targets.get(name)
        return target is not None and (not target or target in self._targets)

    def _saved(self, saved: _Saved) -> TarImage:
        layers = saved.layers or []
        digest = posixpath.basename(saved.config).removesuffix(".json")
        return TarImage(
            id=f"sha256:{digest}" if len(digest) == 64 else "",
            tags=tuple(saved.repo_tags or ()),
            layers=len(layers),
            missing=tuple(n for n in (saved.config, *layers) if n and not self._has(n))[:10],
        )

    def _indexed(self, entry: _Blob, depth: int = 0) -> list[TarImage]:
        """The images of an entry; of those that it has for other machines perhaps none is there."""
        notes = entry.annotations or {}
        if notes.get("vnd.docker.reference.type") == "attestation-manifest":
            return []
        tags = tuple(dict.fromkeys(notes[name] for name in _NAMES if name in notes))[:1]
        name = _path(entry.digest)
        if not self._has(name):
            return [TarImage(tags=tags, missing=(name,))] if depth == 0 else []
        manifest = msgspec.json.decode(self._texts.get(name, b""), type=_Manifest)
        if manifest.manifests and depth == 0:
            inner = [i for one in manifest.manifests[:IMAGES] for i in self._indexed(one, 1)]
            inner = [msgspec.structs.replace(image, tags=tags) for image in inner]
            return inner or [TarImage(tags=tags, missing=(_path(manifest.manifests[0].digest),))]
        blobs = [manifest.config, *manifest.layers]
        needed = [_path(blob.digest) for blob in blobs if not blob.urls]
        return [
            TarImage(
                id=manifest.config.digest,
                tags=tags,
                layers=len(manifest.layers),
                missing=tuple(name for name in needed if not self._has(name))[:10],
            )
        ]


def _path(digest: str) -> str:
    return "blobs/" + digest.replace(":", "/")

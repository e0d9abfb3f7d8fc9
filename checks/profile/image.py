"""The container image that comes as a file."""

import shlex

from gpudoctor import (
    MIB,
    Absent,
    Demands,
    Finding,
    Fix,
    ImageTar,
    TarImage,
    check,
    count_of,
    fail,
    ok,
    size,
    skip,
    unknown,
    warn,
)

END_MARK = "the end mark"  # as the fact has it; nobody needs it when all else is there
UNFILLED = MIB  # bytes behind the end; padding is 10 KiB at most
LOCAL = "localhost/"  # podman's name for what has no registry; docker takes it for a registry


@check(
    owner="image",
    symptoms=[
        r"archive/tar: invalid tar header",
        r"Error processing tar file\(exit status 1\)",
        r"docker-import-\d+/\S+: no such file or directory",
        r"unrecognized image format",
        r"Unable to find image '\S+' locally",
    ],
)
def profile_image(demands: Demands, image_tar: ImageTar | Absent) -> Finding:
    """The image file is complete and holds the image that is meant.

    A download that broke off looks like a file. `docker load` reads gigabytes of it before it
    says "archive/tar: invalid tar header" or "unexpected EOF", and of a file that holds another
    tag the job says "Unable to find image '...' locally".
    """
    if not demands.image_tar:
        return skip("no image is asked for: --image-tar FILE, or `image-tar` of a profile")
    if isinstance(image_tar, Absent):
        return unknown(f"{demands.image_tar} was not looked at: {image_tar.absent}")
    tar = image_tar
    missing = [name for image in tar.images for name in image.missing]
    if fault := _unusable(tar) or _cut(tar, missing):
        return fault
    whole = not (tar.unread or tar.cut)
    if tar.layout and missing and whole:
        evidence = [f"not in it: {name}" for name in missing[:10]]
        summary = f"{_name(tar)} lacks {count_of(len(missing), 'part')} of its own manifest"
        return fail(summary, _again(tar), evidence=evidence, basis="measured")
    if not tar.layout and (whole or tar.root_tree):
        return _no_image(tar, demands.image_tag)
    if tar.images and (fault := _wrong_tag(tar, demands.image_tag)):
        return fault
    if tar.unread:
        return unknown(f"{_name(tar)}: {tar.unread}; `{_tester(tar)}` reads all of it")
    tags = ", ".join(tag for image in tar.images for tag in image.tags) or "no tag"
    layers = sum(image.layers for image in tar.images)
    evidence = ["its layers are all there; what is in them was not read"]
    if tar.layout == "oci":
        evidence.append(
            "an OCI layout without manifest.json: Docker with its classic store refuses"
        )
    return ok(f"{_name(tar)}: {tags}, {count_of(layers, 'layer')}, {size(tar.bytes)}", evidence)


def _unusable(tar: ImageTar) -> Finding | None:
    """A file that is none, or of another kind."""
    at = shlex.quote(tar.path)
    if tar.error.startswith("ENOENT"):
        text = f"Download the image to {tar.path}, or name where it is with --image-tar"
        return fail(f"{tar.path} is not there", Fix(text=text), basis="measured")
    if tar.error:
        return fail(f"{tar.path}: {tar.error}", Fix(commands=[f"ls -l {at}"]), basis="measured")
    if tar.mistaken:
        text = "Get the image itself: this was saved in its place"
        look = Fix(text=text, commands=[f"file {at}", f"head -c 300 {at}"])
        if tar.mistaken == "Git LFS pointer":
            folder = shlex.quote(tar.path.rpartition("/")[0] or "/")
            look = Fix(text=text, commands=[f"git -C {folder} lfs pull"])
        return fail(f"{_name(tar)} is no image: {tar.mistaken}", look, basis="measured")
    if tar.corrupt:
        summary = f"{_name(tar)} is corrupt at {tar.at} of {size(tar.bytes)}: {tar.corrupt}"
        return fail(summary, _again(tar), basis="measured")
    return None


def _cut(tar: ImageTar, missing: list[str]) -> Finding | None:
    """A file that ends too early, or was made long before it was filled."""
    whole = tar.layout and not missing
    if tar.unfilled > UNFILLED and not whole:
        summary = f"{_name(tar)} has only zeros from {size(tar.at)} of {size(tar.bytes)} on"
        return fail(summary, _again(tar), basis="measured")
    if tar.downloading:
        summary = f"{_name(tar)} is still being downloaded: {tar.downloading}"
        text = "Let the download end: start it again, and it goes on where it stopped"
        return fail(summary, Fix(text=text), basis="measured")
    if not tar.cut or (tar.cut == END_MARK and whole):
        return None
    least = f", {size(tar.lacking)} or more are missing" if tar.lacking else ""
    summary = f"{_name(tar)} is cut off at {size(tar.bytes)}{least}"
    text = f"Download the rest: curl -C - -o {shlex.quote(tar.path)} and the address it came from"
    evidence = [f"it ends inside {tar.cut}" if tar.cut != END_MARK else "it has no end mark"]
    fix = Fix(text=text, commands=[f"sha256sum {shlex.quote(tar.path)}"])
    return fail(summary, fix, evidence=evidence, basis="measured")


def _no_image(tar: ImageTar, tag: str) -> Finding:
    """A sound tar without a manifest."""
    at = shlex.quote(tar.path)
    if tar.root_tree:
        summary = f"{_name(tar)} is the file system of a container, not an image"
        text = "Take it in with `docker import`: `docker load` cannot read it; CMD and ENV are lost"
        command = f"docker import {at} {shlex.quote(tag or 'imported:latest')}"
        return fail(summary, Fix(text=text, commands=[command]), basis="measured")
    summary = f"{_name(tar)} is a tar without manifest.json or index.json: no image"
    look = Fix(text="Get the file that `docker save` wrote", commands=[f"tar -tf {at} | head"])
    return fail(summary, look, basis="measured")


def _wrong_tag(tar: ImageTar, wanted: str) -> Finding | None:
    """An image by another name than the job will use."""
    tags = [tag for image in tar.images for tag in image.tags]
    if not wanted or any(_full(tag) == _full(wanted) for tag in tags):
        return None
    if any(tag == _full(wanted).rpartition(":")[2] for tag in tags):
        return None  # an OCI layout that tells nothing but the tag
    there = tags[0] if tags else _id(tar.images)
    fix = Fix(
        text="Load it, and give it the name that the job uses",
        commands=[
            f"docker load -i {shlex.quote(tar.path)}",
            f"docker tag {shlex.quote(there)} {shlex.quote(wanted)}",
        ],
    )
    evidence = [f"{image.id or 'an image'}: {', '.join(image.tags)}" for image in tar.images[:10]]
    if any(_full(tag.removeprefix(LOCAL)) == _full(wanted) for tag in tags):
        summary = f"it holds {there}: podman finds that as {wanted}, docker does not"
        return warn(summary, fix, evidence=evidence, basis="vendor")
    summary = f"{_name(tar)} holds {there or 'no name'}, not {wanted}"
    return fail(summary, fix, evidence=evidence, basis="measured")


def _full(name: str) -> str:
    """A name as docker completes it: "busybox" is docker.io/library/busybox:latest."""
    first, _, rest = name.partition("/")
    if not rest or not ("." in first or ":" in first or first == "localhost"):
        name = f"docker.io/{name}" if rest else f"docker.io/library/{name}"
    return name if ":" in name.rpartition("/")[2] or "@" in name else f"{name}:latest"


def _again(tar: ImageTar) -> Fix:
    at = shlex.quote(tar.path)
    text = "Download it anew, not on top of this, and compare its check sum with the source's"
    return Fix(text=text, commands=[f"sha256sum {at}"])


def _tester(tar: ImageTar) -> str:
    tool = {"gzip": "gzip", "xz": "xz", "bzip2": "bzip2", "zstd": "zstd"}.get(tar.compression)
    return f"{tool} -t {shlex.quote(tar.path)}" if tool else f"tar -tf {shlex.quote(tar.path)}"


def _id(images: tuple[TarImage, ...]) -> str:
    return next((image.id for image in images if image.id), "")


def _name(tar: ImageTar) -> str:
    return tar.path.rpartition("/")[2]

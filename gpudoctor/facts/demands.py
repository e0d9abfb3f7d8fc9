"""What a profile asks for beyond the machine: packages, variables, files, an image."""

from typing import Literal

from msgspec import Struct

from gpudoctor.snapshot import Fact

Verdict = Literal["required", "harmless", "stale", "harmful"]


class PackageDemand(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A distribution that the job's Python must have.

    `versions` are specifiers as pip takes them, "==1.13.1" or ">=2.0,<3"; empty: any. `options`
    are pip's, for this one, "--no-build-isolation".
    """

    name: str
    versions: str = ""
    options: str = ""
    why: str = ""


class VariableDemand(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is thought of an environment variable.

    Attributes:
        verdict: required: it must have `value`; harmless: with `value` it does nothing here;
            stale: it had a use once; harmful: with `value` it makes the job slower or break.
        value: of which the verdict speaks; empty: any.
        why: for the user, with the source.
    """

    name: str
    verdict: Verdict
    value: str = ""
    why: str = ""


class Demands(Fact, frozen=True, kw_only=True):
    """Told by a profile and by options; nothing of it is seen on the machine.

    Attributes:
        by: "profile cpm-9g", "--data".
        python: specifiers of the job's Python, "==3.8.*"; empty: any.
        files: that must be there and readable, relative to the job's working directory.
        image_tar: the file that `docker load` will read; empty: none was named.
        image_tag: "name:tag" that it must hold; empty: any.
    """

    by: str = ""
    python: str = ""
    packages: tuple[PackageDemand, ...] = ()
    variables: tuple[VariableDemand, ...] = ()
    files: tuple[str, ...] = ()
    image_tar: str = ""
    image_tag: str = ""

    @property
    def basis(self) -> Literal["vendor", "site"]:
        """Whose word they are: a profile's of ours tells its sources, another is the site's."""
        return "site" if "/" in self.by or self.by.endswith(".toml") else "vendor"

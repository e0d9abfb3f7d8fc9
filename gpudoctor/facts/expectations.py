"""What the user expects of the machine, by --expect or the configuration."""

from gpudoctor.snapshot import Fact

STATED = ("gpus",)  # what may be stated


class Expectations(Fact, frozen=True, kw_only=True):
    """Stated numbers; None: nothing was stated. They are set when facts are judged."""

    gpus: int | None = None
    told_by: str = ""

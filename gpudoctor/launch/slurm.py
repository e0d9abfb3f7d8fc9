"""docker run."""

from collections.abc import Sequence

from gpudoctor.launch import Spelling
from gpudoctor.launch.settings import Setting


def spell(settings: Sequence[Setting]) -> Spelling:
    return Spelling(text=repr(settings))

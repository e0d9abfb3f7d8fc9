"""`python -m gpudoctor.triage.words` tells by which words to look for each pattern: words.json.

To read them off hundreds of patterns takes a third of a second; so it is done once, by
`make words`, and a test holds that it was done.
"""

import sys

import msgspec

from gpudoctor.triage.look import Story
from gpudoctor.triage.needles import Needles
from gpudoctor.triage.rule import builtin


def words() -> dict[str, list[str]]:
    """Of each pattern those of which one must stand in whatever it matches."""
    patterns = sorted({one.pattern for one in Story(()).seekers(builtin())})
    sets = {pattern: next(iter(Needles(pattern).lower), ()) for pattern in patterns}
    return {pattern: [word.decode() for word in needed] for pattern, needed in sets.items()}


if __name__ == "__main__":
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(words()), indent=1).decode() + "\n")

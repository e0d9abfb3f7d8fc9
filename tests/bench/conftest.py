"""What all benches share."""

import pytest


@pytest.fixture
def say(capsys):
    """Print although pytest captures: the figures are what this lane is for."""

    def line(text: str) -> None:
        with capsys.disabled():
            print(f"\nbench: {text}", end=" ")

    return line

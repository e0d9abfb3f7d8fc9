"""gpudoctor.units: words that fit."""

import pytest

from gpudoctor.units import brief, parse_count, parse_size


@pytest.mark.parametrize(
    ("text", "told"),
    [
        pytest.param("short enough", "short enough", id="short"),
        pytest.param("n4 has no way to n5: refused", "n4 has no way to...", id="whole words"),
        pytest.param("n4 takes none from n5: refused", "n4 takes none from...", id="no colon"),
        pytest.param("/a/very/long/path/of/a/file", "/a/very/long/path/...", id="one long word"),
    ],
)
def test_brief(text, told):
    assert brief(text, 21) == told


@pytest.mark.parametrize("parse", [parse_count, parse_size])
def test_more_than_there_is(parse):
    with pytest.raises(ValueError, match=r"'9999.*' is more than there is"):
        parse("9" * 400)

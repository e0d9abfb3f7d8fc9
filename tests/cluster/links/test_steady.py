"""The rate of what flows steadily, out of when how many bytes had come."""

import pytest

from gpudoctor.cluster.links.steady import rate


def flow(speed, *, begin=0.0, seconds=1.0, step=0.01, burst=0):
    count = round(seconds / step)
    return [(begin + i * step, burst + round(speed * i * step)) for i in range(count + 1)]


@pytest.mark.parametrize(
    ("streams", "expected"),
    [
        pytest.param([flow(1e6)], 1e6, id="one"),
        pytest.param([flow(1e6), flow(3e6, begin=0.003)], 4e6, id="several are added"),
        pytest.param([flow(1e6), flow(1e6, begin=0.3)], 2e6, id="while all of them flow"),
        pytest.param([[(0.0, 0), *flow(1e6, begin=0.01, burst=10**8)]], 1e6, id="after a burst"),
        pytest.param([[*flow(1e5, seconds=0.3), *flow(1e6, begin=0.3)]], 1e6, id="after a start"),
        pytest.param([], None, id="no stream"),
        pytest.param([[]], None, id="nothing came"),
        pytest.param([flow(1e6)[:2]], None, id="too little came"),
        pytest.param([flow(1e6), []], None, id="one had nothing"),
        pytest.param([flow(1e6), flow(1e6, begin=9)], None, id="not at the same time"),
        pytest.param([[(0.0, 1), (0.0, 2), (0.0, 3)]], None, id="at one moment"),
    ],
)
def test_rate(streams, expected):
    assert rate(streams) == (None if expected is None else pytest.approx(expected, rel=0.01))

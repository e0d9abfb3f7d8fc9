"""gpudoctor.catalogue: what is said of the checks themselves."""

import pytest

from gpudoctor.catalogue import readable


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        (r"(CUDA|HIP) out of memory", "(CUDA|HIP) out of memory"),
        (r"torch(\.cuda)?\.OutOfMemoryError", "torch.OutOfMemoryError"),
        (r"ibv_create_(?:qp|cq).* failed", "ibv_create_(qp|cq)... failed"),
        (r"exitcode\s*: -9", "exitcode : -9"),
        (r"module '[\w.]+' has no attribute", "module '...' has no attribute"),
        (r"invalid load key, '[v<]'", "invalid load key, '[v<]'"),
        (r"Timed out after \d+ seconds", "Timed out after N seconds"),
        (r"\[Errno 2\] No such file", "[Errno 2] No such file"),
    ],
)
def test_patterns_are_shown_as_the_messages_that_they_find(pattern, message):
    assert readable(pattern) == message

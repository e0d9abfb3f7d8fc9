"""How fast bytes came once they flowed, from when how many had come."""

from collections.abc import Sequence

STARTUP = 0.4  # of the time: TCP's slow start, and what a token bucket had saved up

Sample = tuple[float, int]  # seconds, and the bytes until then


def rate(streams: Sequence[Sequence[Sample]]) -> float | None:
    """Bytes a second of all streams together, while all of them flowed; None: too little came."""
    if not streams or any(len(samples) < 3 for samples in streams):
        return None
    begin = max(samples[0][0] for samples in streams)
    end = min(samples[-1][0] for samples in streams)
    begin += STARTUP * (end - begin)
    if end <= begin:
        return None
    came = sum(_until(samples, end) - _until(samples, begin) for samples in streams)
    return came / (end - begin)


def _until(samples: Sequence[Sample], moment: float) -> float:
    """Bytes that had come by then, on a straight line between two samples."""
    before = samples[0]
    for sample in samples:
        if sample[0] >= moment:
            span = sample[0] - before[0]
            share = (moment - before[0]) / span if span else 1.0
            return before[1] + share * (sample[1] - before[1])
        before = sample
    return float(before[1])

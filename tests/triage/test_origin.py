"""Who said a line, and when, as launchers, loggers and kernels put it before the words."""

import pytest

from gpudoctor.triage.origin import origin


@pytest.mark.parametrize(
    ("line", "text", "known"),
    [
        ("[rank3]: words", "words", {"rank": 3}),
        ("[default3]:words", "words", {"rank": 3}),
        ("[3]: words", "words", {"rank": 3}),
        ("[Rank 3] words", "words", {"rank": 3}),
        (" 3: words", "words", {"rank": 3}),
        ("[1,3]<stderr>:words", "words", {"rank": 3}),
        ("[prterun-host-1@1,3]<stderr>: words", "words", {"rank": 3}),
        ("[PG ID 0 PG GUID 0(default_pg) Rank 5] words", "words", {"rank": 5}),
        (
            "[rank3]:[E1121 10:22:33.123456789 ProcessGroupNCCL.cpp:616] [Rank 3] words",
            "words",
            {"rank": 3, "time": "11-21 10:22:33", "clock": "local"},
        ),
        (
            "W1121 10:22:33.000000 123 torch/distributed/elastic/multiprocessing/api.py:897] words",
            "words",
            {"time": "11-21 10:22:33"},
        ),
        (
            "gpu-1:5181:5232 [2] NCCL INFO words",
            "NCCL INFO words",
            {"host": "gpu-1", "pid": 5181, "gpu": 2},
        ),
        (
            "[2026-05-05 06:16:47] gpu-1:51:52 [2] net_ib.cc:245 NCCL WARN words",
            "net_ib.cc:245 NCCL WARN words",
            {"host": "gpu-1", "time": "2026-05-05 06:16:47", "clock": "local"},
        ),
        ("trainer-1  | words", "words", {}),
        ("2026-05-05T06:16:47.123456789Z words", "words", {"clock": "utc", "when": 10909007}),
        ("2026-05-05T08:16:47+02:00 words", "words", {"clock": "utc", "when": 10909007}),
        ("2026-05-05T06:16:47.1Z stderr F words", "words", {"clock": "utc"}),
        ("2025-01-01 10:00:00,123 - words", "words", {"clock": "local"}),
        ("[ 1234.567890] words", "words", {"clock": "boot", "when": 1234.56789}),
        ("[Fri Nov 21 10:11:12 2025] words", "words", {"time": "Nov 21 10:11:12"}),
        ("Nov 21 10:11:12 gpu-3 kernel: [ 12.345678] words", "words", {"host": "gpu-3"}),
        ("2025-11-21T10:11:12+0000 gpu-3 kernel: words", "words", {"host": "gpu-3"}),
        ("worker-1: [2024-01-01 10:00:00,123] [INFO] words", "words", {"host": "worker-1"}),
        ("(RayTrainWorker pid=12, ip=10.0.0.1) words", "words", {"pid": 12, "host": "10.0.0.1"}),
        ("RuntimeError: [enforce fail at x.cpp:1]", "RuntimeError: [enforce fail at x.cpp:1]", {}),
        ("-- Process 1 terminated", "-- Process 1 terminated", {}),
        ("10:11:12 [0] words", "10:11:12 [0] words", {"host": ""}),
    ],
)
def test_prefix(line, text, known):
    found = origin(line)

    assert found.text == text
    assert {name: getattr(found, name) for name in known} == known

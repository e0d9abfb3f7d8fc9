"""A fleet of 300 nodes, made once."""

from pathlib import Path

import pytest

from gpudoctor import fleet
from gpudoctor.fleet import Fleet
from tests.fleet import synthetic

HOSTILE = "<script>alert(1)</script>\u202e\"'&amp;\x1b[31m,[1-3]"


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    """The reports of 300 nodes, some broken, one foreign, one from a run before."""
    made = tmp_path_factory.mktemp("fleet")
    synthetic.write(made, 300)
    (made / "old").mkdir()
    kinds = synthetic.Kinds()
    before = synthetic.named(kinds, "gpu-001-01", "H100", synthetic.SHM)
    (made / "old" / "gpu-001-01.json").write_bytes(
        before.replace(b"2026-11-20T14", b"2026-11-19T14")
    )
    whole = (made / "gpu-001-02.json").read_bytes()
    for name in ("cut-1.json", "cut-2.json"):
        (made / name).write_bytes(whole[: len(whole) // 2])
    (made / "package.json").write_text('{"name": "something else"}')
    return made


@pytest.fixture(scope="session")
def found(folder) -> Fleet:
    """What is found in it."""
    return fleet.gather(fleet.pieces([str(folder)]), made="2026-11-20T16:00:00Z")


@pytest.fixture(scope="session")
def hostile(tmp_path_factory) -> Fleet:
    """Nodes whose names and words would like to be obeyed."""
    made = tmp_path_factory.mktemp("hostile")
    kinds = synthetic.Kinds()
    quoted = HOSTILE.replace("\\", "\\\\").replace('"', '\\"').replace("\x1b", "\\u001b")
    for number in range(8):
        name = f"{quoted}{number}" + "x" * (10_000 if number == 0 else 0)
        raw = synthetic.named(kinds, name, "H100", synthetic.NARROW)
        raw = raw.replace(b"GPU 3: PCIe x8 of x16", f"GPU 3: {quoted}".encode())
        (made / f"{number}.json").write_bytes(raw)
    return fleet.gather(fleet.pieces([str(made)]))

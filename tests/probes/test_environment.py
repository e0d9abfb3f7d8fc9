"""probes/environment.py: what is told of variables, and what lies in library directories."""

import threading

import msgspec
import pytest

from gpudoctor import Absent, Demands, Environment, Machine, VariableDemand
from gpudoctor.probes import environment as module
from gpudoctor.probes.environment import environment


def looked(**env: str) -> Environment:
    found = environment(Machine(env=env))
    assert isinstance(found, Environment)
    return found


def test_only_known_names_have_values():
    found = looked(NCCL_DEBUG="INFO", NCCL_UNHEARD_OF="x", AWS_SECRET_ACCESS_KEY="s", EDITOR="vi")

    assert found.values == {"NCCL_DEBUG": "INFO"}
    assert found.names == ("NCCL_DEBUG", "NCCL_UNHEARD_OF")


def test_names_that_a_profile_asks_about_and_no_value_but_its_own():
    wanted = [
        VariableDemand(name="SITE_RACK", value="a7", verdict="required"),
        VariableDemand(name="SITE_ROW", value="7", verdict="required"),
        VariableDemand(name="SITE_TOKEN", verdict="required"),
        VariableDemand(name="SITE_EMPTY", verdict="required"),
        VariableDemand(name="SITE_NOT_SET", verdict="required"),
        VariableDemand(name="NCCL_DEBUG", value="WARN", verdict="harmless"),
    ]
    env = {
        **{"SITE_RACK": "a7", "SITE_ROW": "8", "SITE_TOKEN": "s3cret", "SITE_EMPTY": ""},
        **{"SITE_OTHER": "s3cret", "NCCL_DEBUG": "INFO"},
    }

    found = environment(Machine(env=env, demands=Demands(variables=tuple(wanted))))

    assert isinstance(found, Environment)
    assert found.values == {"NCCL_DEBUG": "INFO", "SITE_RACK": "a7", "SITE_EMPTY": ""}
    assert found.names == ("NCCL_DEBUG", "SITE_RACK", "SITE_EMPTY", "SITE_ROW", "SITE_TOKEN")
    assert found.asked == ("SITE_RACK", "SITE_ROW", "SITE_TOKEN", "SITE_EMPTY", "SITE_NOT_SET")


def test_slips_of_a_prefix_are_named():
    assert looked(NCLL_DEBUG="1", nccl_debug="1", NCLEAR="1").names == ("NCLL_DEBUG", "nccl_debug")


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        pytest.param("https_proxy", "http://me:pw@p:1", "http://***@p:1", id="credentials"),
        pytest.param("NCCL_COMM_ID", "10.0.0.1:29500", "10.0.0.1:29500", id="address"),
        pytest.param("XLA_FLAGS", "x" * 9000, "x" * 4096 + "...", id="long"),
    ],
)
def test_values_are_safe_to_tell(name, value, expected):
    assert looked(**{name: value}).values == {name: expected}


def test_bytes_that_are_no_text_do_not_stop_it():
    found = looked(HF_HOME="/caf\udce9", LD_LIBRARY_PATH="/caf\udce9", NCCL_X_="\udce9")

    assert b"/caf?" in msgspec.json.encode(found)


def test_library_directories(tmp_path):
    for name in ("libnccl.so.2", "libnccl.so.2.18.3", "libc.so.6", "libcudnn_ops.so.9", "nccl.h"):
        (tmp_path / name).touch()
    stubs = tmp_path / "stubs"
    stubs.mkdir()
    (stubs / "libcuda.so").touch()
    compat = tmp_path / "compat" / "lib"

    found = looked(LD_LIBRARY_PATH=f"{tmp_path}:{stubs}::relative:{compat}:{tmp_path}")
    here, second, third = found.library_dirs

    assert here.libraries == ("libcudnn_ops.so.9", "libnccl.so.2", "libnccl.so.2.18.3")
    assert here.version_of("libnccl", 2) == (2, 18, 3)
    assert here.version_of("libnccl", 1) == ()
    assert second.is_stubs
    assert second.libraries == ("libcuda.so",)
    assert third.is_compat
    assert not third.exists


def test_a_directory_that_hangs_costs_only_itself(tmp_path, monkeypatch):
    released = threading.Event()

    class Hanging(Machine):
        def list(self, path: str) -> list[str]:
            if path == "/nfs":
                released.wait()
            return super().list(path)

    monkeypatch.setattr(module, "SECONDS", 0.2)
    found = environment(Hanging(env={"LD_LIBRARY_PATH": f"/nfs:{tmp_path}", "NCCL_DEBUG": "INFO"}))
    released.set()

    assert [d.answered for d in found.library_dirs] == [False, True]
    assert found.values["NCCL_DEBUG"] == "INFO"


@pytest.mark.parametrize(
    ("value", "entries", "missing"),
    [
        pytest.param("", (), (), id="empty"),
        pytest.param("/gone.so", ("/gone.so",), ("/gone.so",), id="gone"),
        pytest.param("/gone.so:/:libx.so", ("/gone.so", "/", "libx.so"), ("/gone.so",), id="three"),
        pytest.param("/gone.so libx.so ", ("/gone.so", "libx.so"), ("/gone.so",), id="spaces"),
        pytest.param("/usr/$LIB/x.so", ("/usr/$LIB/x.so",), (), id="only ld.so knows"),
    ],
)
def test_preload(value, entries, missing):
    found = looked(LD_PRELOAD=value)

    assert found.preload == entries
    assert found.preload_missing == missing


def test_under_another_root(tmp_path):
    folder = tmp_path / "opt" / "lib"
    folder.mkdir(parents=True)
    (folder / "libcudnn.so.9").touch()

    found = environment(Machine(root=str(tmp_path), env={"LD_LIBRARY_PATH": "/opt/lib"}))

    assert found.library_dirs[0].path == "/opt/lib"
    assert found.library_dirs[0].libraries == ("libcudnn.so.9",)


def test_a_tree_has_no_variables_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("NCCL_P2P_DISABLE", "1")

    found = environment(Machine(root=str(tmp_path)))

    assert isinstance(found, Absent)
    assert not found.broken

"""gpudoctor/fleet/expected.py: lists of nodes as people have them."""

import pytest

from gpudoctor.fleet import BadInventory, expected_nodes, inventory


@pytest.mark.parametrize(
    ("text", "names"),
    [
        pytest.param("gpu-[01-03]", ["gpu-01", "gpu-02", "gpu-03"], id="folded"),
        pytest.param("a,b", ["a", "b"], id="commas"),
        pytest.param("a b\tc", ["a", "b", "c"], id="blanks"),
    ],
)
def test_a_host_list(text, names):
    assert list(expected_nodes(text).names) == names


def test_a_file_of_host_lists(tmp_path):
    path = tmp_path / "nodes"
    path.write_text("# rack 1\ngpu-[01-02]\n\ngpu-09  # new\n")

    assert list(expected_nodes(str(path)).names) == ["gpu-01", "gpu-02", "gpu-09"]


RACKS = {"a": {"rack": "c1", "switch": "leaf-1"}, "b": {"rack": "c2"}}


@pytest.mark.parametrize(
    ("text", "places"),
    [
        pytest.param("node,rack,switch\na,c1,leaf-1\nb,c2,\n", RACKS, id="CSV"),
        pytest.param("\ufeffRack, HostName ,switch\nc1,a,leaf-1\nc2,b\n", RACKS, id="any order"),
        pytest.param(
            'rack,name\nc1,"n[1-2]"\n', {n: {"rack": "c1"} for n in ("n1", "n2")}, id="folded"
        ),
        pytest.param(
            '[{"name": "a", "rack": "c1", "switch": "leaf-1"}, {"name": "b", "rack": "c2"}]',
            RACKS,
            id="JSON list",
        ),
        pytest.param(
            '{"a": {"rack": "c1", "switch": "leaf-1"}, "b": {"rack": "c2"}}',
            RACKS,
            id="JSON object",
        ),
        pytest.param('["a", "b"]', {"a": {}, "b": {}}, id="JSON names"),
        pytest.param("a\nb\n", {"a": {}, "b": {}}, id="lines"),
        pytest.param("a,b\n", {"a": {}, "b": {}}, id="a line that is no header"),
    ],
)
def test_an_inventory(tmp_path, text, places):
    path = tmp_path / "inventory"
    path.write_text(text)

    assert dict(inventory(str(path)).places) == places


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "names no node"),
        ("gpu-[1-", "brackets"),
        ("[1, 2]", "no list of nodes"),
        ('[{"rack": "c1"}]', "none of the columns"),
        ("gpu-[1-999999]", "no range"),
    ],
)
def test_a_list_that_names_no_nodes(tmp_path, text, said):
    path = tmp_path / "inventory"
    path.write_text(text)

    with pytest.raises(BadInventory, match=said):
        inventory(str(path))


def test_a_file_that_is_not_there():
    with pytest.raises(BadInventory, match="cannot be read"):
        inventory("/nonexistent/inventory.csv")

"""variables.py: slips are told from variables that are merely alike."""

import pytest

from gpudoctor.rules import variables


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("NCCL_DEBUF", "NCCL_DEBUG"),
        ("NCCL_DEGUB", "NCCL_DEBUG"),
        ("NCCL_IBHCA", "NCCL_IB_HCA"),
        ("NCCL_SOCKET_IF_NAME", "NCCL_SOCKET_IFNAME"),
        ("NCCL_P2P_DISABLED", "NCCL_P2P_DISABLE"),
        ("CUDA_VISBLE_DEVICES", "CUDA_VISIBLE_DEVICES"),
        ("PYTORCH_CUDA_ALLOC_CONFIG", "PYTORCH_CUDA_ALLOC_CONF"),
        ("TORCH_NCCL_ASYNC_ERROR_HANDLNG", "TORCH_NCCL_ASYNC_ERROR_HANDLING"),
        ("PYTROCH_ALLOC_CONF", "PYTORCH_ALLOC_CONF"),
        ("NCCL_DEBUG", ""),
        ("NCCL_IB_XX", ""),
        ("NCCL_FASTRAK_DEBUGS", ""),
        ("CUDA_VERSION_MAJOR", ""),
        ("CUDA_HOME_12", ""),
        ("TORCH_VERSION2", ""),
        ("HCCL_DEBUG", ""),
        ("MY_NCCL_DEBG", ""),
        ("PATH", ""),
    ],
)
def test_meant(name, right):
    assert variables.meant(name) == right


def test_a_variable_that_the_table_lacks_is_hardly_ever_called_a_slip(monkeypatch):
    everything = dict(variables.known())
    names = [name for name in everything if variables.is_of_a_library(name)]
    taken = []
    for name in names:
        rest = {other: row for other, row in everything.items() if other != name}
        monkeypatch.setattr(variables, "known", lambda rest=rest: rest)
        if variables.meant(name):
            taken.append(name)

    assert len(names) > 800
    assert len(taken) <= len(names) * 0.005, taken

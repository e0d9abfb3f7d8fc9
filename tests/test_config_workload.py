"""The [workload] table: sizes, counts and words, in a file and in a profile."""

import pytest

from gpudoctor import config


@pytest.mark.parametrize(
    ("line", "field", "value"),
    [
        ('model-params = "10B"', "model_params", 10**10),
        ('model-params = "345M"', "model_params", 345 * 10**6),
        ('model-params = "7e9"', "model_params", 7 * 10**9),
        ("model-params = 7_000_000_000", "model_params", 7 * 10**9),
        ('batch-bytes = "10MB"', "batch_bytes", 10 << 20),
        ('checkpoint-bytes = "14g"', "checkpoint_bytes", 14 << 30),
        ('workers = "8"', "workers", 8),
        ('method = "lora"', "method", "lora"),
        ('sharding = "zero3"', "sharding", "zero3"),
    ],
)
def test_value(tmp_path, line, field, value):
    path = tmp_path / "gpudoctor.toml"
    path.write_text(f"[workload]\n{line}\n")

    assert config.load(str(path)).workload == {field: value}


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('model-params = "10 GiB"', "workload.model-params: '10 GiB' is not a count"),
        ('method = "finetune"', "workload.method: 'finetune' is none of: pretrain, full, lora"),
        ('sharding = "fsdp"', "workload.sharding: 'fsdp' is none of: none, zero1, zero2, zero3"),
        ("sharding = 3", "workload.sharding: 3 is none of"),
    ],
)
def test_mistake(tmp_path, line, says):
    path = tmp_path / "site.toml"
    path.write_text(f'about = "ours"\n[workload]\n{line}\n')

    with pytest.raises(config.BadConfig) as bad:
        config.profile(str(path))

    assert says in str(bad.value)

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
        ("model-params = 10e9", "model_params", 10**10),
        ("recompute = true", "recompute", 1),
        ("offload = false", "offload", 0),
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
        ("workers = 1.5", "got `float`"),
        ("workers = inf", "got `float`"),
        ("workers = true", "got `bool`"),
        ("workers = 1e300", "workload.workers: more than there is of anything"),
        ('model-params = "' + 400 * "9" + '"', "is more than there is of anything"),
        ("workers = " + 5000 * "9", "not TOML"),
        ("workers = " + 5000 * "[", "not TOML"),
        ("model-parallel = 0", "workload.model-parallel: 0 is below 1"),
        ("local-ranks = 0", "workload.local-ranks: 0 is below 1"),
    ],
)
def test_mistake(tmp_path, line, says):
    path = tmp_path / "site.toml"
    path.write_text(f'about = "ours"\n[workload]\n{line}\n')

    with pytest.raises(config.BadConfig) as bad:
        config.profile(str(path))

    assert says in str(bad.value)

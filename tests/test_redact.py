"""redact.py: what may be told, and secrets that must not."""

import pytest

from gpudoctor.redact import VALUE_LIMIT, cut_secrets, may_tell, value_of

KEY = "AbCd0123" * 5


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("http://me:pw@proxy:3128", "http://***@proxy:3128", id="URL"),
        pytest.param("http://me:p@w@proxy", "http://***@proxy", id="at sign in a password"),
        pytest.param("ssh://git@host/x", "ssh://***@host/x", id="URL with a user"),
        pytest.param("http://proxy:3128/a@b", "http://proxy:3128/a@b", id="at sign in a path"),
        pytest.param(f"Authorization: Bearer {KEY}", "Authorization: Bearer ***", id="bearer"),
        pytest.param("user=me,password=x,uid=0", "user=me,password=***,uid=0", id="cifs"),
        pytest.param('{"api_key": "x y"}', '{"api_key": ***}', id="JSON"),
        pytest.param("t.py --hub-token abc --lr 1", "t.py --hub-token *** --lr 1", id="option"),
        pytest.param("--wandb-key abc --lr 1", "--wandb-key *** --lr 1", id="key as an option"),
        pytest.param("mount -o user=me,pass=x", "mount -o user=me,pass=***", id="pass"),
        pytest.param("curl -u me:x http://h", "curl -u me:*** http://h", id="curl"),
        pytest.param("docker run --user 1:1 x", "docker run --user 1:1 x", id="uid and gid"),
        pytest.param("bypass=on --tokenizer gpt2", "bypass=on --tokenizer gpt2", id="alike words"),
        pytest.param("AccountKey=ab/c==;x", "AccountKey=***;x", id="Azure"),
        pytest.param(f"hvs.{KEY} npm_{KEY}", "*** ***", id="Vault and npm"),
        pytest.param("HF_TOKEN=abc", "HF_TOKEN=***", id="variable"),
        pytest.param(f"pull hf_{KEY} now", "pull *** now", id="Hugging Face"),
        pytest.param(f"ghp_{KEY}", "***", id="GitHub"),
        pytest.param("AKIAABCDEFGHIJKLMNOP", "***", id="AWS"),
        pytest.param(f"a eyJ{KEY}.eyJ{KEY}.c2ln b", "a *** b", id="JWT"),
        pytest.param("https://b/x?sig=a%2Fb&se=1", "https://b/x?sig=***&se=1", id="signed URL"),
        pytest.param(
            "-----BEGIN RSA PRIVATE KEY-----\nabc\n-----END RSA PRIVATE KEY-----", "***", id="key"
        ),
        pytest.param("max_tokens=2048", "max_tokens=2048", id="tokens are a count"),
        pytest.param("TOKENIZERS_PARALLELISM=false", "TOKENIZERS_PARALLELISM=false", id="word"),
        pytest.param("=mlx5_0:1,mlx5_1:1", "=mlx5_0:1,mlx5_1:1", id="HCA list"),
        pytest.param("GPU-8932f937-d72c-4106", "GPU-8932f937-d72c-4106", id="GPU"),
        pytest.param("/usr/lib:/opt/x@2/lib", "/usr/lib:/opt/x@2/lib", id="path"),
    ],
)
def test_secrets_are_cut(text, expected):
    assert cut_secrets(text) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("NCCL_DEBUG", True),
        ("CUDA_VISIBLE_DEVICES", True),
        ("NCCL_NOBODY_KNOWS", False),
        ("HF_TOKEN", False),
        ("WANDB_API_KEY", False),
        ("AWS_SECRET_ACCESS_KEY", False),
        ("MY_PASSWORD", False),
        ("PATH", False),
    ],
)
def test_only_known_names_may_be_told(name, expected):
    assert may_tell(name) is expected


def test_a_value_is_short_and_valid():
    assert len(value_of("x" * 100_000)) <= VALUE_LIMIT + 3
    assert value_of("caf\udce9").encode() == b"caf?"

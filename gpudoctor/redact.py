"""What may leave the machine: variables that may be told, and secrets cut from any text."""

import functools
import re
from collections.abc import Iterable

from gpudoctor.rules.variables import known

VALUE_LIMIT = 4096  # characters of one variable's value
CUT = "***"
_SECRET_OPTION = (
    r"--?[\w-]*(?:password|passphrase|secret|token|(?:api|access|auth|secret|wandb)[_-]?key)"
)

# Together in one pattern each: what stays before the secret is group 1.
_SECRETS = (
    r"(\b[a-z][a-z0-9+.-]*://)[^/\s\"']*(?=@)",  # https://user:password@host
    r"(\b(?:bearer|basic)\s+)[\w.~+/=-]{16,}",
    # password=..., "api_key": "...", but not MAX_TOKENS=2048 or secretName: x
    r"((?:passw(?:or)?d|passphrase|secret|token|(?:account|api|access|private)[_-]?key|credentials?"
    r"|\b(?:ssh)?pass(?==))"
    r"(?![a-z])[\w-]*[\"']?\s*[=:]\s*)(?:\"[^\"]*\"|'[^']*'|[^\s,;&\"']+)",
    rf"({_SECRET_OPTION}\s+)[^\s-]\S*",
    r"(\bcurl\b[^|;&]{0,500}\s(?:-u|--user)[ =]?[^\s:]+:)\S+",
    r"([?&](?:sig|signature|key|x-(?:amz|goog)-(?:signature|credential|security-token))=)[^&\s]+",
    r"()\b(?:hf_|sk-|gh[opsur]_|github_pat_|glpat-|npm_|xox[abprs]-|nvapi-|dapi|hvs\.|ya29\.|AKIA|ASIA|AIza)[\w-]{16,}",
    r"()\beyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]*",  # JSON Web Token
    r"()-----BEGIN [A-Z ]*PRIVATE KEY-----(?:.*?-----END [A-Z ]*PRIVATE KEY-----|.*)",
)


def may_tell(name: str) -> bool:
    """Whether the value of an environment variable may be collected."""
    return name in known()


def value_of(text: str) -> str:
    """A variable's value as it may be told: without secrets, valid as UTF-8, not too long."""
    text = cut_secrets(text).encode("utf-8", "replace").decode()
    return text if len(text) <= VALUE_LIMIT else f"{text[:VALUE_LIMIT]}..."


# Without one of these there is no secret in a text, and no need to compile the patterns.
_HINTS = (
    *("://", "bearer", "basic", "passw", "passp", "pass=", "curl", "secret", "token", "key"),
    *("credential", "sig", "hf_", "sk-", "gh", "glpat-", "npm_", "xox", "nvapi-", "dapi"),
    *("hvs.", "ya29.", "akia", "asia", "aiza", "eyj", "-----"),
)


def cut_secrets(text: str, *, references: bool = False) -> str:
    """The text with what looks like a secret replaced by ***.

    Args:
        text: any text.
        references: it is shell, where $NAME only stands for a secret: leave that.
    """
    lower = text.lower()
    if not any(hint in lower for hint in _HINTS):
        return text
    for pattern in _patterns():
        text = pattern.sub(_spare_references if references else rf"\1{CUT}", text)
    return text


def cut_words(words: Iterable[str]) -> list[str]:
    """The same of a command's words, where a secret may be the word behind its option."""
    told: list[str] = []
    hide = False
    for word in words:
        told.append(CUT if hide and not word.startswith("-") else cut_secrets(word))
        hide = re.fullmatch(_SECRET_OPTION, word, re.IGNORECASE) is not None
    return told


def _spare_references(match: re.Match[str]) -> str:
    hidden = match[0].removeprefix(match[1])
    return match[0] if re.fullmatch(r"\$(\w+|\{\w+\})", hidden.strip('"')) else match[1] + CUT


@functools.cache
def _patterns() -> tuple[re.Pattern[str], ...]:
    return tuple(re.compile(pattern, re.IGNORECASE | re.DOTALL) for pattern in _SECRETS)

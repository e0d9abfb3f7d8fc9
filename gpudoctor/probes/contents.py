"""Tell from a file's first bytes what was saved in its place."""

ENOUGH = 512  # bytes to look at
_PAGES = (b"<!doctype html", b"<html", b"<head")
_STARTS = {
    b"version https://git-lfs.github.com/spec/": "Git LFS pointer",
    b"/annex/objects/": "git-annex pointer",
    b"404: Not Found": "error message",  # raw.githubusercontent.com
    b"Entry not found": "error message",  # huggingface.co
    b"Invalid credentials in Authorization header": "error message",
}


def mistaken(start: bytes) -> str:
    """What a file is that was meant to be data; empty: nothing speaks against it."""
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.lower().startswith(_PAGES):
        return "HTML page"
    if text.startswith((b"<?xml", b"<Error")) and b"<Error" in text and b"<Code>" in text:
        return "XML error message"  # of S3 and its likes
    return next((name for begin, name in _STARTS.items() if text.startswith(begin)), "")

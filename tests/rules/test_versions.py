"""rules/versions.py: literal cases, and the same answers as pip's own library gives."""

import itertools

import pytest
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import Version

from gpudoctor.rules import versions


@pytest.mark.parametrize(
    ("version", "specifiers", "fits"),
    [
        pytest.param("1.13.1", "==1.13.1", True, id="a pin"),
        pytest.param("1.13.1+cu116", "==1.13.1", True, id="a local build of it"),
        pytest.param("1.13.1", "==1.13.1+cu116", False, id="the local build is demanded"),
        pytest.param("1.13.1+cu117", "==1.13.1+cu116", False, id="another local build"),
        pytest.param("1.13.1.post200", "==1.13.1", False, id="a post release is another"),
        pytest.param("0.2.3.post2", "==0.2.3.post2", True, id="a post release"),
        pytest.param("0.2.3", "==0.2.3.post2", False, id="not the post release"),
        pytest.param("2.0", "==2.0.0", True, id="zeros do not matter"),
        pytest.param("1.2.10", "==1.2.*", True, id="any of 1.2"),
        pytest.param("1.2rc1", "==1.2.*", True, id="also its candidates"),
        pytest.param("1.20", "==1.2.*", False, id="1.20 is not of 1.2"),
        pytest.param("3.8", "==3.8.*", True, id="a minor version"),
        pytest.param("3.10", "==3.8.*", False, id="another minor version"),
        pytest.param("1.2.1", "!=1.2.*", False, id="none of 1.2"),
        pytest.param("2.6.0a0+ecf3bae40a.nv25.1", ">=2.6", False, id="an alpha comes before"),
        pytest.param("2.6.0a0+ecf3bae40a.nv25.1", ">=2.6.0a0", True, id="an alpha that is meant"),
        pytest.param("2.5.1", ">=2.0,<3", True, id="between"),
        pytest.param("3.0rc1", ">=2.0,<3", False, id="a candidate of the limit"),
        pytest.param("2.0.post1", ">2.0", False, id="a post release is not above"),
        pytest.param("2.0.post1", ">2.0rc1", True, id="above its own candidate it is"),
        pytest.param("2.0rc1", "<2.0.post1", True, id="a candidate is below the post release"),
        pytest.param("2.0+cu1", ">2.0", False, id="nor is a local build"),
        pytest.param("2.2.9", "~=2.2", True, id="compatible"),
        pytest.param("3.0", "~=2.2", False, id="not compatible"),
        pytest.param("2.2.9", "~=2.2.1", True, id="compatible in three numbers"),
        pytest.param("2.3", "~=2.2.1", False, id="not in three numbers"),
        pytest.param("2004d", "==2004", False, id="not a version at all"),
        pytest.param("2004d", "===2004d", True, id="letter by letter"),
        pytest.param("2004d", "", True, id="any"),
        pytest.param(" 1.0 ", " >= 1.0 , < 2 ", True, id="blanks"),
    ],
)
def test_matches(version, specifiers, fits):
    assert versions.matches(version, specifiers) is fits


VERSIONS = [
    *("1", "1.0", "1.0.0", "1.1", "1.0.1", "1.10", "2", "0.9", "1!0.5", "v1.0", "1.0-1"),
    *("1.0a1", "1.0.alpha.1", "1.0b2", "1.0rc1", "1.0c2", "1.0-preview3", "1.0rc", "1.1.dev3"),
    *("1.0.post1", "1.0.post0", "1.0.rev2", "1.0a1.post2", "1.0.post1.dev2", "1.0a1.dev1"),
    *("1.0.dev0", "1.0dev", "1.0+cu118", "1.0+cu118.2", "1.0+2.cu118", "1.0.post1+x", "1.0a1+nv.5"),
    *("2.6.0a0+ecf3bae40a.nv25.1", "2026.11.1", "1.0+ubuntu-1", "1.0RC1", "0", "0.0"),
]
# Of other limits pip's library has changed its mind about < and >.
RELEASES = [v for v in VERSIONS if not versions.parse(v).is_early and "+" not in v]
RELEASES = [v for v in RELEASES if versions.parse(v).post < 0]
LIMITS = {"==": VERSIONS, "!=": VERSIONS, "<": RELEASES, ">": RELEASES, "~=": RELEASES}
PUBLIC = [v for v in VERSIONS if "+" not in v]


@pytest.mark.parametrize("operator", ["==", "!=", "<=", ">=", "<", ">", "~=", "==*", "!=*"])
def test_answers_as_pips_own_library(operator):
    """Every pair, by the reference: a version is asked as pip asks of an installed one."""
    compared = 0
    for version, limit in itertools.product(VERSIONS, LIMITS.get(operator, PUBLIC)):
        clause = f"{operator[:2]}{limit}.*" if operator[-1] == "*" else f"{operator}{limit}"
        try:
            reference = SpecifierSet(clause)
        except InvalidSpecifier:
            assert versions.misspelt(clause), clause
            continue
        compared += 1

        expected = reference.contains(Version(version), prereleases=True)
        assert versions.matches(version, clause) is expected, f"{version} {clause}"
    assert compared > 300


def test_order_is_that_of_pips_own_library():
    found = [parsed for text in VERSIONS if (parsed := versions.parse(text))]

    assert sorted(found) == [versions.parse(text) for text in sorted(VERSIONS, key=Version)]


@pytest.mark.parametrize(
    "text",
    ["1.13", "=1.13", "==", "== 1 2", "~=2", ">=2.*", "==1.0a1.*", ">=1.0+local", "==x", ">=1,,<2"],
)
def test_what_is_no_specifier_is_named(text):
    assert "is not a specifier such as" in versions.misspelt(text)
    with pytest.raises(ValueError, match="is not a specifier"):
        versions.matches("1.0", text)


def test_what_is_no_version():
    assert versions.parse("2004d") is None
    assert versions.parse("") is None

"""The document as it may leave: names replaced by the same tokens as in reports."""

from collections.abc import Iterable

from msgspec.structs import replace

from gpudoctor.report import hides_more
from gpudoctor.rules.identifiers import HOST
from gpudoctor.sharing import Redactor
from gpudoctor.triage.document import Blamed, Sighting, Spot, Triage


def shared(triage: Triage, redactor: Redactor) -> Triage:
    """With everything replaced that the redactor's level hides."""
    told = [one for one in (triage.first, *triage.others, *triage.notes) if one]
    redactor.learn((HOST, name) for one in told for name in one.hosts)
    redactor.read(text for one in told for text in (one.means, one.why))
    first, blamed = triage.first, triage.blamed
    return replace(
        triage,
        logs=tuple(
            replace(log, name=redactor.text(log.name), reason=redactor.text(log.reason))
            for log in triage.logs
        ),
        first=_sighting(first, redactor) if first else None,
        others=_sightings(triage.others, redactor),
        notes=_sightings(triage.notes, redactor),
        blamed=_blamed(blamed, redactor) if blamed else None,
        report=redactor.report(triage.report) if triage.report else None,
        redaction=redactor.level if hides_more(redactor.level, triage.redaction) else "none",
    )


def _sightings(told: Iterable[Sighting], redactor: Redactor) -> tuple[Sighting, ...]:
    return tuple(_sighting(one, redactor) for one in told)


def _sighting(one: Sighting, redactor: Redactor) -> Sighting:
    fixes = (
        replace(fix, text=redactor.text(fix.text), commands=tuple(map(redactor.text, fix.commands)))
        for fix in one.fixes
    )
    return replace(
        one,
        means=redactor.text(one.means),
        first=_spot(one.first, redactor),
        hosts=tuple(map(redactor.text, one.hosts)),
        fixes=tuple(fixes),
    )


def _spot(spot: Spot, redactor: Redactor) -> Spot:
    return replace(
        spot,
        file=redactor.text(spot.file),
        text=redactor.text(spot.text),
        host=redactor.text(spot.host),
    )


def _blamed(blamed: Blamed, redactor: Redactor) -> Blamed:
    return replace(blamed, host=redactor.text(blamed.host), spot=_spot(blamed.spot, redactor))

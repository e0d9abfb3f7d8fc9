"""`gpudoctor list`: what there is."""

from collections.abc import Callable
from typing import Any

import click

from gpudoctor import catalogue, config, registry
from gpudoctor.cli import options

_SHAPES = {
    "text": catalogue.as_text,
    "json": catalogue.as_json,
    "markdown": catalogue.as_markdown,
}


def _schema_flag(name: str, what: str) -> Callable[[Any], Any]:
    return click.option(f"--{name}", "what", flag_value=name, help=f"JSON Schema of {what}.")


@click.command("list")
@click.option("--profiles", "what", flag_value="profiles", help="Profiles and what they demand.")
@click.option("--formats", "what", flag_value="formats", help="Report formats.")
@_schema_flag("schema", "`check -f json`")
@_schema_flag("facts-schema", "a facts file")
@_schema_flag("diff-schema", "`diff A B -f json`")
@_schema_flag("fleet-schema", "`report DIR -f json`")
@_schema_flag("triage-schema", "`triage LOG -f json`")
@click.option("-f", "--format", "shape", type=click.Choice(list(_SHAPES)), default="text")
@options.own
def command(
    what: str | None, shape: str, checks_dirs: tuple[str, ...], config_file: str | None
) -> None:
    """Show all checks, or profiles, formats, or a JSON schema."""
    if what == "profiles":
        click.echo(_profiles(shape, config_file), nl=False)
    elif what == "formats":
        click.echo("\n".join(registry.formats()))
    elif what is not None:
        click.echo(_SCHEMAS[what]())
    else:
        found, _ = options.catalogue_and_config(config_file, checks_dirs)
        click.echo(_SHAPES[shape](found.checks), nl=False)
        for plugin in found.broken:
            click.echo(f"gpudoctor: plug-in {plugin.name} does not load: {plugin.error}", err=True)


def _profiles(shape: str, config_file: str | None) -> str:
    """The built-in ones, and the site's own that the configuration names."""
    from gpudoctor.profiles import saying

    shapes = {"text": saying.as_text, "json": saying.as_json, "markdown": saying.as_markdown}
    named = options.settings_from(config_file).profile
    names = dict.fromkeys([*config.profiles(), *([named] if named else [])])
    try:
        return shapes[shape]([config.profile(name) for name in names])
    except config.BadConfig as error:
        raise click.UsageError(str(error)) from None


def _report_schema() -> str:
    import msgspec

    from gpudoctor.report import SCHEMA, Report

    return _published(msgspec.json.schema(Report), SCHEMA)


def _diff_schema() -> str:
    import msgspec

    from gpudoctor.diff import SCHEMA, Difference

    return _published(msgspec.json.schema(Difference), SCHEMA)


def _fleet_schema() -> str:
    import msgspec

    from gpudoctor.fleet import SCHEMA, Fleet

    return _published(msgspec.json.schema(Fleet), SCHEMA)


def _triage_schema() -> str:
    import msgspec

    from gpudoctor.triage.document import SCHEMA, Triage

    return _published(msgspec.json.schema(Triage), SCHEMA)


def _facts_schema() -> str:
    import msgspec

    from gpudoctor import snapshot

    kinds = snapshot.builtin_kinds()
    (absent, *refs), shapes = msgspec.json.schema_components(
        [snapshot.Absent, *kinds], ref_template="#/$defs/{name}"
    )
    names = map(snapshot.name_of, kinds)
    facts = {name: {"anyOf": [ref, absent]} for name, ref in zip(names, refs, strict=True)}
    node = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "facts": {"properties": facts}},
        "required": ["name"],
    }
    return _published(
        {
            "type": "object",
            "properties": {
                "schema": {"const": snapshot.SCHEMA},
                "nodes": {"type": "array", "items": node},
            },
            "required": ["schema", "nodes"],
            "$defs": shapes,
        },
        snapshot.SCHEMA,
    )


def _published(schema: dict[str, Any], title: str) -> str:
    import msgspec

    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": title,
        **schema,
    }
    return msgspec.json.format(msgspec.json.encode(schema), indent=2).decode()


_SCHEMAS = {
    "schema": _report_schema,
    "facts-schema": _facts_schema,
    "diff-schema": _diff_schema,
    "fleet-schema": _fleet_schema,
    "triage-schema": _triage_schema,
}

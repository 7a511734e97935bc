"""`cpt-ray schema` prints the schema and nothing else."""

from cpt_ray.config.reference.schema import render_schema
from tests.cli.said import said


def test_the_schema_is_printed_as_it_is(capsys):
    assert said(capsys, "schema") == render_schema()

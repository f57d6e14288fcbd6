"""Write the tables of columns in docs/archive.md anew from the schemas: ``python docs/archive_columns.py``."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow as pa

from daemon.archive.folder import RECORDINGS_SCHEMA
from daemon.archive.tables import TABLES, schemas

PAGE = Path(__file__).with_name("archive.md")
BLOCK = re.compile(r"(<!-- columns -->\n)(.*?)(<!-- end -->)", re.DOTALL)
HEAD = "| column | type | what it holds |\n|---|---|---|"


def kind(of: pa.DataType) -> str:
    """Type of a column, for people."""
    if pa.types.is_list(of):
        return f"list of {kind(of.value_type)}"
    return "struct" if pa.types.is_struct(of) else str(of)


def table(fields: pa.Schema) -> str:
    """Markdown table of the columns."""
    rows = [f"| `{f.name}` | {kind(f.type)} | {f.metadata[b'doc'].decode()} |" for f in fields]
    return "\n".join([HEAD, *rows])


def columns() -> str:
    """All tables, with what is nested in a window."""
    made = schemas(("LABEL",))
    signature = made["windows"].field("signatures").type.value_type
    line = signature.field("lines").type.value_type
    nested = (
        f"\n\nWithin `signatures`:\n\n{table(pa.schema(list(signature)))}"
        f"\n\nWithin the `lines` of a signature:\n\n{table(pa.schema(list(line)))}"
    )
    all_of = {**{name: made[name] for name in TABLES}, "recordings": RECORDINGS_SCHEMA}
    return "\n\n".join(
        f"### {name}\n\n{table(fields)}{nested if name == 'windows' else ''}" for name, fields in all_of.items()
    )


def filled(text: str) -> str:
    """The page with its columns as the schemas have them."""
    return BLOCK.sub(lambda m: f"{m[1]}\n{columns()}\n\n{m[3]}", text)


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")

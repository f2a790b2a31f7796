"""The JSON document: everything, for machines; docs/python.md describes its keys."""

from __future__ import annotations

import json

from rankscope.views.report import Report


def render(report: Report) -> str:
    """Strict JSON (no NaN, no Infinity), one row a line so that two documents can be compared."""
    document = report.document()
    parts: list[str] = []
    for key, value in document.items():
        if isinstance(value, list):
            rows = ",\n".join(f"    {_dump(row)}" for row in value)
            parts.append(f'  "{key}": [\n{rows}\n  ]' if rows else f'  "{key}": []')
        else:
            parts.append(f'  "{key}": {_dump(value)}')
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _dump(value: object) -> str:
    # Escaping what is not ASCII also takes control and bidirectional characters out of a log.
    # GitHub's runner obeys `##[` wherever it stands; the escape means the same to JSON.
    return json.dumps(value, allow_nan=False, ensure_ascii=True).replace("##", r"#\u0023")

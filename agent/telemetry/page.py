"""The status as one HTML page for people: whatever the status holds, as nested tables, with nothing from elsewhere.

House rule: every text goes through `escape`; no script, no image, no address of anybody else.
"""

from html import escape

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem;
  color: #222; background: #fff }
table { border-collapse: collapse; margin: .2rem 0 }
th, td { text-align: left; vertical-align: top; padding: .15rem .8rem .15rem 0; border-bottom: 1px solid #ddd }
th { font-weight: 600; color: #555 }
.yes { color: #06613a } .no { color: #a11 }
@media (prefers-color-scheme: dark) { body { color: #ddd; background: #181818 } th { color: #aaa }
  th, td { border-color: #333 } .yes { color: #5c9 } .no { color: #f77 } }
"""


def page(alive: tuple[bool, str], ready: tuple[bool, str], status: object) -> str:
    """The whole page; reloads itself every five seconds."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="5">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>etcd-asg-agent</title><style>{_STYLE}</style></head><body><h1>etcd-asg-agent</h1>"
        f"<p>{_verdict('alive', alive)}<br>{_verdict('ready', ready)}</p>{_shown(status)}"
        '<p><a href="/status">as JSON</a> · <a href="/metrics">metrics</a></p></body></html>\n'
    )


def _verdict(name: str, verdict: tuple[bool, str]) -> str:
    yes, why = verdict
    return f'<span class="{"yes" if yes else "no"}">{"" if yes else "not "}{name}</span>: {escape(why)}'


def _shown(value: object) -> str:
    if isinstance(value, dict):
        rows = "".join(f"<tr><th>{escape(str(key))}</th><td>{_shown(inner)}</td></tr>" for key, inner in value.items())
        return f"<table>{rows}</table>" if rows else "–"
    if isinstance(value, list):
        return _listed(value)
    return "–" if value is None or value == "" else escape(str(value))


def _listed(values: list[object]) -> str:
    """Things of one shape as one table, anything else line by line."""
    if values and all(isinstance(value, dict) and value for value in values):
        columns = list(dict.fromkeys(key for value in values if isinstance(value, dict) for key in value))
        head = "".join(f"<th>{escape(str(column))}</th>" for column in columns)
        rows = "".join(
            "<tr>" + "".join(f"<td>{_shown(value.get(column))}</td>" for column in columns) + "</tr>"
            for value in values
            if isinstance(value, dict)
        )
        return f"<table><tr>{head}</tr>{rows}</table>"
    return "<br>".join(map(_shown, values)) or "–"

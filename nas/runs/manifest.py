"""What a run's manifest holds. Each command that writes one describes the fields that only it writes."""

from __future__ import annotations

from nas.runs.schema import COUNT, OBJECT, POSITIVE, TEXT, WHOLE, Check, by_name, each, fields, maybe, one_of

_DIRECTED = {"direction": one_of("maximize", "minimize"), "unit": TEXT}
_PROXY = fields({"name": TEXT}, {**_DIRECTED, "components": each(fields({"name": TEXT}, _DIRECTED))})
_PROGRAM = {"versions": by_name(TEXT), "git_commit": maybe(TEXT)}
_SEARCHED = {
    "space": TEXT, "searcher": TEXT, "dataset": TEXT, "data_dir": TEXT, "device": TEXT, "image_size": maybe(COUNT),
    "layers": maybe(COUNT),
}  # fmt: skip
#: what a manifest holds, whichever command has written it
SHARED: dict[str, Check] = {
    **_PROGRAM,
    "status": TEXT,
    "hardware": fields({}, {"device": TEXT}),
    "started": TEXT,
    "ended": maybe(TEXT),
    "seconds": POSITIVE,
    "resumed": each(fields({}, {"at": TEXT, **_PROGRAM})),
    "summary": OBJECT,
    "table": fields({}, {"name": TEXT, "metric": TEXT, "fingerprint": TEXT, **_DIRECTED}),
}
#: what the manifest of a search holds besides
SEARCH: dict[str, Check] = {
    "configuration": fields({}, _SEARCHED),
    "space_fingerprint": TEXT,
    "proxies": each(_PROXY),
    "objectives": each(fields({"name": TEXT}, _DIRECTED)),
    "data": fields({}, {"name": TEXT, "fingerprint": TEXT, "probe_images": WHOLE}),
    "executor": OBJECT,
}

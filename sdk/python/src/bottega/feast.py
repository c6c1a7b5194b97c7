"""Reads a Feast feature repository and writes it as definitions.

``python -m bottega.feast REPO --out DIR`` runs the repository's Python with the ``feast`` that is installed beside it,
as ``feast apply`` does, and never touches its registry or its stores. What cannot be carried over is named in
``DIR/feast-report.md`` with the reason; nothing is left out in silence.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import re
import sys
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

# Feast's types as ours; what is not here has no column type.
TYPES = {
    "STRING": "string",
    "JSON": "string",
    "UUID": "string",
    "TIME_UUID": "string",
    "INT32": "int64",
    "INT64": "int64",
    "FLOAT32": "float64",
    "FLOAT64": "float64",
    "FLOAT": "float64",
    "DOUBLE": "float64",
    "BOOL": "bool",
    "UNIX_TIMESTAMP": "timestamp",
}
AGGREGATES = {
    "sum": "sum",
    "max": "max",
    "min": "min",
    "count": "count",
    "mean": "mean",
    "avg": "mean",
    "count_distinct": "distinct_count",
    "nunique": "distinct_count",
    "approx_count_distinct": "approx_count_distinct",
}
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,99}")
COLUMN = re.compile(r"(?!__)[A-Za-z_][A-Za-z0-9_]{0,62}")
PUSH_TAG = "feast-push-source:"


class Converter:
    """Collects documents and what was left out."""

    def __init__(self, repository: pathlib.Path, out: pathlib.Path, ignore_created: bool = False) -> None:
        self.repository = repository
        self.out = out
        self.ignore_created = ignore_created
        self.entities: list[dict[str, Any]] = []
        self.sources: dict[str, dict[str, Any]] = {}
        self.views: list[dict[str, Any]] = []
        self.services: list[dict[str, Any]] = []
        self.kept: list[str] = []
        self.changed: list[str] = []
        self.left_out: list[str] = []
        self.features: dict[str, list[str]] = {}
        self.on_demand: set[str] = set()

    # MARK: Reading

    def read(self) -> Any:
        """The repository's objects; runs its Python."""
        try:
            from feast.repo_operations import parse_repo  # type: ignore[import-not-found, unused-ignore]
        except ImportError as error:
            raise SystemExit(
                f"bottega.feast: {error}; install the 'feast' that the repository runs with beside this package"
            ) from error
        here = pathlib.Path.cwd()
        sys.path.insert(0, str(self.repository))
        os.chdir(self.repository)
        try:
            return parse_repo(self.repository)
        finally:
            os.chdir(here)

    def convert(self) -> None:
        contents = self.read()
        self.on_demand = {view.name for view in contents.on_demand_feature_views}
        keys = {entity.name: entity for entity in contents.entities}
        views = [*contents.feature_views, *contents.stream_feature_views]
        used: set[str] = set()
        for view in views:
            used.update(name for name in view.entities if name != "__dummy")
        for entity in contents.entities:
            if entity.name == "__dummy":  # Feast's own, for views without an entity
                continue
            self.entity(entity, entity.name in used)
        pushed: dict[str, list[Any]] = {}
        for view in views:
            if view.stream_source is not None:
                pushed.setdefault(view.stream_source.name, []).append(view)
        for view in views:
            self.view(view, keys, pushed)
        for view in contents.on_demand_feature_views:
            self.left_out.append(
                f"on-demand feature view `{view.name}`: its transformation is Python. Write it as `on_demand`"
                " expressions of the services that use it: "
                + ", ".join(f"`{feature.name}`" for feature in view.features)
            )
        for label in getattr(contents, "label_views", []):
            self.left_out.append(
                f"label view `{label.name}`: labels are no features here. Write a `Source` for them, and a "
                "`TrainingSet` that joins it as its label"
            )
        for service in contents.feature_services:
            self.service(service)
        for permission in contents.permissions:
            self.left_out.append(f"permission `{permission.name}`: access is by token")
        known = {source["name"] for source in self.sources.values()}
        for source in contents.data_sources:
            kind = type(source).__name__
            if kind == "RequestSource":
                self.left_out.append(
                    f"request source `{source.name}`: write its fields as `request` of the services that need them"
                )
            elif source.name not in known and not any(source.name in line for line in self.changed):
                self.left_out.append(f"{kind} `{source.name}`: no feature view that was carried over reads it")

    def entity(self, entity: Any, is_used: bool) -> None:
        if not self.usable(NAME, entity.name, "entity") or not self.usable(COLUMN, entity.join_key, "join key"):
            return
        self.entities.append(
            without_nothing(
                kind="Entity",
                name=entity.name,
                description=entity.description,
                owner=entity.owner,
                tags=tags(entity.tags),
                keys=[entity.join_key],
            )
        )
        self.kept.append(f"entity `{entity.name}`" + ("" if is_used else " (no feature view uses it)"))

    def usable(self, pattern: re.Pattern[str], name: str, what: str) -> bool:
        if pattern.fullmatch(name or ""):
            return True
        self.left_out.append(f"{what} `{name}`: the name has characters or a length that names here do not have")
        return False

    # MARK: Views

    def view(self, view: Any, keys: dict[str, Any], pushed: dict[str, list[Any]]) -> None:
        label = f"feature view `{view.name}`"
        if not self.usable(NAME, view.name, "feature view"):
            return
        batch = view.batch_source
        entities = [name for name in view.entities if name != "__dummy"]
        if not entities:
            self.left_out.append(f"{label}: it has no entity; features here are about one")
            return
        if batch is None and view.stream_source is None:
            self.left_out.append(f"{label}: it is made from other views by Python")
            return
        if getattr(view, "udf", None) is not None or getattr(view, "feature_transformation", None) is not None:
            self.left_out.append(
                f"{label}: its transformation is Python. Write its features as aggregates over the source"
            )
            return
        aggregations = list(getattr(view, "aggregations", None) or [])
        fields = {field.name: field for field in view.schema}
        source_name = self.source_name(view, pushed)
        renamed = dict(getattr(batch, "field_mapping", None) or {})
        back = {to: origin for origin, to in renamed.items()}
        join_keys = [keys[name].join_key for name in entities]
        columns: dict[str, dict[str, Any]] = {}
        inferred = self.file_types(batch)
        for name, key in zip(entities, join_keys, strict=True):
            kind = type_of(fields.get(key)) or TYPES.get(keys[name].value_type.name) or inferred.get(key)
            if back.get(key, key) != key:
                self.changed.append(f"{label}: join key `{key}` is column `{back[key]}` of the file; rename it there")
            columns[key] = {"name": key, "type": kind or "string", "nullable": False}
            if kind is None:
                self.changed.append(f"{label}: the type of join key `{key}` is not written; text is assumed")
        features = self.aggregates(view, label, aggregations, columns, inferred) if aggregations else []
        for field in [] if aggregations else view.features or view.schema:
            if field.name in join_keys or field.name in (time_column(batch), created_column(batch)):
                continue
            column = self.column(field, back.get(field.name, field.name), label)
            if column is None:
                continue
            columns[column["name"]] = column
            features.append(
                without_nothing(
                    name=field.name,
                    aggregate="last",
                    column=column["name"],
                    description=getattr(field, "description", ""),
                    tags=tags(getattr(field, "tags", None)),
                )
            )
        if not features:
            self.left_out.append(f"{label}: none of its features could be carried over")
            return
        self.add_source(source_name, view, columns, join_keys, pushed)
        ttl = view.ttl if view.ttl else None
        self.views.append(
            without_nothing(
                kind="FeatureView",
                name=view.name,
                description=view.description,
                owner=view.owner,
                tags=tags(view.tags),
                entities=entities,
                source=source_name,
                ttl=span(ttl) if ttl else None,
                inclusive=True,
                features=features,
            )
        )
        self.features[view.name] = [feature["name"] for feature in features]
        self.kept.append(f"{label} with {len(features)} of {len(view.features or view.schema)} features")
        if not getattr(view, "online", True):
            self.changed.append(f"{label}: it is `online=False`; here every view answers online")

    def aggregates(
        self, view: Any, label: str, aggregations: list[Any], columns: dict[str, Any], inferred: dict[str, str]
    ) -> list[dict[str, Any]]:
        features = []
        for one in aggregations:
            function, window = AGGREGATES.get(one.function.lower()), one.time_window
            name = one.resolved_name(window) if hasattr(one, "resolved_name") else f"{one.function}_{one.column}"
            if function is None or not window:
                why = "there is no such function" if function is None else "it has no window"
                self.left_out.append(f"{label}: aggregation `{name}` ({one.function}): {why}")
                continue
            if not self.usable(COLUMN, name, "aggregation") or not self.usable(COLUMN, one.column, "column"):
                continue
            kind = inferred.get(one.column) or ("float64" if function in ("sum", "mean", "min", "max") else "string")
            known = columns.setdefault(one.column, {"name": one.column, "type": kind})
            if function == "approx_count_distinct" and known["type"] == "float64":
                function = "distinct_count"
                self.changed.append(f"{label}: `{name}` counts decimal numbers exactly, not approximately")
            features.append({"name": name, "aggregate": function, "column": one.column, "window": span(window)})
            if one.slide_interval and one.slide_interval != window:
                self.changed.append(f"{label}: `{name}` slides with every event, not every {one.slide_interval}")
        return features

    def column(self, field: Any, name: str, label: str) -> dict[str, Any] | None:
        if not COLUMN.fullmatch(name) or not COLUMN.fullmatch(field.name):
            self.left_out.append(f"{label}: feature `{field.name}`: the name cannot be a column's")
            return None
        kind = type_of(field)
        length = getattr(field, "vector_length", 0)
        if kind is None and is_float_list(field.dtype) and length:
            return {"name": name, "type": "vector", "length": int(length)}
        if kind is None:
            self.left_out.append(
                f"{label}: feature `{field.name}`: there is no column type for {type_text(field.dtype)}"
                + (" without `vector_length`" if is_float_list(field.dtype) else "")
            )
            return None
        if kind == "string" and type_text(field.dtype).upper() == "JSON":
            self.changed.append(f"{label}: `{field.name}` is JSON and comes out as text")
        # Feast takes times without a zone as UTC.
        return {"name": name, "type": kind, **({"zone": "UTC"} if kind == "timestamp" else {})}

    # MARK: Sources

    def source_name(self, view: Any, pushed: dict[str, list[Any]]) -> str:
        """A view that is pushed to has a source of its own: a push is an event of every view of its source."""
        if view.stream_source is not None:
            name = view.stream_source.name
            return name if len(pushed[name]) == 1 else f"{name}_{view.name}"
        return str(view.batch_source.name)

    def add_source(
        self, name: str, view: Any, columns: dict[str, Any], join_keys: list[str], pushed: dict[str, list[Any]]
    ) -> None:
        batch, stream = view.batch_source, view.stream_source
        event_time = time_column(batch) or (stream and getattr(stream, "timestamp_field", "")) or "event_timestamp"
        created = created_column(batch)
        if name in self.sources:
            known = {column["name"]: column for column in self.sources[name]["schema"]}
            for column in columns.values():
                if known.setdefault(column["name"], column)["type"] != column["type"]:
                    self.changed.append(f"source `{name}`: views give column `{column['name']}` different types")
            self.sources[name]["schema"] = list(known.values())
            for key in join_keys:
                if key not in self.sources[name]["key"]:
                    self.sources[name]["key"].append(key)
            return
        schema = [*columns.values(), {"name": event_time, "type": "timestamp", "nullable": False, "zone": "UTC"}]
        has_created = bool(created) and created != event_time
        if has_created:
            schema.append({"name": created, "type": "timestamp", "zone": "UTC"})
        knows = has_created and not self.ignore_created
        labels = tags(getattr(stream or batch, "tags", None)) or []
        if stream is not None and len(pushed[stream.name]) > 1:
            labels = [*labels, PUSH_TAG + stream.name]
        self.sources[name] = without_nothing(
            kind="Source",
            name=name,
            description=getattr(stream or batch, "description", ""),
            owner=getattr(stream or batch, "owner", ""),
            tags=labels,
            event_time=event_time,
            ingest_time=created if knows else event_time,
            key=[*join_keys, event_time],
            on_schema_change="ignore",
            schema=schema,
        )
        label = f"source `{name}`"
        if knows:
            self.changed.append(
                f"{label}: `{created}` says when a row could be known, so a training set does not see a row before it; "
                "Feast only breaks ties with it. `--ignore-created` lets every row be known when it happened"
            )
        self.origin(name, batch, label)
        if stream is not None and type(stream).__name__ != "PushSource":
            self.changed.append(
                f"{label}: the {type(stream).__name__} `{stream.name}` is not read by the platform; send its events to "
                f"`POST /sources/{name}/events`"
            )
        self.kept.append(label)

    def origin(self, name: str, batch: Any, label: str) -> None:
        if batch is None:
            return
        kind = type(batch).__name__
        path = str(getattr(batch, "path", "") or "")
        if kind == "FileSource" and path and "://" not in path:
            place = pathlib.Path(path)
            place = place if place.is_absolute() else self.repository / place
            relative = os.path.relpath(place, self.out.resolve())
            self.sources[name]["from"] = {"files": relative, "format": "parquet"}
        elif kind == "PostgreSQLSource":
            query = getattr(batch, "_postgres_options", None)
            text = getattr(query, "_query", "") or f"SELECT * FROM {getattr(query, '_table', '')}"
            self.sources[name]["from"] = {
                "postgres": {"connection": "BOTTEGA_POSTGRES", "query": text, "cursor": time_column(batch)}
            }
            self.changed.append(f"{label}: the server reads the connection string from `BOTTEGA_POSTGRES`")
        else:
            self.changed.append(
                f"{label}: {kind} `{batch.name}` cannot be fetched by the platform; export it as Parquet and "
                f"`bottega ingest {name} FILE`, or push rows"
            )

    def file_types(self, batch: Any) -> dict[str, str]:
        """Column types of a Parquet file; none if there is no such file or no pyarrow."""
        path = str(getattr(batch, "path", "") or "")
        if type(batch).__name__ != "FileSource" or not path or "://" in path:
            return {}
        try:
            import pyarrow.parquet  # type: ignore[import-untyped, unused-ignore]

            place = pathlib.Path(path)
            place = place if place.is_absolute() else self.repository / place
            schema = pyarrow.parquet.read_schema(place)
        except Exception:  # the file may be anything or nowhere; types that are written down suffice
            return {}
        found = {}
        for field in schema:
            text = str(field.type)
            if text.startswith(("int", "uint")):
                found[field.name] = "int64"
            elif text in ("float", "double", "halffloat"):
                found[field.name] = "float64"
            elif text == "bool":
                found[field.name] = "bool"
            elif text in ("string", "large_string", "string_view"):
                found[field.name] = "string"
            elif text.startswith("timestamp"):
                found[field.name] = "timestamp"
        return found

    # MARK: Services

    def service(self, service: Any) -> None:
        label = f"feature service `{service.name}`"
        if not self.usable(NAME, service.name, "feature service"):
            return
        views: list[Any] = []
        for projection in service.feature_view_projections:
            if projection.name in self.on_demand:
                self.left_out.append(f"{label}: the features of on-demand view `{projection.name}`")
                continue
            if projection.name not in self.features:
                self.left_out.append(f"{label}: view `{projection.name}`, which was not carried over")
                continue
            if projection.name_alias or projection.join_key_map:
                self.changed.append(
                    f"{label}: view `{projection.name}` under another name or other join keys; here it has its own"
                )
            wanted = [feature.name for feature in projection.features]
            known = self.features[projection.name]
            chosen = [name for name in wanted if name in known]
            lost = [name for name in wanted if name not in known]
            if lost:
                self.left_out.append(f"{label}: {', '.join(f'`{projection.name}:{name}`' for name in lost)}")
            if chosen == known:
                views.append(projection.name)
            elif chosen:
                views.append({"view": projection.name, "features": chosen})
        if not views:
            self.left_out.append(f"{label}: nothing of it is left")
            return
        self.services.append(
            without_nothing(
                kind="FeatureService",
                name=service.name,
                description=service.description,
                owner=service.owner,
                tags=tags(service.tags),
                views=views,
            )
        )
        self.kept.append(label)
        if getattr(service, "logging_config", None) is not None:
            self.changed.append(f"{label}: its logging configuration; predictions are logged by the platform")

    # MARK: Writing

    def write(self) -> None:
        """One file for each kind, and the report."""
        self.out.mkdir(parents=True, exist_ok=True)
        for name, documents in (
            ("entities", self.entities),
            ("sources", list(self.sources.values())),
            ("views", self.views),
            ("services", self.services),
        ):
            path = self.out / f"{name}.yaml"
            if documents:
                path.write_text("---\n".join(yaml(document) for document in documents), encoding="utf-8")
        (self.out / "feast-report.md").write_text(self.report(), encoding="utf-8")

    def report(self) -> str:
        lines = [f"# What became of {self.repository.name}", ""]
        for title, entries in (
            ("Carried over", self.kept),
            ("Carried over with a difference", self.changed),
            ("Not carried over", self.left_out),
        ):
            lines += [f"## {title}", "", *(f"- {entry}" for entry in unique(entries) or ["nothing"]), ""]
        return "\n".join(lines)


def unique(entries: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(entries))


def without_nothing(**members: Any) -> dict[str, Any]:
    return {key: value for key, value in members.items() if value not in (None, "", [], {})}


def tags(given: Any) -> list[str]:
    """Feast's tags are pairs, ours are words."""
    words = [f"{key}:{value}" if value else str(key) for key, value in sorted((given or {}).items())]
    return [word for word in words if len(word.encode()) <= 100][:32]


def span(length: timedelta) -> str:
    milliseconds = round(length.total_seconds() * 1000)
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)):
        if milliseconds % size == 0:
            return f"{milliseconds // size}{unit}"
    return f"{milliseconds}ms"


def type_text(kind: Any) -> str:
    name = getattr(kind, "name", None)
    return str(name) if name else str(kind)


def type_of(field: Any) -> str | None:
    return None if field is None else TYPES.get(type_text(field.dtype).upper())


def is_float_list(kind: Any) -> bool:
    return type_text(getattr(kind, "base_type", None)).upper() in ("FLOAT32", "FLOAT64")


def time_column(source: Any) -> str:
    return str(getattr(source, "timestamp_field", "") or "")


def created_column(source: Any) -> str:
    return str(getattr(source, "created_timestamp_column", "") or "")


def yaml(document: dict[str, Any]) -> str:
    """A document as YAML: values as JSON, which YAML contains, lists of mappings one to a line."""
    lines = []
    for key, value in document.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            lines.append(f"{key}:")
            lines += [f"  - {json.dumps(entry, ensure_ascii=False)}" for entry in value]
        elif isinstance(value, str) and NAME.fullmatch(value):
            lines.append(f"{key}: {json.dumps(value)}" if value[0].isdigit() else f"{key}: {value}")
        else:
            lines.append(f"{key}: {json.dumps(value, ensure_ascii=False)}")
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bottega.feast", description=__doc__)
    parser.add_argument("repository", type=pathlib.Path, help="folder that holds feature_store.yaml")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder for the definitions")
    parser.add_argument(
        "--ignore-created", action="store_true", help="rows are known when they happened, whatever their created column"
    )
    given = parser.parse_args(arguments)
    repository = given.repository.resolve()
    if not (repository / "feature_store.yaml").is_file():
        print(f"bottega.feast: {repository} holds no feature_store.yaml", file=sys.stderr)
        return 2
    converter = Converter(repository, given.out, given.ignore_created)
    converter.convert()
    converter.write()
    print(
        f"{len(converter.entities)} entities, {len(converter.sources)} sources, {len(converter.views)} views, "
        f"{len(converter.services)} services in {given.out}; {len(unique(converter.left_out))} things were not carried "
        f"over: {given.out / 'feast-report.md'}"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

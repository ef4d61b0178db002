"""Typed settings: frozen pydantic models, whose defaults a YAML file and then options `a.b=value` override."""

import datetime
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError
from yaml.constructor import ConstructorError

from raylevance.errors import UsageError, nearest

S = TypeVar("S", bound="Settings")


def _absolute_folder(name: str) -> str:
    return str(Path(name).absolute()) if Path(name).is_dir() else name


AbsolutePath = Annotated[Path, AfterValidator(Path.absolute)]
"""A path that is made absolute when it is read: a trial, and a job on a cluster, run in another folder."""
FolderOrName = Annotated[str, AfterValidator(_absolute_folder)]
"""The name of a model, or a folder, which is made absolute as `AbsolutePath` is."""

MERGE = "tag:yaml.org,2002:merge"
SCALARS = (bool, int, float, datetime.date)
"""What YAML reads a text such as 1000, no or 2024-01-31 as."""


class Settings(BaseModel):
    """The base class of all settings. Unknown names are errors, and values are checked once and then frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)


def load_settings(cls: type[S], file: Path | None = None, overrides: Sequence[str] = ()) -> S:
    """Build `cls` from its defaults, the YAML file `file`, and `overrides`, where later values win.

    Each override is `a.b=value`, and its value is read as YAML.

    Raises `UsageError` if a setting is unknown or invalid. The message names the setting, where it was given, and the
    most similar known setting.
    """
    values: dict[str, Any] = _read_yaml(file) if file else {}
    origin = dict.fromkeys(_dotted(values), str(file))
    given: dict[str, str] = {}
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key:
            raise UsageError(f"--set {override}: expected key=value, such as --set train.batch=64")
        try:
            value = yaml.safe_load(text)
        except (yaml.YAMLError, ValueError):
            # A ValueError is of a date that there is not, such as 2024-02-30.
            value = text
        _assign(values, key.split("."), value, override)
        origin[key] = f"--set {override}"
        given = {name: value for name, value in given.items() if not name.startswith(f"{key}.")} | {key: text}
    try:
        return _validated(cls, values, given)
    except ValidationError as error:
        raise UsageError(_explain(cls, error, origin)) from None


def _validated(cls: type[S], values: dict[str, Any], given: Mapping[str, str]) -> S:
    """Build `cls` from `values`. An override (`given`, by name) of a text or a path is text, also if it is 1000.

    Raises pydantic's `ValidationError`.
    """
    try:
        return cls.model_validate(_on_defaults(cls, values))
    except ValidationError as error:
        wrong = [each for each in error.errors() if each["type"] in ("string_type", "path_type")]
        names = {".".join(map(str, each["loc"])): each for each in wrong}
        texts = [name for name, each in names.items() if name in given and isinstance(each["input"], SCALARS)]
        if not texts:
            raise
        for name in texts:
            _assign(values, name.split("."), given[name], name)
        return cls.model_validate(_on_defaults(cls, values))


def with_changes(settings: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of nested `settings` in which `changes`, by dotted name, replace values."""
    changed: dict[str, Any] = json.loads(json.dumps(settings))
    for name, value in changes.items():
        *groups, last = name.split(".")
        innermost = changed
        for group in groups:
            innermost = innermost[group]
        innermost[last] = value
    return changed


def setting_names(cls: type[BaseModel], prefix: str = "") -> list[str]:
    """Return the dotted names of all settings of `cls`, including those of nested groups."""
    names: list[str] = []
    for name, field in cls.model_fields.items():
        names.append(prefix + name)
        is_union = get_origin(field.annotation) in (Union, UnionType)
        for group in get_args(field.annotation) if is_union else (field.annotation,):
            if isinstance(group, type) and issubclass(group, BaseModel):
                names += setting_names(group, f"{prefix}{name}.")
    return names


def _on_defaults(cls: type[BaseModel], values: dict[str, Any]) -> dict[str, Any]:
    """Put `values` on top of the defaults that `cls` gives its groups of settings.

    Without this, a group with some values given would take the other values from the defaults of its own class.
    """
    defaults = {name: field.default for name, field in cls.model_fields.items() if name in values}
    return {name: _merged(defaults.get(name), value) for name, value in values.items()}


def _merged(default: object, value: object) -> object:
    if not (isinstance(default, BaseModel) and isinstance(value, dict)):
        return value
    given = {name: getattr(default, name) for name in default.model_fields_set}
    return given | {name: _merged(getattr(default, name, None), inner) for name, inner in value.items()}


class _NamesOnce(yaml.SafeLoader):
    """Reads YAML, and refuses a name that is there twice in one mapping; the plain loader keeps the last."""

    def get_single_node(self) -> yaml.Node | None:
        node = super().get_single_node()
        _refuse_repeated_names(node, set())
        return node


def _refuse_repeated_names(node: yaml.Node | None, seen: set[yaml.Node]) -> None:
    """Raise a `YAMLError` for a name that is there twice in a mapping below `node`; merge keys (<<) may be."""
    if node in seen or not isinstance(node, yaml.CollectionNode):
        return
    seen.add(node)
    if isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _refuse_repeated_names(value, seen)
        return
    names: set[str] = set()
    for key, value in node.value:
        if isinstance(key, yaml.ScalarNode) and key.tag != MERGE:
            if key.value in names:
                raise ConstructorError(None, None, f"{key.value!r} is there twice", key.start_mark)
            names.add(key.value)
        _refuse_repeated_names(value, seen)


def _read_yaml(file: Path) -> dict[str, Any]:
    try:
        values = yaml.load(file.read_text(encoding="utf-8"), _NamesOnce)
    except FileNotFoundError:
        raise UsageError(f"{file}: no such settings file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file}: can't be read: {error}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise UsageError(f"{file}: not valid YAML: {' '.join(str(error).split())}") from None
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise UsageError(f"{file}: expected a mapping of setting names to values")
    return values


def _assign(values: dict[str, Any], path: Sequence[str], value: object, override: str) -> None:
    for depth, name in enumerate(path[:-1], 1):
        values = values.setdefault(name, {})
        if not isinstance(values, dict):
            raise UsageError(
                f"--set {override}: {'.'.join(path[:depth])} is a single value and has no settings below it"
            )
    values[path[-1]] = value


def _dotted(values: Mapping[Any, Any], prefix: str = "") -> Iterator[str]:
    for name, value in values.items():
        yield f"{prefix}{name}"
        if isinstance(value, dict):
            yield from _dotted(value, f"{prefix}{name}.")


def _explain(cls: type[BaseModel], error: ValidationError, origin: Mapping[str, str]) -> str:
    """Return one line about the first error, with the number of further errors."""
    errors = error.errors(include_url=False)
    first = errors[0]
    key = ".".join(str(part) for part in first["loc"])
    where = next((f"{origin[name]}: " for name in _ancestors(key) if name in origin), "")
    if first["type"] == "extra_forbidden":
        text = f"unknown setting {key!r}; {_similar_setting(key, setting_names(cls))}"
    elif first["type"] == "missing":
        text = f"setting {key!r} is required"
    else:
        reason = first["msg"].removeprefix("Value error, ")
        text = f"setting {key!r}: {reason[:1].lower()}{reason[1:]}, got {first['input']!r}" if key else reason
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return f"{where}{text}{more}"


def _ancestors(key: str) -> Iterator[str]:
    parts = key.split(".")
    for depth in range(len(parts), 0, -1):
        yield ".".join(parts[:depth])


def _similar_setting(key: str, names: list[str]) -> str:
    """Return a hint for an unknown setting: one of another group with the same last part, else the most similar one."""
    last = key.rpartition(".")[2]
    return nearest(key, [name for name in names if name.rpartition(".")[2] == last] or names)

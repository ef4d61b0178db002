"""Typed settings: one frozen pydantic model a recipe, a YAML file on top of its defaults, `a.b=c` on top of that."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from raylevance.errors import UsageError, nearest

S = TypeVar("S", bound="Settings")


class Settings(BaseModel):
    """Base of every settings model: unknown keys are refused, values are checked once, then frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


def load_settings(cls: type[S], file: Path | None = None, overrides: Sequence[str] = ()) -> S:
    """Build `cls` from its defaults, then `file` (YAML), then `overrides` (each `a.b=value`, the value read as YAML).

    Raises `UsageError`, one line that names the setting, where it was given and the nearest known key.
    """
    values: dict[str, Any] = _read_yaml(file) if file else {}
    origin = dict.fromkeys(_dotted(values), str(file))
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key:
            raise UsageError(f"--set {override}: expected key=value, such as --set train.batch=64")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            value = text
        _assign(values, key.split("."), value, override)
        origin[key] = f"--set {override}"
    try:
        return cls.model_validate(_on_defaults(cls, values))
    except ValidationError as error:
        raise UsageError(_explain(cls, error, origin)) from None


def changed(settings: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`settings` (nested) with `changes` (by dotted name)."""
    whole: dict[str, Any] = json.loads(json.dumps(settings))
    for name, value in changes.items():
        *groups, last = name.split(".")
        place = whole
        for group in groups:
            place = place[group]
        place[last] = value
    return whole


def known_keys(cls: type[BaseModel], prefix: str = "") -> list[str]:
    """Every setting of `cls` by its dotted name."""
    keys: list[str] = []
    for name, field in cls.model_fields.items():
        keys.append(prefix + name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            keys += known_keys(field.annotation, f"{prefix}{name}.")
    return keys


def _on_defaults(cls: type[BaseModel], values: dict[str, Any]) -> dict[str, Any]:
    """`values` laid over the default of each group of settings, which a group's own defaults would replace."""
    defaults = {name: field.default for name, field in cls.model_fields.items() if name in values}
    return {name: _merged(defaults.get(name), value) for name, value in values.items()}


def _merged(default: object, value: object) -> object:
    if not (isinstance(default, BaseModel) and isinstance(value, dict)):
        return value
    given = {name: getattr(default, name) for name in default.model_fields_set}
    return given | {name: _merged(getattr(default, name, None), inner) for name, inner in value.items()}


def _read_yaml(file: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"{file}: no such settings file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file}: can't be read: {error}") from None
    except yaml.YAMLError as error:
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
    """The first fault in one line; the count says how many more there are."""
    faults = error.errors(include_url=False)
    fault = faults[0]
    key = ".".join(str(part) for part in fault["loc"])
    where = next((f"{origin[name]}: " for name in _ancestors(key) if name in origin), "")
    if fault["type"] == "extra_forbidden":
        text = f"unknown setting {key!r}; {nearest(key, known_keys(cls))}"
    elif fault["type"] == "missing":
        text = f"setting {key!r} is required"
    else:
        reason = fault["msg"].removeprefix("Value error, ")
        text = f"setting {key!r}: {reason[:1].lower()}{reason[1:]}, got {fault['input']!r}" if key else reason
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return f"{where}{text}{more}"


def _ancestors(key: str) -> Iterator[str]:
    parts = key.split(".")
    for depth in range(len(parts), 0, -1):
        yield ".".join(parts[:depth])

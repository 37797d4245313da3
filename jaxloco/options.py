"""Command-line options and configuration files for nested frozen dataclasses.

Options come from the dataclasses' fields through `tyro`; their help texts are the `Attributes:` of the
docstrings. A file given with `--config` is merged over the defaults, and options over the file. Whatever is
wrong is found before anything runs, and the message names the key and what to write instead.
"""

import dataclasses
import difflib
import enum
import math
import numbers
import os
import sys
import types
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from jaxloco import option_hints
from jaxloco.errors import ConfigError, UnknownNameError, short
from jaxloco.installation import pip_install
from jaxloco.text_files import parse_json, parse_toml, read_text

T = TypeVar("T")

CALLED = "called"
"""Metadata of a field whose key depends on what it holds: a function of that. Its own name is for Python only."""

RECORDED = "recorded"
"""Metadata of a field that is no option: files keep it, the command line does not have it."""

NAMED = "named"
"""Metadata of a mapping from names to tables of settings: its options are `--FIELD.NAME.SETTING VALUES`, any names."""

IN_SHORT = "IN_SHORT"
"""Attribute of a dataclass with the names of the fields that a list of values stands for."""

CONFIG_OPTION = "--config"
CONFIG_HELP = "JSON or TOML file with settings; it overrides the defaults, and options override it."


def parse(
    config: type[T] | T,
    argv: Sequence[str] | None = None,
    *,
    prog: str,
    description: str,
    stamps: Mapping[str, Sequence[Any]] | None = None,
    beside: Any = None,
) -> T:
    """Read options from a command line.

    Args:
        config: A dataclass, or an instance of it with the defaults to start from.
        argv: The arguments after the program's name; those of this process if absent.
        prog: The program's name in messages.
        description: One or two sentences for `--help`.
        stamps: Keys that a file may have besides the settings, and what they may say.
        beside: A dataclass with options that were taken out of the arguments before; for `--help` and suggestions.

    Returns:
        The configuration: defaults, then files given with `--config`, then options.

    Raises:
        SystemExit: With 2 and a message on standard error if anything is wrong; with 0 after `--help`.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    type_ = cast(type[T], config if isinstance(config, type) else type(config))
    try:
        default = config() if isinstance(config, type) else config
        for path in config_files(arguments):
            data = read_config_file(path)
            for key, expected in (stamps or {}).items():
                if (found := data.pop(key, expected[0])) not in expected:
                    raise ConfigError(f"{path}: {key} is {found!r}, expected {expected[0]!r}")
            default = from_dict(type_, data, source=path, default=default)
        return _parse_options(type_, default, arguments, prog, description, beside)
    except ConfigError as error:
        print(f"{prog}: {error}", file=sys.stderr)
    except BrokenPipeError:  # --help into `head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0) from None
    except ModuleNotFoundError as error:
        print(f"{prog}: {error}; install the training tools with: {pip_install('train')}", file=sys.stderr)
    raise SystemExit(2)


def to_dict(instance: Any) -> dict[str, Any]:
    """Return a configuration as what JSON and TOML can hold; `from_dict` gives an equal instance back.

    Args:
        instance: A dataclass instance.

    Returns:
        Nested dictionaries and lists. NaN and infinities, which JSON lacks, become "nan", "inf" and "-inf".

    Raises:
        TypeError: A value is of a kind that a configuration cannot hold.
    """
    return {key: _to_plain(getattr(instance, f.name), key) for key, f in _keys(instance, instance).items()}


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested dictionaries as one, with dotted names.

    >>> flat({"ppo": {"gamma": 0.99}, "seed": 1})
    {'ppo.gamma': 0.99, 'seed': 1}
    """
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return found


def from_dict(type_: type[T], data: Mapping[str, Any], source: str = "configuration", default: T | None = None) -> T:
    """Build a configuration from plain dictionaries, strictly.

    Args:
        type_: The dataclass.
        data: Values by field name. Fields that are absent keep their default.
        source: Where `data` comes from (a file's name), for messages.
        default: The instance to merge over; the dataclass's own defaults if absent.

    Returns:
        The configuration.

    Raises:
        UnknownNameError: A key does not exist; the message names the closest one.
        ConfigError: A value is missing, of the wrong kind or refused by the dataclass.
    """
    return cast(T, _Reader(source, type_, default).dataclass(type_, data, "", default))


def checked(instance: T, source: str = "configuration") -> T:
    """Return a dataclass with each value of its field's kind, as `from_dict` makes them: 1e6 is a whole number there.

    Raises:
        ConfigError: A value is of the wrong kind or refused by the dataclass.
    """
    try:
        plain = to_dict(instance)
    except TypeError as error:
        raise ConfigError(f"{source}: {error}") from error
    return from_dict(type(instance), plain, source, instance)


def part(type_: type[T], instance: Any) -> T:
    """Return those options of a command that a base of its dataclass has, as an instance of that base."""
    return type_(**{field.name: getattr(instance, field.name) for field in dataclasses.fields(cast(Any, type_))})


def read_config_file(path: str | Path) -> dict[str, Any]:
    """Read a JSON or TOML file.

    Raises:
        ConfigError: It is missing, not readable, or its top level is not a table.
    """
    path = Path(path)
    if path.suffix not in (".json", ".toml"):
        raise ConfigError(f"cannot tell the format of {path}; its name must end in .json or .toml")
    try:
        text = read_text(path, ConfigError)
    except FileNotFoundError:
        raise ConfigError(f"there is no configuration file {path}") from None
    data = (parse_toml if path.suffix == ".toml" else parse_json)(text, path, ConfigError)
    if not isinstance(data, dict):
        raise ConfigError(f"{path} must hold settings by name, not {_describe(data)}")
    return data


# Command line


def config_files(arguments: Sequence[str]) -> list[str]:
    """Return the files given with `--config`."""
    files = []
    for index, argument in enumerate(arguments):
        if argument == CONFIG_OPTION and index + 1 < len(arguments):
            files.append(arguments[index + 1])
        elif argument.startswith(CONFIG_OPTION + "="):
            files.append(argument.partition("=")[2])
    return files


def _parse_options(type_: type[T], default: T, arguments: Sequence[str], prog: str, description: str, beside: Any) -> T:
    import tyro

    if "config" in {field.name for field in dataclasses.fields(cast(Any, type_))}:
        raise TypeError(f"{type_.__name__} must not have a field named 'config', which is the option for a file")
    config = Annotated[str | None, tyro.conf.arg(metavar="FILE", help=CONFIG_HELP, help_behavior_hint="")]
    options = Annotated[type_, tyro.conf.arg(name="")]  # type: ignore[valid-type]
    fields = [
        ("config", config, dataclasses.field(default=None)),
        ("options", options, dataclasses.field(default=default)),
    ]
    if beside is not None:
        others = Annotated[type(beside), tyro.conf.arg(name="")]  # type: ignore[valid-type]
        fields.insert(1, ("beside", others, dataclasses.field(default=beside)))
    words, named = _without_named(arguments, _named_keys(type_, default))
    try:
        parsed: Any = tyro.cli(
            dataclasses.make_dataclass("Options", fields),
            args=words,
            prog=prog,
            description=description,
            registry=_rules(tyro.constructors),
        )
    except SystemExit as end:
        if end.code:
            _print_hints(words, prog, [(type_, default), *([(type(beside), beside)] if beside is not None else [])])
        raise
    given = cast(T, parsed.options)
    return from_dict(type_, named, source="options", default=given) if named else given


def _print_hints(words: Sequence[str], prog: str, parts: Sequence[tuple[type, Any]]) -> None:
    """Say what to write in place of options that do not exist, beside what tyro said."""
    keys: dict[str, Any] = {}
    for part_type, default in parts:
        keys |= _dotted_keys(part_type, default)
    for hint in option_hints.hints(words, keys, [key for key, hint in keys.items() if hint is bool]):
        print(f"{prog}: {hint}", file=sys.stderr)
    for stray in option_hints.strays(words, {key: _most_values(hint) for key, hint in keys.items()}):
        print(f"{prog}: {stray}: names and paths stand before the options", file=sys.stderr)


def _most_values(hint: Any) -> int | None:
    """Return how many words an option of a type takes; None for any number."""
    members = [_bare(member) for member in get_args(_bare(hint))] if get_origin(hint) is not Literal else []
    if _bare(hint) is bool:
        return 0
    several = [get_origin(member) or member for member in (_bare(hint), *members)]
    return None if any(kind in (tuple, list) or _is_mapping(kind) for kind in several) else 1


def _named_keys(type_: Any, default: Any, prefix: str = "") -> list[str]:
    """Return the dotted keys of all fields that are `NAMED`."""
    found, hints = [], _type_hints(type_)
    for name, field in _keys(type_, default).items():
        value = getattr(default, field.name, None)
        hint = _narrowed(_bare(hints[field.name]), value)
        if NAMED in field.metadata:
            found.append(_join(prefix, name))
        elif dataclasses.is_dataclass(hint):
            found += _named_keys(hint, value, _join(prefix, name))
    return found


def _without_named(arguments: Sequence[str], keys: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
    """Take the options of `NAMED` fields out of the arguments; return the others, and what those said, nested."""
    others: list[str] = []
    data: dict[str, Any] = {}
    words = list(arguments)
    while words:
        word = words.pop(0)
        option, equals, given = word.partition("=")
        key = option.removeprefix("--").replace("-", "_")
        if not option.startswith("--") or not any(key == named or key.startswith(f"{named}.") for named in keys):
            others.append(word)
            continue
        values = [given] if equals else []
        while not equals and words and not words[0].startswith("--"):
            values.append(words.pop(0))
        if not values:
            raise ConfigError(f"{option}: a value is missing")
        plain = [_plain_from_text(text) for text in values]
        _put(data, key, plain[0] if len(plain) == 1 else plain)
    return others, data


def _put(table: dict[str, Any], key: str, value: Any) -> None:
    """Put a value into nested tables under a dotted key."""
    *path, last = key.split(".")
    for part in path:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise ConfigError(
                f"{option_hints.option_name(key)}: {part} is {table!r} by another option; leave one of them out"
            )
    table[last] = value


def _plain_from_text(text: str) -> Any:
    """Return a number, true, false, none or a list as JSON has it, or the text itself."""
    if text.lower() == "none":
        return None
    try:
        return parse_json(text, Path("option"), ConfigError)
    except ConfigError:
        return text


def _rules(constructors: Any) -> Any:
    """Return our tyro rules: 1e6 is an int, none is None, a protocol stands for its default's type."""
    registry = constructors.ConstructorRegistry()
    being_named: list[Any] = []

    def primitive(info: Any) -> Any:
        if info.type is int:
            return constructors.PrimitiveConstructorSpec(
                nargs=1,
                metavar="INT",
                instance_from_str=lambda words: _int_from_text(words[0]),
                is_instance=lambda value: isinstance(value, int) and not isinstance(value, bool),
                str_from_instance=lambda value: [str(value)],
            )
        if info.type is type(None):
            return constructors.PrimitiveConstructorSpec(
                nargs=1,
                metavar="none",
                instance_from_str=lambda words: _none_from_text(words[0]),
                is_instance=lambda value: value is None,
                str_from_instance=lambda value: ["none"],
            )
        return None

    def struct(info: Any) -> Any:
        narrowed = _narrowed(info.type, info.default)
        if narrowed is not info.type and not dataclasses.is_dataclass(info.type):
            return constructors.ConstructorRegistry.get_struct_spec(dataclasses.replace(info, type=narrowed))
        if narrowed in being_named or not _has_own_keys(narrowed):
            return None
        being_named.append(narrowed)  # the rule that is asked for comes after this one
        spec = constructors.ConstructorRegistry.get_struct_spec(dataclasses.replace(info, type=narrowed))
        being_named.remove(narrowed)
        return _renamed(spec, _keys(narrowed, info.default), info.default)

    registry.primitive_rule(primitive)
    registry.struct_rule(struct)
    return registry


def _has_own_keys(type_: Any) -> bool:
    """Whether fields of a dataclass have keys that are not their names, or are no options."""
    own = {CALLED, RECORDED, NAMED}
    return dataclasses.is_dataclass(type_) and any(own & field.metadata.keys() for field in dataclasses.fields(type_))


def _renamed(spec: Any, keys: Mapping[str, Any], default: Any) -> Any:
    """Return tyro's description of a dataclass with its options called by their keys."""
    options = {field.name: key for key, field in keys.items() if not {RECORDED, NAMED} & field.metadata.keys()}
    recorded = {field.name: getattr(default, field.name) for field in keys.values() if field.name not in options}
    fields = tuple(
        dataclasses.replace(field, name=options[field.name]) for field in spec.fields if field.name in options
    )

    def instantiate(**values: Any) -> Any:
        return spec.instantiate(**recorded, **{name: values[key] for name, key in options.items() if key in values})

    return dataclasses.replace(spec, fields=fields, instantiate=instantiate)


def _int_from_text(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        number = float(text) if any(digit.isdigit() for digit in text) else math.nan
    if not number.is_integer():
        raise ValueError(f"expected a whole number, got {text!r}")
    return int(number)


def _none_from_text(text: str) -> None:
    if text.lower() != "none":
        raise ValueError(f"expected none, got {text!r}")


# Plain data


def _to_plain(value: Any, key: str) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = _keys(value, value).items()
        return {name: _to_plain(getattr(value, field.name), f"{key}.{name}") for name, field in fields}
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return {str(name): _to_plain(item, f"{key}.{name}") for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_to_plain(item, f"{key}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        return repr(float(value))
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, numbers.Real):  # a scalar of NumPy
        return int(value) if isinstance(value, numbers.Integral) else _to_plain(float(value), key)
    raise TypeError(f"{key}: a configuration cannot hold a {type(value).__name__}: {value!r}")


class _MismatchError(Exception):
    """A value of the wrong kind: what was expected."""


class _Reader:
    """Builds typed values from plain ones; every message starts with the source and the dotted key."""

    def __init__(self, source: str, root: type, default: Any) -> None:
        self.source = source
        self.root = root
        self.default = default

    def dataclass(self, type_: Any, data: Any, key: str, default: Any) -> Any:
        short = getattr(type_, IN_SHORT, ())
        if isinstance(data, list | tuple) and len(data) == len(short):
            data = dict(zip(short, data, strict=True))
        if not isinstance(data, Mapping):
            raise self.wrong(key, "a table of settings", data)
        fields = {name: field for name, field in _keys(type_, default).items() if field.init}
        for name in data:
            if name not in fields:
                raise self.unknown(_join(key, str(name)), [_join(key, known) for known in fields])
        hints = _type_hints(type_)
        names = {key: field.name for key, field in fields.items()}
        values = {
            names[name]: self.value(hints[names[name]], given, _join(key, name), getattr(default, names[name], None))
            for name, given in data.items()
        }
        for name, field in fields.items():
            required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
            if default is None and required and field.name not in values:
                expected = _name_of(hints[field.name])
                raise ConfigError(f"{self.source}: {_join(key, name)} is missing; expected {expected}")
        try:
            return type_(**values) if default is None else dataclasses.replace(default, **values)
        except ConfigError as error:
            raise type(error)(f"{self.source}: {key + ': ' if key else ''}{error}") from error

    def value(self, hint: Any, value: Any, key: str, default: Any) -> Any:
        hint = _narrowed(_bare(hint), default)
        if dataclasses.is_dataclass(hint):
            base = default if isinstance(default, cast(type, hint)) else None
            return self.dataclass(hint, value, key, base)
        origin = get_origin(hint)
        if origin in (Union, types.UnionType):
            return self.union(hint, value, key, default)
        if origin in (tuple, list) or hint in (tuple, list):
            return self.sequence(hint, value, key, default)
        if _is_mapping(hint):
            return self.mapping(hint, value, key, default)
        try:
            return _scalar(hint, value)
        except _MismatchError:
            raise self.wrong(key, _name_of(hint), value) from None

    def union(self, hint: Any, value: Any, key: str, default: Any) -> Any:
        members = get_args(hint)
        if value is None and type(None) in members:
            return None
        members = tuple(member for member in members if member is not type(None))
        if isinstance(value, Mapping):
            members = tuple(member for member in members if _is_mapping(member)) or members
        if len(members) == 1:
            return self.value(members[0], value, key, default)
        for member in sorted(members, key=lambda member: type(value) is not member):
            try:
                return self.value(member, value, key, default)
            except ConfigError:
                continue
        raise self.wrong(key, _name_of(hint), value)

    def sequence(self, hint: Any, value: Any, key: str, default: Any) -> Any:
        kind = get_origin(hint) or hint
        members = get_args(hint) or (Any, ...)
        if isinstance(value, str) or not isinstance(value, Sequence):
            raise self.wrong(key, _name_of(hint), value)
        if kind is list or members[1:] == (...,):
            members = (members[0],) * len(value)
        if len(value) != len(members):
            raise self.wrong(key, _name_of(hint), value)
        same = isinstance(default, Sequence) and len(default) == len(value)
        items = zip(members, value, default if same else [None] * len(value), strict=True)
        return kind(self.value(member, item, f"{key}[{i}]", old) for i, (member, item, old) in enumerate(items))

    def mapping(self, hint: Any, value: Any, key: str, default: Any) -> Any:
        member = (get_args(hint) or (str, Any))[1]
        word = "SETTING" if member is Any else "NAME"
        if not isinstance(value, Mapping):
            raise self.wrong(key, f"a table (write {_join(key, word)} for what is in it)", value)
        base = dict(default) if isinstance(default, Mapping) else {}
        for name, item in value.items():
            base[str(name)] = self.value(member, item, f"{key}.{name}", base.get(name))
        return base

    def wrong(self, key: str, expected: str, value: Any) -> ConfigError:
        subject = f"{key} must be" if key else "expected"
        return ConfigError(f"{self.source}: {subject} {expected}, not {_describe(value)}")

    def unknown(self, key: str, siblings: Sequence[str]) -> UnknownNameError:
        everywhere = _dotted_keys(self.root, self.default)
        word = key.replace("-", "_")
        last = _last(word)
        close = [name for name in everywhere if _last(name) in (last, option_hints.OURS.get(last))]
        close = close or difflib.get_close_matches(word, [*siblings, *everywhere], n=1, cutoff=0.6)
        hint = f"did you mean {close[0]!r}? " if close else ""
        known = ", ".join(siblings)
        return UnknownNameError(f"{self.source}: unknown key {short(repr(key))}; {hint}Known here: {known}")


def _scalar(hint: Any, value: Any) -> Any:
    """Return `value` as the scalar type `hint`, where that loses nothing."""
    if hint is Any:
        return value
    if get_origin(hint) is Literal:
        for choice in get_args(hint):
            if choice == value and type(choice) is type(value):
                return choice
        raise _MismatchError
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return _member(hint, value)
    if hint is int or hint is float:
        return _number(hint, value)
    if isinstance(hint, type) and issubclass(hint, Path) and isinstance(value, str | os.PathLike):
        return hint(value)
    if hint is str and isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(hint, type) and type(value) is hint:
        return value
    raise _MismatchError


def _member(hint: type[enum.Enum], value: Any) -> enum.Enum:
    if isinstance(value, str) and value in hint.__members__:
        return hint[value]
    raise _MismatchError


def _number(hint: type, value: Any) -> int | float:
    """Return an int or float; an int may be written 1e6, a float 3, "inf" or "nan". NumPy's scalars are numbers too."""
    if hint is float and isinstance(value, str) and value in ("inf", "-inf", "nan"):
        return float(value)
    is_number: bool = isinstance(value, numbers.Real)
    if isinstance(value, bool) or not is_number:
        raise _MismatchError
    try:
        if hint is int and not float(value).is_integer():
            raise _MismatchError
        return int(value) if hint is int else float(value)
    except OverflowError:  # of a whole number with hundreds of digits
        raise _MismatchError from None


@lru_cache
def _type_hints(type_: type) -> dict[str, Any]:
    return get_type_hints(type_)


def _dotted_keys(type_: type, default: Any, prefix: str = "") -> dict[str, Any]:
    """Return every key of a configuration, nested ones with dots, and its type."""
    keys: dict[str, Any] = {}
    hints = _type_hints(type_)
    for name, field in _keys(type_, default).items():
        value = getattr(default, field.name, None)
        hint = _narrowed(_bare(hints[field.name]), value)
        key = _join(prefix, name)
        if dataclasses.is_dataclass(hint):
            keys |= _dotted_keys(cast(type, hint), value, key)
        elif _is_mapping(hint) and value and NAMED not in field.metadata:
            keys |= {_join(key, entry): get_args(hint)[1] for entry in value}
        else:
            keys[key] = hint
    return keys


def _keys(type_: Any, default: Any) -> dict[str, Any]:
    """Return the fields of a dataclass by key: by name, or by what the value in `default` is called."""
    keys = {}
    for field in dataclasses.fields(type_):
        called = field.metadata.get(CALLED)
        value = getattr(default, field.name, None) or (called and cast(Any, field.default_factory)())
        keys[called(value) if called else field.name] = field
    return keys


def _narrowed(hint: Any, default: Any) -> Any:
    """Return the dataclass that a field holds where its type is only a protocol or a base class."""
    if isinstance(hint, type) and dataclasses.is_dataclass(default) and not isinstance(default, type):
        return type(default)
    return hint


def _join(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


def _last(key: str) -> str:
    return key.rpartition(".")[2]


def _bare(hint: Any) -> Any:
    """Return a type without its `Annotated` wrapping."""
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint


def _is_mapping(hint: Any) -> bool:
    kind = get_origin(hint) or hint
    return isinstance(kind, type) and issubclass(kind, Mapping)


def _name_of(hint: Any) -> str:
    """Return a type in words."""
    hint = _bare(hint)
    members = get_args(hint)
    origin = get_origin(hint)
    if origin is Literal:
        return " or ".join(repr(choice) for choice in members)
    if origin in (Union, types.UnionType):
        return " or ".join(_name_of(member) for member in members)
    if origin is tuple and not (len(members) == 2 and members[1] is Ellipsis):
        return f"a list of {len(members)}: {', '.join(_name_of(member) for member in members)}"
    if origin in (tuple, list):
        return f"a list, each {_name_of(members[0])}"
    if _is_mapping(hint) or dataclasses.is_dataclass(hint):
        return "a table"
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return " or ".join(repr(name) for name in hint.__members__)
    names = {int: "a whole number", float: "a number", str: "text", bool: "true or false", type(None): "null"}
    return "a path" if hint is Path else names.get(hint, getattr(hint, "__name__", str(hint)))


def _describe(value: Any) -> str:
    """Return a value for a message, shortened."""
    if isinstance(value, Mapping):
        return "a table"
    return short(repr(value)) if value is not None else "null"

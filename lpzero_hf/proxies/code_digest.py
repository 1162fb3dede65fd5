"""A digest of code and of all that it reads: so that a number of changed code is never taken for one of the new.

A function is followed to what it reads: its defaults, the values in its closure, the globals and modules that it names,
and so on; a class to its methods and attributes, an object to its class and state. What has a version is known by
that: the standard library, installed packages, and this library. If a part has no digest, the whole has none.
Code that looks names up while it runs (`eval`, `globals`, `os.environ`) has no digest. Not seen are names that it puts
together (`getattr(module, "na" + "me")`) and files that it reads.
"""

from __future__ import annotations

import enum
import functools
import hashlib
import importlib.metadata
import importlib.util
import inspect
import re
import sys
import sysconfig
import types
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any

from lpzero_hf.models.later import torch

VERSIONED = ("transformers", "lpzero_hf", "lpz_zoo", "lpz_proxies", "torch", "numpy")  # part of `Setting.key`, or inert
STANDARD = sys.stdlib_module_names - {"__main__"}
NUMBERS = (type(None), bool, int, float, complex, str, bytes, type(Ellipsis), range)
OF_TORCH = ("dtype", "device", "Size")  # classes whose values are plain too
LOOKUPS = {  # names of what finds anything at all
    "eval", "exec", "globals", "locals", "vars", "import_module", "__import__", "__dict__", "environ", "environb",
    "getenv",
}  # fmt: skip
NOT_STATE = {  # of a class
    "__dict__", "__weakref__", "__doc__", "__module__", "__annotations__", "__firstlineno__", "__slots__", "_abc_impl",
    "__static_attributes__", "__annotate_func__", "__annotations_cache__", "__dataclass_fields__",
}  # fmt: skip


class Unknown(Exception):
    """Something has no digest."""


def code_digest(*things: Any) -> str:
    """16 hexadecimal digits for functions, classes, objects and plain values, with all that their code reads.

    Returns:
        "" where something has no digest, so that nothing that depends on it may be cached.

    Example:
        >>> def scaled(by):
        ...     return lambda x: x * by
        >>> code_digest(scaled(2)) == code_digest(scaled(2)) != code_digest(scaled(3))
        True
    """
    walk = _Walk(frozenset(root for thing in things if (root := _root(_module_of(thing)))))
    try:
        for thing in things:
            walk.add(thing)
    except (Unknown, RecursionError, OSError):
        return ""
    return walk.hash.hexdigest()[:16]


class _Walk:
    """One walk, which hashes everything once in the order in which it is met.

    Args:
        own: root packages whose code is followed even if they are installed.
    """

    def __init__(self, own: frozenset[str]) -> None:
        self.hash = hashlib.sha256()
        self.own = own - {*VERSIONED} - STANDARD
        self._met: dict[int, tuple[int, Any]] = {}  # by identity: the number, and the object, which so stays alive

    def mark(self, *words: object) -> None:
        for word in words:
            content = word if isinstance(word, bytes) else repr(word).encode()
            self.hash.update(len(content).to_bytes(8, "little") + content)

    def add(self, thing: Any) -> None:
        """Hash one thing and all that it reads."""
        if type(thing) in NUMBERS or _of_torch(thing) or isinstance(thing, types.GenericAlias | types.UnionType):
            self.mark(type(thing).__name__, thing)
        elif type(thing) is tuple:  # equal ones may be one object or several
            self._value(thing)
        elif id(thing) in self._met:
            self.mark("again", self._met[id(thing)][0])
        else:
            self._met[id(thing)] = len(self._met), thing
            self._add_new(thing)

    def _add_new(self, thing: Any) -> None:
        if isinstance(thing, types.ModuleType):
            self.module(thing, [name for name in vars(thing) if not name.startswith("__")])
        elif isinstance(thing, types.FunctionType | type) and self._versioned(_module_of(thing)):
            self.mark("named", thing.__module__, thing.__qualname__)
            if isinstance(thing, types.FunctionType) and "<locals>" in thing.__qualname__:
                self._function(thing)  # of a closure, the values count
        elif isinstance(thing, types.FunctionType):
            self._function(thing)
        elif isinstance(thing, types.CodeType):
            self._code(thing)
        elif isinstance(thing, type):
            self._class(thing)
        elif isinstance(thing, types.BuiltinFunctionType | types.MethodDescriptorType | types.WrapperDescriptorType):
            self.mark("built in", getattr(thing, "__module__", None), thing.__qualname__)
            self._owner(thing)
        elif isinstance(thing, types.MethodType):
            self.all("method", thing.__func__, thing.__self__)
        elif isinstance(thing, functools.partial):
            self.all("partial", thing.func, thing.args, thing.keywords)
        elif isinstance(thing, staticmethod | classmethod):
            self.all(type(thing).__name__, thing.__func__)
        elif isinstance(thing, property):
            self.all("property", thing.fget, thing.fset, thing.fdel)
        else:
            self._value(thing)

    def all(self, *things: Any) -> None:
        for thing in things:
            self.add(thing)

    def _owner(self, thing: Any) -> None:
        owner = getattr(thing, "__self__", None)
        if owner is not None and not isinstance(owner, types.ModuleType):
            self.add(owner)

    def _value(self, thing: Any) -> None:
        if isinstance(thing, Mapping):
            self.mark(type(thing).__name__, len(thing))
            for key, value in thing.items():
                self.all(key, value)
            self.add(getattr(thing, "default_factory", None))
            self._own(thing)
        elif isinstance(thing, list | tuple):
            self.mark(type(thing).__name__, len(thing))
            self.all(*thing)
            self._own(thing)
        elif isinstance(thing, set | frozenset):
            members = sorted(code_digest(member) for member in thing)
            if "" in members:
                raise Unknown
            self.mark(type(thing).__name__, members)
            self._own(thing)
        elif "torch" in sys.modules and isinstance(thing, torch.Tensor):
            if thing.device.type == "meta":
                raise Unknown
            made = thing.detach().cpu().contiguous().reshape(-1).view(torch.uint8) if thing.numel() else thing
            self.mark("tensor", str(thing.dtype), tuple(thing.shape), bytes(made.tolist()))
        elif hasattr(thing, "tobytes") and hasattr(thing, "dtype"):  # of numpy
            if thing.dtype.hasobject:
                raise Unknown
            self.mark("array", str(thing.dtype), thing.shape, thing.tobytes())
        elif isinstance(thing, PurePath | re.Pattern):
            self.mark(type(thing).__name__, thing)
        elif isinstance(thing, enum.Enum):
            self.mark("member", type(thing).__qualname__, thing.name)
            self.all(type(thing), thing.value)
        else:
            if base := next((kind for kind in (int, float, complex, str, bytes) if isinstance(thing, kind)), None):
                self.mark(base.__name__, base.__repr__(thing))
            self._object(thing)

    def _own(self, thing: Any) -> None:
        """The class and attributes of a container, where it is not simply one of Python's."""
        if type(thing).__module__ not in ("builtins", "collections"):
            self.add(type(thing))
            self.add(getattr(thing, "__dict__", None))

    def _object(self, thing: Any) -> None:
        """An object: its class and its state."""
        kind = type(thing)
        if kind.__module__ == "typing":
            self.mark(thing)
            return
        self.mark("object", kind.__module__, kind.__qualname__)
        self.add(kind)
        if _root(kind.__module__) == "logging":
            return
        slots = [name for base in kind.__mro__ for name in _slots(base) if hasattr(thing, name)]
        if not hasattr(thing, "__dict__") and not slots:
            raise Unknown  # of C, or of nothing but its class
        for name, value in sorted(getattr(thing, "__dict__", {}).items()):
            self.mark(name)
            self.add(value)
        for name in slots:
            self.mark(name)
            self.add(getattr(thing, name))

    def _class(self, kind: type) -> None:
        self.mark("class", kind.__qualname__)
        self.all(type(kind), *kind.__bases__)
        for name, value in sorted(vars(kind).items()):
            if name in NOT_STATE or isinstance(value, types.GetSetDescriptorType | types.MemberDescriptorType):
                continue
            self.mark(name)
            self.add(value)

    def _function(self, function: types.FunctionType) -> None:
        self.mark("function")
        self.all(function.__code__, function.__defaults__, function.__kwdefaults__)
        wrapped = {name: value for name, value in vars(function).items() if name != "__wrapped__"}
        self.add(wrapped)
        for cell in function.__closure__ or ():
            try:
                self.add(cell.cell_contents)
            except ValueError:  # not yet filled
                self.mark("empty")
        if self._versioned(function.__module__):
            return
        names = {name for code in _codes(function.__code__) for name in (*code.co_names, *_words(code))}
        if not LOOKUPS.isdisjoint(names):
            raise Unknown
        for name in sorted(names & function.__globals__.keys()):
            value = function.__globals__[name]
            self.mark(name)
            if isinstance(value, types.ModuleType):
                self.module(value, names)
            else:
                self.add(value)
        for name in sorted(_imported(function.__code__)):
            self._import(name, function.__globals__.get("__package__") or "", names)

    def _code(self, code: types.CodeType) -> None:
        self.mark(
            "code", code.co_code, code.co_names, code.co_varnames, code.co_freevars, code.co_argcount, code.co_flags
        )
        self.all(*code.co_consts)

    def module(self, module: types.ModuleType, names: Collection[str]) -> None:
        """A module, of which code names some attributes."""
        self.mark("module", module.__name__)
        if self._versioned(module.__name__):
            return
        if (file := Path(getattr(module, "__file__", None) or "")).is_file():  # code may hand it on as a whole
            self.mark("file", file.read_bytes())
        for name in sorted(set(names) & vars(module).keys()):
            value = vars(module)[name]
            if isinstance(value, types.ModuleType):
                if value is not module:
                    self.module(value, set(names) - {name})
            else:
                self.mark(name)
                self.add(value)

    def _import(self, name: str, package: str, names: Collection[str]) -> None:
        """A module that a function imports when it is called."""
        for full in (name, f"{package}.{name}" if name else package):
            if full and self._versioned(full):
                self.mark("module", full)
                return
            if full in sys.modules:
                self.module(sys.modules[full], names)
                return
        try:
            spec = importlib.util.find_spec(name) if name else None
        except (ImportError, ValueError):
            spec = None
        if spec is None or not spec.origin or not Path(spec.origin).is_file():
            raise Unknown
        self.mark("file", Path(spec.origin).read_bytes())

    def _versioned(self, module: str | None) -> bool:
        """Whether a module is known by the version of its package; this version is hashed."""
        root = _root(module)
        if not root:
            raise Unknown
        if root in VERSIONED or root in STANDARD:
            return True
        if root in self.own or not _installed(root):
            return False
        self.mark("version", root, _version(root))
        return True


def _of_torch(thing: Any) -> bool:
    kind = type(thing)
    return kind.__name__ in OF_TORCH and kind in (torch.dtype, torch.device, torch.Size)


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    """A code object and those inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)


def _words(code: types.CodeType) -> Iterator[str]:
    """The constants of code that may be names, of `getattr` for example."""
    return (constant for constant in code.co_consts if isinstance(constant, str) and constant.isidentifier())


def _imported(code: types.CodeType) -> set[str]:
    import dis

    return {
        str(step.argval) for one in _codes(code) for step in dis.get_instructions(one) if step.opname == "IMPORT_NAME"
    }


def _slots(base: type) -> list[str]:
    slots = vars(base).get("__slots__", ())
    return [slots] if isinstance(slots, str) else [name for name in slots if not name.startswith("__")]


def _module_of(thing: Any) -> str | None:
    inner = inspect.unwrap(thing) if callable(thing) else thing
    if isinstance(inner, functools.partial):
        return _module_of(inner.func)
    name = getattr(inner, "__module__", None)
    return name if isinstance(name, str) else None


def _root(module: str | None) -> str:
    return (module or "").partition(".")[0]


@functools.cache
def _installed(root: str) -> bool:
    """Whether a root package lies in the folder of installed packages and has a version there."""
    file = getattr(sys.modules.get(root), "__file__", None)
    if file is None or not _version(root):
        return False
    folders = {Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib")}
    return any(folder in Path(file).resolve().parents for folder in folders)


@functools.cache
def _version(root: str) -> str:
    for distribution in importlib.metadata.packages_distributions().get(root, (root,)):
        try:
            return importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
    return ""

"""What C++ knows of one tensor: the names that a spec has there, and the structs for its
columns and for the numbers that are worked out once a tensor.
"""

from collections.abc import Iterator

from ... import ir, vocabulary
from ...ir.kernels import Program
from ..names import Names, snake
from .expr import Printer
from .lists import Lists
from .table import Columns, columns_of

_KEYWORDS = (
    "alignas alignof and and_eq asm auto bitand bitor bool break case catch char class "
    "compl const constexpr const_cast continue decltype default delete do double "
    "dynamic_cast else enum explicit export extern false float for friend goto if inline "
    "int long mutable namespace new noexcept not not_eq nullptr operator or or_eq private "
    "protected public register reinterpret_cast return short signed sizeof static "
    "static_assert static_cast struct switch template this thread_local throw true try "
    "typedef typeid typename union unsigned using virtual void volatile wchar_t while xor "
    "xor_eq real load store row n i at begin end sums table std infinity pi linux unix "
    "larger smaller added gathered across modulo floor_divide are_finite NAN INFINITY "
    "CHUNK Chunk Table Row Numbers numel group none bfloat16 float16 hypers asked parts "
    "rows numbers chunks kept BLOCK AHEAD LINE to ask ask_for next end_of_block each_row entry "
    "all_finite"
).split()


class Rows:
    """Prints the structs of one program; `words` are more names that none of the spec may
    be.
    """

    words: tuple[str, ...] = ()

    def __init__(self, program: Program) -> None:
        self.program = program
        self.rule = program.rule
        self.together = self.rule.in_phases
        self.columns: Columns = columns_of(program)
        reserved = [*_KEYWORDS, *self.words, *_of_functions(), *self._derived()]
        self.names = Names(reserved)
        names = ["maximize", *(each.name for each in program.options)]
        self.options = [self.names.own(each) for each in names]
        self.lists = Lists(program, self.names)
        self.function = self.names.claim(f"step_{snake(self.rule.name)}")
        self.printer = Printer(self._name, lambda ref: f"{self.names.own(ref.name)}_t")
        self.elements = {"grad", *self.columns.elements}

    def _derived(self) -> Iterator[str]:
        """Names that are made of others, which no name of the spec may be."""
        for name in (*self.columns.elements, *self.columns.numbers):
            yield from (f"{name}_t", f"has_{name}")
        for each in self.program.numbers:
            yield from (f"{each.name}_nans", f"{each.name}_next")

    def _name(self, ref: ir.Ref) -> str:
        own = self.names.own(ref.name)
        match ref.role:
            case ir.Role.INDEX:
                return own
            case ir.Role.OPTION if ref.type == ir.NUMBER:
                return own
            case ir.Role.OPTION | ir.Role.FLAG:
                return f"row.{own}" if self.together else own
            case ir.Role.HYPER:
                return f"row.{own}"
            case ir.Role.FIRST:
                return f"row.{own}"
            case ir.Role.COUNT:
                return f"n.{own}"
        if ref.type.kind is ir.Kind.TENSOR:
            return own
        if ref.name in dict(self.program.asked):
            return f"row.{own}"
        return f"n.{own}"

    def _row(self) -> Iterator[str]:
        own, columns = self.names.own, self.columns
        yield ""
        yield "// A tensor: its columns, and what its group says."
        yield "struct Row {"
        yield "    int64_t numel;"
        yield "    const Row *next;"
        yield from self._sizes()
        for name in (*columns.elements, *columns.numbers):
            const = "const " * (name == "grad")
            yield f"    {const}{own(name)}_t *{self.lists.field(name)};"
        yield from self._memory()
        for hyper in columns.hypers:
            size = f"[{hyper.type.length}]" if hyper.type.length else ""
            yield f"    double {self.lists.field(hyper.name)}{size};"
        for name in columns.asked:
            yield f"    double {own(name)};"
        if self.together:
            # Groups of one launch may differ in them.
            yield f"    bool {', '.join(self.options)};"
        yield "};"

    def _sizes(self) -> list[str]:
        """The sizes of a tensor beside the number of its elements, as fields."""
        return []

    def _memory(self) -> list[str]:
        """Where values of a tensor are that no one else knows, as fields."""
        return []

    def _struct(self) -> Iterator[str]:
        own = self.names.own
        yield ""
        yield "// What is worked out once a tensor."
        field = self.lists.field
        flags = [each for each in self.program.numbers if each.type.element == "flag"]
        names = [own(x) for x in self.columns.numbers if x != "step"]
        names += ["t"] * self.columns.counts
        names += [field(x.name) for x in self.program.numbers if x not in flags]
        names = [*dict.fromkeys(names)]
        yield "struct Numbers {" + "};" * (not names and not flags)
        if names:
            yield f"    double {', '.join(names)};"
        if flags:
            yield f"    bool {', '.join(field(each.name) for each in flags)};"
        if names or flags:
            yield "};"

    def _has(self, name: str, row: str = "row", entry: str = "") -> str:
        """Whether a tensor has a state, or an entry of it."""
        own = self.names.own(name) + entry
        return f"{row}.{own} != nullptr" if self.together else f"has_{own}"


def _of_functions() -> list[str]:
    """What kernel.hpp calls the functions of the language."""
    return [f"{name}_" for name in vocabulary.FUNCTIONS]

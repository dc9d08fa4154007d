// What is asked of many objects of Python in one call. The functions of Python and of torch
// that know of objects are handed over, and so is where in an object a tensor has what it
// is a tensor of: nothing here knows what an object looks like.
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

using Object = void *;
using Handle = void *;  // of what torch's functions take

namespace {

struct Known {
    // Of Python; `attribute` and `type` give a reference away.
    Object (*item)(Object list, ptrdiff_t at);
    int (*next)(Object dict, ptrdiff_t *place, Object *key, Object *value);
    Object (*attribute)(Object of, Object name);
    Object (*type)(Object of);
    void (*release)(Object reference);
    // Of torch. All but `begin`, which throws, say by a number that they fail.
    void *(*begin)(Object tensor);
    int (*kinds[4])(Handle tensor, int32_t *found);
    int (*axes)(Handle tensor, int64_t *found);
    int (*numel)(Handle tensor, int64_t *found);
    int (*extents[2])(Handle tensor, int64_t **found);  // sizes and strides
    // Objects, and how many bytes behind its begin one has its handle.
    Object none, grad;
    ptrdiff_t place;
} known;

struct Reference {
    Object object;
    ~Reference() { if (object != nullptr) known.release(object); }
};

Handle handle(Object tensor) { return static_cast<char *>(tensor) + known.place; }

// Whether a tensor that begins nowhere has nothing to begin with; one whose storage was
// given up has.
bool is_empty(Object tensor) {
    int64_t numel;
    return !known.numel(handle(tensor), &numel) && numel == 0;
}

// What a tensor looks like, number by number, until one is not taken.
template <class Take> bool look(Object tensor, Take take) {
    const Reference type{known.type(tensor)};
    if (!take(int64_t(type.object))) return false;
    if (tensor == known.none) return true;
    for (const auto kind : known.kinds) {
        int32_t found;
        if (kind(handle(tensor), &found) || !take(found)) return false;
    }
    int64_t axes;
    if (known.axes(handle(tensor), &axes) || !take(axes)) return false;
    for (const auto extent : known.extents) {
        int64_t *found;
        if (extent(handle(tensor), &found)) return false;
        for (int64_t axis = 0; axis < axes; ++axis)
            if (!take(found[axis])) return false;
    }
    return true;
}

// What a step touched of a tensor lies all over memory: its object, what that is a tensor
// of, and what is behind the first pointers there. The next step asks for it some rows
// ahead, whether it still is there or not: to ask does no harm.
struct Touched {
    Object object;
    char *tensor, *parts[3];

    void keep(Object of) {
        object = of;
        tensor = *static_cast<char **>(handle(of));
        std::memcpy(parts, tensor + sizeof *parts, sizeof parts);
    }
};
constexpr int64_t ROWS_AHEAD = 4, LINE = 64, LINES = 3;

// A compiler may leave out the call of a function that does nothing else.
__attribute__((always_inline)) inline void ask(const Touched &of) {
    __builtin_prefetch(of.object);
    for (int64_t line = 0; line < LINES; ++line)
        __builtin_prefetch(of.tensor + LINE * line);
    for (const char *part : of.parts) __builtin_prefetch(part);
}

// The tensors of a launch, column by column.
struct Columns {
    int64_t rows, columns, grad;       // which column is that of gradients, or -1
    const Object *const *objects;      // but for gradients
    const int64_t *const *looks;       // none where these are not asked
    void **const *begins;
    Touched *touched;
};

}  // namespace

extern "C" void know(const Known *of) { known = *of; }

// Where the tensors of a list begin, 0 for what is `none`; 0 where one of them is no tensor
// or says that it begins nowhere.
extern "C" int addresses(int64_t count, Object tensors, void **found) {
    try {
        for (int64_t at = 0; at < count; ++at) {
            const Object tensor = known.item(tensors, at);
            found[at] = tensor == known.none ? nullptr : known.begin(tensor);
        }
    } catch (...) {
        return 0;
    }
    return 1;
}

// What the tensors of a list look like: how many numbers that takes of those that there is
// room for; or -1.
extern "C" int64_t looks(int64_t count, Object tensors, int64_t *to, int64_t room) {
    int64_t number = 0;
    const auto write = [&](int64_t each) {
        if (number == room) return false;
        to[number++] = each;
        return true;
    };
    for (int64_t at = 0; at < count; ++at)
        if (!look(known.item(tensors, at), write)) return -1;
    return number;
}

// Whether tensors look alike and are where they were, but for the gradients, which are those
// that the first column has now: where they begin is found. 0, too, where Python has an
// exception to raise.
extern "C" int unchanged(const Columns *all) {
    const Columns of = *all;
    std::vector<const int64_t *> looks(of.looks, of.looks + of.columns);
    Touched *touched = of.touched;
    const Touched *const end = touched + of.rows * of.columns;
    try {
        for (int64_t row = 0; row < of.rows; ++row)
            for (int64_t column = 0; column < of.columns; ++column, ++touched) {
                const Touched *const later = touched + ROWS_AHEAD * of.columns;
                if (later < end) ask(*later);
                const bool is_grad = column == of.grad;
                const Reference grad{
                    is_grad ? known.attribute(of.objects[0][row], known.grad) : nullptr};
                const Object tensor = is_grad ? grad.object : of.objects[column][row];
                if (tensor == nullptr) return 0;
                const int64_t *as = looks[column];
                if (as && !look(tensor, [&](int64_t each) { return each == *as++; }))
                    return 0;
                looks[column] = as;
                if (tensor == known.none) continue;
                touched->keep(tensor);
                void *const begin = known.begin(tensor);
                if (begin == nullptr && !is_empty(tensor)) return 0;
                void *&before = of.begins[column][row];
                if (!is_grad && begin != before) return 0;
                before = begin;
            }
    } catch (...) {
        return 0;
    }
    return 1;
}

// Whether two lists of as many objects have the same ones.
extern "C" int same(int64_t count, Object list, Object other) {
    for (int64_t at = 0; at < count; ++at)
        if (known.item(list, at) != known.item(other, at)) return 0;
    return 1;
}

// What was replaced in the dicts of a list, where their keys and values were the `items`, up
// to the `ends` of each: how many values, with the places of the dict and of the value for
// each; or -1 where there are other keys.
extern "C" int64_t replaced(
    int64_t count, Object dicts, const int64_t *ends, Object items, int64_t *found) {
    int64_t number = 0;
    for (int64_t at = 0; at < count; ++at) {
        const Object dict = known.item(dicts, at);
        const ptrdiff_t end = 2 * ends[at + 1];
        ptrdiff_t place = 0, to = 2 * ends[at];
        Object key, value;
        for (; known.next(dict, &place, &key, &value); to += 2) {
            if (to == end || known.item(items, to) != key) return -1;
            if (known.item(items, to + 1) == value) continue;
            found[2 * number] = at;
            found[2 * number++ + 1] = to + 1;
        }
        if (to != end) return -1;
    }
    return number;
}

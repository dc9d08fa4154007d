// What is asked of many objects of Python in one call. The functions of Python and of torch
// that know of objects are handed over, and so is where in an object a tensor keeps what it
// is a tensor of: nothing here knows what an object looks like.
#include <cstddef>
#include <cstdint>

using Object = void *;
using Handle = void *;  // of what torch's functions take

namespace {

struct Known {
    // Of Python. `type` and `attribute` give a reference away, `keep` takes one.
    Object (*item)(Object list, ptrdiff_t at);
    int (*keep)(Object list, ptrdiff_t at, Object value);
    int (*next)(Object dict, ptrdiff_t *place, Object *key, Object *value);
    Object (*attribute)(Object from, Object name);
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

Handle handle(Object tensor) { return static_cast<char *>(tensor) + known.place; }

// What comes next is asked for some objects ahead: first the object, and when it is there
// what its handle leads to.
constexpr int64_t NEAR = 6, FAR = 12;

void ask(Object list, int64_t at, int64_t count) {
    if (at + FAR < count) __builtin_prefetch(known.item(list, at + FAR));
    if (at + NEAR >= count) return;
    const Object next = known.item(list, at + NEAR);
    if (next == known.none) return;
    const char *tensor = *static_cast<char **>(handle(next));
    for (int line = 0; line < 4; ++line) __builtin_prefetch(tensor + 64 * line);
}

// Whether a tensor that begins nowhere has nothing to begin with; one whose storage was
// given up has.
bool is_empty(Object tensor) {
    int64_t numel;
    return !known.numel(handle(tensor), &numel) && numel == 0;
}

// What a tensor looks like, number by number, until one is not taken.
template <class Take> bool look(Object tensor, Take take) {
    const Object type = known.type(tensor);
    known.release(type);
    if (!take(int64_t(type))) return false;
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

// The gradients of the parameters in a list, put into another one. It is 0 where Python has
// an exception to raise.
extern "C" int gradients(int64_t count, Object params, Object found) {
    for (int64_t at = 0; at < count; ++at) {
        ask(params, at, count);
        const Object grad = known.attribute(known.item(params, at), known.grad);
        if (grad == nullptr || known.keep(found, at, grad)) return 0;
    }
    return 1;
}

// What the tensors of a list look like: how many numbers that takes of those that there is
// room for; or -1.
extern "C" int64_t looks(int64_t count, Object tensors, int64_t *to, int64_t room) {
    int64_t number = 0;
    for (int64_t at = 0; at < count; ++at)
        if (!look(known.item(tensors, at), [&](int64_t each) {
                if (number == room) return false;
                to[number++] = each;
                return true;
            }))
            return -1;
    return number;
}

// Whether tensors look so and all have memory, and where they begin.
extern "C" int look_so(
    int64_t count, Object tensors, const int64_t *as, void **found) {
    try {
        for (int64_t at = 0; at < count; ++at) {
            ask(tensors, at, count);
            const Object tensor = known.item(tensors, at);
            if (!look(tensor, [&](int64_t each) { return each == *as++; })) return 0;
            if (tensor == known.none) {
                found[at] = nullptr;
                continue;
            }
            found[at] = known.begin(tensor);
            if (found[at] == nullptr && !is_empty(tensor)) return 0;
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

// What is asked of many objects of Python in one call. The functions of Python and of torch
// that know of objects are handed over: nothing here knows what one looks like.
#include <cstddef>
#include <cstdint>

using Object = void *;
using Item = Object (*)(Object list, ptrdiff_t at);
using Next = int (*)(Object dict, ptrdiff_t *place, Object *key, Object *value);
using Begin = void *(*)(Object tensor);

// Where the tensors of a list begin, 0 for what is `none`; 0 where one of them is no tensor
// or says that it begins nowhere.
extern "C" int addresses(
    Item item, Begin begin, Object none, int64_t count, Object tensors, void **found) {
    try {
        for (int64_t at = 0; at < count; ++at) {
            const Object tensor = item(tensors, at);
            found[at] = tensor == none ? nullptr : begin(tensor);
        }
    } catch (...) {
        return 0;
    }
    return 1;
}

// In which dicts of a list there are not just the items that there were, keys and values
// up to the `ends` of each: how many, and their places.
extern "C" int64_t changed(
    Item item, Next next, int64_t count, Object dicts, const int64_t *ends, Object items,
    int64_t *found) {
    int64_t number = 0;
    for (int64_t at = 0; at < count; ++at) {
        const Object dict = item(dicts, at);
        const ptrdiff_t end = 2 * ends[at + 1];
        ptrdiff_t place = 0, to = 2 * ends[at];
        Object key, value;
        bool same = true;
        for (; same && next(dict, &place, &key, &value); to += 2)
            same = to < end && item(items, to) == key && item(items, to + 1) == value;
        if (!same || to != end) found[number++] = at;
    }
    return number;
}

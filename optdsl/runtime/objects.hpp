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

// What was replaced in the dicts of a list, where their keys and values were the `items`, up
// to the `ends` of each: how many values, with the places of the dict and of the value for
// each; or -1 where there are other keys.
extern "C" int64_t replaced(
    Item item, Next next, int64_t count, Object dicts, const int64_t *ends, Object items,
    int64_t *found) {
    int64_t number = 0;
    for (int64_t at = 0; at < count; ++at) {
        const Object dict = item(dicts, at);
        const ptrdiff_t end = 2 * ends[at + 1];
        ptrdiff_t place = 0, to = 2 * ends[at];
        Object key, value;
        for (; next(dict, &place, &key, &value); to += 2) {
            if (to == end || item(items, to) != key) return -1;
            if (item(items, to + 1) == value) continue;
            found[2 * number] = at;
            found[2 * number++ + 1] = to + 1;
        }
        if (to != end) return -1;
    }
    return number;
}

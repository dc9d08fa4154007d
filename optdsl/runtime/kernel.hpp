// What all kernels share: numbers in memory, arithmetic, and the way over many tensors.
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr double pi = 3.14159265358979323846;

// ---- numbers in memory

struct bfloat16 { uint16_t bits; };
using float16 = _Float16;

inline float load(float x) { return x; }
inline double load(double x) { return x; }
inline float load(float16 x) { return float(x); }
inline float load(bfloat16 x) {
    const uint32_t bits = uint32_t(x.bits) << 16;
    float result;
    std::memcpy(&result, &bits, sizeof result);
    return result;
}

inline void store(float &to, double x) { to = float(x); }
inline void store(float &to, float x) { to = x; }
inline void store(double &to, double x) { to = x; }
inline void store(float16 &to, double x) { to = float16(x); }
inline void store(float16 &to, float x) { to = float16(x); }
inline void store(bfloat16 &to, float x) {
    uint32_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    // To the nearest, of two the even one; what is no number stays none.
    const uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    to.bits = uint16_t(x == x ? rounded : 0x7fc0);
}
inline void store(bfloat16 &to, double x) { store(to, float(x)); }

// A number as it would be in memory.
template <class T, class Real> inline Real kept(Real x) {
    T to;
    store(to, x);
    return Real(load(to));
}

template <class T> inline double epsilon_of();
template <> inline double epsilon_of<float>() { return 0x1p-23; }
template <> inline double epsilon_of<double>() { return 0x1p-52; }
template <> inline double epsilon_of<float16>() { return 0x1p-10; }
template <> inline double epsilon_of<bfloat16>() { return 0x1p-7; }

// ---- arithmetic, as torch means it

#define OF_ONE(name, value)                              \
    inline float name##_(float x) { return value; }      \
    inline double name##_(double x) { return value; }
OF_ONE(exp, std::exp(x))
OF_ONE(expm1, std::expm1(x))
OF_ONE(log, std::log(x))
OF_ONE(log1p, std::log1p(x))
OF_ONE(log2, std::log2(x))
OF_ONE(log10, std::log10(x))
OF_ONE(sin, std::sin(x))
OF_ONE(cos, std::cos(x))
OF_ONE(tan, std::tan(x))
OF_ONE(asin, std::asin(x))
OF_ONE(acos, std::acos(x))
OF_ONE(atan, std::atan(x))
OF_ONE(sinh, std::sinh(x))
OF_ONE(cosh, std::cosh(x))
OF_ONE(tanh, std::tanh(x))
OF_ONE(erf, std::erf(x))
OF_ONE(floor, std::floor(x))
OF_ONE(ceil, std::ceil(x))
OF_ONE(trunc, std::trunc(x))
OF_ONE(abs, std::fabs(x))
OF_ONE(round, std::rint(x))
OF_ONE(sqrt, std::sqrt(x))
OF_ONE(rsqrt, 1 / std::sqrt(x))
OF_ONE(square, x * x)
OF_ONE(reciprocal, 1 / x)
OF_ONE(sigmoid, 1 / (1 + std::exp(-x)))
OF_ONE(sign, (x > 0) - (x < 0))

#define OF_TWO(name, value)                                       \
    inline float name##_(float x, float y) { return value; }      \
    inline double name##_(double x, double y) { return value; }
OF_TWO(max, x > y || x != x ? x : y)
OF_TWO(min, x < y || x != x ? x : y)
OF_TWO(pow, std::pow(x, y))
OF_TWO(atan2, std::atan2(x, y))

template <class T> inline T clamp_(T x, T low, T high) {
    return min_(max_(x, low), high);
}
template <class T> inline T lerp_(T start, T end, T weight) {
    // Either end itself where the weight is 0 or 1.
    return (1 - weight) * start + weight * end;
}
template <class T> inline bool isnan_(T x) { return x != x; }
template <class T> inline bool isfinite_(T x) { return x - x == 0; }

inline double modulo(double x, double y) {
    const double rest = std::fmod(x, y);
    return rest != 0 && (rest < 0) != (y < 0) ? rest + y : rest;
}
inline double floor_divide(double x, double y) {
    return std::rint((x - modulo(x, y)) / y);
}

template <class... T> inline bool are_finite(T... x) {
    return (true && ... && isfinite_(double(x)));
}

inline bool all_finite(const double *x, int count) {
    for (int at = 0; at < count; ++at)
        if (!isfinite_(x[at])) return false;
    return true;
}

// ---- many tensors

// A tensor as matrices, where its rule sees it so.
struct Shape { int64_t matrices, height, width; };

// The tensors of a launch: of each its size, its group, what the host knows of it (column
// by column), and where its columns begin.
struct Table {
    int64_t rows;
    int64_t threads;
    const int64_t *numel;
    const Shape *shapes;
    const int64_t *group;
    const double *hypers;
    const double *asked;
    void *const *const *columns;
};

// Pieces of at most this many elements, whichever thread takes them.
constexpr int64_t CHUNK = 16384;

struct Chunk { int64_t row, begin, end; };

inline std::vector<Chunk> chunks_of(const Table &table) {
    std::vector<Chunk> chunks;
    for (int64_t row = 0; row < table.rows; ++row)
        for (int64_t at = 0; at < table.numel[row]; at += CHUNK) {
            const int64_t left = table.numel[row] - at;
            chunks.push_back({row, at, at + (left < CHUNK ? left : CHUNK)});
        }
    return chunks;
}

template <class Piece, class Pass>
void each_chunk(const Table &table, const std::vector<Piece> &chunks, Pass pass) {
    const int64_t count = int64_t(chunks.size());
    const int threads = int(count < table.threads ? count : table.threads);
    #pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (int64_t at = 0; at < count; ++at)
        pass(chunks[at], at);
}

// Elements are worked on block by block, and asked for some blocks ahead: by itself a
// processor sees what comes next only as far as a page goes.
constexpr int64_t BLOCK = 64, AHEAD = 512;
constexpr int64_t LINE = 64;  // bytes that come at once

inline int64_t end_of_block(int64_t at, int64_t end) {
    return at + BLOCK < end ? at + BLOCK : end;
}

// Ask for a block of each column that is there. A compiler may leave out the call of a
// function that does nothing else.
template <class Row, class... T>
__attribute__((always_inline)) inline void ask_for(
    const Row &row, int64_t from, T *Row::*... columns) {
    const auto one = [&](auto *column) {
        if (column == nullptr) return;
        for (int64_t at = 0; at < BLOCK; at += LINE / int64_t(sizeof *column))
            __builtin_prefetch(column + from + at);
    };
    (one(row.*columns), ...);
}

// While a whole block is worked on, ask for a later one; behind the end of a tensor the
// next one begins.
template <class Row, class... T>
__attribute__((always_inline)) inline void ask(
    int64_t from, int64_t to, const Row &row, T *Row::*... columns) {
    if (to - from < BLOCK) return;
    const int64_t beyond = from + AHEAD - row.numel;
    if (beyond + BLOCK <= 0)
        ask_for(row, from + AHEAD, columns...);
    else if (beyond >= 0 && beyond + BLOCK <= row.next->numel)
        ask_for(*row.next, beyond, columns...);
}

// What is worked out once a tensor, from its group, from what is asked about it and from
// its numbers: where all are those of the tensor before, so is this. False where it fails.
template <class Row, class Numbers>
bool each_row(const Table &table, int64_t asked, const std::vector<Row> &rows,
              std::vector<Numbers> &numbers, bool (*work)(const Row &, Numbers &)) {
    Numbers before;
    for (int64_t at = 0; at < table.rows; ++at) {
        const Numbers given = numbers[at];
        bool same = at > 0 && table.group[at] == table.group[at - 1] &&
            std::memcmp(&given, &before, sizeof given) == 0;
        for (int64_t k = at; same && k < asked * table.rows; k += table.rows)
            same = table.asked[k] == table.asked[k - 1];
        if (same)
            numbers[at] = numbers[at - 1];
        else if (!work(rows[at], numbers[at]))
            return false;
        before = given;
    }
    return true;
}

// What the chunks of each tensor gathered, in their order, so that the result is the same
// for any number of threads.
template <int COUNT, class Piece>
std::vector<double> gathered(
    const Table &table, const std::vector<Piece> &chunks,
    const std::vector<double> &parts, const double (&empty)[COUNT],
    double (*const (&join)[COUNT])(double, double)) {
    std::vector<double> sums(table.rows * COUNT);
    for (int64_t row = 0; row < table.rows; ++row)
        for (int k = 0; k < COUNT; ++k) sums[row * COUNT + k] = empty[k];
    for (size_t at = 0; at < chunks.size(); ++at)
        for (int k = 0; k < COUNT; ++k) {
            double &sum = sums[chunks[at].row * COUNT + k];
            sum = join[k](sum, parts[at * COUNT + k]);
        }
    return sums;
}

inline double added(double x, double y) { return x + y; }
inline double larger(double x, double y) { return max_(x, y); }
inline double smaller(double x, double y) { return min_(x, y); }

// A number of each tensor joined over its group, or over all of them.
template <class Part, class Result>
void across(const Table &table, bool of_group, double empty,
            double (*join)(double, double), Part part, Result result) {
    for (int64_t from = 0; from < table.rows;) {
        int64_t to = from;
        double value = empty;
        while (to < table.rows && (!of_group || table.group[to] == table.group[from]))
            value = join(value, part(to++));
        for (const double count = to - from; from < to; ++from) result(from, value, count);
    }
}

}  // namespace

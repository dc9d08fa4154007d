// What those kernels share that see tensors as matrices: tiles of them, and what is gathered
// along a line or a column.
#include <algorithm>

namespace {

// Tiles have at most this many columns, unless there are few lines, and about this many
// elements, whichever thread takes them.
constexpr int64_t TILE_WIDTH = 1024;
constexpr int64_t TILE = 65536;

// Lines of a tensor, counted through all its matrices, and columns: some of one matrix, or
// all of several. What it gathers stands behind `lines` and `columns` numbers of others.
struct Tile {
    int64_t row, line, line_end, column, column_end;
    int64_t lines, columns;

    // Where the columns of a matrix begin among those of the tile.
    int64_t before(int64_t matrix, int64_t height) const {
        return (matrix - line / height) * (column_end - column);
    }
};

struct Tiles {
    std::vector<Tile> all;
    std::vector<int64_t> first;  // of each tensor; one more at the end
    int64_t lines = 0, columns = 0;

    void add(int64_t row, int64_t line, int64_t line_end, int64_t column,
             int64_t column_end, int64_t matrices) {
        all.push_back({row, line, line_end, column, column_end, lines, columns});
        lines += line_end - line;
        columns += matrices * (column_end - column);
    }
};

inline Tiles tiles_of(const Table &table) {
    Tiles tiles;
    for (int64_t row = 0; row < table.rows; ++row) {
        tiles.first.push_back(int64_t(tiles.all.size()));
        const Shape &s = table.shapes[row];
        if (s.matrices == 0)  // no matrix, but one line
            for (int64_t column = 0; column < table.numel[row]; column += TILE)
                tiles.add(row, 0, 1, column, std::min(column + TILE, s.width), 0);
        if (table.numel[row] == 0 || s.matrices == 0) continue;
        const int64_t most = std::max(TILE_WIDTH, TILE / s.height);
        const int64_t width = std::min(s.width, most);
        const int64_t height = std::max(int64_t(1), TILE / width);
        if (width == s.width && s.height <= height) {
            const int64_t several = height / s.height;
            for (int64_t from = 0; from < s.matrices; from += several) {
                const int64_t count = std::min(several, s.matrices - from);
                tiles.add(row, from * s.height, (from + count) * s.height, 0, width, count);
            }
            continue;
        }
        for (int64_t top = 0; top < s.matrices * s.height; top += s.height)
            for (int64_t line = 0; line < s.height; line += height)
                for (int64_t column = 0; column < s.width; column += width)
                    tiles.add(row, top + line, top + std::min(line + height, s.height),
                              column, std::min(column + width, s.width), 1);
    }
    tiles.first.push_back(int64_t(tiles.all.size()));
    return tiles;
}

// Numbers that live as long as a step.
struct Memory {
    std::vector<std::vector<double>> kept;

    double *zeros(int64_t count) {
        kept.emplace_back(std::max(count, int64_t(1)));
        return kept.back().data();
    }
};

template <class Work>
void each_tensor(const Table &table, Work work) {
    const int threads = int(std::min(table.rows, table.threads));
    #pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (int64_t at = 0; at < table.rows; ++at) work(at);
}

// What the tiles of each tensor gathered along lines, in their order, so that the result is
// the same for any number of threads; `end` makes of it what was asked for.
template <class Into, class End>
void join_lines(const Table &table, const Tiles &tiles, const std::vector<double> &parts,
                double empty, double (*join)(double, double), Into into, End end) {
    each_tensor(table, [&](int64_t row) {
        const Shape &s = table.shapes[row];
        if (s.matrices == 0) return;
        double *to = into(row);
        std::fill(to, to + s.matrices * s.height, empty);
        for (int64_t at = tiles.first[row]; at < tiles.first[row + 1]; ++at) {
            const Tile &tile = tiles.all[at];
            const double *from = parts.data() + tile.lines;
            for (int64_t line = tile.line; line < tile.line_end; ++line)
                to[line] = join(to[line], *from++);
        }
        for (int64_t line = 0; line < s.matrices * s.height; ++line)
            to[line] = end(to[line], double(s.width));
    });
}

// The same along columns.
template <class Into, class End>
void join_columns(const Table &table, const Tiles &tiles, const std::vector<double> &parts,
                  double empty, double (*join)(double, double), Into into, End end) {
    each_tensor(table, [&](int64_t row) {
        const Shape &s = table.shapes[row];
        if (s.matrices == 0) return;
        double *to = into(row);
        std::fill(to, to + s.matrices * s.width, empty);
        for (int64_t at = tiles.first[row]; at < tiles.first[row + 1]; ++at) {
            const Tile &tile = tiles.all[at];
            const double *from = parts.data() + tile.columns;
            for (int64_t line = tile.line; line < tile.line_end; line += s.height) {
                double *columns = to + line / s.height * s.width;
                for (int64_t column = tile.column; column < tile.column_end; ++column)
                    columns[column] = join(columns[column], *from++);
            }
        }
        for (int64_t column = 0; column < s.matrices * s.width; ++column)
            to[column] = end(to[column], double(s.height));
    });
}

}  // namespace

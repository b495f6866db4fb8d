/* Depthwise, pointwise and separable convolutions of images (N, H, W, C), and batch norms, with their gradients, of numbers
 * of type REAL: float or double.
 *
 * A convolution goes image by image, LANES channels at a time: those are copied into a tile with their padding around, so that
 * no loop has to look for the border, and all that is read again stays in the cache. Sums go over the taps in row-major
 * order; the weight's gradient is summed up image by image. One thread, no state; scratch: see scratch_numbers.
 */
#include <string.h>

#define LANES (64 / (long)sizeof(REAL)) /* 16 or 8 */
typedef REAL V __attribute__((vector_size(64), aligned(sizeof(REAL)), may_alias));

typedef struct {
    long n, h, w, c;          /* the image: count, height, width, channels */
    long k, dilation, stride; /* the kernel's, which is odd; the padding is dilation * (k / 2) */
} Shape;

static inline long pad_of(const Shape *s) { return s->dilation * (s->k / 2); }
static inline long out_of(const Shape *s, long size) { return (size - 1) / s->stride + 1; }

/* Numbers of scratch that any of the functions below may use but those of batch norms; o as there, or 0. */
long scratch_numbers(const Shape *s, long o) {
    long tile = (s->h + 2 * pad_of(s)) * (s->w + 2 * pad_of(s)) * LANES, taps = s->k * s->k;
    return tile + taps * LANES + (o ? 2 * taps * s->c + s->h * s->w * s->c + s->c * o : 0);
}

/* Up to LANES channels of one image into the middle of a tile of which the rest is filled. */
static void to_tile(const REAL *x, long h, long w, long c, long lanes, long pad, REAL fill, REAL *tile) {
    long wide = w + 2 * pad;
    V filled = (V){0} + fill;
    for (long i = 0; i < pad * wide; i++) {
        *(V *)(tile + i * LANES) = filled;
        *(V *)(tile + ((h + pad) * wide + i) * LANES) = filled;
    }
    for (long i = 0; i < h; i++) {
        REAL *row = tile + (i + pad) * wide * LANES;
        for (long j = 0; j < pad; j++) {
            *(V *)(row + j * LANES) = filled;
            *(V *)(row + (w + pad + j) * LANES) = filled;
        }
        const REAL *from = x + i * w * c;
        row += pad * LANES;
        if (lanes == LANES)
            for (long j = 0; j < w; j++) *(V *)(row + j * LANES) = *(const V *)(from + j * c);
        else
            for (long j = 0; j < w; j++) {
                V v = filled;
                memcpy(&v, from + j * c, lanes * sizeof(REAL));
                *(V *)(row + j * LANES) = v;
            }
    }
}

static inline void put(REAL *to, V v, long lanes, int add) {
    if (lanes == LANES) {
        if (add) v += *(V *)to;
        *(V *)to = v;
    } else memcpy(to, &v, lanes * sizeof(REAL)); /* nobody adds to a part */
}

static inline V get(const REAL *from, long lanes) {
    if (lanes == LANES) return *(const V *)from;
    V v = {0};
    memcpy(&v, from, lanes * sizeof(REAL));
    return v;
}

/* Weights (C, k, k) of some channels as k * k vectors, turned round or not. */
static void to_taps(const REAL *weight, long taps, long lanes, int turned, REAL *out) {
    memset(out, 0, taps * LANES * sizeof(REAL));
    for (long lane = 0; lane < lanes; lane++)
        for (long t = 0; t < taps; t++) out[(turned ? taps - 1 - t : t) * LANES + lane] = weight[lane * taps + t];
}

/* The way back. */
static void from_taps(const REAL *total, long taps, long lanes, REAL *out) {
    for (long lane = 0; lane < lanes; lane++)
        for (long t = 0; t < taps; t++) out[lane * taps + t] = total[t * LANES + lane];
}

#define AT(tile, row, column) (*(const V *)((tile) + ((row) * wide + (column)) * LANES))
#define PIXELS 8 /* of a row at a time */

static inline __attribute__((always_inline)) void convolve_tile(
    const REAL *tile, long wide, const REAL *taps, long k, long dilation, long stride, long h, long w, long c,
    long lanes, REAL *out, int add) {
    for (long i = 0; i < h; i++) {
        const REAL *top = tile + i * stride * wide * LANES;
        long j = 0;
        for (; j + PIXELS <= w; j += PIXELS) {
            V sum[PIXELS] = {{0}};
            for (long a = 0; a < k; a++)
_Pragma("GCC unroll 8")
                for (long b = 0; b < k; b++) {
                    V weight = *(const V *)(taps + (a * k + b) * LANES);
_Pragma("GCC unroll 8")
                    for (int p = 0; p < PIXELS; p++)
                        sum[p] += weight * AT(top, a * dilation, (j + p) * stride + b * dilation);
                }
_Pragma("GCC unroll 8")
            for (int p = 0; p < PIXELS; p++) put(out + (i * w + j + p) * c, sum[p], lanes, add);
        }
        for (; j < w; j++) {
            V sum = {0};
            for (long a = 0; a < k; a++)
                for (long b = 0; b < k; b++)
                    sum += *(const V *)(taps + (a * k + b) * LANES) * AT(top, a * dilation, j * stride + b * dilation);
            put(out + (i * w + j) * c, sum, lanes, add);
        }
    }
}

static void convolve_any(const REAL *tile, long wide, const REAL *taps, const Shape *s, long h, long w, long lanes,
                         REAL *out, int add) {
#define CASE(K, DILATION)                                            \
    if (lanes == LANES && s->stride == 1 && s->k == K && s->dilation == DILATION) \
    convolve_tile(tile, wide, taps, K, DILATION, 1, h, w, s->c, LANES, out, add)
    CASE(3, 1);
    else CASE(5, 1);
    else CASE(3, 2);
    else CASE(5, 2);
    else convolve_tile(tile, wide, taps, s->k, s->dilation, s->stride, h, w, s->c, lanes, out, add);
#undef CASE
}

/* out (N, H', W', C): the depthwise convolution of x with weight (C, k, k). */
void depthwise(const Shape *s, const REAL *x, const REAL *weight, REAL *out, REAL *scratch) {
    long pad = pad_of(s), wide = s->w + 2 * pad, taps = s->k * s->k, h = out_of(s, s->h), w = out_of(s, s->w);
    REAL *tile = scratch, *kernel = scratch + (s->h + 2 * pad) * wide * LANES;
    for (long c = 0; c < s->c; c += LANES) {
        long lanes = s->c - c < LANES ? s->c - c : LANES;
        to_taps(weight + c * taps, taps, lanes, 0, kernel);
        for (long n = 0; n < s->n; n++) {
            to_tile(x + n * s->h * s->w * s->c + c, s->h, s->w, s->c, lanes, pad, 0, tile);
            convolve_any(tile, wide, kernel, s, h, w, lanes, out + n * h * w * s->c + c, 0);
        }
    }
}

/* The gradient of a strided convolution, added to a tile. */
static inline __attribute__((always_inline)) void scatter_tile(
    REAL *tile, long wide, const REAL *taps, long k, long dilation, long stride, const REAL *gradient, long h, long w,
    long c, long lanes) {
    for (long i = 0; i < h; i++)
        for (long a = 0; a < k; a++) {
            REAL *row = tile + (i * stride + a * dilation) * wide * LANES;
            for (long j = 0; j < w; j++) {
                V g = get(gradient + (i * w + j) * c, lanes);
                for (long b = 0; b < k; b++)
                    *(V *)(row + (j * stride + b * dilation) * LANES) += *(const V *)(taps + (a * k + b) * LANES) * g;
            }
        }
}

/* The gradient by some channels of one image, which is stored or, of whole lanes, added. The taps are turned round at
 * stride 1, else they are not. */
static void gradient_by_image(const Shape *s, const REAL *gradient, const REAL *taps, long lanes, REAL *out, int add,
                              REAL *tile) {
    long pad = pad_of(s), wide = s->w + 2 * pad, h = out_of(s, s->h), w = out_of(s, s->w);
    if (s->stride == 1) {
        to_tile(gradient, s->h, s->w, s->c, lanes, pad, 0, tile);
        convolve_any(tile, wide, taps, s, s->h, s->w, lanes, out, add);
        return;
    }
    memset(tile, 0, (s->h + 2 * pad) * wide * LANES * sizeof(REAL));
    if (lanes == LANES && s->stride == 2 && s->dilation == 1 && s->k == 3)
        scatter_tile(tile, wide, taps, 3, 1, 2, gradient, h, w, s->c, LANES);
    else if (lanes == LANES && s->stride == 2 && s->dilation == 1 && s->k == 5)
        scatter_tile(tile, wide, taps, 5, 1, 2, gradient, h, w, s->c, LANES);
    else scatter_tile(tile, wide, taps, s->k, s->dilation, s->stride, gradient, h, w, s->c, lanes);
    for (long i = 0; i < s->h; i++)
        for (long j = 0; j < s->w; j++)
            put(out + (i * s->w + j) * s->c, *(V *)(tile + ((i + pad) * wide + pad + j) * LANES), lanes, add);
}

/* out (N, H, W, C): the gradient by the image, from that by the output (N, H', W', C). */
void depthwise_by_image(const Shape *s, const REAL *gradient, const REAL *weight, REAL *out, REAL *scratch) {
    long pad = pad_of(s), taps = s->k * s->k, h = out_of(s, s->h), w = out_of(s, s->w);
    REAL *tile = scratch, *kernel = scratch + (s->h + 2 * pad) * (s->w + 2 * pad) * LANES;
    for (long c = 0; c < s->c; c += LANES) {
        long lanes = s->c - c < LANES ? s->c - c : LANES;
        to_taps(weight + c * taps, taps, lanes, s->stride == 1, kernel);
        for (long n = 0; n < s->n; n++) {
            REAL *by_image = out + n * s->h * s->w * s->c + c;
            gradient_by_image(s, gradient + n * h * w * s->c + c, kernel, lanes, by_image, 0, tile);
        }
    }
}

static inline __attribute__((always_inline)) void correlate_rows(
    const REAL *tile, long wide, const REAL *gradient, long k, long dilation, long stride, long h, long w, long c,
    long lanes, REAL *total) {
    for (long a = 0; a < k; a++) { /* one row of the kernel at a time: its sums stay in registers */
        V sum[8] = {{0}};
        for (long i = 0; i < h; i++) {
            const REAL *row = tile + (i * stride + a * dilation) * wide * LANES;
            for (long j = 0; j < w; j++) {
                V g = get(gradient + (i * w + j) * c, lanes);
                for (long b = 0; b < k; b++) sum[b] += g * AT(row, 0, j * stride + b * dilation);
            }
        }
        for (long b = 0; b < k; b++) *(V *)(total + (a * k + b) * LANES) += sum[b];
    }
}

static inline __attribute__((always_inline)) void correlate_whole(
    const REAL *tile, long wide, const REAL *gradient, long k, long dilation, long stride, long h, long w, long c,
    long lanes, REAL *total) {
    V sum[25] = {{0}};
    for (long i = 0; i < h; i++) {
        const REAL *top = tile + i * stride * wide * LANES;
        for (long j = 0; j < w; j++) {
            V g = get(gradient + (i * w + j) * c, lanes);
            for (long a = 0; a < k; a++)
                for (long b = 0; b < k; b++) sum[a * k + b] += g * AT(top, a * dilation, j * stride + b * dilation);
        }
    }
    for (long t = 0; t < k * k; t++) *(V *)(total + t * LANES) += sum[t];
}

static void correlate_any(const REAL *tile, long wide, const REAL *gradient, const Shape *s, long h, long w,
                          long lanes, REAL *total) {
    if (lanes == LANES && s->k == 3)
        correlate_whole(tile, wide, gradient, 3, s->dilation, s->stride, h, w, s->c, LANES, total);
    else if (lanes == LANES && s->k == 5)
        correlate_whole(tile, wide, gradient, 5, s->dilation, s->stride, h, w, s->c, LANES, total);
    else correlate_rows(tile, wide, gradient, s->k, s->dilation, s->stride, h, w, s->c, lanes, total);
}

/* out (C, k, k): the gradient by the weight, from that by the output (N, H', W', C). */
void depthwise_by_weight(const Shape *s, const REAL *x, const REAL *gradient, REAL *out, REAL *scratch) {
    long pad = pad_of(s), wide = s->w + 2 * pad, taps = s->k * s->k, h = out_of(s, s->h), w = out_of(s, s->w);
    REAL *tile = scratch, *total = scratch + (s->h + 2 * pad) * wide * LANES;
    for (long c = 0; c < s->c; c += LANES) {
        long lanes = s->c - c < LANES ? s->c - c : LANES;
        memset(total, 0, taps * LANES * sizeof(REAL));
        for (long n = 0; n < s->n; n++) {
            const REAL *g = gradient + n * h * w * s->c + c;
            to_tile(x + n * s->h * s->w * s->c + c, s->h, s->w, s->c, lanes, pad, 0, tile);
            correlate_any(tile, wide, g, s, h, w, lanes, total);
        }
        from_taps(total, taps, lanes, out + c * taps);
    }
}

/* A block of rows of a product: rows r of a are a + r * a_row, its columns j apart by a_column; b and out have rows. */
static inline __attribute__((always_inline)) void product_block(
    const REAL *a, long a_row, long a_column, const REAL *b, long b_row, REAL *out, long out_row, long depth,
    int rows, int vectors, const REAL *bias, int add) {
    V sum[16 * 2];
    _Pragma("GCC unroll 32")
    for (int r = 0; r < rows; r++)
        _Pragma("GCC unroll 4")
        for (int v = 0; v < vectors; v++) {
            V start = {0};
            if (add) start = *(const V *)(out + r * out_row + v * LANES);
            else if (bias) start = *(const V *)(bias + v * LANES);
            sum[r * vectors + v] = start;
        }
    for (long j = 0; j < depth; j++) {
        V other[2];
        _Pragma("GCC unroll 4")
        for (int v = 0; v < vectors; v++) other[v] = *(const V *)(b + j * b_row + v * LANES);
        _Pragma("GCC unroll 32")
        for (int r = 0; r < rows; r++)
            _Pragma("GCC unroll 4")
            for (int v = 0; v < vectors; v++) sum[r * vectors + v] += a[r * a_row + j * a_column] * other[v];
    }
    _Pragma("GCC unroll 32")
    for (int r = 0; r < rows; r++)
        _Pragma("GCC unroll 4")
        for (int v = 0; v < vectors; v++) *(V *)(out + r * out_row + v * LANES) = sum[r * vectors + v];
}

/* out (m, n), or what is added to it: a (m, depth) by b (depth, n), plus bias (n) or NULL. n is a multiple of LANES. */
static void product(const REAL *a, long a_row, long a_column, const REAL *b, long b_row, REAL *out, long out_row,
                    long m, long depth, long n, const REAL *bias, int add) {
    for (long c = 0; c < n;) {
        const REAL *plus = bias ? bias + c : NULL;
        int two = n - c >= 2 * LANES;
        long i = 0;
        for (; i + 8 <= m; i += 8) {
            const REAL *rows = a + i * a_row;
            if (two) product_block(rows, a_row, a_column, b + c, b_row, out + i * out_row + c, out_row, depth, 8, 2, plus, add);
            else if (i + 16 <= m) {
                product_block(rows, a_row, a_column, b + c, b_row, out + i * out_row + c, out_row, depth, 16, 1, plus, add);
                i += 8;
            } else product_block(rows, a_row, a_column, b + c, b_row, out + i * out_row + c, out_row, depth, 8, 1, plus, add);
        }
        for (; i < m; i++) {
            REAL *to = out + i * out_row + c;
            if (two) product_block(a + i * a_row, a_row, a_column, b + c, b_row, to, out_row, depth, 1, 2, plus, add);
            else product_block(a + i * a_row, a_row, a_column, b + c, b_row, to, out_row, depth, 1, 1, plus, add);
        }
        c += two ? 2 * LANES : LANES;
    }
}

/* The transpose (C, O) of weights (O, C). */
static void transpose(const REAL *weight, long o, long c, REAL *out) {
    for (long i = 0; i < o; i++)
        for (long j = 0; j < c; j++) out[j * o + i] = weight[i * c + j];
}

/* A pointwise convolution of x (N H W, C), weight (O, C), O a multiple of LANES: out (N H W, O), to which is added, or which
 * is the result plus bias (O) or NULL. */
void pointwise(const Shape *s, long o, const REAL *x, const REAL *weight, const REAL *bias, int add, REAL *out,
               REAL *scratch) {
    transpose(weight, o, s->c, scratch);
    product(x, s->c, 1, scratch, o, out, o, s->n * s->h * s->w, s->c, o, bias, add);
}

#define TOGETHER 1024 /* rows of which both gradients are found while they are in the cache */

/* Its gradients, C a multiple of LANES, from that by the output, of rows gradient_row apart: by x, to which is added or
 * which is stored, and, where it is not NULL, by the weight. */
void pointwise_gradients(const Shape *s, long o, const REAL *x, const REAL *gradient, long gradient_row,
                         const REAL *weight, REAL *by_x, int add, REAL *by_weight, REAL *scratch) {
    long m = s->n * s->h * s->w, c = s->c;
    (void)scratch;
    for (long i = 0; i < m; i += TOGETHER) {
        const REAL *g = gradient + i * gradient_row;
        long rows = m - i < TOGETHER ? m - i : TOGETHER;
        product(g, gradient_row, 1, weight, c, by_x + i * c, c, rows, o, c, NULL, add);
        if (by_weight) product(g, 1, gradient_row, x + i * c, c, by_weight, c, o, rows, c, NULL, i > 0);
    }
}

/* A depthwise and a pointwise convolution, weight (C, k, k) and (O, C), C and O multiples of LANES: middle (N, H', W', C)
 * between them, and out (N, H', W', O), to which is added, or which is the result plus bias (O) or NULL. */
void separable(const Shape *s, long o, const REAL *x, const REAL *weight, const REAL *pointwise, const REAL *bias,
               int add, REAL *middle, REAL *out, REAL *scratch) {
    long pad = pad_of(s), wide = s->w + 2 * pad, taps = s->k * s->k, h = out_of(s, s->h), w = out_of(s, s->w);
    REAL *tile = scratch, *kernels = tile + (s->h + 2 * pad) * wide * LANES, *transposed = kernels + taps * s->c;
    for (long c = 0; c < s->c; c += LANES) to_taps(weight + c * taps, taps, LANES, 0, kernels + c * taps);
    transpose(pointwise, o, s->c, transposed);
    for (long n = 0; n < s->n; n++) {
        REAL *between = middle + n * h * w * s->c;
        for (long c = 0; c < s->c; c += LANES) {
            to_tile(x + n * s->h * s->w * s->c + c, s->h, s->w, s->c, LANES, pad, 0, tile);
            convolve_any(tile, wide, kernels + c * taps, s, h, w, LANES, between + c, 0);
        }
        product(between, s->c, 1, transposed, o, out + n * h * w * o, o, h * w, s->c, o, bias, add);
    }
}

/* Its gradients, from that by the output, of rows gradient_row apart: by x, to which is added or which is
 * stored, and, where they are not NULL, by the weights; saliency (N, C), where it is not NULL: the sum over pixels of
 * middle times the gradient by it. */
void separable_gradients(const Shape *s, long o, const REAL *x, const REAL *middle, const REAL *gradient,
                         long gradient_row, const REAL *weight, const REAL *pointwise, REAL *by_x, int add,
                         REAL *by_weight, REAL *by_pointwise, REAL *saliency, REAL *scratch) {
    long pad = pad_of(s), wide = s->w + 2 * pad, taps = s->k * s->k, h = out_of(s, s->h), w = out_of(s, s->w);
    long pixels = h * w, before = s->h * s->w;
    REAL *tile = scratch, *kernels = tile + (s->h + 2 * pad) * wide * LANES;
    REAL *totals = kernels + taps * s->c, *between = totals + taps * s->c;
    for (long c = 0; c < s->c; c += LANES) to_taps(weight + c * taps, taps, LANES, s->stride == 1, kernels + c * taps);
    memset(totals, 0, taps * s->c * sizeof(REAL));
    for (long n = 0; n < s->n; n++) {
        const REAL *g = gradient + n * pixels * gradient_row;
        product(g, gradient_row, 1, pointwise, s->c, between, s->c, pixels, o, s->c, NULL, 0);
        if (by_pointwise)
            product(g, 1, gradient_row, middle + n * pixels * s->c, s->c, by_pointwise, s->c, o, pixels, s->c, NULL, n > 0);
        for (long c = 0; c < s->c; c += LANES) {
            const REAL *between_c = between + c;
            if (saliency) {
                const REAL *middle_c = middle + n * pixels * s->c + c;
                V sum = {0};
                for (long i = 0; i < pixels; i++)
                    sum += *(const V *)(middle_c + i * s->c) * *(const V *)(between_c + i * s->c);
                *(V *)(saliency + n * s->c + c) = sum;
            }
            if (by_weight) {
                to_tile(x + n * before * s->c + c, s->h, s->w, s->c, LANES, pad, 0, tile);
                correlate_any(tile, wide, between_c, s, h, w, LANES, totals + c * taps);
            }
            gradient_by_image(s, between_c, kernels + c * taps, LANES, by_x + n * before * s->c + c, add, tile);
        }
    }
    if (by_weight)
        for (long c = 0; c < s->c; c += LANES) from_taps(totals + c * taps, taps, LANES, by_weight + c * taps);
}

#define BLOCK 64 /* rows whose sums are REAL; those of all blocks are double */

/* For LANES channels of a block of rows: their mean, and the sum of squared distances from it. */
static inline __attribute__((always_inline)) void block_moments(const REAL *x, long rows, long c, V *mean, V *squares) {
    V sum[4] = {{0}}, square[4] = {{0}};
    long i = 0;
    for (; i + 4 <= rows; i += 4)
        for (int p = 0; p < 4; p++) sum[p] += *(const V *)(x + (i + p) * c);
    for (; i < rows; i++) sum[0] += *(const V *)(x + i * c);
    *mean = (sum[0] + sum[1] + (sum[2] + sum[3])) / (REAL)rows;
    for (i = 0; i + 4 <= rows; i += 4)
        for (int p = 0; p < 4; p++) {
            V apart = *(const V *)(x + (i + p) * c) - *mean;
            square[p] += apart * apart;
        }
    for (; i < rows; i++) {
        V apart = *(const V *)(x + i * c) - *mean;
        square[0] += apart * apart;
    }
    *squares = square[0] + square[1] + (square[2] + square[3]);
}

/* A batch norm of x (m, C), C a multiple of LANES, by the statistics of its rows: mean (C), invstd (C), out (m, C). The
 * running statistics, where they are not NULL, move by momentum towards mean and unbiased variance. Blocks are joined as
 * by Chan, Golub, LeVeque (1979). */
void batch_norm(long m, long c, const REAL *x, const REAL *weight, const REAL *bias, REAL *running_mean,
                REAL *running_var, double momentum, double eps, REAL *mean, REAL *invstd, REAL *out) {
    for (long first = 0; first < c; first += LANES) {
        double means[64 / sizeof(REAL)] = {0}, squares[64 / sizeof(REAL)] = {0};
        for (long i = 0; i < m; i += BLOCK) {
            long rows = m - i < BLOCK ? m - i : BLOCK;
            V block_mean, block_squares;
            block_moments(x + i * c + first, rows, c, &block_mean, &block_squares);
            double part = (double)rows / (i + rows);
            for (long lane = 0; lane < LANES; lane++) {
                double apart = block_mean[lane] - means[lane];
                means[lane] += apart * part;
                squares[lane] += block_squares[lane] + apart * apart * part * i;
            }
        }
        V scale, shift;
        for (long lane = 0; lane < LANES; lane++) {
            long at = first + lane;
            double inverse = 1 / __builtin_sqrt(squares[lane] / m + eps);
            mean[at] = means[lane];
            invstd[at] = inverse;
            scale[lane] = weight[at] * inverse;
            shift[lane] = bias[at] - means[lane] * inverse * weight[at];
            if (running_mean) running_mean[at] += momentum * (means[lane] - running_mean[at]);
            if (running_var) running_var[at] += momentum * (squares[lane] / (m - 1) - running_var[at]);
        }
        for (long i = 0; i < m; i++)
            *(V *)(out + i * c + first) = *(const V *)(x + i * c + first) * scale + shift;
    }
}

/* Its gradients, from that by the output, of rows gradient_row apart: by x, by weight and by bias. */
void batch_norm_gradients(long m, long c, const REAL *x, const REAL *gradient, long gradient_row, const REAL *weight,
                          const REAL *mean, const REAL *invstd, REAL *by_x, REAL *by_weight, REAL *by_bias) {
    for (long first = 0; first < c; first += LANES) {
        double sums[64 / sizeof(REAL)] = {0}, products[64 / sizeof(REAL)] = {0};
        V centre = *(const V *)(mean + first), inverse = *(const V *)(invstd + first);
        for (long i = 0; i < m; i += BLOCK) {
            long end = m - i < BLOCK ? m : i + BLOCK, j = i;
            V sum[2] = {{0}}, with_x[2] = {{0}};
            for (; j + 2 <= end; j += 2)
                for (int p = 0; p < 2; p++) {
                    V g = *(const V *)(gradient + (j + p) * gradient_row + first);
                    sum[p] += g;
                    with_x[p] += g * (*(const V *)(x + (j + p) * c + first) - centre);
                }
            if (j < end) {
                V g = *(const V *)(gradient + j * gradient_row + first);
                sum[0] += g;
                with_x[0] += g * (*(const V *)(x + j * c + first) - centre);
            }
            sum[0] += sum[1];
            with_x[0] += with_x[1];
            for (long lane = 0; lane < LANES; lane++) {
                sums[lane] += sum[0][lane];
                products[lane] += with_x[0][lane];
            }
        }
        V level, slope, scale = *(const V *)(weight + first) * inverse;
        for (long lane = 0; lane < LANES; lane++) {
            double inverse_of_lane = inverse[lane];
            by_bias[first + lane] = sums[lane];
            by_weight[first + lane] = products[lane] * inverse_of_lane;
            level[lane] = sums[lane] / m;
            slope[lane] = products[lane] / m * inverse_of_lane * inverse_of_lane;
        }
        for (long i = 0; i < m; i++) {
            V apart = *(const V *)(x + i * c + first) - centre;
            V g = *(const V *)(gradient + i * gradient_row + first);
            *(V *)(by_x + i * c + first) = (g - level - apart * slope) * scale;
        }
    }
}

/* Depthwise convolutions of float32 images (N, H, W, C), with their gradients.
 *
 * Each goes image by image, sixteen channels at a time: those are copied into a tile with their padding around, so that
 * no loop has to look for the border, and all that is read again stays in the cache. Sums go over the taps in row-major
 * order; the weight's gradient is summed up image by image. One thread, no state; scratch: see scratch_floats.
 */
#include <string.h>

#define LANES 16
typedef float V __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

typedef struct {
    long n, h, w, c;          /* the image: count, height, width, channels */
    long k, dilation, stride; /* the kernel's, which is odd; the padding is dilation * (k / 2) */
} Shape;

static inline long pad_of(const Shape *s) { return s->dilation * (s->k / 2); }
static inline long out_of(const Shape *s, long size) { return (size - 1) / s->stride + 1; }

/* Floats of scratch that any of the functions below may use. */
long scratch_floats(const Shape *s) {
    long tile = (s->h + 2 * pad_of(s)) * (s->w + 2 * pad_of(s)) * LANES;
    return 2 * tile + s->k * s->k * LANES;
}

/* Up to sixteen channels of one image into the middle of a tile of which the rest is filled. */
static void to_tile(const float *x, long h, long w, long c, long lanes, long pad, float fill, float *tile) {
    long wide = w + 2 * pad;
    V filled = (V){0} + fill;
    for (long i = 0; i < pad * wide; i++) {
        *(V *)(tile + i * LANES) = filled;
        *(V *)(tile + ((h + pad) * wide + i) * LANES) = filled;
    }
    for (long i = 0; i < h; i++) {
        float *row = tile + (i + pad) * wide * LANES;
        for (long j = 0; j < pad; j++) {
            *(V *)(row + j * LANES) = filled;
            *(V *)(row + (w + pad + j) * LANES) = filled;
        }
        const float *from = x + i * w * c;
        row += pad * LANES;
        if (lanes == LANES)
            for (long j = 0; j < w; j++) *(V *)(row + j * LANES) = *(const V *)(from + j * c);
        else
            for (long j = 0; j < w; j++) {
                V v = filled;
                memcpy(&v, from + j * c, lanes * sizeof(float));
                *(V *)(row + j * LANES) = v;
            }
    }
}

static inline void put(float *to, V v, long lanes) {
    if (lanes == LANES) *(V *)to = v;
    else memcpy(to, &v, lanes * sizeof(float));
}

static inline V get(const float *from, long lanes) {
    if (lanes == LANES) return *(const V *)from;
    V v = {0};
    memcpy(&v, from, lanes * sizeof(float));
    return v;
}

/* Weights (C, k, k) of some channels as k * k vectors, turned round or not. */
static void to_taps(const float *weight, long taps, long lanes, int turned, float *out) {
    memset(out, 0, taps * LANES * sizeof(float));
    for (long lane = 0; lane < lanes; lane++)
        for (long t = 0; t < taps; t++) out[(turned ? taps - 1 - t : t) * LANES + lane] = weight[lane * taps + t];
}

#define AT(tile, row, column) (*(const V *)((tile) + ((row) * wide + (column)) * LANES))
#define PIXELS 8 /* of a row at a time */

static inline __attribute__((always_inline)) void convolve_tile(
    const float *tile, long wide, const float *taps, long k, long dilation, long stride, long h, long w, long c,
    long lanes, float *out) {
    for (long i = 0; i < h; i++) {
        const float *top = tile + i * stride * wide * LANES;
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
            for (int p = 0; p < PIXELS; p++) put(out + (i * w + j + p) * c, sum[p], lanes);
        }
        for (; j < w; j++) {
            V sum = {0};
            for (long a = 0; a < k; a++)
                for (long b = 0; b < k; b++)
                    sum += *(const V *)(taps + (a * k + b) * LANES) * AT(top, a * dilation, j * stride + b * dilation);
            put(out + (i * w + j) * c, sum, lanes);
        }
    }
}

static void convolve_any(const float *tile, long wide, const float *taps, const Shape *s, long h, long w, long lanes,
                         float *out) {
#define CASE(K, DILATION)                                            \
    if (lanes == LANES && s->stride == 1 && s->k == K && s->dilation == DILATION) \
    convolve_tile(tile, wide, taps, K, DILATION, 1, h, w, s->c, LANES, out)
    CASE(3, 1);
    else CASE(5, 1);
    else CASE(3, 2);
    else CASE(5, 2);
    else convolve_tile(tile, wide, taps, s->k, s->dilation, s->stride, h, w, s->c, lanes, out);
#undef CASE
}

/* out (N, H', W', C): the depthwise convolution of x with weight (C, k, k), or with the kernels turned round. */
void depthwise(const Shape *s, const float *x, const float *weight, int turned, float *out, float *scratch) {
    long pad = pad_of(s), wide = s->w + 2 * pad, taps = s->k * s->k, h = out_of(s, s->h), w = out_of(s, s->w);
    float *tile = scratch, *kernel = scratch + (s->h + 2 * pad) * wide * LANES;
    for (long c = 0; c < s->c; c += LANES) {
        long lanes = s->c - c < LANES ? s->c - c : LANES;
        to_taps(weight + c * taps, taps, lanes, turned, kernel);
        for (long n = 0; n < s->n; n++) {
            to_tile(x + n * s->h * s->w * s->c + c, s->h, s->w, s->c, lanes, pad, 0, tile);
            convolve_any(tile, wide, kernel, s, h, w, lanes, out + n * h * w * s->c + c);
        }
    }
}

static inline __attribute__((always_inline)) void correlate_tile(
    const float *tile, long wide, const float *gradient, long k, long dilation, long stride, long h, long w, long c,
    long lanes, float *total) {
    for (long a = 0; a < k; a++) { /* one row of the kernel at a time: its sums stay in registers */
        V sum[8] = {{0}};
        for (long i = 0; i < h; i++) {
            const float *row = tile + (i * stride + a * dilation) * wide * LANES;
            for (long j = 0; j < w; j++) {
                V g = get(gradient + (i * w + j) * c, lanes);
                for (long b = 0; b < k; b++) sum[b] += g * AT(row, 0, j * stride + b * dilation);
            }
        }
        for (long b = 0; b < k; b++) *(V *)(total + (a * k + b) * LANES) += sum[b];
    }
}

static inline __attribute__((always_inline)) void correlate_whole(
    const float *tile, long wide, const float *gradient, long k, long dilation, long stride, long h, long w, long c,
    long lanes, float *total) {
    V sum[25] = {{0}};
    for (long i = 0; i < h; i++) {
        const float *top = tile + i * stride * wide * LANES;
        for (long j = 0; j < w; j++) {
            V g = get(gradient + (i * w + j) * c, lanes);
            for (long a = 0; a < k; a++)
                for (long b = 0; b < k; b++) sum[a * k + b] += g * AT(top, a * dilation, j * stride + b * dilation);
        }
    }
    for (long t = 0; t < k * k; t++) *(V *)(total + t * LANES) += sum[t];
}

/* out (C, k, k): the gradient by the weight, from that by the output (N, H', W', C). */
void depthwise_by_weight(const Shape *s, const float *x, const float *gradient, float *out, float *scratch) {
    long pad = pad_of(s), wide = s->w + 2 * pad, taps = s->k * s->k, h = out_of(s, s->h), w = out_of(s, s->w);
    float *tile = scratch, *total = scratch + (s->h + 2 * pad) * wide * LANES;
    for (long c = 0; c < s->c; c += LANES) {
        long lanes = s->c - c < LANES ? s->c - c : LANES;
        memset(total, 0, taps * LANES * sizeof(float));
        for (long n = 0; n < s->n; n++) {
            const float *g = gradient + n * h * w * s->c + c;
            to_tile(x + n * s->h * s->w * s->c + c, s->h, s->w, s->c, lanes, pad, 0, tile);
            if (lanes == LANES && s->k == 3)
                correlate_whole(tile, wide, g, 3, s->dilation, s->stride, h, w, s->c, LANES, total);
            else if (lanes == LANES && s->k == 5)
                correlate_whole(tile, wide, g, 5, s->dilation, s->stride, h, w, s->c, LANES, total);
            else
                correlate_tile(tile, wide, g, s->k, s->dilation, s->stride, h, w, s->c, lanes, total);
        }
        for (long lane = 0; lane < lanes; lane++)
            for (long t = 0; t < taps; t++) out[(c + lane) * taps + t] = total[t * LANES + lane];
    }
}

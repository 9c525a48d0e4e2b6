/* Neurons over all steps in one pass, with the batch norm before them: see neurons.py and fused.py.

   Every array is [steps][outer][channels][inner]; channels last is inner = 1. All steps of a block of neurons are
   worked on while the block is in the cache. Each thread has its own sums, in double; they are added in the order of the threads. */

#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK 256

typedef struct {
    long steps, outer, channels, inner;
    float tau, threshold, alpha; /* alpha: of the surrogate */
    int atan, threads;
} Shape;

/* One block: n neighbours with the factors and terms of their channels. */
typedef struct {
    long start, channel, n;
    int varies; /* whether neighbours are channels */
} Block;

static long block_count(const Shape *s) {
    long run = s->inner == 1 ? s->channels : s->inner;
    return (s->inner == 1 ? s->outer : s->outer * s->channels) * ((run + BLOCK - 1) / BLOCK);
}

static Block block_at(const Shape *s, long number) {
    long run = s->inner == 1 ? s->channels : s->inner, in_run = (run + BLOCK - 1) / BLOCK;
    long row = number / in_run, first = number % in_run * BLOCK;
    Block b = {row * run + first, 0, run - first < BLOCK ? run - first : BLOCK, s->inner == 1};
    b.channel = b.varies ? first : row % s->channels;
    return b;
}

static void spread(float *to, const float *from, const Block *b, float otherwise) {
    for (long i = 0; i < b->n; i++) to[i] = from ? from[b->channel + (b->varies ? i : 0)] : otherwise;
}

static void add_up(double *sums, const float *values, const Block *b) {
    if (b->varies) {
        for (long i = 0; i < b->n; i++) sums[b->channel + i] += values[i];
    } else {
        double sum = 0;
#pragma omp simd reduction(+ : sum)
        for (long i = 0; i < b->n; i++) sum += values[i];
        sums[b->channel] += sum;
    }
}

/* Sum and sum of squares of each channel: two double [threads][channels], to be added over the threads. */
void sums(const float *y, double *sum, double *square, const Shape *s) {
    long count = block_count(s), size = s->outer * s->channels * s->inner;
#pragma omp parallel num_threads(s->threads)
    {
        double *local = calloc(2 * s->channels, sizeof(double)), *squares = local + s->channels;
        int thread = omp_get_thread_num();
#pragma omp for schedule(static)
        for (long number = 0; number < count * s->steps; number++) {
            Block b = block_at(s, number % count);
            const float *at = y + number / count * size + b.start;
            if (b.varies) {
                double *a = local + b.channel, *q = squares + b.channel;
#pragma omp simd
                for (long i = 0; i < b.n; i++) {
                    double value = at[i];
                    a[i] += value;
                    q[i] += value * value;
                }
            } else {
                double a = 0, q = 0;
#pragma omp simd reduction(+ : a, q)
                for (long i = 0; i < b.n; i++) {
                    double value = at[i];
                    a += value;
                    q += value * value;
                }
                local[b.channel] += a;
                squares[b.channel] += q;
            }
        }
        memcpy(sum + thread * s->channels, local, s->channels * sizeof(double));
        memcpy(square + thread * s->channels, squares, s->channels * sizeof(double));
        free(local);
    }
}

/* x = factor * y + term; h = v + (x - v) / tau; spike = h >= threshold; v = spike ? 0 : h. */
void forward(const float *y, float *spikes, float *v, const float *factor, const float *term, const Shape *s) {
    long count = block_count(s), size = s->outer * s->channels * s->inner;
    const float tau = s->tau, threshold = s->threshold;
#pragma omp parallel for schedule(static) num_threads(s->threads)
    for (long number = 0; number < count; number++) {
        Block b = block_at(s, number);
        float a[BLOCK], c[BLOCK], state[BLOCK] = {0};
        spread(a, factor, &b, 1.0f);
        spread(c, term, &b, 0.0f);
        for (long t = 0; t < s->steps; t++) {
            const float *in = y + t * size + b.start;
            float *out = spikes + t * size + b.start;
#pragma omp simd
            for (long i = 0; i < b.n; i++) {
                float x = fmaf(in[i], a[i], c[i]);
                float h = state[i] + (x - state[i]) / tau;
                int fires = h >= threshold;
                out[i] = fires ? 1.0f : 0.0f;
                state[i] = fires ? 0.0f : h;
            }
        }
        memcpy(v + b.start, state, b.n * sizeof(float));
    }
}

/* The gradient of x from that of the spikes; computes h again. If `sum` is not NULL, also sums per channel: of the
   gradient, and of its product with y - mean, two double [threads][channels]. */
void backward(const float *y, const float *grad, float *result, const float *factor, const float *term,
              const float *mean, double *sum, double *dot, const Shape *s) {
    long count = block_count(s), size = s->outer * s->channels * s->inner;
    const float tau = s->tau, threshold = s->threshold, alpha = s->alpha;
    const float slope = 1.5707963267948966f * alpha, keep = 1.0f - 1.0f / tau;
#pragma omp parallel num_threads(s->threads)
    {
        float *h = malloc(s->steps * BLOCK * sizeof(float));
        double *local = calloc(2 * s->channels, sizeof(double));
        int thread = omp_get_thread_num();
#pragma omp for schedule(static)
        for (long number = 0; number < count; number++) {
            Block b = block_at(s, number);
            float a[BLOCK], c[BLOCK], m[BLOCK], state[BLOCK] = {0}, next[BLOCK] = {0};
            float total[BLOCK] = {0}, product[BLOCK] = {0};
            spread(a, factor, &b, 1.0f);
            spread(c, term, &b, 0.0f);
            spread(m, mean, &b, 0.0f);
            for (long t = 0; t < s->steps; t++) {
                const float *in = y + t * size + b.start;
                float *now = h + t * BLOCK;
#pragma omp simd
                for (long i = 0; i < b.n; i++) {
                    float x = fmaf(in[i], a[i], c[i]);
                    now[i] = state[i] + (x - state[i]) / tau;
                    state[i] = now[i] >= threshold ? 0.0f : now[i];
                }
            }
            for (long t = s->steps - 1; t >= 0; t--) {
                const float *in = y + t * size + b.start, *g = grad + t * size + b.start, *now = h + t * BLOCK;
                float *out = result + t * size + b.start, surrogate[BLOCK];
                if (s->atan) {
#pragma omp simd
                    for (long i = 0; i < b.n; i++) {
                        float u = slope * (now[i] - threshold);
                        surrogate[i] = 0.5f * alpha / (1.0f + u * u);
                    }
                } else {
                    for (long i = 0; i < b.n; i++) {
                        float share = 1.0f / (1.0f + expf(-alpha * (now[i] - threshold)));
                        surrogate[i] = alpha * share * (1.0f - share);
                    }
                }
#pragma omp simd
                for (long i = 0; i < b.n; i++) {
                    float grad_h = g[i] * surrogate[i] + (now[i] >= threshold ? 0.0f : keep * next[i]);
                    float grad_x = grad_h / tau;
                    next[i] = grad_h;
                    out[i] = grad_x;
                    total[i] += grad_x;
                    product[i] += grad_x * (in[i] - m[i]);
                }
            }
            if (sum) {
                add_up(local, total, &b);
                add_up(local + s->channels, product, &b);
            }
        }
        if (sum) {
            memcpy(sum + thread * s->channels, local, s->channels * sizeof(double));
            memcpy(dot + thread * s->channels, local + s->channels, s->channels * sizeof(double));
        }
        free(local);
        free(h);
    }
}

/* The rest of batch norm's backward pass, in place: grad = factor * (grad - shift - slope * (y - mean)). */
void norm_backward(const float *y, float *grad, const float *factor, const float *mean, const float *shift,
                   const float *slope, const Shape *s) {
    long count = block_count(s), size = s->outer * s->channels * s->inner;
#pragma omp parallel for schedule(static) num_threads(s->threads)
    for (long number = 0; number < count; number++) {
        Block b = block_at(s, number);
        float a[BLOCK], m[BLOCK], c[BLOCK], k[BLOCK];
        spread(a, factor, &b, 1.0f);
        spread(m, mean, &b, 0.0f);
        spread(c, shift, &b, 0.0f);
        spread(k, slope, &b, 0.0f);
        for (long t = 0; t < s->steps; t++) {
            const float *in = y + t * size + b.start;
            float *g = grad + t * size + b.start;
#pragma omp simd
            for (long i = 0; i < b.n; i++) g[i] = a[i] * (g[i] - c[i] - k[i] * (in[i] - m[i]));
        }
    }
}

/* Maximum over 3 x 3 windows, stride 2, padding 1, of [outer][rows][columns][channels]. `places` keeps which of a
   window's nine was the first of its largest. Here outer = steps * recordings. */
void pool_forward(const float *x, float *largest, unsigned char *places, const long *rows_columns, const Shape *s) {
    const long rows = rows_columns[0], columns = rows_columns[1], channels = s->channels;
    const long down = (rows + 1) / 2, right = (columns + 1) / 2;
#pragma omp parallel for schedule(static) num_threads(s->threads)
    for (long line = 0; line < s->outer * down; line++) {
        const float *image = x + line / down * rows * columns * channels;
        for (long j = 0; j < right; j++) {
            float *out = largest + (line * right + j) * channels;
            unsigned char *place = places + (line * right + j) * channels;
            int first = 1;
            for (int k = 0; k < 9; k++) {
                long row = 2 * (line % down) - 1 + k / 3, column = 2 * j - 1 + k % 3;
                if (row < 0 || row >= rows || column < 0 || column >= columns) continue;
                const float *in = image + (row * columns + column) * channels;
#pragma omp simd
                for (long c = 0; c < channels; c++) {
                    int better = in[c] > out[c] || in[c] != in[c] || first; /* NaN wins, as in torch */
                    place[c] = better ? k : place[c];
                    out[c] = better ? in[c] : out[c];
                }
                first = 0;
            }
        }
    }
}

/* Backward pass of the maximum. One thread per image, which first sets its part of `result` to 0. */
void pool_backward(const float *grad, float *result, const unsigned char *places, const long *rows_columns,
                   const Shape *s) {
    const long rows = rows_columns[0], columns = rows_columns[1], channels = s->channels;
    const long down = (rows + 1) / 2, right = (columns + 1) / 2;
#pragma omp parallel for schedule(static) num_threads(s->threads)
    for (long image = 0; image < s->outer; image++) {
        float *out = result + image * rows * columns * channels;
        memset(out, 0, rows * columns * channels * sizeof(float));
        for (long window = 0; window < down * right; window++) {
            const float *g = grad + (image * down * right + window) * channels;
            const unsigned char *place = places + (image * down * right + window) * channels;
            for (int k = 0; k < 9; k++) {
                long row = 2 * (window / right) - 1 + k / 3, column = 2 * (window % right) - 1 + k % 3;
                if (row < 0 || row >= rows || column < 0 || column >= columns) continue;
                float *to = out + (row * columns + column) * channels;
#pragma omp simd
                for (long c = 0; c < channels; c++) to[c] += place[c] == k ? g[c] : 0.0f;
            }
        }
    }
}

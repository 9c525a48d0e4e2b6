/* 3 x 3 convolutions, stride 1 and padding 1, that visit only nonzero inputs: see spike_conv.py.

   Channels are last. An input [images][rows][columns][inputs] is listed by pixel, and in a pixel by spans of SPAN
   channels: `starts` says where each span's spikes begin, `places` their channels, `values` their numbers. Outputs are
   worked on in blocks of WIDTH. Every sum is computed by one thread, in an order that does not depend on the number of threads. */

#include <omp.h>
#include <stdlib.h>
#include <string.h>

#define SPAN 16   /* channels that are listed together */
#define NEAR 2    /* spans of which a row of weights and a strip of results fit the first cache */
#define FAR 16    /* spans of which all weights fit the second */
#define STRIP 64  /* pixels that are worked on together, more where a row has more */
#define WIDTH 64  /* outputs that are summed in registers */
#define LANES 16
#define TAPS 9
#define SOON 4096 /* pixels after which a partial sum is added to the total, to limit rounding in single precision */

typedef float Lane __attribute__((vector_size(4 * LANES), aligned(4)));

typedef struct {
    long images, rows, columns, inputs, outputs, groups;
    int threads;
} Convolution;

typedef struct {
    const int *starts;
    const unsigned short *places;
    const float *values;
} Spikes;

static long spans_of(const Convolution *s) { return (s->inputs + SPAN - 1) / SPAN; }

static long shorter(long a, long b) { return a < b ? a : b; }

/* Rows of a strip. */
static long strip_of(const Convolution *s) { return (STRIP + s->columns - 1) / s->columns; }

/* Where each span's spikes begin, [pixels * spans + 1]; the last is their number. */
void count_spikes(const float *x, int *starts, const Convolution *s) {
    long spans = spans_of(s), pixels = s->images * s->rows * s->columns;
    starts[0] = 0;
#pragma omp parallel for schedule(static) num_threads(s->threads)
    for (long pixel = 0; pixel < pixels; pixel++) {
        for (long span = 0; span < spans; span++) {
            const float *in = x + pixel * s->inputs + span * SPAN;
            int count = 0;
            for (long c = 0; c < shorter(SPAN, s->inputs - span * SPAN); c++) count += in[c] != 0.0f;
            starts[pixel * spans + span + 1] = count;
        }
    }
    for (long at = 0; at < pixels * spans; at++) starts[at + 1] += starts[at];
}

void list_spikes(const float *x, const int *starts, unsigned short *places, float *values, const Convolution *s) {
    long spans = spans_of(s), pixels = s->images * s->rows * s->columns;
#pragma omp parallel num_threads(s->threads)
    {
        unsigned short *channels = malloc((s->inputs + 1) * sizeof(*channels));
        float *what = malloc((s->inputs + 1) * sizeof(*what));
#pragma omp for schedule(static)
        for (long pixel = 0; pixel < pixels; pixel++) {
            const float *in = x + pixel * s->inputs;
            int count = 0;
            for (long c = 0; c < s->inputs; c++) {
                channels[count] = c;
                what[count] = in[c];
                count += in[c] != 0.0f;
            }
            memcpy(places + starts[pixel * spans], channels, count * sizeof(*channels));
            memcpy(values + starts[pixel * spans], what, count * sizeof(*what));
        }
        free(channels);
        free(what);
    }
}

/* From [outputs][inputs][TAPS] to [outputs / WIDTH][inputs][TAPS][WIDTH], the order in which they are read. */
void pack_weights(const float *weights, float *packed, const Convolution *s) {
#pragma omp parallel for schedule(static) num_threads(s->threads)
    for (long task = 0; task < s->outputs / WIDTH * s->inputs; task++) {
        long block = task / s->inputs, c = task % s->inputs;
        for (long o = 0; o < WIDTH; o++) {
            const float *from = weights + ((block * WIDTH + o) * s->inputs + c) * TAPS;
            for (long tap = 0; tap < TAPS; tap++) packed[(task * TAPS + tap) * WIDTH + o] = from[tap];
        }
    }
}

/* Adds to a row of sums the products of spans of the input's row `line` with one row of weights. */
static void convolve_row(Spikes in, const float *weights, float *sums, long line, long first, long last,
                         const Convolution *s) {
    const long spans = spans_of(s);
    for (long column = 0; column < s->columns; column++) {
        Lane sum[WIDTH / LANES];
        memcpy(sum, sums + column * WIDTH, sizeof(sum));
        for (long tap = 0; tap < 3; tap++) {
            const long from = column + tap - 1;
            if (from < 0 || from >= s->columns) continue;
            const int *span = in.starts + (line * s->columns + from) * spans;
            for (int n = span[first]; n < span[last]; n++) {
                const Lane *at = (const Lane *)(weights + (in.places[n] * TAPS + tap) * WIDTH);
                const Lane scale = in.values[n] - (Lane){0};
                for (int i = 0; i < WIDTH / LANES; i++) sum[i] += scale * at[i];
            }
        }
        memcpy(sums + column * WIDTH, sum, sizeof(sum));
    }
}

/* result [images][rows][columns][outputs] */
void convolve(const int *starts, const unsigned short *places, const float *values, const float *weights,
              float *result, const Convolution *s) {
    const Spikes in = {starts, places, values};
    const long spans = spans_of(s), blocks = s->outputs / WIDTH, high = strip_of(s), lines = s->images * s->rows;
    for (long pass = 0; pass < blocks * ((spans + FAR - 1) / FAR); pass++) {
        const long block = pass % blocks, far = pass / blocks * FAR, end = shorter(far + FAR, spans);
        const float *at = weights + block * s->inputs * TAPS * WIDTH;
#pragma omp parallel num_threads(s->threads)
        {
            float *sums = aligned_alloc(64, high * s->columns * WIDTH * sizeof(float));
#pragma omp for schedule(static)
            for (long top = 0; top < lines; top += high) {
                const long bottom = shorter(top + high, lines), pixels = (bottom - top) * s->columns;
                float *out = result + top * s->columns * s->outputs + block * WIDTH;
                for (long pixel = 0; pixel < pixels; pixel++)
                    for (long o = 0; o < WIDTH; o++) sums[pixel * WIDTH + o] = far ? out[pixel * s->outputs + o] : 0.0f;
                for (long near = far; near < end; near += NEAR) {
                    for (long row = 0; row < 3; row++) {
                        for (long line = top; line < bottom; line++) {
                            const long from = line % s->rows + row - 1;
                            if (from < 0 || from >= s->rows) continue;
                            convolve_row(in, at + row * 3 * WIDTH, sums + (line - top) * s->columns * WIDTH,
                                         line + row - 1, near, shorter(near + NEAR, end), s);
                        }
                    }
                }
                for (long pixel = 0; pixel < pixels; pixel++)
                    memcpy(out + pixel * s->outputs, sums + pixel * WIDTH, WIDTH * sizeof(float));
            }
            free(sums);
        }
    }
}

/* From [images][rows][columns][outputs] to [outputs / WIDTH][images][rows + 2][columns + 2][WIDTH] with a rim of 0. */
void pack_grad(const float *grad, float *packed, const Convolution *s) {
    const long blocks = s->outputs / WIDTH, rows = s->rows + 2, columns = s->columns + 2;
#pragma omp parallel for schedule(static) num_threads(s->threads)
    for (long line = 0; line < s->images * rows; line++) {
        const long row = line % rows - 1;
        const float *from = grad + (line / rows * s->rows + row) * s->columns * s->outputs;
        for (long block = 0; block < blocks; block++) {
            float *to = packed + (block * s->images * rows + line) * columns * WIDTH;
            if (row < 0 || row >= s->rows) {
                memset(to, 0, columns * WIDTH * sizeof(float));
                continue;
            }
            memset(to, 0, WIDTH * sizeof(float));
            for (long column = 0; column < s->columns; column++)
                memcpy(to + (column + 1) * WIDTH, from + column * s->outputs + block * WIDTH, WIDTH * sizeof(float));
            memset(to + (columns - 1) * WIDTH, 0, WIDTH * sizeof(float));
        }
    }
}

/* A strip's spikes of one span, by channel: pixels as they are numbered in the padded gradient, and values. */
typedef struct {
    int count[SPAN], *pixels;
    float *values;
    long room; /* of a channel */
} Strip;

static void collect(Strip *strip, Spikes in, long top, long bottom, long span, const Convolution *s) {
    const long spans = spans_of(s);
    memset(strip->count, 0, sizeof(strip->count));
    for (long line = top; line < bottom; line++) {
        for (long column = 0; column < s->columns; column++) {
            const int *at = in.starts + (line * s->columns + column) * spans + span;
            for (int n = at[0]; n < at[1]; n++) {
                const long channel = in.places[n] - span * SPAN, to = channel * strip->room + strip->count[channel]++;
                strip->pixels[to] = (line / s->rows * (s->rows + 2) + line % s->rows) * (s->columns + 2) + column;
                strip->values[to] = in.values[n];
            }
        }
    }
}

/* Adds up a channel's gradient for a row of three taps, which are adjacent in the padded gradient. */
static void add_row(float *sums, const float *grad, const int *pixels, const float *values, int count) {
    Lane sum[3 * WIDTH / LANES];
    memcpy(sum, sums, sizeof(sum));
    for (int n = 0; n < count; n++) {
        const Lane *at = (const Lane *)(grad + (long)pixels[n] * WIDTH), scale = values[n] - (Lane){0};
        for (int i = 0; i < 3 * WIDTH / LANES; i++) sum[i] += scale * at[i];
    }
    memcpy(sums, sum, sizeof(sum));
}

/* From the packed gradient of the result to that of the weights, [groups][outputs / WIDTH][inputs][TAPS][WIDTH] with
   the taps in reverse order: one for each group of images, all 0 before. */
void weight_gradient(const int *starts, const unsigned short *places, const float *values, const float *grad,
                     float *packed, const Convolution *s) {
    const Spikes in = {starts, places, values};
    const long spans = spans_of(s), blocks = s->outputs / WIDTH, high = strip_of(s), columns = s->columns + 2;
    const long image = (s->rows + 2) * columns * WIDTH, room = high * s->columns, size = SPAN * TAPS * WIDTH;
#pragma omp parallel num_threads(s->threads)
    {
        float *local = aligned_alloc(64, blocks * size * sizeof(float));
        Strip strip = {{0}, malloc(SPAN * room * sizeof(int)), malloc(SPAN * room * sizeof(float)), room};
#pragma omp for schedule(static)
        for (long task = 0; task < spans * s->groups; task++) {
            const long span = task % spans, group = task / spans, wide = shorter(SPAN, s->inputs - span * SPAN);
            const long first = group * s->images / s->groups * s->rows, end = (group + 1) * s->images / s->groups * s->rows;
            memset(local, 0, blocks * size * sizeof(float));
            long since = 0;
            for (long top = first; top < end; top += high) {
                const long bottom = shorter(top + high, end);
                collect(&strip, in, top, bottom, span, s);
                for (long block = 0; block < blocks; block++)
                    for (long row = 0; row < 3; row++)
                        for (long c = 0; c < wide; c++)
                            add_row(local + block * size + (c * TAPS + row * 3) * WIDTH,
                                    grad + block * s->images * image + row * columns * WIDTH,
                                    strip.pixels + c * room, strip.values + c * room, strip.count[c]);
                since += (bottom - top) * s->columns;
                if (since < SOON && bottom < end) continue;
                since = 0;
                for (long block = 0; block < blocks; block++) {
                    float *to = packed + ((group * blocks + block) * s->inputs + span * SPAN) * TAPS * WIDTH;
                    for (long i = 0; i < wide * TAPS * WIDTH; i++) to[i] += local[block * size + i];
                }
                memset(local, 0, blocks * size * sizeof(float));
            }
        }
        free(local);
        free(strip.pixels);
        free(strip.values);
    }
}

/* The groups' sums, as [outputs][inputs][TAPS]. */
void unpack_gradient(const float *packed, float *weights, const Convolution *s) {
    const long size = s->outputs * s->inputs * TAPS;
#pragma omp parallel for schedule(static) num_threads(s->threads)
    for (long task = 0; task < s->outputs / WIDTH * s->inputs; task++) {
        long block = task / s->inputs, c = task % s->inputs;
        for (long o = 0; o < WIDTH; o++) {
            float *to = weights + ((block * WIDTH + o) * s->inputs + c) * TAPS;
            for (long tap = 0; tap < TAPS; tap++) {
                const float *at = packed + (task * TAPS + TAPS - 1 - tap) * WIDTH + o;
                float sum = 0.0f;
                for (long group = 0; group < s->groups; group++) sum += at[group * size];
                to[tap] = sum;
            }
        }
    }
}

/* See spiking.h. The equations of blocks and neurons, and the layout of a network's bytes, are in the documentation of
   neuromoco (docs/integers.md); bit for bit the same is computed by its numpy twin and by Intel's Lava.

   A block is computed row by row. Every spike that reaches a row adds a run of weights to the row's drive, so the work
   follows the spikes. Spikes are bits: [rows][columns][words of 32 channels]. */

#include "spiking.h"

#include <string.h>

#define MAGIC 0x4e534d4e
#define VERSION 1
#define LARGEST_DRIVE (1 << 17)            /* |drive| is smaller */
#define LARGEST_MEMBRANE ((1 << 23) - 1)
#define LARGEST_COUNT 255
#define LARGEST_TIME ((int64_t)1 << 61)
#define UNIT 64                            /* what a weight of 1 adds to a membrane */
#define FRACTION 12                        /* bits of a decay */
#define WORD 32                            /* spikes in a word */
#define LANES 16                           /* numbers that are added at once, where there are vectors */
#define MOST_ROWS 16                       /* of a kernel that are handled at once */

enum { INPUT, CONVOLUTION, POOL, ATTENTION, READOUT }; /* kinds of blocks */

/* Words of a network's head, each of 4 bytes, the lowest first. */
enum {
    AT_MAGIC, AT_VERSION, AT_BYTES, AT_MEMORY, AT_BLOCKS, AT_STEPS, AT_BY_TIME, AT_CROP_LEFT, AT_CROP_TOP,
    AT_CROP_WIDTH, AT_CROP_HEIGHT, AT_SENSOR_WIDTH, AT_SENSOR_HEIGHT, AT_CLASSES, AT_SUMS, AT_STATE, AT_STATE_WORDS,
    AT_DRIVE, AT_BIAS, HEAD_WORDS
};

#define BLOCK_WORDS 28
#define AT_SPIKES 25 /* among a block's words */

/* A block's words, in their order. Places in memory are counted in words, those in the network in bytes. */
typedef struct {
    int32_t kind, inputs, input_list;       /* the list holds numbers of blocks */
    int32_t channels, rows, columns;
    int32_t in_channels, in_rows, in_columns;
    int32_t kernel_rows, kernel_columns, stride_rows, stride_columns;
    int32_t padding_rows, padding_columns, dilation_rows, dilation_columns;
    int32_t groups, heads, gain;
    int32_t threshold, keep;                /* of a membrane: 64 vThMant; share of 4096 that is left after a step */
    int32_t weights, bias;                  /* [inputs][kernel rows][kernel columns, backwards][outputs of a group]; 0 */
    int32_t membranes, spikes;
    int32_t ring;                           /* rows of drives that are summed up at the same time */
    int32_t is_dense;                       /* one group, stride and dilation 1 along columns: taps are one run */
} block;

static int32_t word(const uint8_t *at)
{
    return (int32_t)((uint32_t)at[0] | ((uint32_t)at[1] << 8) | ((uint32_t)at[2] << 16) | ((uint32_t)at[3] << 24));
}

static int32_t head(const spiking *s, int32_t number) { return word(s->network + 4 * number); }

static int32_t smaller(int32_t a, int32_t b) { return a < b ? a : b; }

static int32_t larger(int32_t a, int32_t b) { return a > b ? a : b; }

static int32_t words_of(int32_t channels) { return (channels + WORD - 1) / WORD; }

static uint32_t *bits_at(const spiking *s, int32_t place) { return (uint32_t *)(s->memory + place); }

static block read_block(const spiking *s, int32_t number)
{
    const uint8_t *at = s->network + 4 * (HEAD_WORDS + number * BLOCK_WORDS);
    int32_t w[BLOCK_WORDS], i;
    block b;
    for (i = 0; i < BLOCK_WORDS; i++) w[i] = word(at + 4 * i);
    b.kind = w[0], b.inputs = w[1], b.input_list = w[2];
    b.channels = w[3], b.rows = w[4], b.columns = w[5];
    b.in_channels = w[6], b.in_rows = w[7], b.in_columns = w[8];
    b.kernel_rows = w[9], b.kernel_columns = w[10], b.stride_rows = w[11], b.stride_columns = w[12];
    b.padding_rows = w[13], b.padding_columns = w[14], b.dilation_rows = w[15], b.dilation_columns = w[16];
    b.groups = w[17], b.heads = w[18], b.gain = w[19], b.threshold = w[20], b.keep = w[21];
    b.weights = w[22], b.bias = w[23], b.membranes = w[24], b.spikes = w[25], b.ring = w[26], b.is_dense = w[27];
    return b;
}

/* Number of the lowest bit that is set. */
static int32_t lowest(uint32_t bits)
{
#if defined(__GNUC__)
    return __builtin_ctz(bits);
#else
    int32_t number = 0;
    while ((bits & 1u) == 0u) {
        bits >>= 1;
        number++;
    }
    return number;
#endif
}

/* Spikes that reach a row */

/* Loops over LANES numbers become single instructions where there are vectors of that size. */
static void add(int32_t *restrict drive, const int8_t *restrict weights, int32_t n)
{
    int32_t i, j;
    for (i = 0; i + LANES <= n; i += LANES) {
        for (j = 0; j < LANES; j++) drive[i + j] += weights[i + j];
    }
    for (; i < n; i++) drive[i] += weights[i];
}

/* Four spikes at once, to load and store less. */
static void add_four(
    int32_t *restrict drive, const int8_t *restrict w0, const int8_t *restrict w1, const int8_t *restrict w2,
    const int8_t *restrict w3, int32_t n)
{
    int32_t i, j;
    for (i = 0; i + LANES <= n; i += LANES) {
        for (j = 0; j < LANES; j++) drive[i + j] += w0[i + j] + w1[i + j] + w2[i + j] + w3[i + j];
    }
    for (; i < n; i++) drive[i] += w0[i] + w1[i] + w2[i] + w3[i];
}

static void add_times(int32_t *restrict drive, const int8_t *restrict weights, int32_t n, int32_t times)
{
    int32_t i, j;
    for (i = 0; i + LANES <= n; i += LANES) {
        for (j = 0; j < LANES; j++) drive[i + j] += times * weights[i + j];
    }
    for (; i < n; i++) drive[i] += times * weights[i];
}

/* Spikes of a pixel: where the weights of their channels begin, and the value of all of them. */
typedef struct {
    int32_t places[WORD];
    int32_t many, value;
} spike_list;

/* Adds n weights of each spike to a run of drives. */
static void add_spikes(const block *b, const spike_list *spikes, const int8_t *weights, int32_t *drive, int32_t n)
{
    const int32_t *at = spikes->places, *const end = at + spikes->many;
    if (b->groups != 1) {
        const int32_t outputs = b->channels / b->groups, inputs = b->in_channels / b->groups;
        const int32_t of_group = inputs * b->kernel_rows * b->kernel_columns * outputs;
        for (; at < end; at++) add_times(drive + *at / of_group * outputs, weights + *at, n, spikes->value);
    } else if (spikes->value != 1) {
        for (; at < end; at++) add_times(drive, weights + *at, n, spikes->value);
    } else {
        for (; end - at >= 4; at += 4) {
            add_four(drive, weights + at[0], weights + at[1], weights + at[2], weights + at[3], n);
        }
        for (; at < end; at++) add(drive, weights + *at, n);
    }
}

/* A row of the input reaches rows of the drive by some rows of the kernel. */
typedef struct {
    int32_t *drives[MOST_ROWS];
    const int8_t *weights[MOST_ROWS];
    int32_t many;
} reach;

/* Spikes of a column to all drives that they reach. */
static void scatter(const block *b, int32_t column, const spike_list *spikes, const reach *to)
{
    const int32_t outputs = b->channels / b->groups, taps = b->kernel_columns;
    int32_t tap, k;
    if (b->is_dense != 0) { /* the taps that reach a row are one run */
        const int32_t first = column + b->padding_columns - taps + 1;
        const int32_t low = larger(0, -first), run = smaller(taps, b->columns - first) - low;
        const int32_t place = (first + low) * outputs;
        if (run <= 0) return;
        for (k = 0; k < to->many; k++) {
            add_spikes(b, spikes, to->weights[k] + low * outputs, to->drives[k] + place, run * outputs);
        }
        return;
    }
    for (tap = 0; tap < taps; tap++) {
        int32_t place = column + b->padding_columns - b->dilation_columns * (taps - 1 - tap);
        if (place < 0 || place % b->stride_columns != 0) continue;
        place /= b->stride_columns;
        if (place >= b->columns) continue;
        for (k = 0; k < to->many; k++) {
            add_spikes(b, spikes, to->weights[k] + tap * outputs, to->drives[k] + place * b->channels, outputs);
        }
    }
}

static int32_t channel_weights(const block *b)
{
    return b->kernel_rows * b->kernel_columns * (b->channels / b->groups);
}

static void scatter_spikes(const block *b, const uint32_t *pixels, const reach *to)
{
    const int32_t words = words_of(b->in_channels), weights = channel_weights(b);
    spike_list spikes;
    int32_t column, k;
    spikes.value = 1;
    for (column = 0; column < b->in_columns; column++) {
        for (k = 0; k < words; k++) {
            uint32_t bits = *pixels++;
            if (bits == 0u) continue;
            spikes.many = 0;
            for (; bits != 0u; bits &= bits - 1u) spikes.places[spikes.many++] = (WORD * k + lowest(bits)) * weights;
            scatter(b, column, &spikes, to);
        }
    }
}

static void scatter_counts(const block *b, const uint8_t *pixels, const reach *to)
{
    const int32_t weights = channel_weights(b);
    spike_list spikes;
    int32_t column, channel;
    spikes.many = 1;
    for (column = 0; column < b->in_columns; column++) {
        for (channel = 0; channel < b->in_channels; channel++, pixels++) {
            if (*pixels == 0u) continue;
            spikes.places[0] = channel * weights;
            spikes.value = *pixels;
            scatter(b, column, &spikes, to);
        }
    }
}

/* The block that a block's input of this number comes from. */
static int32_t source_of(const spiking *s, const block *b, int32_t number)
{
    return word(s->network + b->input_list + 4 * number);
}

/* Where a block's spikes are in memory. */
static int32_t spikes_of(const spiking *s, int32_t number)
{
    return word(s->network + 4 * (HEAD_WORDS + number * BLOCK_WORDS + AT_SPIKES));
}

/* Adds what a row of all inputs gives, by some rows of the kernel. */
static void scatter_row(const spiking *s, const block *b, int32_t row, const reach *to)
{
    int32_t i;
    for (i = 0; i < b->inputs; i++) {
        const int32_t source = source_of(s, b, i), place = spikes_of(s, source);
        if (source == 0) {
            const uint8_t *counts = (const uint8_t *)(s->memory + place);
            scatter_counts(b, counts + row * b->in_columns * b->in_channels, to);
        } else {
            scatter_spikes(b, bits_at(s, place + row * b->in_columns * words_of(b->in_channels)), to);
        }
    }
}

/* Adds what a row of the inputs gives to the drives, a ring of `ring` rows [columns][channels]. */
static void drive_rows(const spiking *s, const block *b, int32_t row, int32_t *ring, int32_t rows)
{
    const int8_t *weights = (const int8_t *)(s->network + b->weights);
    const int32_t run = b->kernel_columns * (b->channels / b->groups), size = b->columns * b->channels;
    reach to;
    int32_t k;
    to.many = 0;
    for (k = 0; k < b->kernel_rows; k++) {
        int32_t target = row + b->padding_rows - k * b->dilation_rows;
        if (target < 0 || target % b->stride_rows != 0) continue;
        target /= b->stride_rows;
        if (target >= b->rows) continue;
        to.drives[to.many] = ring + target % rows * size;
        to.weights[to.many++] = weights + k * run;
        if (to.many == MOST_ROWS) {
            scatter_row(s, b, row, &to);
            to.many = 0;
        }
    }
    if (to.many != 0) scatter_row(s, b, row, &to);
}

/* Neurons */

/* What is left of a membrane after a step, rounded towards 0, without a product of more than 32 bits. */
static int32_t decayed(int32_t v, int32_t keep)
{
    const int32_t size = v < 0 ? -v : v, low = size & ((1 << FRACTION) - 1);
    const int32_t kept = (size >> FRACTION) * keep + ((low * keep) >> FRACTION);
    return v < 0 ? -kept : kept;
}

/* A membrane with what is added to it, within its range. Sums are unsigned, as a drive out of range may overflow. */
static int32_t charged(int32_t v, int32_t drive, int32_t bias)
{
    const uint32_t added = ((uint32_t)drive + (uint32_t)bias) * (uint32_t)UNIT;
    const int32_t next = (int32_t)((uint32_t)v + added);
    return smaller(larger(next, -LARGEST_MEMBRANE), LARGEST_MEMBRANE);
}

/* One step of n neurons; drives become 1 where they fire, else 0. Returns whether a drive was out of range. */
static uint32_t integrate(
    int32_t *restrict drive, int32_t *restrict membranes, const int32_t *restrict bias, int32_t n, int32_t keep,
    int32_t threshold)
{
    const uint32_t most = (uint32_t)(LARGEST_DRIVE - 1);
    uint32_t beyond = 0u;
    int32_t i;
    for (i = 0; i < n; i++) beyond |= (uint32_t)((uint32_t)drive[i] + most > 2u * most);
    if (keep == 1 << (FRACTION - 1)) { /* tau 2, in fewer instructions */
        for (i = 0; i < n; i++) membranes[i] = charged(membranes[i] / 2, drive[i], bias[i]);
    } else {
        for (i = 0; i < n; i++) membranes[i] = charged(decayed(membranes[i], keep), drive[i], bias[i]);
    }
    for (i = 0; i < n; i++) {
        drive[i] = membranes[i] > threshold;
        membranes[i] = membranes[i] > threshold ? 0 : membranes[i];
    }
    return beyond;
}

static uint32_t pack_word(const int32_t *fires, int32_t n)
{
    uint32_t bits = 0u;
    int32_t i;
    for (i = 0; i < n; i++) bits |= (uint32_t)fires[i] << i;
    return bits;
}

/* The spikes of a pixel's channels as words. The usual numbers of channels are constants, for compilers to unroll. */
static uint32_t *pack(const int32_t *fires, uint32_t *spikes, int32_t n)
{
    for (; n >= WORD; n -= WORD, fires += WORD) *spikes++ = pack_word(fires, WORD);
    if (n == WORD / 2) *spikes++ = pack_word(fires, WORD / 2);
    else if (n > 0) *spikes++ = pack_word(fires, n);
    return spikes;
}

/* The neurons of `pixels` pixels from pixel `first` on, driven by [pixels][channels]; biases have the same shape. */
static uint32_t fire(
    const spiking *s, const block *b, int32_t *drive, const int32_t *bias, int32_t first, int32_t pixels)
{
    int32_t *membranes = s->memory + b->membranes + first * b->channels;
    uint32_t *spikes = bits_at(s, b->spikes + first * words_of(b->channels));
    const uint32_t beyond = integrate(drive, membranes, bias, pixels * b->channels, b->keep, b->threshold);
    int32_t i;
    for (i = 0; i < pixels; i++) spikes = pack(drive + i * b->channels, spikes, b->channels);
    return beyond;
}

/* Biases of a block's channels for `pixels` pixels, from the network's bytes. */
static const int32_t *read_bias(const spiking *s, const block *b, int32_t pixels)
{
    int32_t *bias = s->memory + head(s, AT_BIAS);
    int32_t i;
    for (i = 0; i < b->channels; i++) bias[i] = b->bias == 0 ? 0 : word(s->network + b->bias + 4 * i);
    for (; i < pixels * b->channels; i++) bias[i] = bias[i - b->channels];
    return bias;
}

/* Blocks */

static int32_t run_convolution(const spiking *s, const block *b)
{
    int32_t *ring = s->memory + head(s, AT_DRIVE);
    const int32_t *bias = read_bias(s, b, b->columns);
    const int32_t size = b->columns * b->channels, last = (b->kernel_rows - 1) * b->dilation_rows - b->padding_rows;
    uint32_t beyond = 0u;
    int32_t row, done = 0;
    memset(ring, 0, (size_t)(b->ring * size) * sizeof *ring);
    for (row = 0; row <= b->in_rows; row++) {
        for (; done < b->rows && (done * b->stride_rows + last < row || row == b->in_rows); done++) {
            int32_t *drive = ring + done % b->ring * size;
            beyond |= fire(s, b, drive, bias, done * b->columns, b->columns);
            memset(drive, 0, (size_t)size * sizeof *drive);
        }
        if (row < b->in_rows) drive_rows(s, b, row, ring, b->ring);
    }
    return beyond != 0u ? SPIKING_DRIVE : SPIKING_OK;
}

/* Adds the spikes of a row of the window to a row of a pool. */
static void pool_row(const block *b, const uint32_t *from, uint32_t *spikes)
{
    const int32_t words = words_of(b->channels);
    int32_t column, tap, k;
    for (column = 0; column < b->columns; column++, spikes += words) {
        for (tap = 0; tap < b->kernel_columns; tap++) {
            const int32_t x = column * b->stride_columns - b->padding_columns + tap * b->dilation_columns;
            if (x < 0 || x >= b->in_columns) continue;
            for (k = 0; k < words; k++) spikes[k] |= from[x * words + k];
        }
    }
}

/* Neurons that fire on any spike in their window. */
static void run_pool(const spiking *s, const block *b)
{
    const int32_t words = words_of(b->channels);
    uint32_t *spikes = bits_at(s, b->spikes);
    int32_t i, row, tap;
    memset(spikes, 0, (size_t)(b->rows * b->columns * words) * sizeof *spikes);
    for (i = 0; i < b->inputs; i++) {
        const uint32_t *from = bits_at(s, spikes_of(s, source_of(s, b, i)));
        for (row = 0; row < b->rows; row++) {
            for (tap = 0; tap < b->kernel_rows; tap++) {
                const int32_t y = row * b->stride_rows - b->padding_rows + tap * b->dilation_rows;
                if (y < 0 || y >= b->in_rows) continue;
                pool_row(b, from + y * b->in_columns * words, spikes + row * b->columns * words);
            }
        }
    }
}

/* The first bit that is set from bit `from` on, `to` if there is none before. */
static int32_t next_bit(const uint32_t *spikes, int32_t from, int32_t to)
{
    while (from < to) {
        const uint32_t bits = spikes[from / WORD] >> (from % WORD);
        if (bits != 0u) return smaller(to, from + lowest(bits));
        from = (from / WORD + 1) * WORD;
    }
    return to;
}

/* How often a key's channel and a value's spike together, [keys][channels of a head]. */
static void count_pairs(const block *b, const uint32_t *spikes, int32_t *pairs)
{
    const int32_t width = b->channels / b->heads, words = words_of(b->in_channels);
    const int32_t keys = b->channels, values = 2 * b->channels;
    int32_t token, key, value;
    memset(pairs, 0, (size_t)(b->channels * width) * sizeof *pairs);
    for (token = 0; token < b->rows * b->columns; token++, spikes += words) {
        for (key = next_bit(spikes, keys, values); key < values; key = next_bit(spikes, key + 1, values)) {
            const int32_t begin = values + (key - keys) / width * width, end = begin + width;
            int32_t *row = pairs + (key - keys) * width;
            for (value = next_bit(spikes, begin, end); value < end; value = next_bit(spikes, value + 1, end)) {
                row[value - begin]++;
            }
        }
    }
}

static int32_t run_attention(const spiking *s, const block *b)
{
    const int32_t width = b->channels / b->heads, words = words_of(b->in_channels);
    const int32_t *bias = read_bias(s, b, 1);
    const uint32_t *spikes = bits_at(s, spikes_of(s, source_of(s, b, 0)));
    int32_t *drive = s->memory + head(s, AT_DRIVE), *pairs = drive + b->channels;
    uint32_t beyond = 0u;
    int32_t token, query, i;
    count_pairs(b, spikes, pairs);
    for (token = 0; token < b->rows * b->columns; token++, spikes += words) {
        memset(drive, 0, (size_t)b->channels * sizeof *drive);
        for (query = next_bit(spikes, 0, b->channels); query < b->channels;
             query = next_bit(spikes, query + 1, b->channels)) {
            int32_t *out = drive + query / width * width;
            for (i = 0; i < width; i++) out[i] += pairs[query * width + i];
        }
        for (i = 0; i < b->channels; i++) drive[i] *= b->gain;
        beyond |= fire(s, b, drive, bias, token, 1);
    }
    return beyond != 0u ? SPIKING_DRIVE : SPIKING_OK;
}

static int32_t run_readout(const spiking *s, const block *b)
{
    int32_t *drive = s->memory + head(s, AT_DRIVE), *sums = s->memory + head(s, AT_SUMS);
    const int32_t *bias = read_bias(s, b, 1);
    int32_t i, status = SPIKING_OK;
    memset(drive, 0, (size_t)b->channels * sizeof *drive);
    for (i = 0; i < b->in_rows; i++) drive_rows(s, b, i, drive, 1);
    for (i = 0; i < b->channels; i++) {
        if (drive[i] >= LARGEST_DRIVE || drive[i] <= -LARGEST_DRIVE) return SPIKING_DRIVE;
        sums[i] += drive[i] + bias[i];
        if (sums[i] > b->threshold || sums[i] < -b->threshold) status = SPIKING_READOUT;
    }
    return status;
}

int32_t spiking_run(spiking *s, int32_t number)
{
    const block b = read_block(s, number);
    int32_t status = SPIKING_OK;
    if (b.kind == CONVOLUTION) status = run_convolution(s, &b);
    else if (b.kind == POOL) run_pool(s, &b);
    else if (b.kind == ATTENTION) status = run_attention(s, &b);
    else if (b.kind == READOUT) status = run_readout(s, &b);
    if (status != SPIKING_OK) s->failed = number;
    return status;
}

int32_t spiking_step(spiking *s)
{
    const block input = read_block(s, 0);
    int32_t i;
    if (s->status == SPIKING_OK && s->step >= spiking_steps(s)) s->status = SPIKING_STEPS;
    for (i = 1; i < spiking_blocks(s) && s->status == SPIKING_OK; i++) s->status = spiking_run(s, i);
    memset(s->memory + input.spikes, 0, (size_t)(input.channels * input.rows * input.columns));
    s->step++;
    return s->status;
}

/* Events */

int32_t spiking_size(void) { return (int32_t)sizeof(spiking); }

int32_t spiking_memory(const uint8_t *network, size_t bytes)
{
    if (bytes < 4u * HEAD_WORDS || word(network) != MAGIC || word(network + 4 * AT_VERSION) != VERSION) {
        return SPIKING_NETWORK;
    }
    return (size_t)word(network + 4 * AT_BYTES) == bytes ? word(network + 4 * AT_MEMORY) : SPIKING_NETWORK;
}

int32_t spiking_open(spiking *s, const uint8_t *network, size_t bytes, int32_t *memory, size_t memory_bytes)
{
    const int32_t needed = spiking_memory(network, bytes);
    if (needed < 0) return needed;
    if (memory_bytes < (size_t)needed) return SPIKING_MEMORY;
    s->network = network;
    s->memory = memory;
    s->failed = 0;
    spiking_reset(s);
    return spiking_sensor(s, head(s, AT_SENSOR_WIDTH), head(s, AT_SENSOR_HEIGHT));
}

int32_t spiking_sensor(spiking *s, int32_t width, int32_t height)
{
    const int32_t most = 1 << 16, left = head(s, AT_CROP_LEFT), top = head(s, AT_CROP_TOP);
    const int32_t columns = head(s, AT_CROP_WIDTH), rows = head(s, AT_CROP_HEIGHT);
    if (width < 1 || height < 1 || width > most || height > most) return SPIKING_SENSOR;
    if (left + columns > width || top + rows > height) return SPIKING_SENSOR;
    s->width = width;
    s->height = height;
    s->left = left;
    s->top = top;
    s->columns = columns != 0 ? columns : width;
    s->rows = rows != 0 ? rows : height;
    return SPIKING_OK;
}

void spiking_reset(spiking *s)
{
    const block input = read_block(s, 0);
    memset(s->memory + head(s, AT_STATE), 0, (size_t)head(s, AT_STATE_WORDS) * sizeof *s->memory);
    memset(s->memory + head(s, AT_SUMS), 0, (size_t)head(s, AT_CLASSES) * sizeof *s->memory);
    memset(s->memory + input.spikes, 0, (size_t)(input.channels * input.rows * input.columns));
    s->step = 0;
    s->status = SPIKING_OK;
    s->surveyed = 0;
    s->events = 0;
    s->first = 0;
    s->last = 0;
    s->latest = -LARGEST_TIME;
    s->pushed = 0;
}

/* Whether an event is in the part of the sensor that the network uses. */
static int32_t is_inside(const spiking *s, uint16_t x, uint16_t y)
{
    const int32_t column = (int32_t)x - s->left, row = (int32_t)y - s->top;
    return column >= 0 && row >= 0 && column < s->columns && row < s->rows;
}

int32_t spiking_survey(spiking *s, const int64_t *t, const uint16_t *x, const uint16_t *y, const uint8_t *p, int32_t n)
{
    int32_t i;
    (void)p;
    s->surveyed = 1;
    if (t == NULL && head(s, AT_BY_TIME) != 0 && s->status == SPIKING_OK) s->status = SPIKING_TIME;
    for (i = 0; i < n && s->status == SPIKING_OK; i++) {
        if (x[i] >= s->width || y[i] >= s->height) {
            s->status = SPIKING_PIXEL;
        } else if (t != NULL && (t[i] < s->latest || t[i] > LARGEST_TIME)) {
            s->status = SPIKING_TIME;
        } else {
            s->latest = t != NULL ? t[i] : 0;
            if (is_inside(s, x[i], y[i]) == 0) continue;
            if (s->events == 0) s->first = s->latest;
            s->last = s->latest;
            s->events++;
        }
    }
    return s->status;
}

/* Whether the next event, of time t, belongs to a later step. */
static int32_t is_full(const spiking *s, const int64_t *t)
{
    const int64_t steps = spiking_steps(s), next = (int64_t)s->step + 1;
    int64_t span, rest;
    if (s->surveyed == 0 || next >= steps) return 0; /* the last step takes the rest */
    if (head(s, AT_BY_TIME) == 0) return s->pushed >= next * (s->events / steps);
    span = s->last - s->first + 1;
    rest = (span % steps * next + steps - 1) / steps; /* rounded up */
    return *t >= s->first + span / steps * next + rest;
}

/* Where the pixels of a sensor's row or column begin in frames: larger sensors shrink, smaller ones are repeated. */
static uint32_t place_of(uint32_t pixel, uint32_t sensor, uint32_t side)
{
    return sensor >= side ? pixel * side / sensor : (pixel * side + sensor - 1u) / sensor;
}

static uint32_t end_of(uint32_t pixel, uint32_t sensor, uint32_t side)
{
    return sensor >= side ? pixel * side / sensor + 1u : ((pixel + 1u) * side + sensor - 1u) / sensor;
}

static void count(const spiking *s, const block *input, uint16_t x, uint16_t y, uint8_t p)
{
    uint8_t *counts = (uint8_t *)(s->memory + input->spikes);
    const uint32_t columns = (uint32_t)input->columns, rows = (uint32_t)input->rows;
    const uint32_t column = (uint32_t)(x - s->left), row = (uint32_t)(y - s->top);
    const uint32_t right = end_of(column, (uint32_t)s->columns, columns);
    const uint32_t bottom = end_of(row, (uint32_t)s->rows, rows);
    uint32_t i, j;
    for (i = place_of(row, (uint32_t)s->rows, rows); i < bottom; i++) {
        for (j = place_of(column, (uint32_t)s->columns, columns); j < right; j++) {
            uint8_t *cell = counts + (i * columns + j) * (uint32_t)input->channels + (p != 0u ? 1u : 0u);
            if (*cell < LARGEST_COUNT) (*cell)++;
        }
    }
}

int32_t spiking_push_events(
    spiking *s, const int64_t *t, const uint16_t *x, const uint16_t *y, const uint8_t *p, int32_t n)
{
    const block input = read_block(s, 0);
    int32_t i;
    if (t == NULL && s->surveyed != 0 && head(s, AT_BY_TIME) != 0 && s->status == SPIKING_OK) s->status = SPIKING_TIME;
    for (i = 0; i < n && s->status == SPIKING_OK; i++) {
        if (x[i] >= s->width || y[i] >= s->height) {
            s->status = SPIKING_PIXEL;
        } else if (is_inside(s, x[i], y[i]) != 0) {
            if (is_full(s, t != NULL ? t + i : NULL) != 0) break;
            count(s, &input, x[i], y[i], p[i]);
            s->pushed++;
        }
    }
    return s->status == SPIKING_OK ? i : s->status;
}

int32_t spiking_push_counts(spiking *s, const uint8_t *counts)
{
    const block input = read_block(s, 0);
    uint8_t *to = (uint8_t *)(s->memory + input.spikes);
    const int32_t pixels = input.rows * input.columns;
    int32_t polarity, i;
    for (polarity = 0; polarity < input.channels; polarity++) {
        for (i = 0; i < pixels; i++) to[i * input.channels + polarity] = *counts++;
    }
    return s->status;
}

int32_t spiking_recording(spiking *s, const uint8_t *counts, int32_t *sums)
{
    const block input = read_block(s, 0);
    const int32_t size = input.channels * input.rows * input.columns, classes = spiking_classes(s);
    int32_t step, i;
    spiking_reset(s);
    for (step = 0; step < spiking_steps(s) && s->status == SPIKING_OK; step++, counts += size) {
        (void)spiking_push_counts(s, counts);
        (void)spiking_step(s);
        for (i = 0; i < classes; i++) *sums++ = spiking_logits(s)[i];
    }
    return s->status;
}

/* Answers */

int32_t spiking_answer(const spiking *s)
{
    const int32_t *sums = spiking_logits(s);
    int32_t best = 0, i;
    if (s->status != SPIKING_OK) return s->status;
    for (i = 1; i < spiking_classes(s); i++) best = sums[i] > sums[best] ? i : best;
    return best;
}

const int32_t *spiking_logits(const spiking *s) { return s->memory + head(s, AT_SUMS); }

int32_t spiking_steps(const spiking *s) { return head(s, AT_STEPS); }

int32_t spiking_classes(const spiking *s) { return head(s, AT_CLASSES); }

int32_t spiking_blocks(const spiking *s) { return head(s, AT_BLOCKS); }

const uint32_t *spiking_spikes(const spiking *s, int32_t number) { return bits_at(s, spikes_of(s, number)); }

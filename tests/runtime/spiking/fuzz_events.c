/* Random events and calls in random order, under the sanitizers: fuzz_events NETWORK SECONDS [SEED]

   Every call is checked against what it promises. The readers of main.c, which is included, get random and damaged files.
   Built by clang with -fsanitize=fuzzer -DLIBFUZZER, inputs are bytes that steer the same calls. */

#define main classify_main
#include "main.c"
#undef main

#include <time.h>

#define MOST 600
#define HEAD 19 /* words before those of the blocks, see spiking.c */

static const uint8_t *steering;
static size_t left;
static uint64_t state = 1;

/* A number below `limit`: of the input that steers, or random. */
static uint32_t below(uint32_t limit)
{
    uint32_t number = 0;
    if (steering != NULL) {
        int i;
        for (i = 0; i < 4 && left > 0u; i++, left--) number = (number << 8) | *steering++;
    } else {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        number = (uint32_t)(state >> 16);
    }
    return number % limit;
}

static void check(int holds, const char *what)
{
    if (holds) return;
    fprintf(stderr, "broken: %s\n", what);
    abort();
}

static int64_t any_time(int64_t before)
{
    if (before > INT64_MAX / 4 || before < INT64_MIN / 4) return before;
    switch (below(12)) {
    case 0: return INT64_MAX - (int64_t)below(3);
    case 1: return INT64_MIN + (int64_t)below(3);
    case 2: return before - (int64_t)below(100);
    case 3: return before + ((int64_t)below(1u << 30) << 30);
    default: return before + (int64_t)below(1000);
    }
}

static uint16_t any_pixel(uint32_t side)
{
    switch (below(200)) {
    case 0: return (uint16_t)below(65536);
    case 1: return (uint16_t)side;
    default: return (uint16_t)below(side);
    }
}

/* What the counts of a step must be, by a slow rule: a pixel of the frame shows the sensor's at its place, or all that
   fall into it. */
typedef struct {
    int32_t rows, columns, left, top, width, height;
    uint8_t *counts;
} frame_model;

static frame_model model;

static int32_t network_word(const spiking *s, int32_t number)
{
    const uint8_t *at = s->network + 4 * number;
    return (int32_t)((uint32_t)at[0] | ((uint32_t)at[1] << 8) | ((uint32_t)at[2] << 16) | ((uint32_t)at[3] << 24));
}

static void begin_model(const spiking *s)
{
    model.rows = network_word(s, HEAD + 4);
    model.columns = network_word(s, HEAD + 5);
    model.left = s->left;
    model.top = s->top;
    model.width = s->columns;
    model.height = s->rows;
    if (model.counts == NULL) model.counts = malloc((size_t)(2 * model.rows * model.columns));
    memset(model.counts, 0, (size_t)(2 * model.rows * model.columns));
}

static int is_at(int64_t place, int64_t pixel, int64_t sensor, int64_t side)
{
    return sensor >= side ? pixel * side / sensor == place : place * sensor / side == pixel;
}

static int is_in_part(uint16_t x, uint16_t y)
{
    return x >= model.left && y >= model.top && x < model.left + model.width && y < model.top + model.height;
}

static void count_event(uint16_t x, uint16_t y, uint8_t p)
{
    int32_t i, j;
    if (!is_in_part(x, y)) return;
    for (i = 0; i < model.rows; i++) {
        if (!is_at(i, y - model.top, model.height, model.rows)) continue;
        for (j = 0; j < model.columns; j++) {
            uint8_t *cell = model.counts + 2 * (i * model.columns + j) + (p != 0);
            if (is_at(j, x - model.left, model.width, model.columns) && *cell < 255) (*cell)++;
        }
    }
}

static void compare_counts(const spiking *s)
{
    const void *counts = spiking_spikes(s, 0);
    check(memcmp(counts, model.counts, (size_t)(2 * model.rows * model.columns)) == 0, "other counts than the rule's");
}

/* Events in arrays of exactly their size. */
static recording any_events(uint32_t columns, uint32_t rows)
{
    recording r = {NULL, NULL, NULL, NULL, 0, 0, 0, 0};
    const size_t n = below(below(4) == 0 ? MOST : 64);
    const uint32_t busy = below(6) == 0 ? 1u : 0u; /* on one pixel */
    int64_t t = below(4) == 0 ? any_time(0) : (int64_t)below(1000);
    size_t i;
    r.n = (int32_t)n;
    r.t = malloc(n * sizeof *r.t);
    r.x = malloc(n * sizeof *r.x);
    r.y = malloc(n * sizeof *r.y);
    r.p = malloc(n * sizeof *r.p);
    for (i = 0; i < n; i++) {
        t = below(40) == 0 || t > INT64_MAX / 4 ? any_time(t) : t + (int64_t)below(300);
        r.t[i] = t;
        r.x[i] = busy != 0u ? (uint16_t)(columns / 2u) : any_pixel(columns);
        r.y[i] = busy != 0u ? (uint16_t)(rows / 2u) : any_pixel(rows);
        r.p[i] = (uint8_t)below(3);
    }
    return r;
}

static void drop(recording *r)
{
    free(r->t);
    free(r->x);
    free(r->y);
    free(r->p);
}

/* Whether an event lies outside the sensor: the first of them ends the recording. */
static int32_t first_outside(const spiking *s, const recording *r)
{
    int32_t i;
    for (i = 0; i < r->n && r->x[i] < s->width && r->y[i] < s->height; i++) {}
    return i;
}

/* Without a survey, all events count. */
static void push_all(spiking *s, const int64_t *t, const recording *r)
{
    const int32_t before = s->status, surveyed = s->surveyed, outside = first_outside(s, r);
    const int32_t result = spiking_push_events(s, t, r->x, r->y, r->p, r->n);
    int32_t i;
    check(result <= r->n, "more events taken than given");
    check(before == SPIKING_OK || result == before, "an error that was forgotten");
    if (before != SPIKING_OK || surveyed != 0) return;
    check(result == (outside < r->n ? SPIKING_PIXEL : r->n), "other events taken than those of the sensor");
    for (i = 0; i < outside; i++) count_event(r->x[i], r->y[i], r->p[i]);
    compare_counts(s);
}

static void one_recording(spiking *s)
{
    const uint32_t columns = below(8) == 0 ? below(70000) : 1u + below(80), rows = below(8) == 0 ? below(70000) : 1u + below(80);
    const int32_t sensor = spiking_sensor(s, (int32_t)columns, (int32_t)rows);
    uint32_t calls = below(24);
    check(sensor == SPIKING_OK || sensor == SPIKING_SENSOR, "spiking_sensor");
    spiking_reset(s);
    begin_model(s);
    for (; calls > 0u; calls--) {
        recording r = any_events(columns == 0u ? 1u : columns, rows == 0u ? 1u : rows);
        const int64_t *t = below(6) == 0 ? NULL : r.t;
        const int32_t before = s->status;
        int32_t result = SPIKING_OK;
        switch (below(5)) {
        case 0: result = spiking_survey(s, t, r.x, r.y, r.p, r.n); break;
        case 1:
        case 2:
            push_all(s, t, &r);
            result = s->status;
            break;
        case 3:
            result = spiking_step(s);
            check(result <= SPIKING_OK, "spiking_step");
            begin_model(s);
            if (result == SPIKING_OK) compare_counts(s);
            break;
        default:
            result = spiking_answer(s);
            check(result < spiking_classes(s), "a class beyond the last");
        }
        check(before == SPIKING_OK || result == before, "an error that was forgotten");
        check(result >= 0 || s->status == result, "another status than was returned");
        drop(&r);
    }
}

/* Whether a step may hold an event of a surveyed recording. */
static void check_slice(const spiking *s, const recording *r, int32_t event, int32_t step)
{
    const int64_t steps = spiking_steps(s), span = s->last - s->first + 1, since = r->t[event] - s->first;
    int64_t slice = 0;
    if (!is_in_part(r->x[event], r->y[event]) || span > (int64_t)1 << 50) return;
    if (network_word(s, 6) != 0) {
        slice = since * steps / span;
    } else if (s->events / steps != 0) {
        int32_t i;
        for (i = 0; i < event; i++) slice += is_in_part(r->x[i], r->y[i]);
        slice /= s->events / steps;
        slice = slice < steps ? slice : steps - 1;
    } else {
        slice = steps - 1;
    }
    check(slice == step, "an event in another step");
}

static int32_t piece_of(int32_t rest)
{
    const int32_t piece = (int32_t)below(9);
    return piece < rest ? piece : rest;
}

/* In pieces or at once, a surveyed recording gives the same logits. */
static void same_in_pieces(spiking *s)
{
    int32_t sums[2][256], turn, step, done, taken, status = SPIKING_OK, i;
    const uint32_t columns = 26u + below(40), rows = 26u + below(40);
    recording r = any_events(columns, rows);
    const int32_t classes = spiking_classes(s) < 256 ? spiking_classes(s) : 256;
    (void)spiking_sensor(s, (int32_t)columns, (int32_t)rows);
    begin_model(s);
    for (turn = 0; turn < 2; turn++) {
        spiking_reset(s);
        status = spiking_survey(s, r.t, r.x, r.y, r.p, r.n);
        for (step = 0, done = 0; step < spiking_steps(s) && status == SPIKING_OK; step++) {
            do {
                const int32_t rest = r.n - done, piece = turn == 0 ? rest : piece_of(rest);
                taken = spiking_push_events(s, r.t + done, r.x + done, r.y + done, r.p + done, piece);
                for (i = done; i < done + taken; i++) check_slice(s, &r, i, step);
                done += taken > 0 ? taken : 0;
                if (taken < piece) break;
            } while (done < r.n);
            status = taken < 0 ? taken : spiking_step(s);
        }
        if (status == SPIKING_OK) check(done == r.n, "events that no step took");
        for (i = 0; i < classes; i++) sums[turn][i] = spiking_logits(s)[i];
    }
    if (status == SPIKING_OK) check(memcmp(sums[0], sums[1], (size_t)classes * sizeof sums[0][0]) == 0, "pieces");
    drop(&r);
}

/* The readers of main.c on a file of random bytes, or a damaged one. */
static void one_file(void)
{
    static const char *const LINES[] = {"t,x,y,p\n", "12 3 4 1\n", "13;3;4;0\r\n", "\n", "99999999999999999999,1,1,1\n", ",,,\n"};
    const size_t room = below(400);
    char *content = malloc(room + 1u);
    size_t size = 0;
    recording r = {NULL, NULL, NULL, NULL, 0, 0, 0, 0};
    const uint32_t kind = below(3);
    while (size < room) {
        const char *line = LINES[below(6)];
        size_t i;
        if (kind == 0u || (kind == 1u && below(30) == 0)) content[size++] = (char)below(256);
        else if (kind == 1u)
            for (i = 0; line[i] != '\0' && size < room; i++) content[size++] = line[i];
        else content[size++] = (char)(below(3) == 0 ? 240u : below(40));
    }
    content[size] = '\0';
    (void)(is_text(content, size) ? read_text(&r, content) : read_atis(&r, content, size));
    check(r.n <= r.room, "more events than there is room for");
    drop(&r);
    free(content);
}

static spiking network_state;

static void open_network(const char *path)
{
    FILE *file = fopen(path, "rb");
    size_t bytes;
    uint8_t *content;
    int32_t *words;
    if (file == NULL) exit(2);
    (void)fseek(file, 0, SEEK_END);
    bytes = (size_t)ftell(file);
    rewind(file);
    content = malloc(bytes);
    if (content == NULL || fread(content, 1, bytes, file) != bytes) exit(2);
    (void)fclose(file);
    words = malloc((size_t)spiking_memory(content, bytes));
    check(spiking_open(&network_state, content, bytes, words, (size_t)spiking_memory(content, bytes)) == SPIKING_OK, "open");
}

static void one_turn(void)
{
    switch (below(4)) {
    case 0: same_in_pieces(&network_state); break;
    case 1: one_file(); break;
    default: one_recording(&network_state);
    }
}

#if defined(LIBFUZZER)
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (network_state.network == NULL) open_network(getenv("NETWORK"));
    spiking_reset(&network_state);
    steering = data;
    left = size;
    one_turn();
    return 0;
}
#else
int main(int argc, char **argv)
{
    const time_t begin = time(NULL);
    long turns = 0;
    if (argc < 3) return 2;
    open_network(argv[1]);
    state = argc > 3 ? (uint64_t)strtoul(argv[3], NULL, 10) * 2654435761u + 1u : 1u;
    do {
        one_turn();
        turns++;
    } while ((turns & 0xff) != 0 || difftime(time(NULL), begin) < strtod(argv[2], NULL));
    printf("%ld turns, no finding\n", turns);
    return 0;
}
#endif

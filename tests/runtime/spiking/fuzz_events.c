/* Random events and calls in random order, under the sanitizers: fuzz_events NETWORK SECONDS [SEED]

   Every call is checked against what it promises. The readers of main.c, which is included, get random and damaged files.
   Built by clang with -fsanitize=fuzzer -DLIBFUZZER, inputs are bytes that steer the same calls. */

#define main classify_main
#include "main.c"
#undef main

#include <time.h>

#define MOST 64

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

static uint16_t any_pixel(uint32_t side) { return (uint16_t)(below(20) == 0 ? below(65536) : below(side)); }

/* Events in arrays of exactly their size. */
static recording any_events(uint32_t columns, uint32_t rows)
{
    recording r = {NULL, NULL, NULL, NULL, 0, 0, 0, 0};
    const size_t n = below(MOST);
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
        r.x[i] = any_pixel(columns);
        r.y[i] = any_pixel(rows);
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

static void one_recording(spiking *s)
{
    const uint32_t columns = below(8) == 0 ? below(70000) : 1u + below(80), rows = below(8) == 0 ? below(70000) : 1u + below(80);
    const int32_t sensor = spiking_sensor(s, (int32_t)columns, (int32_t)rows);
    uint32_t calls = below(24);
    check(sensor == SPIKING_OK || sensor == SPIKING_SENSOR, "spiking_sensor");
    if (below(4) != 0) spiking_reset(s);
    for (; calls > 0u; calls--) {
        recording r = any_events(columns == 0u ? 1u : columns, rows == 0u ? 1u : rows);
        const int64_t *t = below(6) == 0 ? NULL : r.t;
        const int32_t before = s->status;
        int32_t result = SPIKING_OK;
        switch (below(5)) {
        case 0: result = spiking_survey(s, t, r.x, r.y, r.p, r.n); break;
        case 1:
        case 2:
            result = spiking_push_events(s, t, r.x, r.y, r.p, r.n);
            check(result <= r.n, "more events taken than given");
            break;
        case 3:
            result = spiking_step(s);
            check(result <= SPIKING_OK, "spiking_step");
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

static int32_t piece_of(int32_t rest)
{
    const int32_t piece = (int32_t)below(9);
    return piece < rest ? piece : rest;
}

/* In pieces or at once, a surveyed recording gives the same logits. */
static void same_in_pieces(spiking *s)
{
    int32_t sums[2][256], turn, step, done, taken, status = SPIKING_OK, i;
    recording r = any_events(40, 40);
    const int32_t classes = spiking_classes(s) < 256 ? spiking_classes(s) : 256;
    (void)spiking_sensor(s, 41, 41);
    for (turn = 0; turn < 2; turn++) {
        spiking_reset(s);
        status = spiking_survey(s, r.t, r.x, r.y, r.p, r.n);
        for (step = 0, done = 0; step < spiking_steps(s) && status == SPIKING_OK; step++) {
            do {
                const int32_t rest = r.n - done, piece = turn == 0 ? rest : piece_of(rest);
                taken = spiking_push_events(s, r.t + done, r.x + done, r.y + done, r.p + done, piece);
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

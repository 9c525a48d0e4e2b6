/* Classifies a recording from standard input: classify [COLUMNS ROWS] < recording

   The recording is an ATIS .bin file, or text: a line per event with its time in microseconds, column, row and polarity
   (1 brighter, 0 or -1 darker), separated by commas, semicolons or blanks; a first line of names is passed over.
   COLUMNS and ROWS are those of the sensor; without them, they are what the events need, and of ATIS files the least of
   34 x 34, 240 x 180 and 256 x 240. This file is for computers; a board calls the functions of network.h itself. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "atis.h"
#include "network.h"

typedef struct {
    int64_t *t;
    uint16_t *x, *y;
    uint8_t *p;
    int32_t n, room;
    int32_t columns, rows;
} recording;

static const char USAGE[] = "classify [COLUMNS ROWS] < recording";
static const char *const PROBLEMS[] = {
    NULL,
    "network.c is damaged",
    "not enough memory",
    "the sensor is too small for the part that the network uses; give its COLUMNS and ROWS",
    "an event lies outside the sensor; give the right COLUMNS and ROWS",
    "times run backwards; sort the events by time",
    "more steps than the network has",
    "more events in a step than the network can take",
    "logits beyond the network's range"
};

static int grow(recording *r)
{
    const int32_t room = r->room == 0 ? 4096 : 2 * r->room;
    const size_t many = (size_t)room;
    int64_t *t;
    uint16_t *x, *y;
    uint8_t *p;
    if (r->room > INT32_MAX / 2) return 0;
    if ((t = realloc(r->t, many * sizeof *t)) == NULL) return 0;
    r->t = t;
    if ((x = realloc(r->x, many * sizeof *x)) == NULL) return 0;
    r->x = x;
    if ((y = realloc(r->y, many * sizeof *y)) == NULL) return 0;
    r->y = y;
    if ((p = realloc(r->p, many * sizeof *p)) == NULL) return 0;
    r->p = p;
    r->room = room;
    return 1;
}

static int append(recording *r, int64_t t, uint16_t x, uint16_t y, uint8_t p)
{
    if (r->n == r->room && !grow(r)) return 0;
    r->t[r->n] = t;
    r->x[r->n] = x;
    r->y[r->n] = y;
    r->p[r->n] = p;
    r->n++;
    r->columns = x >= r->columns ? x + 1 : r->columns;
    r->rows = y >= r->rows ? y + 1 : r->rows;
    return 1;
}

/* All of standard input, and a 0 behind it. */
static char *read_all(size_t *size)
{
    size_t room = 1u << 16, many;
    char *content = malloc(room + 1u), *larger;
    *size = 0;
    while (content != NULL && (many = fread(content + *size, 1, room - *size, stdin)) > 0) {
        *size += many;
        if (*size < room) continue;
        room *= 2u;
        if ((larger = realloc(content, room + 1u)) == NULL) free(content);
        content = larger;
    }
    if (content != NULL) content[*size] = '\0';
    return content;
}

static int is_text(const char *content, size_t size)
{
    size_t i;
    for (i = 0; i < size && i < 64u; i++) {
        const char c = content[i];
        if ((c < ' ' && c != '\t' && c != '\r' && c != '\n') || c > '~') return 0;
    }
    return 1;
}

/* The next whole number of a line; `at` moves behind it. */
static int next_number(const char **at, long long *number)
{
    char *end;
    while (**at == ' ' || **at == '\t' || **at == ',' || **at == ';') (*at)++;
    *number = strtoll(*at, &end, 10);
    if (end == *at) return 0;
    *at = end;
    return 1;
}

/* Whether a first line without numbers names the four columns in their order, such as "t,x,y,p" or "ts x y polarity". */
static int has_order(const char *at)
{
    const char *names;
    for (names = "txyp"; *names != '\0'; names++) {
        while (*at == ' ' || *at == '\t' || *at == ',' || *at == ';' || *at == '"' || *at == '#') at++;
        if (*at != *names && *at != *names - 'a' + 'A') return 0;
        while ((*at >= 'a' && *at <= 'z') || (*at >= 'A' && *at <= 'Z') || *at == '_') at++;
    }
    return 1;
}

static const char *read_text(recording *r, const char *at)
{
    static char problem[64];
    long line;
    for (line = 1; *at != '\0'; line++) {
        const char *end = strchr(at, '\n');
        long long t, x, y, p;
        if (end == NULL) end = at + strlen(at);
        if (*at != '\n' && *at != '\r') {
            const int has_number = (*at >= '0' && *at <= '9') || *at == '-';
            const char *const begin = at;
            const int is_event = next_number(&at, &t) && next_number(&at, &x) && next_number(&at, &y) &&
                                 next_number(&at, &p) && at <= end && x >= 0 && y >= 0 && x < 65536 && y < 65536;
            if (!is_event && (line > 1 || has_number)) {
                sprintf(problem, "line %ld is no event t,x,y,p", line);
                return problem;
            }
            if (!is_event && !has_order(begin)) return "the first line has other columns than t, x, y, p";
            if (is_event && !append(r, t, (uint16_t)x, (uint16_t)y, (uint8_t)(p > 0))) return "not enough memory";
        }
        at = *end == '\0' ? end : end + 1;
    }
    return NULL;
}

static const char *read_atis(recording *r, const char *content, size_t size)
{
    static const int32_t SENSORS[][2] = {{34, 34}, {240, 180}, {256, 240}};
    const uint8_t *record = (const uint8_t *)content;
    int64_t marks = 0, t = 0;
    uint16_t x, y;
    uint8_t p;
    size_t i;
    if (size % ATIS_BYTES != 0u) return "neither text nor an ATIS .bin file";
    for (i = 0; i < size; i += ATIS_BYTES) {
        if (atis_event(record + i, &marks, &t, &x, &y, &p) && !append(r, t, x, y, p)) return "not enough memory";
    }
    for (i = 0; i < 3u; i++) {
        if (r->columns > SENSORS[i][0] || r->rows > SENSORS[i][1]) continue;
        r->columns = SENSORS[i][0];
        r->rows = SENSORS[i][1];
        return NULL;
    }
    return "neither text nor an ATIS .bin file";
}

static const char *read_recording(recording *r)
{
    size_t size;
    char *content = read_all(&size);
    const char *problem;
    if (content == NULL) return "not enough memory";
    problem = is_text(content, size) ? read_text(r, content) : read_atis(r, content, size);
    free(content);
    return problem == NULL && r->n == 0 ? "no events" : problem;
}

/* Prints the sums of the logits after every step. */
static int32_t classify(const recording *r)
{
    int32_t i, step, done = 0, status;
    nm_reset();
    status = nm_sensor(r->columns, r->rows);
    if (status == SPIKING_OK) status = nm_survey(r->t, r->x, r->y, r->p, r->n);
    for (step = 0; step < NM_STEPS && status == SPIKING_OK; step++) {
        done += nm_push_events(r->t + done, r->x + done, r->y + done, r->p + done, r->n - done);
        if ((status = nm_step()) != SPIKING_OK) break;
        printf("step %d:", (int)step + 1);
        for (i = 0; i < NM_CLASSES; i++) printf(" %ld", (long)nm_logits()[i]);
        printf("\n");
    }
    return status;
}

int main(int argc, char **argv)
{
    recording r = {NULL, NULL, NULL, NULL, 0, 0, 0, 0};
    const char *problem = argc == 1 || argc == 3 ? read_recording(&r) : USAGE;
    if (problem == NULL) {
        if (argc == 3) {
            char *end;
            r.columns = (int32_t)strtol(argv[1], &end, 10);
            if (*end != '\0') problem = USAGE;
            r.rows = (int32_t)strtol(argv[2], &end, 10);
            if (*end != '\0') problem = USAGE;
        }
        if (problem == NULL) problem = PROBLEMS[-classify(&r)];
    }
    free(r.t);
    free(r.x);
    free(r.y);
    free(r.p);
    if (problem != NULL) {
        fprintf(stderr, "classify: %s\n", problem);
        return 1;
    }
    printf("%s\n", nm_class_names[nm_answer()]);
    return 0;
}

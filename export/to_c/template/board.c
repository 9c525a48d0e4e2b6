/* A Cortex-M board as QEMU simulates it: classifies ATIS .bin files that its debugger reads for it (semihosting), and
   counts instructions. On a board of your own, start with its vendor's project, and feed nm_push_events from the camera. */

#include "atis.h"
#include "network.h"

#define AT_ONCE 256                /* events that are in memory */
#define SYS_OPEN 0x01u
#define SYS_CLOSE 0x02u
#define SYS_WRITE0 0x04u
#define SYS_READ 0x06u
#define SYS_SEEK 0x0au
#define SYS_GET_CMDLINE 0x15u
#define SYS_EXIT 0x18u
#define EXITED 0x20026u
#define READ_BINARY 1u
/* The timer of the core, at 25 MHz in these machines. */
#define TIMER ((volatile uint32_t *)0xe000e010u)
#define TIMER_MOST 0xffffffu
#define NS_PER_TICK 40u

extern uint32_t stack_end, data_begin, data_end, data_load, bss_begin, bss_end;
int main(void);
void reset(void);

__attribute__((section(".vectors"), used)) static const struct {
    uint32_t *stack;
    void (*reset)(void);
} VECTORS = {&stack_end, reset};

static uint32_t ask(uint32_t number, const void *what)
{
    register uint32_t r0 __asm__("r0") = number;
    register const void *r1 __asm__("r1") = what;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

void reset(void)
{
    uint32_t *to = &data_begin;
    const uint32_t *from = &data_load;
    while (to < &data_end) *to++ = *from++;
    for (to = &bss_begin; to < &bss_end; to++) *to = 0;
    (void)main();
    ask(SYS_EXIT, (const void *)EXITED);
    for (;;) {}
}

static void say(const char *text) { ask(SYS_WRITE0, text); }

static void say_number(int64_t number)
{
    char text[24], *at = text + sizeof text;
    uint64_t rest = number < 0 ? (uint64_t)-number : (uint64_t)number;
    *--at = '\0';
    do {
        *--at = (char)('0' + (int)(rest % 10u));
        rest /= 10u;
    } while (rest != 0u);
    if (number < 0) *--at = '-';
    say(at);
}

static uint64_t spent; /* nanoseconds of the machine's clock: instructions */

static void begin_timer(void)
{
    TIMER[1] = TIMER_MOST;
    TIMER[2] = 0;
    TIMER[0] = 5u;
}

static void end_timer(void) { spent += (uint64_t)(TIMER_MOST - TIMER[2]) * NS_PER_TICK; }

static int64_t t[AT_ONCE];
static uint16_t x[AT_ONCE], y[AT_ONCE];
static uint8_t p[AT_ONCE];

/* The next events of a file; 0 at its end. */
static int32_t read_events(uint32_t file, int64_t *marks)
{
    static uint8_t raw[AT_ONCE * ATIS_BYTES];
    const uint32_t request[3] = {file, (uint32_t)(uintptr_t)raw, sizeof raw};
    int32_t n = 0;
    uint32_t size, i;
    do {
        size = (uint32_t)sizeof raw - ask(SYS_READ, request);
        for (i = 0; i + ATIS_BYTES <= size; i += ATIS_BYTES) n += atis_event(raw + i, marks, t + n, x + n, y + n, p + n);
    } while (n == 0 && size != 0u);
    return n;
}

static int32_t step(void)
{
    int32_t status;
    begin_timer();
    status = nm_step();
    end_timer();
    return status;
}

/* Twice through a file: where steps begin and end, then its events. */
static int32_t classify(uint32_t file)
{
    const uint32_t start[2] = {file, 0};
    int64_t marks = 0;
    int32_t n, done, taken, steps = 0, status = SPIKING_OK;
    nm_reset();
    while (status == SPIKING_OK && (n = read_events(file, &marks)) > 0) status = nm_survey(t, x, y, p, n);
    ask(SYS_SEEK, start);
    marks = 0;
    while (status == SPIKING_OK && (n = read_events(file, &marks)) > 0) {
        for (done = 0; done < n && status == SPIKING_OK;) {
            begin_timer();
            taken = nm_push_events(t + done, x + done, y + done, p + done, n - done);
            end_timer();
            if (taken < 0) return taken;
            done += taken;
            if (done < n) {
                status = step();
                steps++;
            }
        }
    }
    for (; steps < NM_STEPS && status == SPIKING_OK; steps++) status = step();
    return status;
}

static void report(const char *name)
{
    const uint32_t length = (uint32_t)__builtin_strlen(name);
    const uint32_t request[3] = {(uint32_t)(uintptr_t)name, READ_BINARY, length};
    const uint32_t file = ask(SYS_OPEN, request);
    int32_t status, i;
    say(name);
    if (file == 0xffffffffu) {
        say(" cannot be read\n");
        return;
    }
    spent = 0;
    status = classify(file);
    ask(SYS_CLOSE, &file);
    if (status != SPIKING_OK) {
        say(" problem ");
        say_number(status);
        say("\n");
        return;
    }
    say(" answer ");
    say_number(nm_answer());
    say(" logits");
    for (i = 0; i < NM_CLASSES; i++) {
        say(" ");
        say_number(nm_logits()[i]);
    }
    say(" instructions ");
    say_number((int64_t)spent);
    say("\n");
}

int main(void)
{
    static char words[8192];
    uint32_t request[2] = {(uint32_t)(uintptr_t)words, sizeof words};
    char *at = words, *name;
    if (ask(SYS_GET_CMDLINE, request) != 0u) return 1;
    while (*at != '\0' && *at != ' ') at++; /* the program's name */
    while (*at != '\0') {
        *at++ = '\0';
        name = at;
        while (*at != '\0' && *at != ' ') at++;
        if (at == name) continue;
        if (*at == ' ') {
            *at = '\0';
            report(name);
            *at = ' ';
        } else {
            report(name);
        }
    }
    return 0;
}

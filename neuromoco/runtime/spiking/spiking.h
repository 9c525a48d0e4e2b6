/* A spiking network of integers: events in, a class out. C99, no allocation, no floating point.

   A network is a constant array of bytes that `neuromoco export` writes. It is run in memory that the caller gives,
   one time step after another:

       spiking_open(&s, network, bytes, memory, memory_bytes);
       spiking_reset(&s);
       spiking_survey(&s, t, x, y, p, n);                    all events of a recording: where its steps begin and end
       for (i = 0, step = 0; step < spiking_steps(&s); step++) {
           i += spiking_push_events(&s, t + i, x + i, y + i, p + i, n - i);
           if (spiking_step(&s) != SPIKING_OK) break;
       }
       spiking_answer(&s);                                     the class, from 0

   Each recording begins with spiking_reset. Without a survey, as of a running camera, spiking_push_events takes all
   events, and a time step ends where the caller calls spiking_step.

   Functions that can fail return one of the negative numbers below, and do so until the next spiking_reset. */

#ifndef SPIKING_H
#define SPIKING_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
    SPIKING_OK = 0,
    SPIKING_NETWORK = -1, /* no network of this version, or cut */
    SPIKING_MEMORY = -2,  /* less memory than the network needs */
    SPIKING_SENSOR = -3,  /* a sensor without pixels, or too small for the network's part of it */
    SPIKING_PIXEL = -4,   /* an event outside the sensor */
    SPIKING_TIME = -5,    /* an event before the one before it, or without the time that slices need */
    SPIKING_STEPS = -6,   /* more time steps than the network has */
    SPIKING_DRIVE = -7,   /* a sum beyond 17 bits: more events in a step than the network can take */
    SPIKING_READOUT = -8  /* logits beyond 17 bits */
};

typedef struct {
    const uint8_t *network;
    int32_t *memory;
    int32_t width, height;             /* of the sensor */
    int32_t left, top, columns, rows;  /* the part of it that the network uses */
    int32_t step, status;
    int32_t failed;                    /* the block that left its range */
    int32_t surveyed;                  /* whether the next four are known */
    int64_t events, first, last;       /* of the recording, in the part: number, times in microseconds */
    int64_t latest;                    /* time of the event before */
    int64_t pushed;                    /* events so far, in the part */
} spiking;

/* Bytes of a `spiking`, for callers in other languages. */
int32_t spiking_size(void);

/* Takes a network into use; `memory` holds its state. The sensor is that of the training recordings. */
int32_t spiking_open(spiking *s, const uint8_t *network, size_t bytes, int32_t *memory, size_t memory_bytes);

/* Bytes of memory that a network needs, or SPIKING_NETWORK. */
int32_t spiking_memory(const uint8_t *network, size_t bytes);

/* Columns and rows of the sensor that the next recordings are of. Pixels of a larger one are counted together, those
   of a smaller one repeated. */
int32_t spiking_sensor(spiking *s, int32_t width, int32_t height);

/* Begins a recording: all neurons at rest, no events. */
void spiking_reset(spiking *s);

/* Looks at n events before they are pushed, in one call or several. Columns as of spiking_push_events. */
int32_t spiking_survey(spiking *s, const int64_t *t, const uint16_t *x, const uint16_t *y, const uint8_t *p, int32_t n);

/* Counts events of the current time step: times in microseconds that never decrease, columns, rows, polarities (0 is
   darker). Returns how many it took; after a survey fewer than n where the step is full. `t` may be null if slices have
   equally many events, or without a survey. */
int32_t spiking_push_events(
    spiking *s, const int64_t *t, const uint16_t *x, const uint16_t *y, const uint8_t *p, int32_t n);

/* The counts of a time step instead of its events, [polarity][row][column], at most 255 each. */
int32_t spiking_push_counts(spiking *s, const uint8_t *counts);

/* A whole recording of counts [steps][polarity][row][column]: `sums` [steps][classes] are the logits after each step. */
int32_t spiking_recording(spiking *s, const uint8_t *counts, int32_t *sums);

/* Ends a time step: all blocks are computed. */
int32_t spiking_step(spiking *s);

/* The class with the largest logit so far, the first of equal ones. */
int32_t spiking_answer(const spiking *s);

/* Sums of the logits over the steps so far, [classes]. */
const int32_t *spiking_logits(const spiking *s);

int32_t spiking_steps(const spiking *s);
int32_t spiking_classes(const spiking *s);

/* For tests: spiking_step block by block. Block 0 is the input, the last one the readout. */
int32_t spiking_blocks(const spiking *s);
int32_t spiking_run(spiking *s, int32_t number);

/* Spikes of a block between its own run and the next one's, [rows][columns][words] of 32 channels each. */
const uint32_t *spiking_spikes(const spiking *s, int32_t number);

#ifdef __cplusplus
}
#endif

#endif

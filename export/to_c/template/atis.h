/* Events of ATIS .bin files, such as those of N-MNIST: five bytes each. */

#ifndef ATIS_H
#define ATIS_H

#include <stdint.h>

#define ATIS_BYTES 5
#define ATIS_MARK 240       /* a row that is no event: the clock of 23 bits has advanced by ATIS_MARK_US */
#define ATIS_MARK_US 8192

/* Decodes a record; `marks` counts those before. Returns whether it is an event. */
static int atis_event(const uint8_t *record, int64_t *marks, int64_t *t, uint16_t *x, uint16_t *y, uint8_t *p)
{
    const uint32_t time = ((uint32_t)(record[2] & 0x7fu) << 16) | ((uint32_t)record[3] << 8) | record[4];
    *x = record[0];
    *y = record[1];
    *p = (uint8_t)(record[2] >> 7);
    if (*y == ATIS_MARK) {
        (*marks)++;
        return 0;
    }
    *t = (int64_t)time + ATIS_MARK_US * *marks;
    return 1;
}

#endif

/* All that spiking.c needs of a C library, which there is none of here. */

#include <stddef.h>

void *memset(void *to, int value, size_t bytes);

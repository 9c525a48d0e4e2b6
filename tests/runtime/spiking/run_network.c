/* Runs recordings through a network, for tests: run_network NETWORK FRAMES OUT

   FRAMES holds uint8 counts [recordings][steps][polarities][rows][columns]. OUT gets, for every step, the words of every
   block's spikes and the sums of the logits; after a step that fails, its status and nothing more of the recording. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "spiking.h"

static uint8_t *read_file(const char *path, size_t *size)
{
    FILE *file = fopen(path, "rb");
    uint8_t *content;
    if (file == NULL) exit(2);
    (void)fseek(file, 0, SEEK_END);
    *size = (size_t)ftell(file);
    rewind(file);
    content = malloc(*size); /* exactly, so that a read beyond it is noticed */
    if (content == NULL || fread(content, 1, *size, file) != *size) exit(2);
    (void)fclose(file);
    return content;
}

/* Bytes of a block's spikes, from its words in the network: channels, rows, columns are the fourth to sixth. */
static size_t spike_bytes(const uint8_t *network, int32_t number)
{
    int32_t shape[3];
    memcpy(shape, network + 4 * (19 + 28 * number + 3), sizeof shape);
    return 4u * (size_t)(shape[1] * shape[2]) * (size_t)((shape[0] + 31) / 32);
}

int main(int argc, char **argv)
{
    size_t bytes, frames_bytes, memory_bytes, step_bytes, i;
    uint8_t *network, *frames;
    int32_t *memory, status, number, step;
    int32_t shape[3];
    spiking s;
    FILE *out;
    if (argc != 4 || (out = fopen(argv[3], "wb")) == NULL) return 2;
    network = read_file(argv[1], &bytes);
    frames = read_file(argv[2], &frames_bytes);
    memory_bytes = (size_t)spiking_memory(network, bytes);
    if ((memory = malloc(memory_bytes)) == NULL) return 2;
    memset(memory, 0xa5, memory_bytes);
    if (spiking_open(&s, network, bytes, memory, memory_bytes) != SPIKING_OK) return 3;
    if (spiking_open(&s, network, bytes - 1u, memory, memory_bytes) != SPIKING_NETWORK) return 3;
    if (spiking_open(&s, network, bytes, memory, memory_bytes - 4u) != SPIKING_MEMORY) return 3;
    memcpy(shape, network + 4 * (19 + 3), sizeof shape);
    step_bytes = (size_t)(shape[0] * shape[1] * shape[2]);
    for (i = 0; i < frames_bytes; i += step_bytes * (size_t)spiking_steps(&s)) {
        spiking_reset(&s);
        for (step = 0; step < spiking_steps(&s); step++) {
            (void)spiking_push_counts(&s, frames + i + (size_t)step * step_bytes);
            status = SPIKING_OK;
            for (number = 1; number < spiking_blocks(&s) && status == SPIKING_OK; number++) {
                status = spiking_run(&s, number);
                if (status == SPIKING_OK && number + 1 < spiking_blocks(&s)) {
                    (void)fwrite(spiking_spikes(&s, number), 1, spike_bytes(network, number), out);
                }
            }
            if (status != SPIKING_OK) {
                (void)fwrite(&status, sizeof status, 1, out);
                break;
            }
            (void)fwrite(spiking_logits(&s), sizeof(int32_t), (size_t)spiking_classes(&s), out);
        }
    }
    (void)fclose(out);
    free(memory);
    free(frames);
    free(network);
    return 0;
}

/* Runs tasks that were compiled for this processor: the program that emulated_tasks.py links.

   Usage: program IMAGE RESULT. The image is a line of 64-bit integers, then the parts that they
   count; the result is the memory after the run. */

#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

typedef void kernel(void **bases, int64_t *arguments, int64_t chunk);
typedef void driver_function(void **bases, int64_t *table, int64_t count, int64_t *counters,
                             int64_t *finished, void *yielding, int64_t *stamps);

extern kernel *const kernels[]; /* the table that emulated_tasks.py writes */
extern driver_function driver;

enum { THREADS, MEMORY, SCRATCH, WEIGHTS, ARGUMENTS, ADDRESSES, TASKS, HEADER };

static int64_t head[HEADER];
static int64_t *table, *counters, finished[16];

static void *part(FILE *file, int64_t bytes)
{
    void *memory = aligned_alloc(64, (bytes + 127) & ~(int64_t)63);
    if (!memory || (file && fread(memory, 1, bytes, file) != (size_t)bytes))
        exit(3);
    return memory;
}

static void *work(void *bases)
{
    driver(bases, table, head[TASKS], counters, finished, (void *)sched_yield, NULL);
    return NULL;
}

int main(int count, char **names)
{
    FILE *file = fopen(names[1], "rb");
    if (count != 3 || !file || fread(head, sizeof head, 1, file) != 1)
        return 2;
    char *memory = part(file, head[MEMORY]);
    char *weights = part(file, head[WEIGHTS]);
    int64_t *arguments = part(file, 8 * head[ARGUMENTS]);
    int64_t *addresses = part(file, 8 * head[ADDRESSES]); /* arguments that point at weights */
    table = part(file, 32 * head[TASKS]); /* kernel, first argument, chunks, waits */
    counters = calloc(head[TASKS] + 1, 8);
    for (int64_t i = 0; i < head[ADDRESSES]; i++)
        arguments[addresses[i]] += (int64_t)weights;
    for (int64_t i = 0; i < head[TASKS]; i++) {
        table[4 * i] = (int64_t)kernels[table[4 * i]];
        table[4 * i + 1] = (int64_t)(arguments + table[4 * i + 1]);
    }
    pthread_t threads[64];
    for (int64_t i = 0; i < head[THREADS]; i++) {
        void **bases = calloc(8, sizeof *bases);
        bases[0] = memory;
        bases[1] = part(NULL, head[SCRATCH]);
        if (pthread_create(&threads[i], NULL, work, bases))
            return 4;
    }
    for (int64_t i = 0; i < head[THREADS]; i++)
        pthread_join(threads[i], NULL);
    file = fopen(names[2], "wb");
    return !file || fwrite(memory, 1, head[MEMORY], file) != (size_t)head[MEMORY] || fclose(file);
}

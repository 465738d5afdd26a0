/* A libnvidia-ml.so.1 that knows one H100, as the real one does where there is one.

   Its free memory, in gigabytes, stands in the file that GPU_FREE names: it can change while a server runs. */

#include <stdio.h>
#include <stdlib.h>

#define GB 1000000000ULL

typedef struct { unsigned long long total, free, used; } memory_t;

static int say(char *text, unsigned length, const char *what) {
    return snprintf(text, length, "%s", what) < 0;
}

int nvmlInit_v2(void) { return 0; }
int nvmlShutdown(void) { return 0; }
int nvmlSystemGetDriverVersion(char *text, unsigned length) { return say(text, length, "580.65.06"); }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = 1; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) { *handle = &say; return index != 0; }
int nvmlDeviceGetName(void *gpu, char *text, unsigned length) { return say(text, length, "NVIDIA H100 80GB HBM3"); }
int nvmlDeviceGetUUID(void *gpu, char *text, unsigned length) { return say(text, length, "GPU-33333333-cccc"); }
int nvmlDeviceGetCudaComputeCapability(void *gpu, int *major, int *minor) { *major = 9; *minor = 0; return 0; }
int nvmlDeviceGetMaxMigDeviceCount(void *gpu, unsigned *count) { *count = 0; return 0; }

int nvmlDeviceGetMemoryInfo(void *gpu, memory_t *memory) {
    unsigned long long free = 0;
    FILE *file = fopen(getenv("GPU_FREE"), "r");
    if (file == NULL || fscanf(file, "%llu", &free) != 1) return 1;
    fclose(file);
    memory->total = 80 * GB;
    memory->free = free * GB;
    memory->used = memory->total - memory->free;
    return 0;
}

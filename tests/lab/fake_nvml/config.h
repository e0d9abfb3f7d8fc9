/* What the file named by FAKE_NVML_CONFIG says of each GPU and each call.
 *
 * It holds lines of key=value, # begins a comment, the last line of a key counts:
 *
 *   count, driver_version, nvml_version, cuda_version (13000)
 *   gpu.KEY=V        of every GPU;  gpuN.KEY=V  of GPU N.  A key that is not there makes the
 *                    call that needs it return NOT_SUPPORTED.
 *   err.FUNC=CODE    FUNC returns CODE;  gpuN.err.FUNC=CODE, gpuN.err.*=CODE  for GPU N only
 *   hang.FUNC=SEC    FUNC sleeps first, as a stuck ioctl does;  gpuN.hang.FUNC=SEC
 *   crash.FUNC=1     FUNC aborts the process;  gpuN.crash.FUNC=1
 *
 * It is read by nvmlInit; where FAKE_NVML_CHANGES is set, by nvmlDeviceGetCount also.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef int result;
typedef unsigned int u32;
typedef unsigned long long u64;

enum {
    OK = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6,
    INSUFFICIENT_SIZE = 7, CORRUPTED_INFOROM = 14, VERSION_MISMATCH = 25
};

enum { MOST_LINES = 1024, MOST_GPUS = 32 };

typedef struct { int index; } gpu;

static struct { char key[64], value[256]; } lines[MOST_LINES];
static int line_count;
static gpu gpus[MOST_GPUS];

static void load(void)
{
    const char *path = getenv("FAKE_NVML_CONFIG");
    FILE *file = path ? fopen(path, "re") : NULL;
    char line[512];

    line_count = 0;
    while (file && line_count < MOST_LINES && fgets(line, sizeof line, file)) {
        line[strcspn(line, "#\n")] = 0;
        if (sscanf(line, " %63[^= ] = %255[^\n]", lines[line_count].key,
                   lines[line_count].value) == 2)
            line_count++;
    }
    if (file)
        fclose(file);
    for (int i = 0; i < MOST_GPUS; i++)
        gpus[i].index = i;
}

static const char *value_of(const char *key)
{
    for (int i = line_count - 1; i >= 0; i--)
        if (!strcmp(lines[i].key, key))
            return lines[i].value;
    return NULL;
}

/* A value of one GPU, or else of all. */
static const char *of_gpu(const gpu *device, const char *key)
{
    char full[128];
    snprintf(full, sizeof full, "gpu%d.%s", device->index, key);
    const char *value = value_of(full);
    if (value)
        return value;
    snprintf(full, sizeof full, "gpu.%s", key);
    return value_of(full);
}

static u64 number(const char *value, u64 otherwise)
{
    return value ? strtoull(value, NULL, 0) : otherwise;
}

static u64 number_of(const gpu *device, const char *key, u64 otherwise)
{
    return number(of_gpu(device, key), otherwise);
}

/* As number_of, where the key has a number in it: nvlink3. */
static u64 numbered(const gpu *device, const char *form, int index, u64 otherwise)
{
    char key[64];
    snprintf(key, sizeof key, form, index);
    return number_of(device, key, otherwise);
}

static void sleep_for(double seconds)
{
    struct timespec left = { (time_t)seconds, (long)((seconds - (time_t)seconds) * 1e9) };
    while (nanosleep(&left, &left) && errno == EINTR)
        ;
}

/* Do what the file wants of this call; what it returns ends the call unless it is OK. */
static result fault(const char *function, const gpu *device)
{
    char prefix[16] = "", key[128];
    for (int own = device != NULL; own >= 0; own--) {
        snprintf(prefix, sizeof prefix, own ? "gpu%d." : "", own ? device->index : 0);
        snprintf(key, sizeof key, "%scrash.%s", prefix, function);
        if (value_of(key))
            abort();
        snprintf(key, sizeof key, "%shang.%s", prefix, function);
        if (value_of(key))
            sleep_for(atof(value_of(key)));
        snprintf(key, sizeof key, "%serr.%s", prefix, function);
        if (value_of(key))
            return atoi(value_of(key));
        snprintf(key, sizeof key, "%serr.*", prefix);
        if (own && value_of(key))
            return atoi(value_of(key));
    }
    return OK;
}

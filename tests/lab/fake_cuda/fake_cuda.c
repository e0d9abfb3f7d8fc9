/* A libcuda.so.1 that answers what the environment says: enough of the driver API for the real
 * CUDA runtime, and for torch, to reach cudaGetDeviceCount and report what a driver makes them
 * report. There are no contexts and no memory.
 *
 * FAKE_CUDA_INIT     what cuInit returns, 0
 * FAKE_CUDA_COUNT    how many GPUs there are, 1
 * FAKE_CUDA_VERSION  the newest CUDA of the driver, 13000
 * FAKE_CUDA_HANG     seconds that cuInit takes
 * FAKE_CUDA_CRASH    cuInit aborts the process
 *
 * cc -shared -fPIC -Wl,-soname,libcuda.so.1 -o libcuda.so.1 fake_cuda.c
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int number(const char *name, int otherwise)
{
    const char *text = getenv(name);
    return text ? atoi(text) : otherwise;
}

int cuInit(unsigned flags)
{
    (void)flags;
    if (number("FAKE_CUDA_HANG", 0))
        sleep(number("FAKE_CUDA_HANG", 0));
    if (number("FAKE_CUDA_CRASH", 0))
        abort();
    return number("FAKE_CUDA_INIT", 0);
}

int cuDriverGetVersion(int *version)
{
    *version = number("FAKE_CUDA_VERSION", 13000);
    return 0;
}

int cuDeviceGetCount(int *count)
{
    *count = number("FAKE_CUDA_COUNT", 1);
    return 0;
}

int cuDeviceGet(int *device, int index)
{
    *device = index;
    return 0;
}

int cuDeviceGetName(char *name, int room, int device)
{
    snprintf(name, room, "Fake GPU %d", device);
    return 0;
}

int cuDeviceTotalMem_v2(size_t *bytes, int device)
{
    (void)device;
    *bytes = (size_t)80 << 30;
    return 0;
}

int cuDeviceGetAttribute(int *value, int attribute, int device)
{
    (void)device;
    switch (attribute) {
    case 10: /* warp size */
        *value = 32;
        break;
    case 16: /* multiprocessors */
        *value = 132;
        break;
    case 75: /* compute capability 9.0 */
        *value = 9;
        break;
    case 76:
        *value = 0;
        break;
    default:
        *value = 1;
    }
    return 0;
}

int cuDeviceGetUuid_v2(void *uuid, int device)
{
    memset(uuid, device + 1, 16);
    return 0;
}

int cuDeviceGetUuid(void *uuid, int device)
{
    return cuDeviceGetUuid_v2(uuid, device);
}

int cuGetErrorName(int code, const char **name)
{
    switch (code) {
    case 100:
        *name = "CUDA_ERROR_NO_DEVICE";
        return 0;
    case 802:
        *name = "CUDA_ERROR_SYSTEM_NOT_READY";
        return 0;
    case 803:
        *name = "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH";
        return 0;
    case 999:
        *name = "CUDA_ERROR_UNKNOWN";
        return 0;
    }
    *name = NULL; /* as an older driver of a code that came later */
    return 1;
}

int cuGetErrorString(int code, const char **text)
{
    (void)code;
    *text = "an error that was asked for";
    return 0;
}

static int not_supported(void)
{
    return 801;
}

int cuGetExportTable(const void **table, const void *id)
{
    static void *rows[512];
    (void)id;
    for (size_t i = 1; i < sizeof rows / sizeof *rows; i++)
        rows[i] = (void *)not_supported;
    rows[0] = (void *)(uintptr_t)sizeof rows;
    *table = rows;
    return 0;
}

int cuGetProcAddress_v2(const char *name, void **function, int version, uint64_t flags, int *found)
{
    char newer[128];
    Dl_info self;
    void *library;

    (void)version;
    (void)flags;
    if (found)
        *found = 0;
    if (!strcmp(name, "cuGetProcAddress")) {
        *function = (void *)cuGetProcAddress_v2;
        return 0;
    }
    if (!dladdr((void *)not_supported, &self) ||
        !(library = dlopen(self.dli_fname, RTLD_NOW | RTLD_NOLOAD)))
        return 999;
    snprintf(newer, sizeof newer, "%s_v2", name);
    *function = dlsym(library, name);
    if (!*function)
        *function = dlsym(library, newer);
    if (!*function)
        *function = (void *)not_supported;
    return 0;
}

int cuGetProcAddress(const char *name, void **function, int version, uint64_t flags)
{
    return cuGetProcAddress_v2(name, function, version, flags, NULL);
}

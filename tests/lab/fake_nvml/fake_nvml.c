/* A libnvidia-ml.so.1 that says what a file tells it to: GPUs and their faults without either.
 *
 *   cc -shared -fPIC -Wl,-soname,libnvidia-ml.so.1 -o libnvidia-ml.so.1 fake_nvml.c
 *   FAKE_NVML_CONFIG=h100x2.conf LD_LIBRARY_PATH=. python -c "import pynvml; pynvml.nvmlInit()"
 *
 * config.h says what the file may hold. Written against the ABI as the nvidia-ml-py package
 * declares it.
 */
#include "config.h"

#include <pthread.h>

enum { MOST_PROCESSES = 16, SWITCH = 2, NVLINK = 2 };

static int initialised;
static gpu mig_device;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static void put(char *to, u32 size, const char *text)
{
    snprintf(to, size, "%s", text);
}

static int gpu_count(void)
{
    int count = (int)number(value_of("count"), 1);
    return count > MOST_GPUS ? MOST_GPUS : count;
}

#define BEGIN(function, device)                      \
    do {                                             \
        if (!initialised)                            \
            return UNINITIALIZED;                    \
        result bad_ = fault(function, device);       \
        if (bad_)                                    \
            return bad_;                             \
    } while (0)

/* A call about one GPU, which needs a key to be there. */
#define NEEDS(device, key)                           \
    do {                                             \
        BEGIN(__func__, device);                     \
        if (!of_gpu(device, key))                    \
            return NOT_SUPPORTED;                    \
    } while (0)

#define NUMBER_CALL(function, key)                   \
    result function(gpu *device, u32 *out)           \
    {                                                \
        NEEDS(device, key);                          \
        *out = (u32)number_of(device, key, 0);       \
        return OK;                                   \
    }

#define NUMBER_CALL_OR(function, key, otherwise)     \
    result function(gpu *device, u32 *out)           \
    {                                                \
        BEGIN(__func__, device);                     \
        *out = (u32)number_of(device, key, otherwise); \
        return OK;                                   \
    }

/* The library and the driver */

static result init(const char *function)
{
    pthread_mutex_lock(&mutex);
    load();
    result bad = fault(function, NULL);
    if (!bad)
        bad = fault("nvmlInit", NULL);
    if (!bad)
        initialised++;
    pthread_mutex_unlock(&mutex);
    return bad;
}

result nvmlInit_v2(void) { return init(__func__); }
result nvmlInitWithFlags(u32 flags) { return (void)flags, init(__func__); }
result nvmlShutdown(void) { return initialised-- > 0 ? OK : UNINITIALIZED; }
const char *nvmlErrorString(result code) { return code ? "an error of the fake" : "Success"; }

static result version(const char *function, const char *key, char *out, u32 size)
{
    BEGIN(function, NULL);
    put(out, size, value_of(key) ? value_of(key) : "580.95.05");
    return OK;
}

result nvmlSystemGetDriverVersion(char *out, u32 size)
{
    return version(__func__, "driver_version", out, size);
}

result nvmlSystemGetNVMLVersion(char *out, u32 size)
{
    return version(__func__, "nvml_version", out, size);
}

result nvmlSystemGetCudaDriverVersion_v2(int *out)
{
    BEGIN(__func__, NULL);
    *out = (int)number(value_of("cuda_version"), 13000);
    return OK;
}

/* Which GPUs there are */

result nvmlDeviceGetCount_v2(u32 *out)
{
    if (initialised && getenv("FAKE_NVML_CHANGES"))
        load();
    BEGIN(__func__, NULL);
    *out = (u32)gpu_count();
    return OK;
}

result nvmlDeviceGetHandleByIndex_v2(u32 index, gpu **out)
{
    if ((int)index >= gpu_count())
        return INVALID_ARGUMENT;
    BEGIN(__func__, &gpus[index]);
    *out = &gpus[index];
    return OK;
}

struct pci { char legacy[16]; u32 domain, bus, device, device_id, subsystem_id; char bus_id[32]; };

static void fill_pci(const gpu *device, struct pci *out)
{
    const char *text = of_gpu(device, "bus_id");
    u32 bus = 16 + (u32)device->index, slot = 0, function = 0;
    memset(out, 0, sizeof *out);
    if (text)
        sscanf(text, "%x:%x:%x.%x", &out->domain, &bus, &slot, &function);
    out->bus = bus;
    out->device = slot;
    out->device_id = 0x233010de;
    snprintf(out->bus_id, sizeof out->bus_id, "%08X:%02X:%02X.%X", out->domain, bus, slot,
             function);
}

result nvmlDeviceGetPciInfo_v3(gpu *device, struct pci *out)
{
    BEGIN(__func__, device);
    fill_pci(device, out);
    return OK;
}

result nvmlDeviceGetName(gpu *device, char *out, u32 size)
{
    NEEDS(device, "name");
    put(out, size, of_gpu(device, "name"));
    return OK;
}

result nvmlDeviceGetUUID(gpu *device, char *out, u32 size)
{
    BEGIN(__func__, device);
    snprintf(out, size, "GPU-fa4e0000-0000-4000-8000-%012x", device->index);
    return OK;
}

result nvmlDeviceGetCudaComputeCapability(gpu *device, int *major, int *minor)
{
    NEEDS(device, "cc");
    sscanf(of_gpu(device, "cc"), "%d.%d", major, minor);
    return OK;
}

/* Load */

struct memory { u64 total, free, used; };
struct memory_v2 { u32 version; u64 total, reserved, free, used; };

result nvmlDeviceGetMemoryInfo(gpu *device, struct memory *out)
{
    NEEDS(device, "mem_total");
    out->total = number_of(device, "mem_total", 0);
    out->used = number_of(device, "mem_used", 0) + number_of(device, "mem_reserved", 0);
    out->free = out->total - out->used;
    return OK;
}

result nvmlDeviceGetMemoryInfo_v2(gpu *device, struct memory_v2 *out)
{
    NEEDS(device, "mem_total");
    if (out->version != 0x02000028)
        return VERSION_MISMATCH;
    out->total = number_of(device, "mem_total", 0);
    out->used = number_of(device, "mem_used", 0);
    out->reserved = number_of(device, "mem_reserved", 0);
    out->free = out->total - out->used - out->reserved;
    return OK;
}

struct utilization { u32 gpu, memory; };

result nvmlDeviceGetUtilizationRates(gpu *device, struct utilization *out)
{
    BEGIN(__func__, device);
    *out = (struct utilization){ (u32)number_of(device, "util", 0), 0 };
    return OK;
}

struct process { u32 pid; u64 memory; u32 gpu_instance, compute_instance; };

/* "pid:bytes,pid:bytes" */
static result processes(const char *function, gpu *device, const char *key, u32 *count,
                        struct process *out)
{
    BEGIN(function, device);
    struct process found[MOST_PROCESSES];
    u32 have = 0, room = *count;
    for (const char *at = of_gpu(device, key); at && have < MOST_PROCESSES;) {
        struct process *next = &found[have];
        *next = (struct process){ 0, 0, ~0u, ~0u };
        if (sscanf(at, "%u:%llu", &next->pid, &next->memory) == 2)
            have++;
        at = strchr(at, ',');
        at = at ? at + 1 : NULL;
    }
    *count = have;
    if (room < have)
        return INSUFFICIENT_SIZE;
    if (have)
        memcpy(out, found, have * sizeof *found);
    return OK;
}

result nvmlDeviceGetComputeRunningProcesses_v3(gpu *device, u32 *count, struct process *out)
{
    return processes(__func__, device, "proc", count, out);
}

result nvmlDeviceGetComputeRunningProcesses_v2(gpu *device, u32 *count, struct process *out)
{
    return processes(__func__, device, "proc", count, out);
}

result nvmlDeviceGetMPSComputeRunningProcesses_v3(gpu *device, u32 *count, struct process *out)
{
    return processes(__func__, device, "mps", count, out);
}

/* Memory errors */

result nvmlDeviceGetEccMode(gpu *device, u32 *current, u32 *pending)
{
    NEEDS(device, "ecc");
    *current = (u32)number_of(device, "ecc", 0);
    *pending = (u32)number_of(device, "ecc_pending", *current);
    return OK;
}

result nvmlDeviceGetTotalEccErrors(gpu *device, u32 uncorrected, u32 aggregate, u64 *out)
{
    NEEDS(device, "ecc");
    if (!number_of(device, "ecc", 0))
        return NOT_SUPPORTED;
    char key[32];
    snprintf(key, sizeof key, "ecc_%s_%s", uncorrected ? "uncorr" : "corr",
             aggregate ? "agg" : "vol");
    *out = number_of(device, key, 0);
    return OK;
}

struct sram { u32 version; u64 parity, secded, corrected, volatiles[3], buckets[5]; u32 exceeded; };

result nvmlDeviceGetSramEccErrorStatus(gpu *device, struct sram *out)
{
    NEEDS(device, "sram_uncorr");
    if (out->version != 0x01000068)
        return VERSION_MISMATCH;
    *out = (struct sram){ .version = out->version, .secded = number_of(device, "sram_uncorr", 0) };
    return OK;
}

result nvmlDeviceGetMemoryErrorCounter(gpu *device, u32 uncorrected, u32 aggregate, u32 location,
                                       u64 *out)
{
    (void)uncorrected, (void)aggregate;
    NEEDS(device, "ecc");
    *out = numbered(device, "ecc_location%d", (int)location, 0);
    return OK;
}

result nvmlDeviceGetRetiredPages(gpu *device, u32 cause, u32 *count, u64 *out)
{
    NEEDS(device, "retired");
    u32 have = cause ? 0 : (u32)number_of(device, "retired", 0), room = *count;
    *count = have;
    if (room < have)
        return INSUFFICIENT_SIZE;
    for (u32 i = 0; i < have; i++)
        out[i] = 4096ull * (i + 1);
    return OK;
}

NUMBER_CALL(nvmlDeviceGetRetiredPagesPendingStatus, "retired_pending")

result nvmlDeviceGetRemappedRows(gpu *device, u32 *correctable, u32 *uncorrectable, u32 *pending,
                                 u32 *failed)
{
    NEEDS(device, "remap_corr");
    *correctable = (u32)number_of(device, "remap_corr", 0);
    *uncorrectable = (u32)number_of(device, "remap_uncorr", 0);
    *pending = (u32)number_of(device, "remap_pending", 0);
    *failed = (u32)number_of(device, "remap_failed", 0);
    return OK;
}

struct histogram { u32 max, high, partial, low, none; };

result nvmlDeviceGetRowRemapperHistogram(gpu *device, struct histogram *out)
{
    NEEDS(device, "remap_hist");
    sscanf(of_gpu(device, "remap_hist"), "%u,%u,%u,%u,%u", &out->max, &out->high, &out->partial,
           &out->low, &out->none);
    return OK;
}

result nvmlDeviceValidateInforom(gpu *device)
{
    NEEDS(device, "inforom");
    return number_of(device, "inforom", 0) ? OK : CORRUPTED_INFOROM;
}

/* Heat, power, clocks */

static result reasons(const char *function, gpu *device, u64 *out)
{
    BEGIN(function, device);
    *out = number_of(device, "throttle", 0);
    return OK;
}

result nvmlDeviceGetCurrentClocksEventReasons(gpu *device, u64 *out)
{
    return reasons(__func__, device, out);
}

result nvmlDeviceGetCurrentClocksThrottleReasons(gpu *device, u64 *out)
{
    return reasons(__func__, device, out);
}

struct temperature { u32 version, sensor; int celsius; };

result nvmlDeviceGetTemperatureV(gpu *device, struct temperature *out)
{
    NEEDS(device, "temp");
    out->celsius = (int)number_of(device, "temp", 0);
    return OK;
}

result nvmlDeviceGetTemperature(gpu *device, u32 sensor, u32 *out)
{
    NEEDS(device, "temp");
    *out = (u32)number_of(device, "temp", 0);
    return sensor ? INVALID_ARGUMENT : OK;
}

result nvmlDeviceGetTemperatureThreshold(gpu *device, u32 kind, u32 *out)
{
    BEGIN(__func__, device);
    *out = (u32)numbered(device, "temp_thr%d", (int)kind, 0);
    return *out ? OK : NOT_SUPPORTED;
}

struct margin { u32 version; int celsius; };

result nvmlDeviceGetMarginTemperature(gpu *device, struct margin *out)
{
    NEEDS(device, "margin");
    out->celsius = (int)number_of(device, "margin", 0);
    return OK;
}

NUMBER_CALL(nvmlDeviceGetPowerUsage, "power")
NUMBER_CALL(nvmlDeviceGetEnforcedPowerLimit, "power_limit")
NUMBER_CALL(nvmlDeviceGetPowerManagementDefaultLimit, "power_default")

static result clock_rate(const char *function, gpu *device, const char *form, u32 kind, u32 *out)
{
    BEGIN(function, device);
    *out = (u32)numbered(device, form, (int)kind, 0);
    return *out ? OK : NOT_SUPPORTED;
}

result nvmlDeviceGetClockInfo(gpu *device, u32 kind, u32 *out)
{
    return clock_rate(__func__, device, "clock%d", kind, out);
}

result nvmlDeviceGetMaxClockInfo(gpu *device, u32 kind, u32 *out)
{
    return clock_rate(__func__, device, "clock_max%d", kind, out);
}

/* Bus and modes */

NUMBER_CALL(nvmlDeviceGetCurrPcieLinkGeneration, "pcie_gen")
NUMBER_CALL(nvmlDeviceGetMaxPcieLinkGeneration, "pcie_gen_max")
NUMBER_CALL(nvmlDeviceGetCurrPcieLinkWidth, "pcie_width")
NUMBER_CALL(nvmlDeviceGetMaxPcieLinkWidth, "pcie_width_max")
NUMBER_CALL_OR(nvmlDeviceGetPcieReplayCounter, "pcie_replay", 0)
NUMBER_CALL_OR(nvmlDeviceGetPersistenceMode, "persistence", 1)
NUMBER_CALL_OR(nvmlDeviceGetComputeMode, "compute_mode", 0)
NUMBER_CALL_OR(nvmlDeviceGetMaxMigDeviceCount, "mig_max", 0)

result nvmlDeviceGetMemoryAffinity(gpu *device, u32 words, u64 *out, u32 scope)
{
    (void)scope;
    NEEDS(device, "numa");
    memset(out, 0, words * sizeof *out);
    out[0] = 1ull << number_of(device, "numa", 0);
    return OK;
}

result nvmlDeviceGetMigMode(gpu *device, u32 *current, u32 *pending)
{
    NEEDS(device, "mig");
    *current = (u32)number_of(device, "mig", 0);
    *pending = (u32)number_of(device, "mig_pending", *current);
    return OK;
}

result nvmlDeviceGetMigDeviceHandleByIndex(gpu *device, u32 index, gpu **out)
{
    BEGIN(__func__, device);
    *out = &mig_device;
    return index < number_of(device, "mig_count", 0) ? OK : NOT_FOUND;
}

/* Links between GPUs */

static result link_call(const char *function, gpu *device, u32 link)
{
    BEGIN(function, device);
    if (!of_gpu(device, "nvlinks"))
        return NOT_SUPPORTED;
    return link < number_of(device, "nvlinks", 0) ? OK : INVALID_ARGUMENT;
}

result nvmlDeviceGetNvLinkState(gpu *device, u32 link, u32 *out)
{
    *out = (u32)numbered(device, "nvlink%d", (int)link, 1);
    return link_call(__func__, device, link);
}

result nvmlDeviceGetNvLinkErrorCounter(gpu *device, u32 link, u32 counter, u64 *out)
{
    char key[32];
    snprintf(key, sizeof key, "nvlink%u_err%u", link, counter);
    *out = number_of(device, key, 0);
    return link_call(__func__, device, link);
}

/* Behind each link is a switch, unless the file names a GPU: nvlink3_peer=1. */
result nvmlDeviceGetNvLinkRemoteDeviceType(gpu *device, u32 link, u32 *out)
{
    *out = numbered(device, "nvlink%d_peer", (int)link, ~0ull) == ~0ull ? SWITCH : 0;
    return link_call(__func__, device, link);
}

result nvmlDeviceGetNvLinkRemotePciInfo_v2(gpu *device, u32 link, struct pci *out)
{
    fill_pci(&gpus[numbered(device, "nvlink%d_peer", (int)link, 0) % MOST_GPUS], out);
    return link_call(__func__, device, link);
}

result nvmlDeviceGetTopologyCommonAncestor(gpu *one, gpu *other, u32 *out)
{
    BEGIN(__func__, one);
    *out = (u32)numbered(one, "topo%d", other->index, 50);
    return OK;
}

result nvmlDeviceGetP2PStatus(gpu *one, gpu *other, u32 capability, u32 *out)
{
    enum { NOT_OK = 5 };
    BEGIN(__func__, one);
    *out = (u32)numbered(one, "p2p%d", other->index, 0);
    if (capability == NVLINK && !number_of(one, "nvlinks", 0))
        *out = NOT_OK;
    return OK;
}

struct fabric { unsigned char uuid[16]; result status; u32 clique, state; };

result nvmlDeviceGetGpuFabricInfo(gpu *device, struct fabric *out)
{
    NEEDS(device, "fabric_state");
    out->status = (result)number_of(device, "fabric_status", 0);
    out->state = (u32)number_of(device, "fabric_state", 0);
    return OK;
}

struct fabric_v3 {
    u32 version;
    struct fabric info;
    u32 health;
    unsigned char summary;  /* not in version 2 */
};

result nvmlDeviceGetGpuFabricInfoV(gpu *device, struct fabric_v3 *out)
{
    NEEDS(device, "fabric_state");
    u32 newest = (u32)number_of(device, "fabric_version", 3);
    u32 asked = out->version >> 24;
    if (asked < 2 || asked > newest)
        return VERSION_MISMATCH;
    out->info.status = (result)number_of(device, "fabric_status", 0);
    out->info.state = (u32)number_of(device, "fabric_state", 0);
    out->health = (u32)number_of(device, "fabric_health", 0);
    if (asked == 3)
        out->summary = (unsigned char)number_of(device, "fabric_summary", 1);
    return OK;
}

/* Field values: field.ID=V, all as u64 */

struct field {
    u32 id, scope;
    long long timestamp, latency;
    u32 type;
    result code;
    u64 value;
};

result nvmlDeviceGetFieldValues(gpu *device, int count, struct field *out)
{
    enum { UNSIGNED_LONG_LONG = 3, SIGNED_LONG_LONG = 4 };
    BEGIN(__func__, device);
    for (int i = 0; i < count; i++) {
        char key[32];
        snprintf(key, sizeof key, "field.%u", out[i].id);
        const char *value = of_gpu(device, key);
        out[i].code = value ? OK : NOT_SUPPORTED;
        out[i].type = value && *value == '-' ? SIGNED_LONG_LONG : UNSIGNED_LONG_LONG;
        out[i].value = value ? (u64)strtoll(value, NULL, 0) : 0;
    }
    return OK;
}

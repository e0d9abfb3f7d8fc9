// A libamd_smi.so without a GPU. layout.h, made by build.py, has the layouts of one release's
// structs and a stub for every other symbol. FAKE_AMDSMI_CONFIG names a file of lines key=value:
// count, gpu.KEY or gpuN.KEY, err.FUNCTION=CODE, hang.FUNCTION=SECONDS, crash.FUNCTION=1.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "layout.h"

static char keys[512][128], values[512][256];
static int count, up, ids[64];
static void load(void) {
  const char *path = getenv("FAKE_AMDSMI_CONFIG");
  FILE *file = path ? fopen(path, "r") : NULL;
  char line[256];
  count = 0;
  for (int i = 0; i < 64; i++) ids[i] = i;
  while (file && fgets(line, sizeof line, file) && count < 512) {
    char *sign = strchr(line, '=');
    if (!sign || line[0] == '#') continue;
    *sign++ = 0;
    sign[strcspn(sign, "\r\n")] = 0;
    snprintf(keys[count], sizeof keys[0], "%.127s", line);
    snprintf(values[count++], sizeof values[0], "%s", sign);
  }
  if (file) fclose(file);
}
static const char *get(const char *key) {
  for (int i = count - 1; i >= 0; i--) if (!strcmp(keys[i], key)) return values[i];
  return NULL;
}
static const char *of(void *gpu, const char *key) {
  char name[128];
  snprintf(name, sizeof name, "gpu%d.%s", *(int *)gpu, key);
  const char *value = get(name);
  if (value) return value;
  snprintf(name, sizeof name, "gpu.%s", key);
  return get(name);
}
static uint64_t number(const char *value, uint64_t otherwise) {
  return value ? strtoull(value, 0, 0) : otherwise;
}
static uint32_t gate(const char *function, void *gpu) {
  char key[128];
  const char *value;
  snprintf(key, sizeof key, "hang.%s", function);
  if ((value = get(key))) sleep(atoi(value));
  snprintf(key, sizeof key, "crash.%s", function);
  if (get(key)) abort();
  snprintf(key, sizeof key, "err.%s", function);
  value = gpu ? of(gpu, key) : NULL;
  return number(value ? value : get(key), 0);
}
#define CALL(gpu)                         \
  do {                                    \
    if (!up) return 32;                   \
    uint32_t error = gate(__func__, gpu); \
    if (error) return error;              \
  } while (0)
#define ZERO(base, type) memset(base, 0, SIZE_##type)
#define PUT(base, field, value)                                \
  do {                                                         \
    uint64_t put = (value);                                    \
    memcpy((char *)(base) + AT_##field, &put, LENGTH_##field); \
  } while (0)
#define TEXT(base, field, value) snprintf((char *)(base) + AT_##field, LENGTH_##field, "%s", value)

uint32_t amdsmi_init(uint64_t flags) {
  (void)flags;
  load();
  uint32_t error = gate("amdsmi_init", NULL);
  up = !error;
  return error;
}
uint32_t amdsmi_shut_down(void) { up = 0; return 0; }
uint32_t amdsmi_status_code_to_string(uint32_t code, const char **text) {
  (void)code;
  *text = "fake status";
  return 0;
}
uint32_t amdsmi_get_socket_handles(uint32_t *number_of, void **handles) {
  CALL(NULL);
  uint32_t all = number(get("count"), 1);
  for (uint32_t i = 0; handles && i < all && i < *number_of; i++) handles[i] = &ids[i];
  *number_of = all;
  return 0;
}
uint32_t amdsmi_get_processor_handles(void *socket, uint32_t *number_of, void **handles) {
  CALL(NULL);
  if (handles) handles[0] = socket;
  *number_of = 1;
  return 0;
}
uint32_t amdsmi_get_gpu_device_bdf(void *gpu, uint64_t *bdf) {
  CALL(gpu);
  unsigned domain = 0, bus = 5, device = 0, function = 0;
  const char *value = of(gpu, "bdf");
  if (value) sscanf(value, "%x:%x:%x.%x", &domain, &bus, &device, &function);
  *bdf = function | device << 3 | bus << 8 | (uint64_t)domain << 16;
  return 0;
}
uint32_t amdsmi_get_gpu_asic_info(void *gpu, void *info) {
  CALL(gpu);
  ZERO(info, asic_info);
  const char *name = of(gpu, "name");
  TEXT(info, asic_info_market_name, name ? name : "AMD Instinct MI300X OAM");
  TEXT(info, asic_info_asic_serial, "0x1234");
  PUT(info, asic_info_vendor_id, 0x1002);
  PUT(info, asic_info_device_id, 0x74a1);
  PUT(info, asic_info_target_graphics_version, 0x942);
  return 0;
}
uint32_t amdsmi_get_gpu_driver_info(void *gpu, void *info) {
  CALL(gpu);
  ZERO(info, driver_info);
  const char *version = of(gpu, "driver");
  TEXT(info, driver_info_driver_version, version ? version : "6.12.12");
  TEXT(info, driver_info_driver_name, "amdgpu");
  return 0;
}
uint32_t amdsmi_get_gpu_process_list(void *gpu, uint32_t *number_of, void *list) {
  CALL(gpu);
  const char *name = of(gpu, "process.name");
  *number_of = name ? 1 : 0;
  if (!name) return 0;
  ZERO(list, proc_info);
  TEXT(list, proc_info_name, name);
  PUT(list, proc_info_pid, number(of(gpu, "process.pid"), 1));
  PUT(list, proc_info_mem, number(of(gpu, "process.bytes"), 1 << 30));
  char *usage = (char *)list + AT_proc_info_memory_usage;
  PUT(usage, memory_usage__vram_mem, number(of(gpu, "process.bytes"), 1 << 30));
  return 0;
}
uint32_t amdsmi_get_violation_status(void *gpu, void *status) {
  CALL(gpu);
  memset(status, 0xff, SIZE_violation_status);
  PUT(status, violation_status_active_prochot_thrm, number(of(gpu, "prochot_thrm"), 0));
  PUT(status, violation_status_active_ppt_pwr, number(of(gpu, "ppt_pwr"), 0));
  PUT(status, violation_status_active_socket_thrm, number(of(gpu, "socket_thrm"), 0));
  PUT(status, violation_status_active_vr_thrm, number(of(gpu, "vr_thrm"), 0));
  PUT(status, violation_status_active_hbm_thrm, number(of(gpu, "hbm_thrm"), 0));
  return 0;
}
uint32_t amdsmi_gpu_xgmi_error_status(void *gpu, uint32_t *status) {
  CALL(gpu);
  *status = number(of(gpu, "xgmi_error"), 0);
  return 0;
}

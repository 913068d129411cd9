"""All of MIG through nvidia-ml-py, as a user of theirs would write it; run under `sectile driver` by python.rs."""

import re
import subprocess
import sys
import threading

import pynvml
from pynvml import *


def code(of, *args):
    """The NVML code of a call that fails."""
    try:
        of(*args)
    except NVMLError as error:
        return error.value
    raise AssertionError(f"{of.__name__}{args} did well")


def migs(gpu):
    """The MIG devices that are there, by index."""
    found = {}
    for index in range(nvmlDeviceGetMaxMigDeviceCount(gpu)):
        try:
            found[index] = nvmlDeviceGetMigDeviceHandleByIndex(gpu, index)
        except NVMLError_NotFound:
            pass
    return found


def instances(gpu, profile):
    count = c_uint(0)
    array = (c_nvmlGpuInstance_t * profile.instanceCount)()
    nvmlDeviceGetGpuInstances(gpu, profile.id, array, byref(count))
    return list(array)[: count.value]


assert code(nvmlDeviceGetCount) == NVML_ERROR_UNINITIALIZED
nvmlInit()
unprivileged = "--sim-unprivileged" in sys.argv

# Every function that the bindings know is there.
for name in set(re.findall(r'"(nvml[A-Z]\w+)"', open(pynvml.__file__).read())) - {"nvmlReturn"}:
    pynvml._nvmlGetFunctionPointer(name)

# Who is there.
assert nvmlSystemGetDriverVersion() and nvmlSystemGetNVMLVersion().startswith("1") and nvmlSystemGetCudaDriverVersion()
gpus = [nvmlDeviceGetHandleByIndex(index) for index in range(nvmlDeviceGetCount())]
names = [nvmlDeviceGetName(gpu) for gpu in gpus]
assert [name.split()[1] for name in names] == ["H100", "A100-SXM4-80GB"], names
for index, gpu in enumerate(gpus):
    uuid, pci = nvmlDeviceGetUUID(gpu), nvmlDeviceGetPciInfo(gpu)
    assert uuid.startswith("GPU-") and len(uuid) == 40, uuid
    assert nvmlDeviceGetIndex(nvmlDeviceGetHandleByUUID(uuid)) == index
    assert nvmlDeviceGetIndex(nvmlDeviceGetHandleByPciBusId(pci.busId)) == index
    assert nvmlDeviceGetMinorNumber(gpu) == index and pci.pciDeviceId & 0xFFFF == 0x10DE
    assert nvmlDeviceGetMemoryInfo(gpu).total == nvmlDeviceGetMemoryInfo(gpu, nvmlMemory_v2).total > 80 << 30 - 1
    assert not nvmlDeviceIsMigDeviceHandle(gpu)
hopper, ampere = gpus
assert [nvmlDeviceGetArchitecture(gpu) for gpu in gpus] == [NVML_DEVICE_ARCH_HOPPER, NVML_DEVICE_ARCH_AMPERE]
assert [nvmlDeviceGetCudaComputeCapability(gpu) for gpu in gpus] == [(9, 0), (8, 0)]
assert nvmlDeviceGetBrand(hopper) == NVML_BRAND_NVIDIA
fields = nvmlDeviceGetFieldValues(hopper, [NVML_FI_DEV_IS_RESETLESS_MIG_SUPPORTED, NVML_FI_DEV_ECC_CURRENT])
assert [(field.nvmlReturn, field.value.uiVal) for field in fields] == [(0, 1), (NVML_ERROR_NOT_SUPPORTED, 0)]
assert code(nvmlDeviceGetPowerUsage, hopper) == NVML_ERROR_NOT_SUPPORTED

# MIG devices and processes.
(there,) = migs(hopper).values()
uuid = nvmlDeviceGetUUID(there)
assert uuid.startswith("MIG-") and nvmlDeviceGetName(there) == f"{names[0]} MIG 1g.10gb"
assert nvmlDeviceGetUUID(nvmlDeviceGetDeviceHandleFromMigDeviceHandle(there)) == nvmlDeviceGetUUID(hopper)
attributes = nvmlDeviceGetAttributes(there)
assert (attributes.gpuInstanceSliceCount, attributes.computeInstanceSliceCount) == (1, 1)
assert attributes.memorySizeMB * 2**20 == nvmlDeviceGetMemoryInfo(there).total
(process,) = nvmlDeviceGetComputeRunningProcesses(there)
assert process.pid == 4711 and process.usedGpuMemory is None and nvmlSystemGetProcessName(4711) == "train"
assert (process.gpuInstanceId, process.computeInstanceId) == (nvmlDeviceGetGpuInstanceId(there), 0)
assert [process.pid for process in nvmlDeviceGetComputeRunningProcesses(ampere)] == [4712]
assert nvmlDeviceGetGraphicsRunningProcesses(hopper) == nvmlDeviceGetMPSComputeRunningProcesses(hopper) == []
assert len(nvmlDeviceGetComputeRunningProcesses(hopper)) == (0 if unprivileged else 1)

# Profiles, in all three versions.
profiles = {}
for index in range(NVML_GPU_INSTANCE_PROFILE_COUNT):
    try:
        one, two = nvmlDeviceGetGpuInstanceProfileInfo(hopper, index), nvmlDeviceGetGpuInstanceProfileInfoV(hopper, index)
    except NVMLError_NotSupported:
        continue
    assert (one.id, one.sliceCount, one.memorySizeMB) == (two.id, two.sliceCount, two.memorySizeMB)
    profiles[two.name.decode() if isinstance(two.name, bytes) else two.name] = one
assert code(nvmlDeviceGetGpuInstanceProfileInfo, hopper, 99) == NVML_ERROR_INVALID_ARGUMENT
small, half = profiles["MIG 1g.10gb"], profiles["MIG 3g.40gb"]
assert (small.id, half.id) == (19, 9)
assert code(nvmlDeviceGetGpuInstanceProfileInfo, ampere, 0) == NVML_ERROR_NOT_SUPPORTED

if unprivileged:
    assert code(nvmlDeviceCreateGpuInstance, hopper, half.id) == NVML_ERROR_NO_PERMISSION
    assert code(nvmlDeviceSetMigMode, hopper, 0) == NVML_ERROR_NO_PERMISSION
    sys.exit()

# Places.
count = c_uint(0)
nvmlDeviceGetGpuInstancePossiblePlacements(hopper, half.id, None, byref(count))
places = (c_nvmlGpuInstancePlacement_t * count.value)()
nvmlDeviceGetGpuInstancePossiblePlacements(hopper, half.id, places, byref(count))
assert [(place.start, place.size) for place in places] == [(0, 4), (4, 4)]

# Created with a place and without, with the codes for what can't be.
events = nvmlEventSetCreate()
nvmlDeviceRegisterEvents(hopper, nvmlEventMigConfigChange, events)
assert code(nvmlEventSetWait_v2, events, 10) == NVML_ERROR_TIMEOUT
at = lambda start, size: byref(c_nvmlGpuInstancePlacement_t(start, size))
create = nvmlDeviceCreateGpuInstanceWithPlacement
assert code(create, hopper, half.id, at(4, 4)) == NVML_ERROR_INSUFFICIENT_RESOURCES
assert code(create, hopper, half.id, at(2, 4)) == NVML_ERROR_INVALID_ARGUMENT
assert code(nvmlDeviceCreateGpuInstance, ampere, 19) == NVML_ERROR_NOT_SUPPORTED
gi = create(hopper, half.id, at(0, 4))
assert (nvmlGpuInstanceGetInfo(gi).profileId, nvmlGpuInstanceGetInfo(gi).placement.size) == (half.id, 4)
whole = nvmlGpuInstanceGetComputeInstanceProfileInfo(gi, NVML_COMPUTE_INSTANCE_PROFILE_3_SLICE, 0)
ci = nvmlGpuInstanceCreateComputeInstance(gi, whole.id)
made = nvmlComputeInstanceGetInfo(ci).device
assert nvmlDeviceIsMigDeviceHandle(made) and nvmlDeviceGetUUID(made) != uuid
assert code(nvmlGpuInstanceDestroy, gi) == NVML_ERROR_IN_USE
assert nvmlDeviceGetGpuInstanceRemainingCapacity(hopper, half.id) == 0
assert len(instances(hopper, half)) == 1 and len(migs(hopper)) == 2
auto = nvmlDeviceCreateGpuInstance(hopper, small.id)
assert nvmlGpuInstanceGetInfo(auto).placement.start in (4, 5)
for _ in range(3):
    event = nvmlEventSetWait_v2(events, 1000)
    assert event.eventType == nvmlEventMigConfigChange and nvmlDeviceGetIndex(event.device) == 0
assert code(nvmlEventSetWait_v2, events, 10) == NVML_ERROR_TIMEOUT

# Busy: the device that a process uses stays.
gi_busy = nvmlDeviceGetGpuInstanceById(hopper, nvmlDeviceGetGpuInstanceId(there))
ci_busy = nvmlGpuInstanceGetComputeInstanceById(gi_busy, 0)
assert code(nvmlComputeInstanceDestroy, ci_busy) == NVML_ERROR_IN_USE
assert code(nvmlDeviceSetMigMode, hopper, NVML_DEVICE_MIG_DISABLE) == NVML_ERROR_IN_USE
assert nvmlDeviceSetMigMode(ampere, NVML_DEVICE_MIG_ENABLE) == NVML_ERROR_IN_USE, "the status of a pending mode"
assert nvmlDeviceGetMigMode(ampere) == [0, 1]

# Destroyed: handles are stale at once, and the same place has the same UUID again.
before = nvmlDeviceGetUUID(made)
nvmlComputeInstanceDestroy(ci)
assert code(nvmlDeviceGetUUID, made) == code(nvmlComputeInstanceDestroy, ci) == NVML_ERROR_INVALID_ARGUMENT
assert code(nvmlDeviceGetHandleByUUID, before) == NVML_ERROR_NOT_FOUND
again = nvmlGpuInstanceCreateComputeInstance(gi, whole.id)
assert nvmlDeviceGetUUID(nvmlComputeInstanceGetInfo(again).device) == before
nvmlComputeInstanceDestroy(again)
nvmlGpuInstanceDestroy(gi)
nvmlGpuInstanceDestroy(auto)

# Another process does something, and this one, which waits, is told.
while True:
    try:
        nvmlEventSetWait_v2(events, 10)
    except NVMLError_Timeout:
        break
told = []
waits = threading.Thread(target=lambda: told.append(nvmlEventSetWait_v2(events, 30000).eventType))
waits.start()
child = "from pynvml import *; nvmlInit(); nvmlDeviceCreateGpuInstance(nvmlDeviceGetHandleByIndex(0), 19)"
subprocess.run([sys.executable, "-c", child], check=True)
waits.join()
assert told == [nvmlEventMigConfigChange] and len(instances(hopper, small)) == 2
nvmlEventSetFree(events)
nvmlShutdown()
assert code(nvmlShutdown) == NVML_ERROR_UNINITIALIZED

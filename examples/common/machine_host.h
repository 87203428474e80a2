#ifndef MACHINE_HOST_H
#define MACHINE_HOST_H

#include "machine.h"

#include <gemma/vulkan.h>

/* For a runtime whose Vulkan devices are the machine's: they can be listed, described and planned for, and not loaded on.
 * One machine per program at a time; it outlives the runtime. */
gemma_vulkan_host machine_host(const machine *m);

#endif

/* Kernels with their specialization, each made once for a device. */
#include "backend/vulkan/device.h"

const gm_spirv *gm_vk_module(const char *name)
{
    uint32_t lo = 0, hi = gm_spirv_n_modules;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        int order = strcmp(gm_spirv_modules[mid].name, name);
        if (order == 0) return &gm_spirv_modules[mid];
        if (order < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return NULL;
}

static int create(gm_vk *vk, gm_vk_pipeline *p, gemma_error *error)
{
    VkShaderModuleCreateInfo code = { .sType = VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO,
                                      .codeSize = p->module->n_bytes,
                                      .pCode = p->module->words };
    VkSpecializationMapEntry entries[GM_VK_SPECS];
    for (uint32_t i = 0; i < GM_VK_SPECS; i++)
        entries[i] = (VkSpecializationMapEntry){ i, i * (uint32_t)sizeof(uint32_t), sizeof(uint32_t) };
    VkSpecializationInfo spec = { GM_VK_SPECS, entries, sizeof p->spec, p->spec };
    VkShaderModule module = VK_NULL_HANDLE;
    VkResult r = vk->fn.CreateShaderModule(vk->handle, &code, NULL, &module);
    if (r) return gm_vk_check(vk, r, p->module->name, error);
    VkComputePipelineCreateInfo info = { .sType = VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO,
                                         .stage = { .sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO,
                                                    .stage = VK_SHADER_STAGE_COMPUTE_BIT,
                                                    .module = module,
                                                    .pName = "main",
                                                    .pSpecializationInfo = &spec },
                                         .layout = vk->layout };
    r = vk->fn.CreateComputePipelines(vk->handle, vk->cache, 1, &info, NULL, &p->handle);
    vk->fn.DestroyShaderModule(vk->handle, module, NULL);
    return gm_vk_check(vk, r, p->module->name, error);
}

static int find_or_create(gm_vk *vk, const gm_spirv *module, const uint32_t spec[GM_VK_SPECS], VkPipeline *out,
                          gemma_error *error)
{
    for (uint32_t i = 0; i < vk->n_pipelines; i++) {
        const gm_vk_pipeline *p = &vk->pipelines[i];
        if (p->module != module || memcmp(p->spec, spec, sizeof p->spec) != 0) continue;
        *out = p->handle;
        return GEMMA_OK;
    }
    if (vk->n_pipelines == vk->cap_pipelines) {
        uint32_t cap = vk->cap_pipelines ? 2 * vk->cap_pipelines : 32;
        gm_vk_pipeline *more = gm_grow(vk->base.mem, vk->pipelines, cap * sizeof *more, GEMMA_TAG_OBJECT);
        if (!more) return gm_fail_nomem(error, "a table of pipelines", cap * sizeof *more);
        vk->pipelines = more;
        vk->cap_pipelines = cap;
    }
    gm_vk_pipeline *p = &vk->pipelines[vk->n_pipelines];
    *p = (gm_vk_pipeline){ .module = module };
    memcpy(p->spec, spec, sizeof p->spec);
    int rc = create(vk, p, error);
    if (rc) return rc;
    vk->n_pipelines++;
    *out = p->handle;
    return GEMMA_OK;
}

int gm_vk_pipeline_get(gm_vk *vk, const gm_spirv *module, const uint32_t spec[GM_VK_SPECS], VkPipeline *out,
                       gemma_error *error)
{
    gm_mutex_lock(vk->lock);
    int rc = find_or_create(vk, module, spec, out, error);
    gm_mutex_unlock(vk->lock);
    return rc;
}

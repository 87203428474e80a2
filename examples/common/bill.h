/* A plan's bill: as a table, as JSON, as a picture. */
#ifndef BILL_H
#define BILL_H

#include "cli.h"

#include <jansson.h>

/* One heap's line of the bill with what its device says of it. */
typedef struct bill_heap {
    gemma_bill bill;
    gemma_device_info device;
    gemma_heap_info heap; /* as it is now */
} bill_heap;
bill_heap bill_heap_at(const cli *c, uint32_t index);

/* [{"device", "heap", "pool", "budget", "planned", "left", "classes": {NAME: bytes}, …}]: what the library allocates;
 * the driver's estimate and what stays in the file have keys of their own. */
json_t *bill_json(const cli *c);
json_t *bill_predict_json(const gemma_plan *plan, bool measured);
/* What a token costs `depth` tokens into the context; returns the predicted tok/s by what has been measured, 0: unknown. */
double bill_predict_at(cli *c, uint32_t depth, gemma_prediction *p);
bool bill_is_spread(const cli *c); /* over several devices */
/* "layers 0 to 11 lie on cpu (NAME), the rest on vulkan:0 (NAME)"; empty: nothing was split. */
void bill_split_text(const cli *c, const gemma_plan_info *info, char *text, size_t n);

/* ---- picture.c ---- */
/* Writes the bill as an SVG picture. 0, or an exit code with the sentence printed. */
int bill_write_svg(const cli *c, const char *path, const char *title);
/* Colour of a class of bytes, "#rrggbb", readable on light and dark. */
const char *bill_colour(uint32_t bytes_class);

#endif

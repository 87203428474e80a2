/* Models people already have. Nothing is downloaded. */
#ifndef MODELS_H
#define MODELS_H

#include "cli.h"

/* The file behind "ollama:NAME[:TAG]" or "hf:REPO[:QUANT]"; anything else is a path already. NULL: a sentence and what
 * there is are on stderr. Caller frees. */
char *cli_find_model(const cli *c, const char *name);

#endif

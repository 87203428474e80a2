// GEMMA_WANT_... of gemma.h.
#define WANT_CANDIDATES 1u
#define WANT_LOGITS     2u
#define WANT_HIDDEN     4u
#define WANT_SCORE      8u

#define NO_ID 0xffffffffu // of an unused candidate

/* What a server of the anthropic kind sends, in pieces: bytes, events, blocks, answer. */
#define WIRE wire_anthropic
#include "fuzz_stream.h"

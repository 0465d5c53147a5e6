/* What a server of the openai kind sends, in pieces: bytes, events, chunks, answer. */
#define WIRE wire_openai
#include "fuzz_stream.h"

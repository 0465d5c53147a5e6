/* link/wire.h: what of a protobuf message only its bytes show. For this folder only. Thread: any. */
#pragma once
#include "base/macros.h"
#include <protobuf-c/protobuf-c.h>

/* Whether a string field of the message, or of one inside it, has a NUL character: the decoded text, a C string, does
 * not show it. True also for bytes that cannot be read; the caller has decoded them before. */
bool wire_has_nul(const ProtobufCMessageDescriptor *type, const void *bytes, size_t len);

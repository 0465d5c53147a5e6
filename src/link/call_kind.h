/* link/call_kind.h: short names for the list of call kinds, which is `enum CallKind` of proto/worker.proto.
 * Thread: any. */
#pragma once
#include "worker.pb-c.h"

typedef Bullpen__Worker__V1__CallKind call_kind;
#define CALL_TOOL BULLPEN__WORKER__V1__CALL_KIND__TOOL
#define CALL_OPEN_SESSION BULLPEN__WORKER__V1__CALL_KIND__OPEN_SESSION
#define CALL_PUBLISH BULLPEN__WORKER__V1__CALL_KIND__PUBLISH
#define CALL_CLOSE_SESSION BULLPEN__WORKER__V1__CALL_KIND__CLOSE_SESSION
#define CALL_RUN_HOOKS BULLPEN__WORKER__V1__CALL_KIND__RUN_HOOKS

/* The kind as the database has it (tool_calls.kind): its name in proto/worker.proto in small letters, "open_session";
 * "unknown" for a number that is not in the list. Constant. Any thread. */
const char *call_kind_name(call_kind kind);

/* api/upload.h: a request body that is read piece by piece, by a handler that blocks; for router.c. Handlers use
 * upload_read() of route.h.
 *
 * The exchange's loop puts what arrives into a buffer, and stops reading while the buffer is full. The handler takes it
 * from there. Both have a reference. */
#pragma once
#include "net/http_server.h"

struct upload;

/* Loop thread, in on_request, of an exchange whose plan is HTTP_BODY_STREAM. `stopping` outlives the handler: once it
 * is true, the rest of the body has five seconds to arrive. */
struct upload *upload_new(struct http_exchange *x, size_t max_body, const _Atomic bool *stopping);
/* Any thread. Clears the pointer; NULL is fine. */
void upload_free(struct upload **u);

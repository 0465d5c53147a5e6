/* api/fleet_watch.h: one thread that owns all streams of queue events. It is woken by NOTE_QUEUE_CHANGED, looks once a
 * second anyway, reads the events that a watcher has not seen, and hands frames to its exchange: a watcher costs no
 * thread. */
#pragma once
#include "net/http_server.h"
#include "server/api/fleet_cursor.h"
#include "server/node/notify.h"

struct watches;

/* Listens to NOTE_QUEUE_CHANGED and NOTE_KEY_REVOKED; before the first note. Ends by assertion if no thread can be had.
 */
struct watches *watches_new(struct store *st, struct notify *n);
/* The HTTP server and all who send notes are gone by now. NULL is fine. */
void watches_free(struct watches **w);

/* Takes over the exchange (a reference of its own), and the filter's texts. The stream begins behind `cursor` and ends
 * with its chain, or when that key is revoked. ERR_FULL, ERR_CLOSED: too many are being opened, or the server stops;
 * the exchange is not answered, and the filter is the caller's. Any thread. */
int watches_open(struct watches *w, struct http_exchange *x, const struct http_header *headers, size_t n_headers,
    const char *key_id, const struct queue_cursor *cursor, struct queue_filter *filter) MUST_USE;

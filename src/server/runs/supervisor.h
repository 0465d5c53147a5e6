/* runs/supervisor.h: which runs have a thread. At most `max_threads` runs are driven at once, each by one thread; the
 * others wait in the order in which they came, and no newer run overtakes them. Losing this list loses nothing: the
 * sweep finds every run that should have a thread.
 *
 * Threads: any, unless said otherwise. */
#pragma once
#include "base/errors.h"

struct supervisor;

struct supervisor_config {
	unsigned max_threads;
	/* Drives one run until it ends or has to be left alone; on a thread of its own. */
	void (*drive)(void *ctx, const char *run_id);
	void *ctx;
};

struct supervisor *supervisor_new(const struct supervisor_config *cfg);
/* No run gets a thread any more; waits until all threads are gone. `drive` must have been told to come to an end. */
void supervisor_stop(struct supervisor *s);
void supervisor_free(struct supervisor **s); /* after supervisor_stop */
/* Makes sure that the run is looked at after this call: by a new thread, by the present one once more, or as soon as
 * there is room. */
void supervisor_drive(struct supervisor *s, const char *run_id);
/* From time to time: runs that wait although there is room, because the system had no thread left, are tried again. */
void supervisor_tick(struct supervisor *s);
/* Whether a thread has the run, or will have it. */
bool supervisor_knows(struct supervisor *s, const char *run_id);
/* For metrics: threads at work, runs that wait for one. */
void supervisor_count(struct supervisor *s, unsigned *ret_active, size_t *ret_waiting);

/* agent/worker/debug.h: `agent worker debug`: whether a worker started with the same options could work. It takes no
 * lock, registers nothing and changes nothing but its own scratch folder.
 * Thread: the main one, before others start. */
#pragma once
struct worker_options;

/* A new folder where the data directory is or would be, for trials; malloc'ed, NULL if nothing can be written. The
 * caller removes it. */
char *worker_scratch_folder(const struct worker_options *o);
/* Prints the report; the exit status: 0, or 1 if a check failed. */
int worker_debug(const struct worker_options *o);

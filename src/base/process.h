/* base/process.h: signals for a process that was found in /proc, and for no other that got its number since.
 * Thread: any. */
#pragma once
#include "base/macros.h"
#include <sys/types.h>

/* When it was started, in clock ticks since the machine was (field 22 of /proc/PID/stat): with the pid it names a
 * process for good. `stat`: the content of that file. 0: it cannot be read. */
uint64_t process_start_of(const char *stat);
/* Sends the signal if the process with that number is the one that was started then. False: it is gone, or may not be
 * signalled. sig 0 only asks. */
bool process_signal(pid_t pid, uint64_t start, int sig);

/* agent/box/mountinfo.h: /proc/self/mountinfo, see proc_pid_mountinfo(5). Thread: any. */
#pragma once

/* The kernel writes what would end a field (blanks, newlines, backslashes) as \ooo. In place. */
void mountinfo_unescape(char *s);

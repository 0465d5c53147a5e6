/* A test program that is run once more as a user without rights: `test_x nobody`. */
#pragma once
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

/* Before the first test. Who is not root stays who it is. */
static inline void as_nobody(int argc, char **argv)
{
	const char *tmp = getenv("TMPDIR");

	if (argc < 2 || strcmp(argv[1], "nobody") != 0 || geteuid() != 0)
		return;
	if (setgroups(0, NULL) != 0 || setresgid(65534, 65534, 65534) != 0 || setresuid(65534, 65534, 65534) != 0) {
		perror("cannot become nobody");
		exit(1);
	}
	prctl(PR_SET_DUMPABLE, 0); /* as the worker is */
	setenv("HOME", tmp != NULL ? tmp : "/tmp", 1);
}

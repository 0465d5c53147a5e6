#include "agent/worker/exec.h"
#include "agent/worker/session_priv.h"
#include "base/mem.h"
#include <dirent.h>
#include <stdlib.h>
#include <string.h>

static size_t remove_folders(const char *state_dir)
{
	DIR *d = opendir(state_dir);
	struct dirent *e;
	size_t n = 0;

	if (d == NULL)
		return 0;
	while ((e = readdir(d)) != NULL) {
		AUTO_STR path = NULL;

		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		path = str_printf("%s/%s", state_dir, e->d_name);
		session_remove_folder(path);
		n++;
	}
	closedir(d);
	return n;
}

void session_end_leftovers(const char *state_dir, struct session_leftovers *ret)
{
	AUTO_STR mark = NULL;
	char *real = realpath(state_dir, NULL); /* as the mark has it */

	*ret = (struct session_leftovers){0};
	if (real == NULL)
		return;
	mark = str_printf("CURSOR_AGENT_SCRATCH=%s/", real);
	ret->processes = exec_count(mark);
	if (ret->processes > 0)
		ret->alive = !exec_kill_all(mark, 0, CLOSE_TERM_MS, CLOSE_GIVE_UP_MS);
	/* Only now: what still runs would write there. */
	ret->folders = remove_folders(real);
	free(real);
}

/* What a worker that was killed left behind. */
#include "agent/session/exec.h"
#include "agent/session/session_priv.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NOTE_FILE "session.json"
#define MAX_NOTE_BYTES (64 * 1024)
#define KEEP_LIMIT_MS 60000

int session_note_down(const struct session *s, struct why *why)
{
	AUTO_JSON note = json_pack("{s:s, s:s, s:s, s:s, s:s}", "agentId", s->agent_id, "repoUrl", s->repo_url,
	    "branch", s->branch, "base", s->base, "tip", s->tip);
	AUTO_STR text = json_text(note);
	AUTO_STR path = str_printf("%s/" NOTE_FILE, s->agent_dir);
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	bool ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

	if (fd >= 0)
		ok = close(fd) == 0 && ok;
	return ok ? OK : why_set(why, ERR_IO, "cannot write '%.300s'", path);
}

/* The folder says whose it is. */
static bool read_note(struct session *s, const char *dir)
{
	AUTO_STR path = str_printf("%s/" NOTE_FILE, dir);
	AUTO_STR text = NULL;
	AUTO_JSON note = NULL;
	const char *agent, *url, *branch, *base, *tip;
	size_t len;

	if (text_read_file(path, MAX_NOTE_BYTES, &text, &len) != OK || json_parse(text, len, &note, NULL) != OK ||
	    json_unpack(note, "{s:s, s:s, s:s, s:s, s:s}", "agentId", &agent, "repoUrl", &url, "branch", &branch,
		"base", &base, "tip", &tip) != 0 ||
	    strcmp(agent, strrchr(dir, '/') + 1) != 0)
		return false;
	str_set(&s->agent_id, agent);
	str_set(&s->repo_url, url);
	session_choose_first(s, url);
	str_set(&s->branch, branch);
	str_set(&s->base, base);
	str_set(&s->tip, tip);
	str_set(&s->agent_dir, dir);
	return true;
}

/* The workspace as it lies there, with the roots that this worker has. */
static int show_again(struct session *s, struct why *why)
{
	struct session_root *r = session_primary(s);
	AUTO_STR dir = str_printf("%s/root-%zu", s->agent_dir, s->roots[s->first].holder);
	int rc = r->seed.is_repo ? tree_find(r->seed.source, dir, &r->tree, why) : ERR_NOT_FOUND;

	if (rc == OK)
		rc = depot_open(s->repos_dir, &r->seed, &r->depot, why);
	if (rc == OK) {
		str_set(&s->top, tree_path(r->tree));
		free(s->git_dir);
		s->git_dir = str_printf("%s/.git", s->top);
	}
	return rc;
}

/* Whether the folder can go. */
static bool keep_left(struct session *s, const char *dir, struct session_leftovers *ret)
{
	AUTO_JSON warnings = json_array();
	AUTO_FINI(session_failure) fail = {0};
	AUTO_JSON kept = NULL;
	struct session_job j = {.s = s,
	    .warnings = warnings,
	    .fail = &fail,
	    .g = {.cancel_fd = -1, .deadline_mono_ms = clock_mono_ms() + KEEP_LIMIT_MS}};
	int rc;

	if (!read_note(s, dir))
		return true;
	rc = show_again(s, &fail.why);
	if (rc == OK) {
		j.g.dir = s->top;
		j.g.agent_id = s->agent_id;
		rc = session_keep(&j, "the worker ended before it was published", &kept);
	}
	if (kept != NULL)
		ret->kept++;
	session_roots_drop(s);
	if (rc == OK || rc == ERR_NOT_FOUND)
		return true;
	log_error("worker.keep.failed", "agent=%s branch=%s lost=%d reason=%s", s->agent_id, log_quote(s->branch),
	    !session_can_set_aside(rc), log_quote(fail.why.text));
	return !session_can_set_aside(rc) || session_set_aside(&s->cfg, s->agent_id, dir);
}

static void keep_and_remove(const struct session_config *cfg, const char *state_dir, struct session_leftovers *ret)
{
	DIR *d = opendir(state_dir);
	struct dirent *e;
	struct session *s = NULL;

	while (d != NULL && (e = readdir(d)) != NULL) {
		AUTO_STR path = NULL;

		/* No agent's id begins with a dot; our own folders do. */
		if (e->d_name[0] == '.')
			continue;
		path = str_printf("%s/%s", state_dir, e->d_name);
		if (s == NULL)
			s = session_new(cfg);
		if (keep_left(s, path, ret))
			tree_delete(path);
		ret->folders++;
	}
	if (d != NULL)
		closedir(d);
	if (s != NULL) {
		/* Nothing of it is open. */
		str_free(&s->agent_dir);
		str_set(&s->agent_id, "");
		session_free(&s);
	}
}

void session_end_leftovers(const struct session_config *cfg, struct session_leftovers *ret)
{
	AUTO_STR mark = NULL;
	char *real = realpath(cfg->state_dir, NULL); /* as the mark has it */

	*ret = (struct session_leftovers){0};
	if (real == NULL)
		return;
	mark = str_printf("CURSOR_AGENT_SCRATCH=%s/", real);
	ret->processes = exec_count(mark);
	if (ret->processes > 0)
		ret->alive = !exec_kill_all(mark, 0, CLOSE_TERM_MS, CLOSE_GIVE_UP_MS);
	AUTO_STR gone = session_gone_dir(cfg);

	tree_delete(gone);
	/* Only now: what still runs would write there. */
	keep_and_remove(cfg, real, ret);
	free(real);
}

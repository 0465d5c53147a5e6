#include "agent/tools/rg.h"
#include "base/strbuf.h"
#include "base/mem.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_ARGS 48
/* A longer record is skipped: a file that is one line of many megabytes. */
#define MAX_RECORD_BYTES (4 * 1024 * 1024)

struct splitter {
	const struct rg *rg;
	struct ignore *hidden;
	struct strbuf record;
	bool skipping, enough;
};

static void end_record(struct splitter *s)
{
	if (!s->skipping && !s->enough)
		s->enough = !s->rg->on_record(s->rg->ctx, s->hidden, strbuf_str(&s->record), s->record.len);
	s->skipping = false;
	strbuf_clear(&s->record);
}

static void on_output(void *ctx, int stream, const void *data, size_t len)
{
	struct splitter *s = ctx;
	const char *at = data, *end = at + len;

	while (stream == 1 && at < end && !s->enough) {
		const char *sep = memchr(at, s->rg->separator, (size_t)(end - at));
		size_t n = (size_t)((sep != NULL ? sep : end) - at);

		if (strbuf_add(&s->record, at, n) != OK)
			s->skipping = true;
		if (sep != NULL)
			end_record(s);
		at += n + 1;
	}
}

/* A folder becomes the working directory, a file the standard input: so nothing can be swapped in between. */
static int open_target(const struct rg *rg, struct exec_spec *spec, const char **ret_path)
{
	struct refusal r;
	struct stat st;
	int fd;

	if (place_open(rg->call->session, rg->target, O_RDONLY, &fd, &r) != OK) {
		tool_refuse(rg->call, &r);
		return ERR_INVALID;
	}
	if (fstat(fd, &st) == 0 && S_ISDIR(st.st_mode)) {
		spec->cwd_fd = fd;
		*ret_path = ".";
		return OK;
	}
	if (S_ISREG(st.st_mode)) {
		spec->stdin_fd = fd;
		*ret_path = "-";
		return OK;
	}
	close(fd);
	tool_error(rg->call, "not_a_file", "'%.300s' is neither a file nor a folder", rg->target->abs);
	return ERR_INVALID;
}

static int rg_judge(const struct rg *rg, const struct exec_result *r, bool enough)
{
	if (r->cancelled) {
		tool_error(rg->call, "cancelled", "the search was cancelled");
		return ERR_CANCELLED;
	}
	/* 2 also stands for files that could not be read; only what was said counts then. */
	if (!enough && !r->timed_out && r->exit_code >= 2 && r->out[0] == '\0' && r->err[0] != '\0') {
		tool_error(rg->call, "invalid_pattern", "%.1000s", r->err);
		return ERR_INVALID;
	}
	return OK;
}

int rg_run(const struct rg *rg, bool *ret_cut)
{
	const char *argv[MAX_ARGS] = {
	    "rg", "--no-config", "--color=never", "--hidden", "--no-require-git", "--no-messages"};
	struct splitter s = {.rg = rg, .record = STRBUF(MAX_RECORD_BYTES)};
	struct exec_spec spec = EXEC_SPEC(.argv = argv, .box = session_box(rg->call->session),
	    .agent_id = session_agent_id(rg->call->session), .scratch_dir = session_program_mark(rg->call->session),
	    .call_id = rg->call->call_id, .cancel_fd = rg->call->cancel_fd, .deadline_mono_ms = rg->deadline_mono_ms,
	    .on_output = on_output, .on_output_ctx = &s, .stop = &s.enough);
	AUTO_FINI(exec_result) r = {0};
	struct why why;
	size_t n = 6;
	int rc = open_target(rg, &spec, &argv[MAX_ARGS - 1]);

	if (rc != OK)
		return rc;
	if (spec.cwd_fd > 0)
		s.hidden = place_ignore(rg->call->session, rg->target, spec.cwd_fd);
	for (size_t i = 0; rg->args[i] != NULL; i++) {
		ENSURE(n < MAX_ARGS - 4);
		argv[n++] = rg->args[i];
	}
	argv[n++] = "--glob=!**/.git/**";
	argv[n++] = "--";
	argv[n++] = argv[MAX_ARGS - 1];
	argv[n] = NULL;
	rc = exec_run(&spec, &r, &why);
	if (spec.cwd_fd > 0)
		close(spec.cwd_fd);
	if (spec.stdin_fd > 0)
		close(spec.stdin_fd);
	if (rc != OK)
		tool_error(rg->call, "not_available", "searching needs ripgrep (rg) on the worker: %s", why.text);
	else
		rc = rg_judge(rg, &r, s.enough);
	if (rc == OK)
		*ret_cut = s.enough || r.timed_out;
	strbuf_fini(&s.record);
	ignore_free(&s.hidden);
	return rc;
}

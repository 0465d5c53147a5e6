/* agent/worker/job.h: one call as its own thread sees it: what is wanted, and what came of it.
 * Thread: the call's, from start to end; the table of calls (calls.h) makes it and reads the outcome afterwards. */
#pragma once
#include "agent/tools/tool.h"

enum job_kind { JOB_OPEN_SESSION, JOB_TOOL, JOB_PUBLISH, JOB_CLOSE_SESSION, JOB_UNKNOWN };

struct job {
	/* Constant while the thread runs; owned by the table. */
	enum job_kind kind;
	char *call_id;
	char *agent_id;
	char *name; /* tool; or message of a publication; or repo_url of a session */
	char *text; /* arguments; or author's name; or starting ref */
	char *more; /* author's e-mail; or branch */
	bool work_on_current_branch, forget_rules;
	bool whoever; /* closing: whosever session is open, not only that of agent_id */
	int64_t deadline_mono_ms; /* INT64_MAX: the kind's own */
	int cancel_fd; /* readable once cancelled */
	struct session *session;
	void (*on_output)(void *ctx, int stream, const void *data, size_t len);
	void *on_output_ctx;

	/* The outcome; strings are malloc'ed. */
	enum tool_outcome outcome;
	char *result_json;
	char *model_text;
	char *sdk_json; /* NULL: the same as result_json */
	char *open_agent; /* after opening and closing: whose session is open, "" for none; NULL: unchanged */
};

/* Opening, closing and publishing have the session for themselves. */
bool job_is_exclusive(const struct job *j);
/* Sets outcome TOOL_ERROR with {"message","code"}. */
void job_error(struct job *j, const char *code, const char *fmt, ...) PRINTF_LIKE(3, 4);
void job_drop_outcome(struct job *j);
void job_fini(struct job *j);

/* job_run.c: does it, with the session and the tools. Blocks. */
void job_run(struct job *j);

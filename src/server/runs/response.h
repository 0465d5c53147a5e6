/* runs/response.h: what a model answers to one request, and how it gets into the log: text in pieces while it comes,
 * then the step as a whole. For this folder only. Thread: the loop's. */
#pragma once
#include "base/strbuf.h"
#include "server/runs/call.h"

#define RESPONSE_MAX (1024 * 1024)

struct model_response {
	struct loop *loop;
	int64_t step;
	bool begun; /* step-started is in the log */
	struct strbuf pending_text, pending_thinking; /* not yet in the log */
	struct strbuf attempt_text; /* all text of the present attempt */
	char *logged_text; /* text of this step that an earlier thread or attempt logged; NULL: none */
	size_t logged_len;
	size_t matched; /* how much of it the model has repeated so far */
	int write_rc; /* not OK: a piece could not be written */
	int64_t last_flush_ms, thinking_since_ms; /* monotonic; 0: not thinking */
	bool keeps_thinking; /* somebody wants to hear it as a whole */
	struct strbuf thinking; /* then; as much as fits */
	bool may_end_run; /* an answer without a call ends the run: that is written with the step */
	/* After response_request. */
	char *text;
	json_t *native;
	enum model_stop stop;
	struct call *calls;
	size_t n_calls;
	struct model_usage usage;
};
#define MODEL_RESPONSE(of_loop, number)                                                                                \
	((struct model_response){.loop = (of_loop),                                                                    \
	    .step = (number),                                                                                          \
	    .pending_text = STRBUF(RESPONSE_MAX),                                                                      \
	    .pending_thinking = STRBUF(RESPONSE_MAX),                                                                  \
	    .thinking = STRBUF(RESPONSE_MAX),                                                                          \
	    .attempt_text = STRBUF(RESPONSE_MAX)})
/* Loads the text of this step that an earlier thread logged before it had the whole. */
int response_load_logged(struct model_response *s, struct tx *tx) MUST_USE;
/* Asks the model and writes the step down. ERR_TOO_LARGE: the conversation does not fit the model; it may be asked
 * again with another. */
int response_request(struct model_response *s, const json_t *conversation) MUST_USE;
void response_fini(struct model_response *s);
/* The column steps.stop. */
const char *stop_text(enum model_stop stop);

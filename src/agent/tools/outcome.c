/* What a tool says at its end. */
#include "agent/tools/tool.h"
#include "base/mem.h"
#include "base/text.h"
#include <poll.h>
#include <string.h>
#include <unistd.h>

/* The marker in the middle comes on top. */
#define MAX_MODEL_TEXT (32 * 1024 - 64)
#define MAX_ATTACHMENT (16 * 1024)

void tool_call_fini(struct tool_call *call)
{
	json_drop(&call->result);
	json_drop(&call->sdk_result);
	str_free(&call->model_text);
	str_free(&call->attachment);
	if (call->end_fd > 0)
		close(call->end_fd);
	call->end_fd = 0;
}

static void set_outcome(
    struct tool_call *call, enum tool_outcome outcome, json_t *result, json_t *sdk_result, const char *model_text)
{
	AUTO_STR clean = text_to_utf8(model_text, strlen(model_text));

	ENSURE(call->outcome == 0 && result != NULL);
	call->outcome = outcome;
	call->result = result;
	call->sdk_result = sdk_result;
	if (outcome == TOOL_SUCCESS && call->attachment != NULL) {
		AUTO_STR cut = text_cut_middle(clean, strlen(clean), MAX_MODEL_TEXT - strlen(call->attachment), NULL);

		call->model_text = str_printf("%s%s", cut, call->attachment);
	} else {
		call->model_text = text_cut_middle(clean, strlen(clean), MAX_MODEL_TEXT, NULL);
	}
}

void tool_attach(struct tool_call *call, char *text)
{
	ENSURE(call->attachment == NULL && (text == NULL || strlen(text) <= MAX_ATTACHMENT));
	call->attachment = text;
}

void tool_succeed(struct tool_call *call, json_t *result, json_t *sdk_result, const char *model_text)
{
	set_outcome(call, TOOL_SUCCESS, result, sdk_result, model_text);
}

void tool_fail(struct tool_call *call, json_t *result, json_t *sdk_result, const char *model_text)
{
	set_outcome(call, TOOL_FAILURE, result, sdk_result, model_text);
}

static void finish_without_result(
    struct tool_call *call, enum tool_outcome outcome, const char *code, const char *fmt, va_list ap)
{
	json_t *result = json_object();
	AUTO_STR raw = str_vprintf(fmt, ap);
	AUTO_STR message = text_to_utf8(raw, strlen(raw));
	AUTO_STR text = str_printf("%s (%s): %s", outcome == TOOL_REJECTED ? "Rejected" : "Error", code, message);

	json_put(result, "message", message);
	json_put(result, "code", code);
	set_outcome(call, outcome, result, NULL, text);
}

void tool_add_text(struct tool_call *call, const char *text)
{
	AUTO_STR clean = text_to_utf8(text, strlen(text));
	char *both = str_printf("%s\n\n%s", call->model_text, clean);

	free(call->model_text);
	call->model_text = both;
}

void tool_error(struct tool_call *call, const char *code, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	finish_without_result(call, TOOL_ERROR, code, fmt, ap);
	va_end(ap);
}

void tool_reject(struct tool_call *call, const char *code, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	finish_without_result(call, TOOL_REJECTED, code, fmt, ap);
	va_end(ap);
}

bool tool_cancelled(const struct tool_call *call)
{
	struct pollfd p = {call->cancel_fd, POLLIN, 0};

	return call->cancel_fd > 0 && poll(&p, 1, 0) > 0;
}

/* mcp/result.h: what a tool of a server answered, for the log, the model and the eyes.
 * Thread: the owner's. */
#pragma once
#include "base/json.h"

#define MCP_RESULT_MAX ((size_t)10 * 1024 * 1024)
#define MCP_TEXT_MAX ((size_t)32 * 1024) /* to the model */

#define MCP_SEEN_IMAGES "seenImages"

struct mcp_outcome {
	/* {"content": [{"text": {"text"}} | {"image": {"mimeType", "data"}}], "isError", "structuredContent"?}; blocks
	 * of other kinds are told as text. MCP_SEEN_IMAGES, if there are any: the places in `content` of the images
	 * that the model is to see. */
	json_t *result;
	char *text; /* for the model */
	bool failed; /* the tool ran and says that it failed */
	char *warning; /* for the log; NULL: none */
};

/* What a model does not get, audio and blobs, put somewhere. */
struct mcp_keeper {
	/* The bytes in base64, their type and, of a resource, its URI (else ""); all from outside. Where they are now,
	 * for the model, malloc'ed; NULL: nowhere. */
	char *(*keep)(void *ctx, const char *data, const char *type, const char *uri);
	void *ctx;
};

/* From the result of tools/call. `tool` is the tool as mcp/tools.h has it, or NULL. Images of more than `image_max`
 * bytes of base64, all of the result counted, are told as a note. `keeper` may be NULL. */
void mcp_outcome_from(const json_t *result, const json_t *tool, size_t image_max, const struct mcp_keeper *keeper,
    struct mcp_outcome *ret);
/* The same for what a hook puts in the place of a result: {"content": [{"text"}]}, or any other object as it is.
 * malloc'ed. */
char *mcp_output_text(const json_t *output);
/* From a JSON-RPC error: the sentence for the model. malloc'ed. */
char *mcp_error_text(const json_t *error);
void mcp_outcome_fini(struct mcp_outcome *o);

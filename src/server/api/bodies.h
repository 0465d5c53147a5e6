/* api/bodies.h: pieces of JSON Schema that several routes share; for the descriptions of routes. */
#pragma once

#define SCHEMA_STRING "{\"type\":\"string\"}"
#define SCHEMA_FLAG "{\"type\":\"boolean\"}"
/* What a body must not hold is told by name. */
#define SCHEMA_STRICT "\"type\":\"object\",\"additionalProperties\":false"

#define SCHEMA_IMAGE                                                                                                   \
	"{" SCHEMA_STRICT ",\"description\":\"PNG, JPEG, GIF or WebP, of at most 15 MiB; either data or url\","        \
	"\"properties\":{\"data\":{\"type\":\"string\",\"description\":\"base64\"},\"url\":" SCHEMA_STRING             \
	",\"mimeType\":" SCHEMA_STRING ",\"dimension\":{" SCHEMA_STRICT                                                \
	",\"properties\":{\"width\":{\"type\":\"integer\",\"minimum\":1},\"height\":{\"type\":\"integer\","            \
	"\"minimum\":1}},\"required\":[\"width\",\"height\"]}}}"
#define SCHEMA_PROMPT                                                                                                  \
	"{" SCHEMA_STRICT                                                                                              \
	",\"required\":[\"text\"],\"properties\":{\"text\":{\"type\":\"string\",\"minLength\":1,\"description\":\"at " \
	"most 1 MiB, not blank\"},\"images\":{\"type\":\"array\",\"maxItems\":5,\"items\":" SCHEMA_IMAGE "}}}"
#define SCHEMA_MODEL                                                                                                   \
	"{" SCHEMA_STRICT                                                                                              \
	",\"required\":[\"id\"],\"properties\":{\"id\":{\"type\":\"string\",\"minLength\":1,\"description\":\"one of " \
	"GET /v1/models\"},\"params\":{\"type\":\"array\",\"items\":{" SCHEMA_STRICT                                   \
	",\"required\":[\"id\",\"value\"],\"properties\":{\"id\":{\"type\":\"string\",\"minLength\":1},"               \
	"\"value\":{\"type\":\"string\",\"minLength\":1}}}}}}"
#define SCHEMA_MODE "{\"type\":\"string\",\"enum\":[\"agent\",\"plan\"]}"
#define SCHEMA_ENV_VARS                                                                                                \
	"{\"type\":\"object\",\"maxProperties\":50,\"additionalProperties\":" SCHEMA_STRING                            \
	",\"description\":\"names of letters, digits and _, not beginning with CURSOR_; values of 1 to 4096 bytes\"}"
/* Which members go together is checked by check_mcp_servers. */
#define SCHEMA_TEXTS "{\"type\":\"object\",\"additionalProperties\":" SCHEMA_STRING "}"
#define SCHEMA_MCP_SERVER                                                                                              \
	"{" SCHEMA_STRICT ",\"required\":[\"name\"],\"properties\":{\"name\":{\"type\":"                               \
	"\"string\",\"minLength\":1},\"type\":{\"type\":\"string\","                                                   \
	"\"enum\":[\"stdio\",\"http\",\"sse\"]},\"protocol\":{\"type\":\"string\",\"description\":\"which "            \
	"revisions of MCP are tried\",\"enum\":[\"auto\",\"legacy\",\"modern\"],\"default\":\"auto\"},"                \
	"\"command\":{\"type\":\"string\",\"minLength\":1},\"args\":{\"type\":"                                        \
	"\"array\",\"maxItems\":64,"                                                                                   \
	"\"items\":" SCHEMA_STRING "},\"env\":" SCHEMA_TEXTS                                                           \
	",\"url\":{\"type\":\"string\",\"minLength\":1},\"headers\":" SCHEMA_TEXTS ",\"auth\":{" SCHEMA_STRICT         \
	",\"required\":[\"CLIENT_ID\"],\"properties\":{\"CLIENT_ID\":{\"type\":\"string\",\"minLength\":1},"           \
	"\"CLIENT_SECRET\":" SCHEMA_STRING ",\"scopes\":{\"type\":\"array\",\"items\":" SCHEMA_STRING "}}}}}"
#define SCHEMA_MCP_SERVERS                                                                                             \
	"{\"type\":\"array\",\"maxItems\":50,\"description\":\"with command: started by the worker; with url: asked "  \
	"by the "                                                                                                      \
	"control plane\",\"items\":" SCHEMA_MCP_SERVER "}"
#define SCHEMA_SUBAGENTS                                                                                               \
	"{\"type\":\"array\",\"maxItems\":20,\"items\":{" SCHEMA_STRICT                                                \
	",\"required\":[\"name\",\"description\",\"prompt\"],\"properties\":{\"name\":{\"type\":\"string\","           \
	"\"minLength\":1,\"description\":\"1 to 64 letters, digits, _ and -; unique, and none of Bullpen's own\"},"    \
	"\"description\":{\"type\":\"string\",\"minLength\":1,\"description\":\"when it is asked; at most 4 KiB\"},"   \
	"\"prompt\":{\"type\":\"string\",\"minLength\":1,\"description\":\"what it is told; at most 128 KiB\"},"       \
	"\"model\":{\"description\":\"a model's id, {id, params?}, or inherit (the default)\"}}}}"

/* Query parameters of lists. */
#define SCHEMA_PAGE                                                                                                    \
	"\"limit\":{\"type\":\"integer\",\"minimum\":1,\"maximum\":100,\"default\":20},"                               \
	"\"cursor\":{\"type\":\"string\",\"description\":\"nextCursor of the page before\"}"

/* agent/cli/prompt.h: what is said to an agent, as the API takes it.
 * Thread: the main one. */
#pragma once
#include "agent/cli/client.h"

#define PROMPT_IMAGES_MAX 5
#define PROMPT_ENV_MAX 50

struct prompt_options {
	const char *text; /* "-": standard input */
	const char *model, *mode;
	bool plan;
	const char *mcp_file;
	struct option_list env;
	const char *env_words[PROMPT_ENV_MAX];
	struct option_list images;
	const char *image_files[PROMPT_IMAGES_MAX];
};

/* {prompt, model?, mode?, envVars?, mcpServers?}: the members that a new agent and a follow-up have in common. OK;
 * otherwise the error was printed and *ret_status set. */
int prompt_body(const struct prompt_options *o, json_t **ret, int *ret_status) MUST_USE;

/* Before the options are read. */
void prompt_options_init(struct prompt_options *o);
/* Rows of the option table that fill it. */
#define PROMPT_OPTION_ROWS(o)                                                                                          \
	{.name = "print",                                                                                              \
	    .letter = 'p',                                                                                             \
	    .value = "PROMPT",                                                                                         \
	    .text = &(o)->text,                                                                                        \
	    .help = "the prompt, in place of the argument"},                                                           \
	    {.name = "model",                                                                                          \
		.value = "ID",                                                                                         \
		.text = &(o)->model,                                                                                   \
		.help = "the model; default: the agent's, of a new one the server's"},                                 \
	    {.name = "mode", .value = "MODE", .text = &(o)->mode, .help = "agent, or plan"},                           \
	    {.name = "plan", .given = &(o)->plan, .help = "the same as --mode plan: read only, and end with a plan"},  \
	    {.name = "env",                                                                                            \
		.value = "NAME[=VALUE]",                                                                               \
		.list = &(o)->env,                                                                                     \
		.help = "a variable for the agent's commands, without value that of this shell; may be\nrepeated"},    \
	    {.name = "mcp", .value = "FILE", .text = &(o)->mcp_file, .help = "MCP servers, as in .cursor/mcp.json"},   \
                                                                                                                       \
	{                                                                                                              \
		.name = "image", .value = "FILE", .list = &(o)->images,                                                \
		.help = "an image for the prompt (PNG, JPEG, GIF, WebP); up to 5 times"                                \
	}

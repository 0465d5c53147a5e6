/* agent/mcp/definition.h: an MCP server as it was asked for, made ready to be started: command, arguments, environment.
 * Thread: any; reads the worker's environment and files of the workspace. */
#pragma once
#include "base/json.h"
#include "mcp/session.h"

struct redactor;

#define MCP_SERVERS_MAX 50 /* of a session */

struct mcp_definition {
	char *name;
	char **argv; /* NULL-terminated; NULL: it cannot be started, `fault` says why */
	char **env; /* "NAME=value", NULL-terminated: all that it gets */
	char *command_line; /* as it was written, its ${…} in place: for people and hooks */
	json_t *written; /* {"command", "args"}: the same, as it was given */
	enum mcp_protocol protocol;
	char *identity; /* the same for the same definition with the same variables */
	char *fault; /* NULL: none */
	struct redactor *redactor; /* of its own variables; NULL: there is nothing to hide */
};

struct mcp_scene {
	const char *workspace; /* the first root, as the session's programs see it */
	const json_t *variables; /* of the session: what ${env:NAME} may be; NULL: none */
};

/* From one entry of an array as the API takes it, or of the object in mcp.json (`name` is given then, and envFile is
 * known). Never fails: what is wrong is the `fault`. */
void mcp_definition_read(
    const json_t *entry, const char *name, bool of_file, const struct mcp_scene *scene, struct mcp_definition *ret);
void mcp_definition_fini(struct mcp_definition *d);

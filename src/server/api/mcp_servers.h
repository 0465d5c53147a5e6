/* api/mcp_servers.h: what the routes of MCP servers and of their logins share. Thread: a handler's. */
#pragma once
#include "server/api/route.h"

struct kept_owner mcp_owner(const struct api_request *rq);
/* The definition of the server {id} that the caller may use, a new reference. Any result but OK: answered. */
int mcp_find_server(struct api_request *rq, json_t **ret_definition) MUST_USE;
/* Only a part of the handlers may wait for servers of others. False: answered. */
bool mcp_begin_asking(struct api_request *rq);
void mcp_end_asking(struct api_request *rq);

/* runs/inputs.h: what a request gave its agent or one run besides the prompt: variables, MCP servers. Kept sealed
 * (base/seal.h), never told by the API; a run's go when it ends, an agent's when it is deleted. */
#pragma once
#include "base/json.h"
#include "base/seal.h"
#include "store/store.h"

/* In the caller's write transaction. `run_id` NULL: of the agent. `value` NULL: nothing is kept. */
enum input_kind { INPUT_ENV, INPUT_MCP };
int input_store(struct tx *tx, const struct seal *seal, const char *agent_id, const char *run_id, enum input_kind kind,
    const json_t *value) MUST_USE;
/* The run is over. */
int inputs_forget_run(struct tx *tx, const char *agent_id, const char *run_id) MUST_USE;
int inputs_forget_agent(struct tx *tx, const char *agent_id) MUST_USE;

struct inputs {
	json_t *env; /* {name: value}: the run's variables beat the agent's; NULL: none */
	json_t *mcp_servers; /* the run's list if it has one, else the agent's; NULL: none */
	json_t *mcp_narrowing; /* of the team's policy (mcp/allow.h); NULL: nothing is narrowed */
	bool sync; /* the team lets variables go to workers */
};
void inputs_fini(struct inputs *in);
/* ERR_INTERNAL: sealed with another key, or damaged (logged). */
int inputs_load(struct tx *tx, const struct seal *seal, int64_t team_id, const char *agent_id, const char *run_id,
    struct inputs *ret) MUST_USE;
/* "A, B and 3 more": the names of the variables; malloc'ed. */
char *inputs_names(const json_t *env);

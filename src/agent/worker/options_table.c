/* The command line of `agent worker …`: what there is, and the help. */
#include "agent/worker/options_priv.h"
#include <string.h>

#define ROWS 37

static bool is_share_mode(const char *word)
{
	return strcmp(word, "view") == 0 || strcmp(word, "view_and_control") == 0;
}

static void fill_rows(struct given_options *g, struct option_row rows[ROWS])
{
	const struct option_row all[ROWS] = {
	    {.name = "pool",
		.value = "NAME",
		.optional = true,
		.text = &g->pool_value,
		.given = &g->pool,
		.help = "serve the pool NAME, one agent at a time (CURSOR_WORKER_POOL_NAME; default: default);\n"
			"without it: a personal worker of the key's user"},
	    {.name = "pool-name", .value = "NAME", .text = &g->pool_name, .help = "name of the pool, with --pool"},
	    {.name = "single-use", .given = &g->pool, .help = "the same as --pool"},
	    {.name = "label",
		.value = "KEY=VALUE",
		.list = &g->labels,
		.help = "label for requests that ask for it; may be repeated, a key too"},
	    {.name = "labels-file",
		.value = "PATH",
		.text = &g->labels_file,
		.help = "labels as JSON or TOML instead (CURSOR_WORKER_LABELS_FILE)"},
	    {.name = "idle-release-timeout",
		.value = "SECONDS",
		.text = &g->idle_release,
		.help = "end so long after the last run; 0: never\n"
			"(CURSOR_WORKER_IDLE_RELEASE_TIMEOUT; default: 3600, of a personal worker 0)"},
	    {.name = "management-addr",
		.value = "[HOST]:PORT",
		.text = &g->management,
		.help = "serve /healthz, /readyz and /metrics there"},
	    {.name = "worker-dir",
		.value = "PATH",
		.list = &g->dirs,
		.help = "workspace root; may be repeated, the first is the primary one (default: .)"},
	    {.name = "endpoint",
		.letter = 'e',
		.value = "URL",
		.text = &g->endpoint,
		.help = "control plane (CURSOR_API_ENDPOINT, BULLPEN_URL, agent.toml;\n"
			"default: http://127.0.0.1:8787)"},
	    {.name = "api-key",
		.value = "KEY",
		.text = &g->api_key,
		.help = "service account key, of a personal worker a user's\n"
			"(CURSOR_API_KEY, which does not show in the process list)"},
	    {.name = "auth-token",
		.value = "TOKEN",
		.text = &g->auth_token,
		.help = "access token that was made elsewhere; used as it is"},
	    {.name = "auth-token-file",
		.value = "PATH",
		.text = &g->auth_token_file,
		.help = "file with an access token, read again before each connection"},
	    {.name = "name",
		.value = "NAME",
		.text = &g->name,
		.help = "display name (CURSOR_WORKER_NAME; default: the host's)"},
	    {.name = "worker-id",
		.value = "ID",
		.text = &g->worker_id,
		.help = "identity (CURSOR_AGENT_WORKER_ID; default: generated once and kept)"},
	    {.name = "data-dir",
		.value = "PATH",
		.text = &g->data_dir,
		.help = "where the lock, the identity and scratch files live\n"
			"(default: ${XDG_DATA_HOME:-~/.local/share}/agent-worker)"},
	    {.name = "isolation",
		.value = "LEVEL",
		.text = &g->isolation,
		.help = "how a session's programs are kept apart: namespace, process or none\n"
			"(CURSOR_WORKER_ISOLATION; default: the best there is)"},
	    {.name = "session-memory",
		.value = "SIZE",
		.text = &g->memory,
		.help = "most memory of a session, such as 512M or 2G (CURSOR_WORKER_SESSION_MEMORY)"},
	    {.name = "session-cpus",
		.value = "N",
		.text = &g->cpus,
		.help = "most processors of a session, such as 1.5 (CURSOR_WORKER_SESSION_CPUS)"},
	    {.name = "session-pids",
		.value = "N",
		.text = &g->pids,
		.help = "most processes of a session (CURSOR_WORKER_SESSION_PIDS)"},
	    {.name = "session-home",
		.value = "HOW",
		.text = &g->home,
		.help = "overlay: what a session writes to ~ ends with it; shared: it stays\n"
			"(CURSOR_WORKER_SESSION_HOME; default: overlay where possible)"},
	    {.name = "session-share",
		.value = "PATH",
		.list = &g->shared,
		.help = "folder below ~ or /tmp that is the real one for every session, such as a cache;\n"
			"may be repeated (CURSOR_WORKER_SESSION_SHARE, separated by ':')"},
	    {.name = "clone-git-repos",
		.given = &g->clone_git_repos,
		.help = "fetch the repositories of a request with this machine's own git credentials;\n"
			"for a worker without a repository in a named pool"},
	    {.name = "mint-github-token", .given = &g->mint_github_token, .help = "not built in"},
	    {.name = "sync-dashboard-secrets",
		.given = &g->sync_secrets,
		.help = "with --pool: programs of an agent get the variables that its request gave (envVars)"},
	    {.name = "project-mcp",
		.given = &g->project_mcp,
		.help = "sessions start the MCP servers of .cursor/mcp.json, of the repository and of the home\n"
			"folder: programs that whoever writes there chooses (CURSOR_WORKER_PROJECT_MCP=true)"},
	    {.name = "on-session-start",
		.value = "COMMAND",
		.text = &g->on_session_start,
		.help = "with --pool: a hook for sessionStart, besides those of files"},
	    {.name = "on-session-end",
		.value = "COMMAND",
		.text = &g->on_session_end,
		.help = "with --pool: a hook for sessionEnd, besides those of files"},
	    {.name = "identity-socket", .given = &g->identity_socket, .help = "not built in"},
	    {.name = "computer-use", .given = &g->computer_use, .help = "not built in"},
	    {.name = "display", .value = "DISPLAY", .text = &g->display, .help = "not built in"},
	    {.name = "share-desktop",
		.value = "MODE",
		.optional = true,
		.is_value = is_share_mode,
		.text = &g->share_mode,
		.given = &g->share_desktop,
		.help = "not built in"},
	    {.name = "debug", .given = &g->debug, .help = "start: print the report of agent worker debug first"},
	    {.name = "wait", .given = &g->wait, .help = "wait for the lock of the data directory"},
	    {.name = "verbose", .given = &g->verbose, .help = "log more"},
	    {.name = "json", .given = &g->json, .help = "debug: the report as JSON"}, {.name = NULL}};

	memcpy(rows, all, sizeof all);
}

static bool is_command(const char *word)
{
	static const char *const commands[] = {"start", "debug", "controller", "help"};

	for (size_t i = 0; i < ARRAY_LEN(commands); i++)
		if (strcmp(word, commands[i]) == 0)
			return true;
	return false;
}

static const struct options worker_command = {.usage = "agent worker start|debug [--pool [NAME]] [options]",
    .about = "start: connects this machine to the control plane and runs the tool calls of agents.\n"
	     "debug: says whether a worker started with the same options could work, and what is missing.",
    .values_without_dash = true,
    .is_command = is_command,
    .help_word = true,
    .footer = "Exit status: 0 released or stopped, 1 failure, 2 usage, 3 credential, 4 registration refused,\n"
	      "5 data directory locked."};

void worker_help(FILE *to)
{
	struct option_row rows[ROWS];
	struct options o = worker_command;
	struct given_options g;

	fill_rows(&g, rows);
	o.rows = rows;
	options_help(&o, to);
}

/* OK, ERR_EMPTY (help), ERR_INVALID. */
int option_read_line(int argc, char **argv, struct given_options *g, struct why *why)
{
	struct option_row rows[ROWS];
	struct options o = worker_command;
	struct option_words words;
	int rc;

	g->dirs = (struct option_list){.v = g->dirs_v, .max = WORKER_MAX_DIRS};
	g->labels = (struct option_list){.v = g->labels_v, .max = OPTION_LABELS_MAX};
	g->shared = (struct option_list){.v = g->shared_v, .max = WORKER_MAX_DIRS};
	fill_rows(g, rows);
	o.rows = rows;
	rc = options_parse(&o, argc, argv, OPTION_WORDS_MAX, &words, why);
	if (rc == ERR_INVALID)
		return rc;
	if (words.n > 0 && !is_command(words.v[0]))
		return why_set(why, ERR_INVALID, "unknown command %.100s", words.v[0]);
	if (words.n > 1)
		return why_set(why, ERR_INVALID, "unexpected argument %.100s", words.v[1]);
	if (g->share_mode != NULL && !is_share_mode(g->share_mode))
		return why_set(why, ERR_INVALID,
		    "--share-desktop %.40s is not known: it can be view or view_and_control", g->share_mode);
	g->command = words.n > 0 ? words.v[0] : NULL;
	return rc;
}

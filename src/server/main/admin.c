/* `bullpen admin key …`: works on the store directly, also while the server runs. */
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/terminal.h"
#include "server/access/keys.h"
#include "server/main/admin_priv.h"
#include "server/main/commands.h"
#include <string.h>
#include <errno.h>
#include <sys/stat.h>

const struct audit_by admin_by = {.team_id = THE_TEAM, .actor = AUDIT_ADMIN_COMMAND};

int admin_open_store(const char *data_dir, bool init, struct store **ret)
{
	struct why why = {0};

	if (data_dir == NULL)
		return usage_error("--data DIR is required: the folder that bullpen serve uses");
	if (!store_exists(data_dir) && !init) {
		fprintf(stderr,
		    "error: there is no store in %s: name the data folder of the server, or make a new store there "
		    "with "
		    "--init\n",
		    data_dir);
		return 1;
	}
	if (init && !store_is_url(data_dir) && mkdir(data_dir, 0700) != 0 && errno != EEXIST)
		return usage_error("cannot create %s: %s", data_dir, strerror(errno));
	if (store_open(data_dir, ret, &why) != OK) {
		fprintf(stderr, "error: %s\n", why.text);
		return 1;
	}
	return 0;
}

/* What the command line says; texts are argv's. */
struct key_options {
	const char *data_dir, *type, *name, *email, *scopes;
	bool init; /* make the store if there is none */
	const char *which; /* the word behind `revoke`; NULL: none */
};

static int key_create(const struct key_options *g)
{
	struct store *st = NULL;
	struct why why = {0};
	AUTO_FINI(key_made) made = {0};
	bool user = g->type != NULL && strcmp(g->type, "user") == 0;
	int rc;

	if (g->type == NULL || (!user && strcmp(g->type, "service_account") != 0))
		return usage_error("--type must be user or service_account");
	if (g->name == NULL)
		return usage_error("--name NAME is required");
	const struct key_request req = {
	    .type = user ? KEY_USER : KEY_SERVICE_ACCOUNT, .name = g->name, .email = g->email, .scopes = g->scopes};

	if (g->data_dir != NULL && access_key_check(&req, &why) != OK)
		return usage_error("%s", why.text);
	rc = admin_open_store(g->data_dir, g->init, &st);
	if (rc != 0)
		return rc;
	rc = access_key_create(st, &admin_by, &req, &made, &why);
	store_close(&st);
	if (rc == ERR_INVALID)
		return usage_error("%s", why.text);
	if (rc != OK) {
		fprintf(stderr, "error: %s\n", why.text);
		return 1;
	}
	/* It is shown this once, so nobody may believe that it was. */
	if (puts(made.key) < 0 || fflush(stdout) != 0) {
		fprintf(stderr, "error: the key was made but cannot be printed: revoke it (bullpen admin key list) and "
				"try again\n");
		return 1;
	}
	return 0;
}

static const char *admin_field(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s != NULL ? s : "-";
}

static int read_keys(struct store *st, json_t **ret)
{
	AUTO(tx) tx = NULL;
	int rc = tx_begin(st, TX_READ, &tx);

	return rc != OK ? rc : access_key_list(tx, THE_TEAM, &(struct key_scope){0}, true, ret);
}

/* "a,b"; "-" for none. */
static char *admin_scopes(const json_t *row)
{
	const json_t *all = json_object_get(row, "scopes"), *one;
	struct strbuf b = STRBUF(1000);
	size_t i;

	json_array_foreach((json_t *)all, i, one) strbuf_addf(&b, "%s%s", i > 0 ? "," : "", json_string_value(one));
	if (b.len == 0)
		strbuf_addc(&b, '-');
	return strbuf_take(&b);
}

static int key_list(const struct key_options *g)
{
	struct store *st = NULL;
	AUTO_JSON rows = NULL;
	json_t *row;
	size_t i;
	int rc = admin_open_store(g->data_dir, g->init, &st);

	if (rc != 0)
		return rc;
	rc = read_keys(st, &rows);
	store_close(&st);
	if (rc != OK) {
		fprintf(stderr, "error: the keys cannot be read: %s\n", err_text(rc));
		return 1;
	}
	printf(
	    "%-21s %-16s %-7s %-24s %-24s %-53s %s\n", "ID", "TYPE", "ENDS IN", "CREATED", "REVOKED", "SCOPES", "NAME");
	json_array_foreach(rows, i, row)
	{
		/* Everything else in it is ours. */
		AUTO_STR name = terminal_clean(admin_field(row, "name"), TERMINAL_LINE);
		AUTO_STR scopes = admin_scopes(row);

		printf("%-21s %-16s %-7s %-24s %-24s %-53s %s\n", admin_field(row, "id"), admin_field(row, "type"),
		    admin_field(row, "suffix"), admin_field(row, "createdAt"), admin_field(row, "revokedAt"), scopes,
		    name);
	}
	return 0;
}

static int key_revoke(const struct key_options *g)
{
	struct store *st = NULL;
	int rc;

	if (g->which == NULL)
		return usage_error("name the key to revoke: its id (bullpen admin key list) or the key itself");
	rc = admin_open_store(g->data_dir, g->init, &st);
	if (rc != 0)
		return rc;
	rc = access_key_revoke(st, &admin_by, &(struct key_scope){0}, g->which);
	store_close(&st);
	if (rc == OK)
		return 0;
	fprintf(stderr, "error: %s\n", rc == ERR_NOT_FOUND ? "there is no such key" : err_text(rc));
	return 1;
}

static const struct key_command {
	const char *name, *usage, *about;
	int (*perform)(const struct key_options *g);
} commands[] = {
    {"create", "bullpen admin key create --data DIR --type user|service_account --name NAME [options]",
	"Makes an API key and prints it, once: the store keeps a hash.", key_create},
    {"list", "bullpen admin key list --data DIR", "Lists the keys: ids, types, the last characters, never a secret.",
	key_list},
    {"revoke", "bullpen admin key revoke --data DIR ID|KEY",
	"Revokes a key for good. Its workers and requests are refused within seconds.", key_revoke},
};

static const struct key_command policy_command = {"policy",
    "bullpen admin policy --data DIR [--allow on|off] [--require on|off] [--max-active-per-user N] [--secret-sync "
    "on|off] [--mcp-allow any|none|FILE] [--public-artifacts on|off] [--follow-ups disabled|service_accounts|all]",
    "Shows what holds for the team's runs, after changing what is given. It holds from the next request on.", NULL};

static const struct key_command login_command = {"login-link",
    "bullpen admin login-link --data DIR --email ADDRESS --url URL [--role member|auditor|admin|owner]",
    "Prints an address that signs this person in to the dashboard once, within ten minutes.", NULL};

static const struct key_command audit_command = {"audit", "bullpen admin audit --data DIR [--verify]",
    "Prints the audit log, one JSON object a line, oldest first; with --verify says whether it is whole instead.",
    NULL};

static const struct options all_commands = {
    .usage = "bullpen admin key create --data DIR --type user|service_account "
	     "--name NAME [--email ADDRESS] [--scopes SCOPE,SCOPE]\n"
	     "bullpen admin key list --data DIR\n"
	     "bullpen admin key revoke --data DIR ID|KEY\n"
	     "bullpen admin login-link --data DIR --email ADDRESS --url URL [--role member|auditor|admin|owner]\n"
	     "bullpen admin account link|list|unlink --data DIR …\n"
	     "bullpen admin connect [test] SURFACE --config FILE [--url URL]\n"
	     "bullpen admin audit --data DIR [--verify]\n"
	     "bullpen admin webhooks ls|redeliver --data DIR …\n"
	     "bullpen admin storage check --config FILE\n"
	     "bullpen admin policy --data DIR [--allow on|off] "
	     "[--require on|off] [--max-active-per-user N] "
	     "[--secret-sync on|off] [--mcp-allow any|none|FILE] [--public-artifacts on|off] "
	     "[--follow-ups disabled|service_accounts|all]",
    .about = "Works on the data folder directly, also while the server runs. Each command has --help."};

static const struct key_command *command_named(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(commands); i++)
		if (strcmp(commands[i].name, name) == 0)
			return &commands[i];
	return NULL;
}

static int show_help(const struct option_row *rows, const struct key_command *c)
{
	struct options o = all_commands;

	if (c != NULL)
		o = (struct options){.usage = c->usage, .about = c->about, .command = c->name};
	o.rows = rows;
	options_help(&o, stdout);
	return 0;
}

int admin_main(int argc, char **argv)
{
	if (argc > 1 && strcmp(argv[1], "account") == 0)
		return admin_account(argc - 1, argv + 1);
	if (argc > 1 && strcmp(argv[1], "connect") == 0)
		return admin_connect(argc - 1, argv + 1);
	if (argc > 1 && strcmp(argv[1], "store") == 0)
		return admin_store(argc - 1, argv + 1);
	if (argc > 1 && strcmp(argv[1], "storage") == 0)
		return admin_storage(argc - 1, argv + 1);
	if (argc > 1 && strcmp(argv[1], "webhooks") == 0)
		return admin_webhooks(argc - 1, argv + 1);

	struct key_options g = {0};
	struct policy_options policy = {0};
	struct login_options login = {0};
	bool verify = false;
	/* One table, so that options may stand anywhere; the help of a command shows what is its. */
	const struct option_row rows[] = {
	    {.name = "data",
		.value = "DIR",
		.text = &g.data_dir,
		.help = "the folder that bullpen serve uses, or the URL of its\nPostgreSQL (required)"},
	    {.name = "init", .given = &g.init, .help = "make the store if there is none"},
	    {.name = "type",
		.value = "TYPE",
		.text = &g.type,
		.of = "create",
		.help = "user: a person; service_account: machines, workers (required)"},
	    {.name = "name",
		.value = "NAME",
		.text = &g.name,
		.of = "create",
		.help = "what the key is called (required)"},
	    {.name = "email",
		.value = "ADDRESS",
		.text = &g.email,
		.of = "create",
		.help = "of the person; only with --type user"},
	    {.name = "scopes",
		.value = "SCOPE,SCOPE",
		.text = &g.scopes,
		.of = "create",
		.help = "what the key may do (default: what its type does); docs/operating.md lists them"},
	    {.name = "url",
		.value = "URL",
		.text = &login.url,
		.of = "login-link",
		.help = "where browsers reach the server (required)"},
	    {.name = "role",
		.value = "ROLE",
		.text = &login.role,
		.of = "login-link",
		.help = "what the person is in the team from then on; the first admin\nbecomes its owner"},
	    {.name = "verify",
		.given = &verify,
		.of = "audit",
		.help = "say whether a record was changed, removed or put in later"},
	    {.name = "allow",
		.value = "on|off",
		.text = &policy.allow,
		.of = "policy",
		.help = "runs may ask for the team's own workers (Allow Self-Hosted Agents)"},
	    {.name = "secret-sync",
		.value = "on|off",
		.text = &policy.secret_sync,
		.help = "policy: whether variables of requests go to workers with --sync-dashboard-secrets"},
	    {.name = "mcp-allow",
		.value = "any|none|FILE",
		.text = &policy.mcp_allow,
		.of = "policy",
		.help = "which MCP servers and tools runs may use; FILE: a JSON list of rules (docs/operating.md)"},
	    {.name = "public-artifacts",
		.value = "on|off",
		.text = &policy.public_artifacts,
		.of = "policy",
		.help = "pull requests show artifacts, which anybody who has their\naddress can read"},
	    {.name = "follow-ups",
		.value = "WHOSE",
		.text = &policy.follow_ups,
		.of = "policy",
		.help = "disabled, service_accounts or all: with whose agents the rest of\nthe team may go on, with "
			"their rights"},
	    {.name = "require",
		.value = "on|off",
		.text = &policy.require,
		.of = "policy",
		.help = "all runs go to the team's own workers (Require Self-Hosted Agents)"},
	    {.name = "max-active-per-user",
		.value = "N",
		.text = &policy.max_active,
		.of = "policy",
		.help = "runs of one user that have a worker at the same time; 0: any number"},
	    {0}};
	const struct options o = {.usage = all_commands.usage, .rows = rows, .help_word = true};
	const struct key_command *command;
	struct option_words words;
	struct why why = {0};
	int rc = options_parse(&o, argc, argv, 3, &words, &why);

	if (rc == ERR_INVALID)
		return usage_error("%s", why.text);
	command = words.n >= 2 && strcmp(words.v[0], "key") == 0 ? command_named(words.v[1]) : NULL;
	if (rc == ERR_EMPTY && words.n >= 1 && strcmp(words.v[0], "policy") == 0)
		command = &policy_command;
	if (rc == ERR_EMPTY && words.n >= 1 && strcmp(words.v[0], "login-link") == 0)
		command = &login_command;
	if (rc == ERR_EMPTY && words.n >= 1 && strcmp(words.v[0], "audit") == 0)
		command = &audit_command;
	if (rc == ERR_EMPTY)
		return show_help(rows, command);
	if (words.n == 1 && strcmp(words.v[0], "login-link") == 0) {
		login.data_dir = g.data_dir;
		login.email = g.email;
		return admin_login_link(&login);
	}
	if (words.n == 1 && strcmp(words.v[0], "policy") == 0) {
		policy.data_dir = g.data_dir;
		return admin_policy(&policy);
	}
	if (words.n == 1 && strcmp(words.v[0], "audit") == 0)
		return admin_audit(g.data_dir, verify);
	if (words.n < 2 || strcmp(words.v[0], "key") != 0)
		return usage_error(
		    "usage: bullpen admin key create|list|revoke --data DIR …, or bullpen admin policy --data "
		    "DIR …");
	if (command == NULL)
		return usage_error("unknown command 'admin key %.100s': create, list or revoke", words.v[1]);
	g.which = words.n > 2 ? words.v[2] : NULL;
	if (g.which != NULL && command->perform != key_revoke)
		return usage_error("unexpected argument '%.100s'", g.which);
	return command->perform(&g);
}

#include "server/main/config.h"
#include "server/audit/audit.h"
#include "base/mem.h"
#include "base/text.h"
#include "base/toml.h"
#include "server/node/node.h"
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_MAX (1024 * 1024)
#define PER_PEER_DEFAULT 1000
#define UNAUTHENTICATED_PER_PEER_DEFAULT 200
#define DAY_S (24 * 60 * 60)
#define YEAR_S (366 * DAY_S)

/* Every setting once: section, key, where it goes, and what it may be. docs/operating.md lists the same. */
enum setting_type { TEXT, NUMBER, FLAG, LISTEN };

struct setting {
	const char *section, *key;
	enum setting_type type;
	size_t offset;
	int64_t min, max;
};

#define TEXT_SETTING(section, key, field)                                                                              \
	{                                                                                                              \
		section, key, TEXT, offsetof(struct config, field), 0, 0                                               \
	}
#define NUMBER_SETTING(section, key, field, min, max)                                                                  \
	{                                                                                                              \
		section, key, NUMBER, offsetof(struct config, field), min, max                                         \
	}

#define FLAG_SETTING(section, key, field)                                                                              \
	{                                                                                                              \
		section, key, FLAG, offsetof(struct config, field), 0, 0                                               \
	}

static const struct setting settings[] = {
    {"server", "listen", LISTEN, 0, 0, 0},
    TEXT_SETTING("node", "name", node_name),
    TEXT_SETTING("server", "data", data_dir),
    TEXT_SETTING("server", "public_url", public_url),
    FLAG_SETTING("server", "allow_private_urls", allow_private_urls),
    FLAG_SETTING("webhooks", "allow_http", allow_http_webhooks),
    TEXT_SETTING("server", "tls_cert", tls_cert),
    TEXT_SETTING("server", "tls_key", tls_key),
    NUMBER_SETTING("server", "handler_threads", handler_threads, 1, 512),
    NUMBER_SETTING("server", "io_threads", io_threads, 1, 64),
    NUMBER_SETTING("limits", "reads_per_minute", reads_per_minute, 0, 1000000),
    NUMBER_SETTING("limits", "mutations_per_minute", mutations_per_minute, 0, 1000000),
    NUMBER_SETTING("limits", "repositories_per_minute", repositories_per_minute, 0, 1000000),
    NUMBER_SETTING("limits", "repositories_per_hour", repositories_per_hour, 0, 1000000),
    NUMBER_SETTING("limits", "v0_artifacts_per_minute", v0_artifacts_per_minute, 0, 1000000),
    NUMBER_SETTING("limits", "v0_artifacts_per_hour", v0_artifacts_per_hour, 0, 1000000),
    NUMBER_SETTING("limits", "max_connections", max_connections, 1, 1000000),
    NUMBER_SETTING("limits", "max_connections_per_peer", max_connections_per_peer, 0, 1000000),
    NUMBER_SETTING("limits", "request_memory", request_memory_mib, 1, 1048576),
    NUMBER_SETTING("limits", "max_streams_per_principal", max_streams_per_principal, 1, 1000000),
    NUMBER_SETTING("limits", "max_streams_per_run", max_streams_per_run, 1, 1000000),
    NUMBER_SETTING("limits", "max_workers_per_team", max_workers_per_team, 0, 1000000),
    NUMBER_SETTING("limits", "max_workers_per_user", max_workers_per_user, 0, 1000000),
    NUMBER_SETTING("limits", "max_unauthenticated", max_unauthenticated, 0, 1000000),
    NUMBER_SETTING("limits", "max_unauthenticated_per_peer", max_unauthenticated_per_peer, 0, 1000000),
    NUMBER_SETTING("limits", "max_active_runs", max_active_runs, 1, 30000),
    NUMBER_SETTING("runs", "max_steps", max_steps, 1, 100000),
    NUMBER_SETTING("runs", "open_timeout", open_timeout_s, 1, DAY_S),
    NUMBER_SETTING("runs", "open_retries", open_retries, 0, 20),
    NUMBER_SETTING("runs", "run_timeout", run_timeout_s, 1, YEAR_S),
    NUMBER_SETTING("runs", "queue_timeout", queue_timeout_s, 1, YEAR_S),
    NUMBER_SETTING("runs", "stream_retention", stream_retention_s, 1, YEAR_S),
    NUMBER_SETTING("retention", "images_days", image_retention_days, 0, 36500),
    NUMBER_SETTING("retention", "conversations_days", conversation_retention_days, 0, 36500),
    NUMBER_SETTING("retention", "agents_days", agent_retention_days, 0, 36500),
    NUMBER_SETTING("retention", "artifacts_days", artifact_retention_days, 0, 36500),
    NUMBER_SETTING("retention", "unseen_days", unseen_retention_days, 0, 36500),
    NUMBER_SETTING("retention", "audit_days", audit_retention_days, AUDIT_DAYS_MIN, 36500),
    NUMBER_SETTING("pools", "worker_loss_grace", worker_loss_grace_s, 1, DAY_S),
    NUMBER_SETTING("pools", "idle_release", idle_release_s, 0, YEAR_S),
    NUMBER_SETTING("pools", "claim_connect_timeout", claim_connect_timeout_s, 1, DAY_S),
    NUMBER_SETTING("pools", "machine_wait", machine_wait_s, 1, DAY_S),
    NUMBER_SETTING("pools", "reclaim_after_queued", reclaim_after_s, 0, YEAR_S),
    NUMBER_SETTING("pools", "reclaim_idle_min", reclaim_idle_s, 0, YEAR_S),
    TEXT_SETTING("pools", "cloud_pool", cloud_pool),
    NUMBER_SETTING("artifacts", "max_files", artifact_max_files, 1, 10000),
    NUMBER_SETTING("artifacts", "max_file_mib", artifact_max_file_mib, 1, 1048576),
    TEXT_SETTING("artifacts", "upload_url", artifact_upload_url),
    TEXT_SETTING("artifacts", "download_url", artifact_download_url),
    TEXT_SETTING("mcp", "internal_hosts", mcp_internal_hosts),
    TEXT_SETTING("mcp", "public_url", mcp_public_url),
    FLAG_SETTING("mcp", "client_document", mcp_client_document),
    TEXT_SETTING("login.oidc", "issuer", oidc_issuer),
    TEXT_SETTING("login.oidc", "client_id", oidc_client_id),
    TEXT_SETTING("login.oidc", "client_secret_file", oidc_client_secret_file),
    TEXT_SETTING("login.oidc", "scopes", oidc_scopes),
    TEXT_SETTING("login.oidc", "allowed_domains", oidc_allowed_domains),
    TEXT_SETTING("login.oidc", "groups_claim", oidc_groups_claim),
    TEXT_SETTING("login.oidc", "admin_groups", oidc_admin_groups),
    TEXT_SETTING("login.oidc", "button", oidc_button),
    FLAG_SETTING("login.oidc", "auto_create", oidc_auto_create),
    FLAG_SETTING("login.oidc", "trust_email", oidc_trust_email),
    NUMBER_SETTING("history", "sample_seconds", history_sample_s, 1, 3600),
    TEXT_SETTING("secrets", "key_file", secret_key_file),
    TEXT_SETTING("store", "url", store_url),
    TEXT_SETTING("store", "password_file", store_password_file),
    TEXT_SETTING("git", "branch_prefix", branch_prefix),
    TEXT_SETTING("git", "author_name", author_name),
    TEXT_SETTING("git", "author_email", author_email),
};

void config_init(struct config *c)
{
	*c = (struct config){
	    .host = str_dup("127.0.0.1"),
	    .port = 8787,
	    .data_dir = str_dup("bullpen-data"),
	    .public_url = str_dup(""),
	    .cloud_pool = str_dup("default"),
	    .branch_prefix = str_dup("cursor/"),
	    .author_name = str_dup("Bullpen Agent"),
	    .author_email = str_dup("agent@bullpen.invalid"),
	    .oidc_scopes = str_dup("openid email profile"),
	    .oidc_groups_claim = str_dup("groups"),
	    .oidc_button = str_dup("Sign in with single sign-on"),
	    .history_sample_s = 60,
	    .reads_per_minute = 600,
	    .mutations_per_minute = 120,
	    .repositories_per_minute = 1,
	    .repositories_per_hour = 30,
	    .v0_artifacts_per_minute = 300,
	    .v0_artifacts_per_hour = 6000,
	    .artifact_max_files = 100,
	    .artifact_max_file_mib = 500,
	    .run_timeout_s = DAY_S,
	    .queue_timeout_s = DAY_S,
	    .worker_loss_grace_s = 120,
	    .idle_release_s = 3600,
	    .claim_connect_timeout_s = 600,
	    .machine_wait_s = 30,
	    .reclaim_after_s = 300,
	    .reclaim_idle_s = 3600,
	    .stream_retention_s = 86400,
	    .image_retention_days = 30,
	    .conversation_retention_days = 90,
	    .agent_retention_days = 365,
	    .unseen_retention_days = 365,
	    .audit_retention_days = AUDIT_DAYS_MIN,
	    .max_steps = 1000,
	    .open_retries = 2,
	    .open_timeout_s = 600,
	    .max_active_runs = 10000,
	    .max_workers_per_team = 50,
	    .max_workers_per_user = 10,
	    .max_streams_per_principal = 1000,
	    .max_streams_per_run = 64,
	    .max_connections = 100000,
	    .request_memory_mib = 1024,
	    .max_connections_per_peer = -1,
	    .max_unauthenticated = 10000,
	    .max_unauthenticated_per_peer = -1,
	    .handler_threads = 16,
	    .io_threads = 2,
	};
}

void config_fini(struct config *c)
{
	free(c->host);
	free(c->tls_cert);
	free(c->tls_key);
	free(c->secret_key_file);
	free(c->store_url);
	free(c->store_password_file);
	free(c->data_dir);
	free(c->node_name);
	free(c->public_url);
	free(c->cloud_pool);
	free(c->mcp_internal_hosts);
	free(c->mcp_public_url);
	free(c->artifact_upload_url);
	free(c->artifact_download_url);
	free(c->oidc_issuer);
	free(c->oidc_client_id);
	free(c->oidc_client_secret_file);
	free(c->oidc_scopes);
	free(c->oidc_allowed_domains);
	free(c->oidc_groups_claim);
	free(c->oidc_admin_groups);
	free(c->oidc_button);
	free(c->branch_prefix);
	free(c->author_name);
	free(c->author_email);
	json_decref(c->models);
	json_decref(c->forges);
	json_decref(c->triggers);
	json_decref(c->linear);
	json_decref(c->slack);
	json_decref(c->s3);
}

int config_set_listen(struct config *c, const char *text, struct why *why)
{
	const char *colon = strrchr(text, ':');
	AUTO_STR host = NULL;
	struct in6_addr addr;
	int64_t port;

	if (colon == NULL || text_parse_int(colon + 1, 0, 65535, &port) != OK)
		return why_set(
		    why, ERR_INVALID, "listen must be ADDRESS:PORT, for example 127.0.0.1:8787, not '%s'", text);
	host = str_ndup(text, (size_t)(colon - text));
	if (host[0] == '[' && text_has_suffix(host, "]")) {
		memmove(host, host + 1, strlen(host));
		host[strlen(host) - 1] = '\0';
	}
	if (host[0] == '\0')
		str_set(&host, "0.0.0.0");
	if (strcmp(host, "localhost") == 0)
		str_set(&host, "127.0.0.1");
	if (inet_pton(AF_INET, host, &addr) != 1 && inet_pton(AF_INET6, host, &addr) != 1)
		return why_set(why, ERR_INVALID, "listen must be a numeric address and a port, not '%s'", text);
	free(c->host);
	c->host = TAKE(host);
	c->port = (uint16_t)port;
	return OK;
}

#define BRANCH_PREFIX_MAX 100 /* a name follows, and git takes 255 */
#define POOL_NAME_MAX 63

static bool is_http_url(const char *s)
{
	const char *host = text_has_prefix(s, "https://") ? s + 8 : text_has_prefix(s, "http://") ? s + 7 : "";

	for (const char *c = host; *c != '\0'; c++)
		if (*c <= ' ' || *c >= 0x7f || strchr("\"<>\\^`{|}", *c) != NULL)
			return false;
	return host[0] != '\0' && host[0] != '/';
}

static bool is_url_or_nothing(const char *s)
{
	return s == NULL || (is_http_url(s) && !text_has_suffix(s, "/"));
}

static bool is_branch_prefix(const char *s)
{
	AUTO_STR branch = str_printf("%sx", s);

	return strlen(s) <= BRANCH_PREFIX_MAX && text_is_git_ref(branch);
}

/* What git takes for the name or address of an author: it leaves punctuation around it away, and wants something left.
 */
static bool is_git_person(const char *s)
{
	bool any = false;

	for (const unsigned char *c = (const unsigned char *)s; *c != '\0'; c++) {
		if (*c < ' ' || *c == 0x7f || *c == '<' || *c == '>')
			return false;
		any |= isalnum(*c) || *c >= 0x80;
	}
	return any;
}

static bool is_pool_name(const char *s)
{
	return text_is_token(s, "._-", POOL_NAME_MAX) && strchr("._-", s[0]) == NULL;
}

/* Texts that would be found wrong only much later, by the run or the person that meets them. */
static int check_texts(const struct config *c, struct why *why)
{
	if (c->public_url[0] != '\0' && !is_http_url(c->public_url))
		return why_set(why, ERR_INVALID, "server.public_url must be an http:// or https:// URL");
	if (!is_url_or_nothing(c->artifact_upload_url) || !is_url_or_nothing(c->artifact_download_url))
		return why_set(why, ERR_INVALID,
		    "artifacts.upload_url and artifacts.download_url must be http:// or https:// URLs without a '/' at "
		    "the end");
	if (!is_url_or_nothing(c->mcp_public_url))
		return why_set(
		    why, ERR_INVALID, "mcp.public_url must be an http:// or https:// URL without a '/' at the end");
	if (c->cloud_pool[0] != '\0' && !is_pool_name(c->cloud_pool))
		return why_set(why, ERR_INVALID,
		    "pools.cloud_pool must be empty or the name of a pool: 1 to %d characters of A-Z a-z 0-9 . _ -, "
		    "the "
		    "first a letter or digit",
		    POOL_NAME_MAX);
	if (!is_branch_prefix(c->branch_prefix))
		return why_set(why, ERR_INVALID,
		    "git.branch_prefix must be the beginning of a branch's name, at most %d bytes", BRANCH_PREFIX_MAX);
	if (!is_git_person(c->author_name))
		return why_set(
		    why, ERR_INVALID, "git.author_name must be a name that git takes, without < > and line ends");
	if (!is_git_person(c->author_email))
		return why_set(
		    why, ERR_INVALID, "git.author_email must be an address that git takes, without < > and line ends");
	return OK;
}

/* http is for a provider on this machine. */
static bool is_issuer(const char *s)
{
	static const char *const local[] = {"http://127.0.0.1", "http://localhost", "http://[::1]"};

	for (size_t i = 0; i < ARRAY_LEN(local); i++)
		if (text_has_prefix(s, local[i]) && strchr(":/", s[strlen(local[i])]) != NULL)
			return is_http_url(s);
	return text_has_prefix(s, "https://") && is_http_url(s) && strpbrk(s, "?#@") == NULL;
}

static bool has_word(const char *list, const char *word)
{
	AUTO_STR spaced = str_printf(" %s ", list);
	AUTO_STR wanted = str_printf(" %s ", word);

	return strstr(spaced, wanted) != NULL;
}

static int check_oidc(const struct config *c, struct why *why)
{
	bool domains = c->oidc_allowed_domains != NULL && !text_is_blank(c->oidc_allowed_domains);

	if (c->oidc_issuer == NULL)
		return c->oidc_client_id == NULL && c->oidc_client_secret_file == NULL
			   ? OK
			   : why_set(why, ERR_INVALID, "login.oidc.issuer is missing: the URL of the OpenID provider");
	if (!is_issuer(c->oidc_issuer))
		return why_set(why, ERR_INVALID,
		    "login.oidc.issuer must be an https:// URL as the provider writes it (http:// only on this "
		    "machine)");
	if (c->oidc_client_id == NULL || c->oidc_client_id[0] == '\0')
		return why_set(
		    why, ERR_INVALID, "login.oidc.client_id is missing: what the provider calls this server");
	if (!has_word(c->oidc_scopes, "openid"))
		return why_set(
		    why, ERR_INVALID, "login.oidc.scopes must have openid, for example \"openid email profile\"");
	if (c->oidc_groups_claim[0] == '\0')
		return why_set(
		    why, ERR_INVALID, "login.oidc.groups_claim must be the name of a claim, for example \"groups\"");
	if (text_is_blank(c->oidc_button) || strlen(c->oidc_button) > 60 ||
	    !text_is_utf8(c->oidc_button, strlen(c->oidc_button)))
		return why_set(why, ERR_INVALID, "login.oidc.button must be 1 to 60 bytes of text");
	/* Whoever has an account at a public provider could come in. */
	if (c->oidc_auto_create && !domains)
		return why_set(why, ERR_INVALID,
		    "login.oidc.auto_create needs login.oidc.allowed_domains: \"corp.example\", or \"*\" for everybody "
		    "whom the "
		    "provider knows");
	return OK;
}

/* Nodes of one store need names of their own; a pod's or machine's name is one. */
static void name_node(struct config *c)
{
	char name[NODE_ID_MAX + 1] = "";

	if (c->node_name != NULL)
		return;
	if (c->store_url != NULL && gethostname(name, sizeof name - 1) == 0 && text_is_token(name, "._-", NODE_ID_MAX))
		c->node_name = str_dup(name);
	else
		c->node_name = str_dup("node-1");
}

int config_check(struct config *c, struct why *why)
{
	name_node(c);
	if (c->store_password_file != NULL && c->store_url == NULL)
		return why_set(why, ERR_INVALID, "store.password_file needs store.url");
	if ((c->tls_cert == NULL) != (c->tls_key == NULL))
		return why_set(why, ERR_INVALID, "server.tls_cert and server.tls_key belong together: %s is missing",
		    c->tls_cert == NULL ? "server.tls_cert" : "server.tls_key");
	if (!text_is_token(c->node_name, "._-", NODE_ID_MAX))
		return why_set(why, ERR_INVALID, "node.name must be 1 to %d characters of A-Z a-z 0-9 . _ -, not '%s'",
		    NODE_ID_MAX, c->node_name);
	if (check_texts(c, why) != OK || check_oidc(c, why) != OK)
		return ERR_INVALID;
	/* On loopback a proxy may be the peer of all. */
	if (c->max_connections_per_peer < 0)
		c->max_connections_per_peer = config_is_loopback(c) ? 0 : PER_PEER_DEFAULT;
	if (c->max_unauthenticated_per_peer < 0)
		c->max_unauthenticated_per_peer = config_is_loopback(c) ? 0 : UNAUTHENTICATED_PER_PEER_DEFAULT;
	return OK;
}

bool config_is_loopback(const struct config *c)
{
	return text_has_prefix(c->host, "127.") || strcmp(c->host, "::1") == 0;
}

static const struct setting *find(const char *section, const char *key)
{
	for (size_t i = 0; i < ARRAY_LEN(settings); i++)
		if (strcmp(settings[i].section, section) == 0 && strcmp(settings[i].key, key) == 0)
			return &settings[i];
	return NULL;
}

static int apply(struct config *c, const struct setting *s, const json_t *v, struct why *why)
{
	void *field = (char *)c + s->offset;

	if (s->type == NUMBER) {
		if (!json_is_integer(v) || json_integer_value(v) < s->min || json_integer_value(v) > s->max)
			return why_set(why, ERR_INVALID, "%s.%s must be an integer from %lld to %lld", s->section,
			    s->key, (long long)s->min, (long long)s->max);
		*(int64_t *)field = json_integer_value(v);
		return OK;
	}
	if (s->type == FLAG) {
		if (!json_is_boolean(v))
			return why_set(why, ERR_INVALID, "%s.%s must be true or false", s->section, s->key);
		*(bool *)field = json_is_true(v);
		return OK;
	}
	if (!json_is_string(v))
		return why_set(why, ERR_INVALID, "%s.%s must be a string", s->section, s->key);
	if (s->type == LISTEN)
		return config_set_listen(c, json_string_value(v), why);
	str_set(field, json_string_value(v));
	return OK;
}

static int apply_section(struct config *c, const char *section, const json_t *values, struct why *why)
{
	const char *key;
	json_t *v;

	if (!json_is_object(values))
		return why_set(why, ERR_INVALID, "'%s' must be a table: [%s]", section, section);
	json_object_foreach((json_t *)values, key, v)
	{
		const struct setting *s = find(section, key);
		int rc;

		if (s == NULL)
			return why_set(why, ERR_INVALID, "unknown setting %s.%s", section, key);
		rc = apply(c, s, v, why);
		if (rc != OK)
			return rc;
	}
	return OK;
}

/* [login.oidc] is a table in a table. */
static int apply_login(struct config *c, const json_t *tables, struct why *why)
{
	const char *key;
	json_t *v;

	if (!json_is_object(tables))
		return why_set(why, ERR_INVALID, "'login' must be a table: [login.oidc]");
	json_object_foreach((json_t *)tables, key, v)
	{
		int rc = strcmp(key, "oidc") == 0 ? apply_section(c, "login.oidc", v, why)
						  : why_set(why, ERR_INVALID, "unknown setting login.%s", key);

		if (rc != OK)
			return rc;
	}
	return OK;
}

/* The reading knows only our codes; a person wants to know what is at that place. */
static int refuse_file(const char *path, int rc, struct why *why)
{
	struct stat st;

	if (stat(path, &st) != 0)
		return why_set(
		    why, rc, "cannot read %s: %s", path, errno == ENOENT ? "there is no such file" : strerror(errno));
	if (S_ISDIR(st.st_mode))
		return why_set(why, rc, "cannot read %s: it is a folder: name the file in it", path);
	if (access(path, R_OK) != 0)
		return why_set(why, rc, "cannot read %s: %s", path, strerror(errno));
	if (rc == ERR_TOO_LARGE)
		return why_set(why, rc, "cannot read %s: it is larger than %d bytes", path, FILE_MAX);
	return why_set(why, rc, "cannot read %s: %s", path, err_text(rc));
}

int config_read(struct config *c, const char *path, struct why *why)
{
	AUTO_STR text = NULL;
	AUTO_JSON root = NULL;
	struct why reason = {0};
	const char *section;
	json_t *values;
	size_t len;
	int rc = text_read_file(path, FILE_MAX, &text, &len);

	if (rc != OK)
		return refuse_file(path, rc, why);
	rc = toml_parse(text, len, path, &root, why);
	if (rc != OK)
		return rc;
	json_object_foreach(root, section, values)
	{
		/* The rooms of these names read them. */
		json_t **whole = strcmp(section, "models") == 0	    ? &c->models
				 : strcmp(section, "forges") == 0   ? &c->forges
				 : strcmp(section, "triggers") == 0 ? &c->triggers
				 : strcmp(section, "linear") == 0   ? &c->linear
				 : strcmp(section, "slack") == 0    ? &c->slack
				 : strcmp(section, "s3") == 0	    ? &c->s3
								    : NULL;

		if (whole != NULL) {
			json_decref(*whole);
			*whole = json_incref(values);
			continue;
		}
		rc = strcmp(section, "login") == 0 ? apply_login(c, values, &reason)
						   : apply_section(c, section, values, &reason);
		if (rc != OK)
			return why_set(why, rc, "%s: %s", path, reason.text);
	}
	return OK;
}

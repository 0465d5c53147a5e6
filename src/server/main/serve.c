/* `bullpen serve`: puts the rooms together, and takes them apart in the order in which they need each other. */
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/seal.h"
#include "base/text.h"
#include "server/access/access.h"
#include "server/api/api.h"
#include "server/artifacts/artifacts.h"
#include "server/automations/runner.h"
#include "server/fleet/history.h"
#include "server/login/oidc.h"
#include "server/main/commands.h"
#include "server/main/config.h"
#include "server/main/gauges.h"
#include "server/mcp/remotes.h"
#include "server/models/models.h"
#include "server/forges/forges.h"
#include "server/outbox/outbox.h"
#include "server/pulls/pulls.h"
#include "server/triggers/triggers.h"
#include "server/runs/publication.h"
#include "server/webhooks/webhooks.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define DAY_MS ((int64_t)24 * 60 * 60 * 1000)

struct server {
	struct config cfg;
	int lock_fd;
	struct seal *seal;
	struct store *store;
	struct pool *handlers, *jobs;
	struct node node;
	struct notify *notify;
	struct relay *relay; /* NULL: the store is not shared */
	struct fleet *fleet;
	struct runs *runs;
	struct outbox *outbox;
	struct artifacts *artifacts;
	struct webhooks *webhooks;
	struct remotes *remotes;
	struct oidc *oidc;
	char *oidc_secret; /* NULL: none */
	struct history *history;
	struct forges *forges;
	struct pulls *pulls;
	struct triggers *triggers;
	struct automations *automations;
	struct api *api;
	struct gauges *gauges;
	struct http_server *http;
};

static int fail(int rc, const struct why *why)
{
	fprintf(stderr, "error: %s\n", why->text[0] != '\0' ? why->text : err_text(rc));
	return 1;
}

/* Only one server may work on a folder: two would both believe to own its runs. */
static int lock_data_dir(struct server *s, struct why *why)
{
	AUTO_STR path = str_printf("%s/bullpen.lock", s->cfg.data_dir);

	if (mkdir(s->cfg.data_dir, 0700) != 0 && errno != EEXIST)
		return why_set(why, ERR_IO, "cannot create the data folder %s: %s", s->cfg.data_dir, strerror(errno));
	s->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (s->lock_fd < 0)
		return why_set(why, ERR_IO, "cannot open %s: %s", path, strerror(errno));
	if (flock(s->lock_fd, LOCK_EX | LOCK_NB) != 0)
		return why_set(why, ERR_CONFLICT, "another bullpen serves the data folder %s", s->cfg.data_dir);
	return OK;
}

static int authenticate_worker(
    void *ctx, const char *authorization, struct fleet_identity *ret, const char **ret_code, struct why *why)
{
	static const enum fleet_credential kinds[] = {[BY_API_KEY] = FLEET_API_KEY,
	    [BY_USER_TOKEN] = FLEET_USER_TOKEN,
	    [BY_WORKER_TOKEN] = FLEET_WORKER_TOKEN,
	    [BY_SESSION_TOKEN] = FLEET_SESSION_TOKEN};
	struct server *s = ctx;
	AUTO(principal) p = NULL;
	struct refusal refusal;
	int rc = access_authenticate_worker(s->store, authorization, &p, &refusal);

	if (rc == ERR_UNAUTHORIZED) {
		*ret_code = refusal.code;
		*why = refusal.why;
	}
	if (rc != OK)
		return rc;
	*ret = (struct fleet_identity){.team_id = p->team_id, .user_id = p->user_id, .kind = kinds[p->by]};
	ret->account = principal_is_service_account(p) ? TAKE(p->service_account_id) : TAKE(p->owner);
	ret->key_id = TAKE(p->key_id);
	ret->only_agent = TAKE(p->only_agent);
	ret->only_worker = TAKE(p->only_worker);
	/* A session token is the permission itself. */
	ret->connects_pool = p->by == BY_SESSION_TOKEN || principal_has_scope(p, SCOPE_WORKERS_CONNECT);
	ret->connects_machine = principal_has_scope(p, SCOPE_MACHINES_CONNECT);
	return OK;
}

static void raise_descriptor_limit(void)
{
	struct rlimit lim;

	if (getrlimit(RLIMIT_NOFILE, &lim) != 0 || lim.rlim_cur == lim.rlim_max)
		return;
	lim.rlim_cur = lim.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &lim) == 0)
		log_info("server.descriptors", "limit=%llu", (unsigned long long)lim.rlim_cur);
}

static int session_closed(
    void *ctx, struct tx *tx, int64_t team_id, const char *worker_id, const char *agent_id, const char *result)
{
	return runs_session_closed(tx, team_id, worker_id, agent_id, result);
}

static int call_run(void *ctx, struct tx *tx, const char *call_id, char **ret_run_id)
{
	return runs_call_run(tx, call_id, ret_run_id);
}

/* Handlers are registered here, one a kind; without any no thread is started. */
static int start_outbox(struct server *s, struct why *why)
{
	const struct outbox_config cfg = {.store = s->store, .node_id = s->node.id};

	s->outbox = outbox_new(&cfg);
	return outbox_start(s->outbox, why);
}

static int start_webhooks(struct server *s, struct why *why)
{
	const struct webhooks_config cfg = {.store = s->store,
	    .seal = s->seal,
	    .notify = s->notify,
	    .node_id = s->node.id,
	    .allow_private = s->cfg.allow_private_urls};

	s->webhooks = webhooks_new(&cfg);
	return webhooks_start(s->webhooks, why);
}

/* A key file that is named must be there: a new key would open nothing that was sealed before. */
static int load_seal(struct server *s, struct why *why)
{
	AUTO_STR own = str_printf("%s/secret.key", s->cfg.data_dir);
	bool named = s->cfg.secret_key_file != NULL;

	return seal_load(named ? s->cfg.secret_key_file : own, !named, &s->seal, why);
}

/* What one server seals the others open: each leaves a text that its key opens. A server that is alone may have a new
 * key, as the old one may be lost. */
static int check_seal(struct server *s, struct why *why)
{
	static const char of[] = "installation/seal";
	const char *file = s->cfg.secret_key_file;
	AUTO_STR mine = seal_text(s->seal, of, "bullpen");
	AUTO_STR before = NULL;
	AUTO_STR plain = NULL;
	AUTO(tx) tx = NULL;
	struct node self = {0};
	int64_t peers = 0;
	int rc;

	snprintf(self.id, sizeof self.id, "%s", s->cfg.node_name);
	rc = node_count_peers(s->store, &self, &peers);
	if (rc == OK)
		rc = tx_begin(s->store, TX_WRITE, &tx);
	if (rc == OK)
		rc = tx_query_text(tx, &before, "SELECT value FROM installation_keys WHERE name = 'seal'", "");
	if (rc == OK && seal_try(s->seal, of, before, &plain) == OK)
		return OK;
	if (rc == OK && peers > 0)
		return why_set(why, ERR_INVALID,
		    "the key in %s%s is not that of the other servers of this database: give all of them the same "
		    "secrets.key_file",
		    file != NULL ? file : s->cfg.data_dir, file != NULL ? "" : "/secret.key");
	if (rc == OK || rc == ERR_EMPTY)
		rc = tx_exec(tx,
		    "INSERT INTO installation_keys(name, value, created_at) VALUES('seal', $1, $2)"
		    " ON CONFLICT(name) DO UPDATE SET value = excluded.value, created_at = excluded.created_at",
		    "si", mine, clock_wall_ms());
	if (rc == OK)
		rc = tx_commit(&tx);
	return rc == OK ? OK : why_set(why, rc, "the store in %s cannot be written: %s", s->cfg.data_dir, err_text(rc));
}

static int start_artifacts(struct server *s, struct why *why)
{
	const struct config *c = &s->cfg;
	const struct artifacts_config cfg = {.store = s->store,
	    .seal = s->seal,
	    .data_dir = c->data_dir,
	    .s3 = c->s3,
	    .keep_ms = c->artifact_retention_days * 24 * 60 * 60 * 1000,
	    .max_files = c->artifact_max_files,
	    .max_file_bytes = c->artifact_max_file_mib * 1024 * 1024,
	    .upload_url = c->artifact_upload_url,
	    .download_url = c->artifact_download_url};

	return artifacts_new(&cfg, &s->artifacts, why);
}

static int start_remotes(struct server *s, struct why *why)
{
	const struct remotes_config cfg = {.store = s->store,
	    .seal = s->seal,
	    .internal_hosts = s->cfg.mcp_internal_hosts,
	    .client_documents = s->cfg.mcp_client_document};

	return remotes_new(&cfg, &s->remotes, why);
}

/* One line in a file, so that the settings may be read by whom the secret is not for. */
static int read_client_secret(struct server *s, struct why *why)
{
	const char *path = s->cfg.oidc_client_secret_file;
	char *text = NULL;
	size_t len;
	int rc;

	if (path == NULL)
		return OK;
	rc = text_read_file(path, 4096, &text, &len);
	if (rc != OK)
		return why_set(why, rc, "cannot read login.oidc.client_secret_file %s: %s", path, err_text(rc));
	s->oidc_secret = text_trim(text);
	str_wipe(&text);
	return s->oidc_secret[0] != '\0' ? OK
					 : why_set(why, ERR_INVALID, "login.oidc.client_secret_file %s is empty", path);
}

static int start_oidc(struct server *s, struct why *why)
{
	const struct config *c = &s->cfg;
	const struct oidc_config cfg = {.store = s->store,
	    .seal = s->seal,
	    .issuer = c->oidc_issuer,
	    .client_id = c->oidc_client_id,
	    .scopes = c->oidc_scopes,
	    .allowed_domains = c->oidc_allowed_domains,
	    .groups_claim = c->oidc_groups_claim,
	    .admin_groups = c->oidc_admin_groups,
	    .auto_create = c->oidc_auto_create,
	    .trust_email = c->oidc_trust_email};
	struct oidc_config full = cfg;
	int rc;

	if (c->oidc_issuer == NULL)
		return OK;
	rc = read_client_secret(s, why);
	full.client_secret = s->oidc_secret;
	return rc != OK ? rc : oidc_new(&full, &s->oidc, why);
}

static int start_pulls(struct server *s, struct why *why)
{
	const struct pulls_config cfg = {.store = s->store,
	    .forges = s->forges,
	    .node_id = s->node.id,
	    .fill = artifacts_fill,
	    .fill_ctx = s->artifacts};

	s->pulls = pulls_new(&cfg);
	return pulls_start(s->pulls, why);
}

/* It hears notes, so before the first one; it makes agents, so behind the API. */
static int make_triggers(struct server *s, struct why *why)
{
	const struct triggers_config cfg = {.store = s->store,
	    .forges = s->forges,
	    .notify = s->notify,
	    .node_id = s->node.id,
	    .seal = s->seal,
	    .cloud_pool = s->cfg.cloud_pool,
	    .settings = s->cfg.triggers,
	    .linear = s->cfg.linear,
	    .slack = s->cfg.slack};

	return triggers_new(&cfg, &s->triggers, why);
}

static int start_triggers(struct server *s, struct why *why)
{
	triggers_set_api(s->triggers, s->api);
	return triggers_start(s->triggers, why);
}

static void make_automations(struct server *s)
{
	const struct automations_config cfg = {.store = s->store, .seal = s->seal, .node_id = s->node.id};

	s->automations = automations_new(&cfg);
}

/* What comes to /webhooks/. */
static void receive(void *ctx, const struct inside_delivery *d, struct inside_answer *ret)
{
	struct server *s = ctx;

	if (automations_take(d->path))
		automations_receive(s->automations, d, ret);
	else
		triggers_receive(s->triggers, d, ret);
}

/* What only a lease kept for the node that has ended is anybody's now. */
static int taken_over(void *ctx, struct tx *tx, const char *node_id)
{
	return outbox_recover_in(tx, node_id, clock_wall_ms());
}

static int tell_artifacts(void *ctx, struct tx *tx, const struct agent *a, const char *agent_url, char **ret)
{
	const struct artifact_pull of = {
	    .agent_id = a->id, .owner = a->owner, .agent_url = agent_url, .team_id = a->team_id};

	return artifacts_in_pull(ctx, tx, &of, ret);
}

static int start_rooms(struct server *s, struct why *why)
{
	const struct config *c = &s->cfg;
	int rc = load_seal(s, why);

	if (rc == OK)
		rc = store_settle_place(c->data_dir, c->store_url, c->store_password_file, why);
	if (rc == OK)
		rc = store_open(c->data_dir, &s->store, why);
	if (rc == OK && store_is_shared(s->store))
		rc = check_seal(s, why);
	if (rc != OK)
		return rc;
	rc = node_start(s->store, c->node_name, &s->node);
	if (rc == OK && store_is_shared(s->store))
		rc = store_fence(s->store, s->node.id, s->node.epoch);
	if (rc == OK)
		rc = fleet_recover(s->store, &s->node);
	if (rc == OK)
		rc = outbox_recover(s->store, s->node.id, clock_wall_ms());
	if (rc != OK)
		return why_set(why, rc, "the store in %s cannot be written: %s", c->data_dir, err_text(rc));
	rc = start_artifacts(s, why);
	if (rc == OK)
		rc = start_remotes(s, why);
	if (rc == OK)
		rc = start_oidc(s, why);
	if (rc == OK)
		rc = start_pulls(s, why);
	if (rc != OK)
		return rc;
	s->notify = notify_new();
	rc = relay_start(s->store, &s->node, s->notify, &s->relay);
	if (rc != OK)
		return why_set(why, rc, "cannot talk to the other nodes: %s", err_text(rc));
	rc = make_triggers(s, why);
	if (rc != OK)
		return rc;
	make_automations(s);
	s->handlers = pool_new("handler", (unsigned)c->handler_threads, 4096);
	s->jobs = pool_new("job", 4, 100000);
	const struct fleet_config fleet = {.store = s->store,
	    .node = &s->node,
	    .notify = s->notify,
	    .jobs = s->jobs,
	    .loss_grace_ms = c->worker_loss_grace_s * 1000,
	    .max_unauthenticated = (unsigned)c->max_unauthenticated,
	    .max_unauthenticated_per_peer = (unsigned)c->max_unauthenticated_per_peer,
	    .max_workers_per_team = (unsigned)c->max_workers_per_team,
	    .max_workers_per_user = (unsigned)c->max_workers_per_user,
	    .ctx = s,
	    .call_run = call_run,
	    .session_closed = session_closed,
	    .relay = s->relay,
	    .taken_over = taken_over};
	const struct runs_config runs = {.store = s->store,
	    .seal = s->seal,
	    .node = &s->node,
	    .notify = s->notify,
	    .remotes = s->remotes,
	    .pulls = s->pulls,
	    .run_timeout_ms = c->run_timeout_s * 1000,
	    .queue_timeout_ms = c->queue_timeout_s * 1000,
	    .open_retries = c->open_retries,
	    .open_timeout_ms = c->open_timeout_s * 1000,
	    .loss_grace_ms = c->worker_loss_grace_s * 1000,
	    .idle_release_ms = c->idle_release_s * 1000,
	    .machine_wait_ms = c->machine_wait_s * 1000,
	    .reclaim_after_ms = c->reclaim_after_s * 1000,
	    .reclaim_idle_ms = c->reclaim_idle_s * 1000,
	    .stream_retention_ms = c->stream_retention_s * 1000,
	    .image_retention_ms = c->image_retention_days * DAY_MS,
	    .conversation_retention_ms = c->conversation_retention_days * DAY_MS,
	    .agent_retention_ms = c->agent_retention_days * DAY_MS,
	    .audit_retention_ms = c->audit_retention_days * DAY_MS,
	    .trace_retention_ms = c->unseen_retention_days * DAY_MS,
	    .max_steps = c->max_steps,
	    .max_active = (unsigned)c->max_active_runs,
	    .max_readers = (size_t)c->max_streams_per_run,
	    .branch_prefix = c->branch_prefix,
	    .author_name = c->author_name,
	    .author_email = c->author_email,
	    .grant_ctx = s->artifacts,
	    .grant = artifacts_grant,
	    .tell_artifacts = tell_artifacts};
	const struct api_config api = {.store = s->store,
	    .seal = s->seal,
	    .handlers = s->handlers,
	    .cloud_pool = c->cloud_pool,
	    .allow_private_urls = c->allow_private_urls,
	    .allow_http_webhooks = c->allow_http_webhooks,
	    .max_fetching = (unsigned)MAX(c->handler_threads / 4, 1),
	    .is_local = config_is_loopback(c) && c->public_url[0] == '\0',
	    .reads_per_minute = c->reads_per_minute,
	    .mutations_per_minute = c->mutations_per_minute,
	    .repositories_per_minute = c->repositories_per_minute,
	    .repositories_per_hour = c->repositories_per_hour,
	    .artifacts = s->artifacts,
	    .remotes = s->remotes,
	    .oidc = s->oidc,
	    .oidc_button = c->oidc_button,
	    .pulls = s->pulls,
	    .v0_artifacts_per_minute = c->v0_artifacts_per_minute,
	    .v0_artifacts_per_hour = c->v0_artifacts_per_hour,
	    .max_streams_per_principal = c->max_streams_per_principal,
	    .claim_connect_ms = c->claim_connect_timeout_s * 1000};
	struct api_config full = api;

	/* Everybody listens before the fleet sends the first note. */
	s->fleet = fleet_new(&fleet);
	rc = runs_start(&runs, s->fleet, &s->runs);
	fleet_set_authenticate(s->fleet, authenticate_worker, s);
	full.fleet = s->fleet;
	full.runs = s->runs;
	full.receive = receive;
	full.receive_ctx = s;
	if (rc == OK)
		rc = api_new(&full, &s->api);
	if (rc == OK)
		s->gauges = gauges_new(s->store, s->runs);
	if (rc == OK)
		rc = start_outbox(s, why);
	if (rc == OK)
		rc = start_webhooks(s, why);
	if (rc == OK)
		rc = start_triggers(s, why);
	if (rc == OK)
		rc = automations_start(s->automations, s->api, why);
	if (rc == OK)
		rc = history_start(s->store, c->history_sample_s, &s->history);
	/* Last: from here on notes are sent, and by now everybody listens. */
	if (rc != OK)
		return rc;
	fleet_start(s->fleet);
	relay_listen(s->relay);
	return OK;
}

/* Links to agents. With port 0 the address is known only when the server listens. */
static char *own_url(const struct server *s, uint16_t port)
{
	bool v6 = strchr(s->cfg.host, ':') != NULL;

	return str_printf("%s://%s%s%s:%u", s->cfg.tls_cert != NULL ? "https" : "http", v6 ? "[" : "", s->cfg.host,
	    v6 ? "]" : "", port);
}

static void set_base(struct server *s, const char *url)
{
	api_set_web_base(s->api, url);
	artifacts_set_base(s->artifacts, url);
	if (s->oidc != NULL)
		oidc_set_base(s->oidc, url);
	pulls_set_base(s->pulls, url);
	remotes_set_base(s->remotes, s->cfg.mcp_public_url != NULL ? s->cfg.mcp_public_url : url);
}

static int start_http(struct server *s, struct why *why)
{
	const struct http_server_config http = {.host = s->cfg.host,
	    .port = s->cfg.port,
	    .loops = (unsigned)s->cfg.io_threads,
	    .max_connections = (unsigned)s->cfg.max_connections,
	    .max_buffered = (size_t)s->cfg.request_memory_mib * 1024 * 1024,
	    .max_per_peer = (unsigned)s->cfg.max_connections_per_peer,
	    .tls_cert = s->cfg.tls_cert,
	    .tls_key = s->cfg.tls_key,
	    .callbacks = api_callbacks(s->api)};
	AUTO_STR url = own_url(s, s->cfg.port);
	bool late = s->cfg.public_url[0] == '\0' && s->cfg.port == 0;
	int rc;

	if (!late)
		set_base(s, s->cfg.public_url[0] != '\0' ? s->cfg.public_url : url);
	rc = http_server_start(&http, &s->http, why);
	if (rc != OK)
		return rc;
	free(url);
	url = own_url(s, http_server_port(s->http));
	if (late)
		set_base(s, url);
	printf("bullpen: listening on %s\n", url);
	fflush(stdout);
	if (s->cfg.tls_cert == NULL && !config_is_loopback(&s->cfg))
		log_warn("server.cleartext",
		    "url=%s advice=\"keys and code travel unencrypted: set server.tls_cert and server.tls_key, or put "
		    "a proxy with TLS in front\"",
		    url);
	log_info("server.ready", "url=%s data=%s", url, log_quote(s->cfg.data_dir));
	return OK;
}

/* New work is refused, requests at hand are answered, runs stop where they are (the store has them), connections are
 * cut. */
static void stop(struct server *s)
{
	if (s->api != NULL)
		api_drain(s->api);
	if (s->http != NULL)
		http_server_drain(s->http);
	if (s->artifacts != NULL)
		artifacts_stop(s->artifacts);
	if (s->handlers != NULL)
		pool_stop(s->handlers);
	http_server_free(&s->http);
	gauges_free(&s->gauges); /* no scrape any more */
	history_free(&s->history);
	if (s->jobs != NULL)
		pool_stop(s->jobs);
	automations_free(&s->automations);
	relay_stop(s->relay); /* nobody hears of other nodes any more */
	triggers_free(&s->triggers); /* these make agents */
	outbox_free(&s->outbox); /* its handlers may use the rooms below */
	if (s->fleet != NULL)
		fleet_stop(s->fleet);
	runs_free(&s->runs);
	fleet_free(&s->fleet);
	relay_free(&s->relay);
	notify_free(&s->notify);
	webhooks_free(&s->webhooks); /* it hears notes until there are none */
	api_free(&s->api);
	pool_free(&s->handlers);
	pool_free(&s->jobs);
	models_free();
	remotes_free(&s->remotes);
	oidc_free(&s->oidc);
	str_wipe(&s->oidc_secret);
	pulls_free(&s->pulls);
	artifacts_free(&s->artifacts); /* pulls say where they are */
	forges_free(&s->forges);
	if (s->store != NULL && s->node.epoch > 0 && store_is_shared(s->store))
		node_leave(s->store, &s->node);
	store_close(&s->store);
	seal_free(&s->seal);
	if (s->lock_fd >= 0)
		close(s->lock_fd);
	config_fini(&s->cfg);
}

/* OK; or the exit status was decided. */
static int read_settings(int argc, char **argv, struct config *c, struct forges **ret_forges, int *ret_status)
{
	const char *file = NULL, *listen = NULL, *data = NULL, *node = NULL;
	const struct option_row rows[] = {
	    {.name = "config", .value = "FILE", .text = &file, .help = "settings (docs/operating.md); default: none"},
	    {.name = "listen",
		.value = "ADDRESS:PORT",
		.text = &listen,
		.help = "where to listen; default: the settings' server.listen, 127.0.0.1:8787"},
	    {.name = "data",
		.value = "DIR",
		.text = &data,
		.help = "the folder that keeps everything; default: the settings' server.data,\n./bullpen-data"},
	    {.name = "node",
		.value = "NAME",
		.text = &node,
		.help = "this server among those of one PostgreSQL; default: the settings' node.name,\nthe machine's "
			"name"},
	    {0}};
	const struct options o = {
	    .usage = "bullpen serve [--config FILE] [--listen ADDRESS:PORT] [--data DIR] [--node NAME]",
	    .about = "Serves the API and the workers until SIGTERM or SIGINT. SIGHUP reads the TLS certificate again.",
	    .rows = rows,
	    .help_word = true};
	struct option_words words;
	struct why why = {0};
	int rc = options_parse(&o, argc, argv, 1, &words, &why);

	if (rc == ERR_EMPTY) {
		options_help(&o, stdout);
		*ret_status = 0;
		return rc;
	}
	if (rc == OK && words.n > 0)
		rc = why_set(&why, ERR_INVALID, "unexpected argument '%.100s'", words.v[0]);
	if (rc == OK && file != NULL)
		rc = config_read(c, file, &why);
	if (rc == OK && listen != NULL)
		rc = config_set_listen(c, listen, &why);
	if (rc == OK && data != NULL)
		str_set(&c->data_dir, data);
	if (rc == OK && node != NULL)
		str_set(&c->node_name, node);
	if (rc == OK)
		rc = config_check(c, &why);
	if (rc == OK)
		rc = models_configure(c->models, &why);
	if (rc == OK)
		rc = triggers_check(
		    &(struct triggers_config){.settings = c->triggers, .linear = c->linear, .slack = c->slack}, &why);
	if (rc == OK)
		rc = forges_new(c->forges, ret_forges, &why);
	if (rc != OK)
		*ret_status = usage_error("%s", why.text);
	return rc;
}

static void reload(struct server *s)
{
	struct why why = {0};

	if (s->cfg.tls_cert == NULL)
		log_info("server.reload", "reason=\"there is no TLS certificate to read again\"");
	else if (http_server_reload_tls(s->http, &why) == OK)
		log_info("server.reload", "tls_cert=%s", log_quote(s->cfg.tls_cert));
	else
		log_error("server.reload.failed", "kept=\"the certificate as it was\" reason=%s", log_quote(why.text));
}

/* SIGHUP: the files of the certificate have changed. */
static void wait_for_end(struct server *s, const sigset_t *signals)
{
	int number = 0;

	while (sigwait(signals, &number) == 0 && number == SIGHUP)
		reload(s);
	log_info("server.stopping", "signal=%d", number);
}

int serve_main(int argc, char **argv)
{
	struct server s = {.lock_fd = -1};
	struct why why = {0};
	sigset_t signals;
	int rc, status = 2;

	config_init(&s.cfg);
	rc = read_settings(argc, argv, &s.cfg, &s.forges, &status);
	if (rc != OK) {
		config_fini(&s.cfg);
		return status;
	}
	signal(SIGPIPE, SIG_IGN);
	/* Every thread inherits the mask, so that only the wait below sees them. */
	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGHUP);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	raise_descriptor_limit();
	rc = lock_data_dir(&s, &why);
	if (rc == OK)
		rc = start_rooms(&s, &why);
	if (rc == OK)
		rc = start_http(&s, &why);
	if (rc == OK)
		wait_for_end(&s, &signals);
	stop(&s);
	return rc == OK ? 0 : fail(rc, &why);
}

/* main/config.h: settings of `bullpen serve`: defaults, then the file, then the command line. Constant after start. */
#pragma once
#include "base/json.h"

struct config {
	char *host;
	uint16_t port;
	char *tls_cert, *tls_key; /* files; both or neither is NULL */
	char *node_name; /* NULL until config_check: not given */
	char *secret_key_file; /* NULL: secret.key in the data folder, made if it is not there */
	char *store_url, *store_password_file; /* NULL: SQLite in the data folder; no password, or in the URL */
	char *data_dir, *public_url, *cloud_pool, *branch_prefix, *author_name, *author_email;
	json_t *forges; /* the array of forges, NULL: not given */
	json_t *triggers, *linear, *slack; /* the tables of these names, NULL: not given */
	json_t *models; /* the table of models, NULL: not given */
	json_t *s3; /* the table of this name, NULL: not given */
	char *mcp_internal_hosts, *mcp_public_url; /* NULL: not set */
	char *oidc_issuer, *oidc_client_id, *oidc_client_secret_file, *oidc_allowed_domains,
	    *oidc_admin_groups; /* NULL: not set */
	char *oidc_scopes, *oidc_groups_claim, *oidc_button;
	bool oidc_auto_create, oidc_trust_email;
	int64_t history_sample_s;
	char *artifact_upload_url, *artifact_download_url; /* NULL: not set */
	int64_t artifact_max_files, artifact_max_file_mib, v0_artifacts_per_minute, v0_artifacts_per_hour;
	int64_t reads_per_minute, mutations_per_minute, repositories_per_minute, repositories_per_hour,
	    max_streams_per_principal, max_streams_per_run;
	int64_t run_timeout_s, queue_timeout_s, worker_loss_grace_s, idle_release_s, stream_retention_s;
	int64_t image_retention_days, conversation_retention_days, agent_retention_days, artifact_retention_days,
	    unseen_retention_days, audit_retention_days;
	int64_t claim_connect_timeout_s;
	int64_t request_memory_mib, max_connections, max_connections_per_peer; /* the latter -1: not given */
	int64_t max_unauthenticated, max_unauthenticated_per_peer; /* the latter -1: not given */
	int64_t open_timeout_s, open_retries, max_steps, max_active_runs, max_workers_per_team, max_workers_per_user,
	    machine_wait_s, reclaim_after_s, reclaim_idle_s, handler_threads, io_threads;
	bool allow_private_urls, allow_http_webhooks, mcp_client_document;
};

void config_init(struct config *c);
void config_fini(struct config *c);
/* Reads a TOML file over the present values. ERR_INVALID and others with `why`: "FILE: what and where". */
int config_read(struct config *c, const char *path, struct why *why) MUST_USE;
/* "127.0.0.1:8787", "[::1]:0", ":8787" (all addresses). */
int config_set_listen(struct config *c, const char *text, struct why *why) MUST_USE;
/* What settings must be together; after everything was read. ERR_INVALID with `why`. */
int config_check(struct config *c, struct why *why) MUST_USE;
/* Whether only this machine can reach the listener. */
bool config_is_loopback(const struct config *c);

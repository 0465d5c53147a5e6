/* main/admin_priv.h: what the files of `bullpen admin` share. Main thread. */
#pragma once
#include "server/audit/audit.h"

#define THE_TEAM 1
extern const struct audit_by admin_by; /* who does what these commands do */

/* What `bullpen admin login-link` is told; texts are argv's. */
struct login_options {
	const char *data_dir, *email, *role, *url;
};
int admin_login_link(const struct login_options *g);
int admin_account(int argc, char **argv);
int admin_connect(int argc, char **argv);
int admin_webhooks(int argc, char **argv);
int admin_store(int argc, char **argv);
int admin_storage(int argc, char **argv);
#include "store/store.h"

/* A new store beside the one that a server uses helps nobody: keys of it are refused, and the server is none the wiser.
 * So one is made only when that is asked for (`init`). The exit status; 0: *ret is open. */
int admin_open_store(const char *data_dir, bool init, struct store **ret);

/* What the command line says; texts are argv's; NULL: stays as it is. */
struct policy_options {
	const char *data_dir, *allow, *require, *max_active, *secret_sync, *mcp_allow, *public_artifacts, *follow_ups;
};
int admin_policy(const struct policy_options *g);

/* Prints the audit log, or whether it is whole. */
int admin_audit(const char *data_dir, bool verify);

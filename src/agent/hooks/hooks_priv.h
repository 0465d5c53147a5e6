/* agent/hooks/hooks_priv.h: the hooks of a session, for the files that make them up. */
#pragma once
#include "agent/hooks/hooks.h"
#include "agent/hooks/transcript.h"
#include <pthread.h>

#define HOOKS_MAGIC 0x40040001
#define HOOK_SOURCES_MAX 128

struct hooks {
	unsigned magic;
	const struct hook_settings *set;
	struct session *session;
	char *claim_id; /* for which sessionStart was fired */
	struct hook_source *managed[2]; /* of the machine and of the team; read again with each run; NULL: none */
	struct hook_source **own; /* the others, read once */
	size_t n_own;
	uint32_t events;
	char **env; /* of sessionStart: "NAME=value", NULL-terminated; constant once the session is open */
	struct transcripts *transcripts; /* NULL: no hook listens, or there is no place */
	struct tool_hook tool_hook;
	struct tool_hooks tool_hooks;
	int64_t opened_ms; /* monotonic */
	/* Of the newest run, for sessionEnd. */
	json_t *facts;
	char **run_env; /* secret */
	char *end_reason, *end_status, *end_error; /* hooks_say_end; NULL: nothing was said */
	int64_t end_limit_ms;
	struct backgrounds *backgrounds; /* background.c; NULL: no command was put into the background */
	pthread_mutex_t lock; /* a leaf: counters of follow-ups, `backgrounds`, `end_status` */
};

/* sources.c */
/* Of the machine; NULL: there is none. */
struct hook_source *hooks_read_enterprise(const struct hook_settings *set);
/* Of the team, `team` is facts.teamHooks; *ret NULL: there is none. ERR_EMPTY: only its hash is known. */
int hooks_read_team(
    const struct hook_settings *set, const json_t *team, struct hook_source **ret, struct why *why) MUST_USE;
/* The others, in order of rank. */
size_t hooks_read_own(
    const struct hook_settings *set, const char *const *roots, size_t n_roots, struct hook_source ***ret);

/* lifecycle.c */
void hooks_fire_start(struct hooks *h, const struct hook_run *run, json_t *info);
/* Fires sessionEnd; hooks_end, for session_set_hooks, frees, too. */
void hooks_fire_end(struct hooks *h);
/* hooks.c */
void hooks_end(void *state);

/* background.c */
/* end_fd is taken: readable when the command has ended; -1: nothing tells. */
void hooks_note_background(struct hooks *h, const char *command, const char *cwd, const char *log, int end_fd);
/* Tells those that still run. */
void hooks_end_backgrounds(struct hooks *h);

/* tool_hooks.c */
/* `text` without the values of those variables. malloc'ed. */
char *hook_without_secrets(const char *const *env, const char *text);

/* hooks.c */
/* A list of "NAME=value" that is owned, from another. NULL is fine. */
char **hook_env_copy(const char *const *env);
void hook_env_free(char ***env);
